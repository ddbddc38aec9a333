import cv2
import numpy as np
import pytest

from benchmarks import tiling
from benchmarks._sets import _elpv
from edgead.preprocess import read_image


def test_modules_hold_one_defective_cell_where_they_say() -> None:
    pytest.importorskip("elpv_dataset")
    modules = tiling.compose(2, 2, 2, 3, seed=0)
    assert {image.shape for part in (modules.train, modules.held_out, modules.good, modules.bad) for image in part} == {
        (600, 600, 3)
    }
    defects = [entry[0] for entry in _elpv()[1]]
    for image, place in zip(modules.bad, modules.where, strict=True):
        row, column = divmod(place, 2)
        cell = image[300 * row : 300 * (row + 1), 300 * column : 300 * (column + 1)]
        assert any(np.array_equal(cell, cv2.resize(read_image(file), (300, 300))) for file in defects)


def test_the_page_compares_coarse_to_fine_with_all_tiles() -> None:
    def told(good: float, worst: float, **more: float) -> dict[str, object]:
        latency = {"good": good, "defective": good, "slowest": worst}
        return {"auroc": 0.8, "cell_found": 0.75, "caught": 0.5, "latency_ms": latency, "peak_mb": 90.0, **more}

    full = {"model": "simplenet", "way": "tiles, overlap 32", "tiles": 36, "fp32": told(400.0, 400.0)}
    fine = told(100.0, 420.0, run_good=0.2, run_bad=0.3, lost=1, won=2)
    rows = [full, {"model": "simplenet", "way": "coarse 1/4 to fine", "tiles": 36, "fp32": fine}]
    page = tiling.page({"rows": rows, "cells": 4, "test": 40, "tile": 256})
    assert page.startswith("## ")
    assert "4.0 times faster than all tiles on a good part and takes 1.05 times as long in the worst case" in page
    assert "it loses 1, and finds 2 others" in page
    assert "20% / 30%" in page
