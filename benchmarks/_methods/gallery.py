"""One good and two defective parts of each set with the map of every method beside them, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks._gallery import heat, outlined, write
from edgead.training.evaluate import answers
from edgead.types import AnomalyMap, Image

if TYPE_CHECKING:
    from edgead.training.dataset import Labelled
    from edgead.training.fit import TrainResult

SIDE, TITLE = 112, 16
SPREAD = 2.0
"""Red is so many times as far above the median of good pictures' maps as 1 pixel in 1,000 of these lies."""


def chosen(test: Sequence[Labelled]) -> list[int]:
    """Places of a good picture and of two defective ones, of different kinds where there are such: the same for every method."""
    good = next(i for i, item in enumerate(test) if not item.defect)
    defects = [i for i, item in enumerate(test) if item.defect]
    return [good, defects[0], defects[-1]]


def keep(file: Path, result: TrainResult, test: Sequence[Labelled], maps: Sequence[AnomalyMap]) -> None:
    """Keep pictures and maps of one method on one set, small. Colours are by its maps of good pictures that were held out."""
    quiet = np.concatenate([answers(result.detector, image)[1].ravel() for image in result.images.heldout])
    low, usual = np.quantile(quiet, (0.5, 0.999))
    full = max(float(usual - low) * SPREAD, 1e-9)
    places = chosen(test)
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [outlined(test[i].image, test[i].mask, SIDE) for i in places]
    np.savez_compressed(file, pictures=pictures, heat=[heat(np.maximum(maps[i] - low, 0), full, SIDE) for i in places])


def sheet(target: Path, kept: Mapping[tuple[str, str], Path], methods: Sequence[str], sets: Sequence[str]) -> None:
    """One PNG: a row for each part, a column for each method.

    Args:
        kept: by method and set, the files of :func:`keep`; what is missing stays white.
    """
    page = np.full((TITLE + 3 * SIDE * len(sets), SIDE * (1 + len(methods)), 3), 255, np.uint8)
    for column, method in enumerate(methods):
        write(page, method[:17], SIDE * (column + 1) + 3, 12)
    for row, name in enumerate(sets):
        for column, method in enumerate(methods):
            if (file := kept.get((method, name))) is not None:
                with np.load(file) as found:
                    _put(page, row, 0, found["pictures"])
                    _put(page, row, column + 1, found["heat"])
        write(page, name, 3, TITLE + 3 * SIDE * row + 12)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(target), page):
        raise OSError(f"{target} cannot be written")


def _put(page: Image, row: int, column: int, three: Any) -> None:
    top = TITLE + 3 * SIDE * row
    page[top : top + 3 * SIDE, SIDE * column : SIDE * (column + 1)] = np.vstack(list(three))
