from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.families.rewriting import parse, plan_for, rewrite
from edgead.models.rewrites import Material
from edgead.models.wrappers.tiled import Tiled
from edgead.trained import load_model
from edgead.types import AnomalyMap, Image
from tests.bundles import FAMILIES, SIZES, Tiny, saved
from tests.models._tiled import Bright, ask, big_picture

OVERLAP = 16


def tiled_of(tiny: Tiny, family: str) -> Tiled:
    size = SIZES[family]
    height = size if family == "efficientad" else 2 * size - OVERLAP  # which takes its time
    return Tiled(load_model(tiny.model(family))[0], (height, 2 * size - OVERLAP - 10), OVERLAP).eval()


def by_hand(tiled: Tiled, picture: Image) -> tuple[AnomalyMap, float]:
    """Tile by tile: the blended map, and the largest score."""
    h, w = tiled.inner.image_size
    blended, scores = np.zeros(tiled.image_size, np.float32), []
    for k, (top, left) in enumerate(tiled.grid.corners):
        (tile_map,), (score,) = ask(tiled.inner, picture[top : top + h, left : left + w])
        blended[top : top + h, left : left + w] += tiled.grid.weights(k) * tile_map
        scores.append(float(score))
    return blended, max(scores)


@pytest.mark.parametrize("family", ["patchcore", "simplenet"])
def test_it_says_what_the_inner_detector_says_of_each_tile(tiny: Tiny, family: str) -> None:
    tiled = tiled_of(tiny, family)
    pictures = [big_picture(seed, *tiled.image_size) for seed in range(2)]
    for picture, anomaly_map, score in zip(pictures, *ask(tiled, *pictures), strict=True):
        blended, highest = by_hand(tiled, picture)
        assert abs(score - highest) < 1e-5 * np.ptp(blended)
        assert np.abs(anomaly_map - blended).max() < 1e-5 * np.ptp(blended)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_backends_answer_in_one_batch_as_the_model_does_tile_by_tile(tiny: Tiny, family: str, tmp_path: Path) -> None:
    tiled = tiled_of(tiny, family)
    picture = big_picture(0, *tiled.image_size)
    anomaly_map, score = by_hand(tiled, picture)
    write_onnx(tiled, tmp_path / "model.onnx")
    for opens in (OpenVinoEngine, OnnxRuntimeEngine):
        engine = opens(tmp_path / "model.onnx", threads=1)
        told, told_map = engine.infer(picture)
        engine.close()
        assert abs(told - score) < 1e-4 * np.ptp(anomaly_map)
        assert np.abs(told_map - anomaly_map).max() < 1e-4 * np.ptp(anomaly_map)


@pytest.mark.parametrize("overlap", [0, 7, 12])
def test_blending_maps_cut_from_one_picture_gives_the_picture_back(overlap: int) -> None:
    tiled = Tiled(Bright({}, (24, 24)), (61, 80), overlap)
    whole = torch.rand(2, 61, 80)
    maps = tiled.inner_pixels(whole[:, None]).view(2, len(tiled.grid), 24, 24)
    assert torch.allclose(tiled.blend(maps), whole, atol=1e-6)


def test_a_saved_tiled_model_loads_with_its_tiles(tiny: Tiny, tmp_path: Path) -> None:
    tiled = tiled_of(tiny, "simplenet")
    saved(tmp_path, tiled)
    loaded, card = load_model(tmp_path)
    assert card.config["tiles"] == {"size": [64, 64], "overlap": OVERLAP}
    picture = big_picture(1, *tiled.image_size)
    assert isinstance(loaded, Tiled)
    assert np.array_equal(ask(loaded, picture)[0], ask(tiled, picture)[0])


def test_a_tile_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(BadInput, match="has no tile"):
        Tiled(Bright({}, (64, 64)), (48, 200), 8)


def test_rewrites_reach_the_inner_detector(tiny: Tiny) -> None:
    tiled = tiled_of(tiny, "patchcore")
    material = Material.of([big_picture(seed, *tiled.image_size) for seed in range(2)])
    left_out = list(plan_for("patchcore", {}))
    plan = plan_for("patchcore", parse(["feature_map"]), left_out)
    changed, applied = rewrite(tiled, plan, material)
    assert [one.name for one in applied] == ["feature_map"]
    picture = big_picture(5, *tiled.image_size)
    assert isinstance(changed, Tiled)
    assert changed.inner.detect(torch.zeros(1, 3, 64, 64))[0].shape[1:] == (8, 8)
    before, after = ask(tiled, picture)[0], ask(changed, picture)[0]
    assert np.abs(after - before).max() < 1e-4 * np.ptp(before)
