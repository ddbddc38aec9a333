"""Compressed banks: what `rows`, `dims` and `bank` do to a PatchCore, and that `split` changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.patchcore.bank import ROW_LEVELS, integers_of, principal_axes, random_axes, rounded
from edgead.families.patchcore.coreset import greedy_coreset, project
from edgead.families.patchcore.fit import fit
from edgead.families.patchcore.network import PatchCore
from edgead.families.patchcore.options import PatchCoreOptions
from edgead.families.rewriting import parse, plan_for, rewrite
from edgead.families.simplenet.network import SimpleNet
from edgead.models.detector import Detector
from edgead.models.patches import FEATURES, LinearFeatures, PatchFeatures, build_features
from edgead.models.rewrites import Material, Setting
from edgead.models.rows import load_features, to_pixels
from edgead.trained import load_model
from tests.bundles import saved

SIZE = (64, 96)
rng = np.random.default_rng(0)
PICTURES = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(4)]
MATERIAL = Material.of(PICTURES)
PIXELS = to_pixels(PICTURES)


@pytest.fixture(scope="module")
def features() -> PatchFeatures:
    return load_features("efficientnet_lite0", None, None)


@pytest.fixture(scope="module")
def patches(features: PatchFeatures) -> Tensor:
    """Of all pictures: 384 x 152."""
    found: Tensor = features(PIXELS).flatten(2).transpose(1, 2).flatten(0, 1)
    return found


@pytest.fixture(scope="module")
def trained(features: PatchFeatures) -> PatchCore:
    return fit(FitData(PICTURES[:2], SIZE), PatchCoreOptions(coreset=64))


def changed(detector: Detector, *texts: str) -> Any:
    return rewrite(detector, plan_for(detector.family, parse(texts)), MATERIAL)[0]


def test_fewer_rows_are_the_model_trained_with_fewer(trained: PatchCore) -> None:
    smaller = fit(FitData(PICTURES[:2], SIZE), PatchCoreOptions(coreset=20))
    compressed = changed(trained, "rows=20")
    assert compressed.config == smaller.config
    assert compressed.config["rows"] == 20
    for mine, theirs in zip(compressed.detect(PIXELS), smaller.detect(PIXELS), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


def test_rows_in_no_order_are_put_into_the_greedy_one(features: PatchFeatures, patches: Tensor) -> None:
    bank = patches[:100]
    detector = PatchCore.from_bank(features, bank, 3, SIZE)  # imported: nobody says that it is nested
    compressed = changed(detector, "rows=10")
    order = greedy_coreset(project(bank, torch.Generator().manual_seed(0)), 10)
    torch.testing.assert_close(compressed.bank() + compressed.centre, bank[order], rtol=1e-4, atol=1e-3)
    assert compressed.config["nested"] is True


def test_projected_rows_are_those_that_cover_the_projected_ones(trained: PatchCore) -> None:
    projected = changed(trained, "dims=16")
    assert projected.config["nested"] is False
    both = changed(trained, "rows=20", "dims=16")  # in whatever order they are asked for
    order = greedy_coreset(projected.bank(), 20)
    torch.testing.assert_close(both.bank(), projected.bank()[order], rtol=1e-4, atol=1e-4)
    assert both.config["nested"] is True


def test_all_principal_dimensions_change_no_answer(trained: PatchCore) -> None:
    compressed = changed(trained, "dims=152")
    assert compressed.config["dims"] == compressed.bank().shape[1] == 152
    for mine, theirs in zip(compressed.detect(PIXELS), trained.detect(PIXELS), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-2)


def test_few_dimensions_measure_within_the_plane(features: PatchFeatures, patches: Tensor) -> None:
    """64 rows in a plane of 8 dimensions: within it nothing is lost, beyond it distances become smaller."""
    detector = PatchCore.from_bank(features, patches[:9], 1, SIZE)
    compressed = changed(detector, "dims=8")
    full, seen = detector.detect(PIXELS)[0], compressed.detect(PIXELS)[0]
    assert bool((seen <= full * 1.001 + 1e-3).all())
    axes = principal_axes(patches[:9] - patches[:9].mean(0), 8)
    bank = (patches[:9] - patches[:9].mean(0)) @ axes.T
    wanted = torch.cdist((patches - patches[:9].mean(0)) @ axes.T, bank).amin(1).view(4, -1).amax(1)
    torch.testing.assert_close(compressed.detect(PIXELS)[1], wanted, rtol=1e-3, atol=1e-2)


def test_random_dimensions_keep_distances_in_the_mean(trained: PatchCore) -> None:
    compressed = changed(trained, "dims=random:64")
    ratio = float(compressed.detect(PIXELS)[0].mean() / trained.detect(PIXELS)[0].mean())
    assert 0.8 < ratio < 1.2
    axes = random_axes(152, 64)
    torch.testing.assert_close(axes @ axes.T, torch.eye(64) * 152 / 64, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bank", "error"), [("fp16", 2e-3), ("int8", 3e-2)])
def test_rounded_rows_answer_nearly_the_same(trained: PatchCore, bank: str, error: float) -> None:
    compressed = changed(trained, f"bank={bank}")
    assert compressed.config["bank"] == bank
    anomaly_map, score = trained.detect(PIXELS[2:])
    reach = float(anomaly_map.max() - anomaly_map.min())
    new_map, new_score = compressed.detect(PIXELS[2:])
    assert float((new_map - anomaly_map).abs().max()) < error * reach
    assert float((new_score - score).abs().max()) < error * reach
    torch.testing.assert_close(rounded(compressed.bank(), bank), compressed.bank(), rtol=1e-5, atol=1e-6)


def test_integers_use_their_whole_range_row_by_row() -> None:
    rows = torch.tensor([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [1e-3, 3e-3, -2e-3]])
    integers, step = integers_of(rows)
    assert integers.dtype == torch.int8
    assert integers.abs().amax(1).tolist() == [ROW_LEVELS, 0, ROW_LEVELS]
    assert bool((step > 0).all())
    torch.testing.assert_close(integers * step[:, None], rows, rtol=0, atol=1.0 / ROW_LEVELS / 2)


def test_a_bank_beyond_half_precision_is_refused() -> None:
    with pytest.raises(BadInput, match="half precision"):
        rounded(torch.tensor([[1e5]]), "fp16")


def test_all_three_compose_are_saved_and_loaded(trained: PatchCore, tmp_path: Path) -> None:
    compressed = changed(trained, "rows=40", "dims=16", "bank=int8")
    wanted = {"rows": 40, "channels": 152, "dims": 16, "bank": "int8", "nested": True}
    assert json.loads(json.dumps(compressed.config)) == {**trained.config, **wanted}
    saved(tmp_path, compressed)
    for mine, theirs in zip(compressed.detect(PIXELS), load_model(tmp_path)[0].detect(PIXELS), strict=True):
        assert torch.equal(mine, theirs)


def test_imported_kinds_of_distance_survive(features: PatchFeatures, patches: Tensor) -> None:
    extra = {"squared": 2}
    detector = PatchCore.from_bank(features, patches[:60], 1, SIZE, extra, floor=0.0)
    compressed = changed(detector, "rows=50", "dims=64", "bank=int8")
    assert {**compressed.config, **extra} == compressed.config
    anomaly_map, score = compressed.detect(PIXELS)
    assert bool((anomaly_map >= 0).all())
    full = detector.detect(PIXELS)[1]
    assert 0.5 < float((score / full).mean()) < 1.5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["rows=65"], "65 rows are more than the 64"),
        (["dims=153"], "153 dimensions are more than the 152"),
        (["rows=0"], "whole number"),
        (["dims=random:"], "whole number"),
        (["dims=-4"], "whole number"),
        (["bank=int4"], "fp16 or int8"),
        (["bank"], "fp16 or int8"),
    ],
)
def test_unusable_settings_are_one_clear_line(trained: PatchCore, texts: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        changed(trained, *texts)


def test_as_many_rows_as_there_are_is_nothing_to_do(trained: PatchCore) -> None:
    assert changed(trained, "rows=64") is trained


@pytest.mark.parametrize("kind", list(FEATURES))
def test_a_linear_map_commutes_with_every_kind_of_features(kind: str) -> None:
    more: dict[str, Setting] = {"layer_bins": 60, "channels": 48} if kind == "binned" else {}
    config = {"backbone": "resnet18", "layers": ["layer2", "layer3"], "features": {"kind": kind, **more}}
    torch.manual_seed(0)
    features = build_features(config).eval()
    weight, bias = torch.randn(24, features.channels), torch.randn(24)
    with torch.no_grad():
        joined = features(PIXELS)
        wanted = torch.einsum("oc,nchw->nohw", weight, joined) + bias.view(-1, 1, 1)
        torch.testing.assert_close(LinearFeatures.of(features, weight, bias)(PIXELS), wanted, rtol=1e-4, atol=1e-3)


def test_split_is_on_for_simplenet_and_exact(features: PatchFeatures) -> None:
    torch.manual_seed(0)
    config = {"backbone": "efficientnet_lite0", "layers": list(features.backbone.layers), "channels": 152, "hidden": 64}
    detector = SimpleNet(config, SIZE, features.backbone).eval().requires_grad_(False)
    split, applied = rewrite(detector, plan_for("simplenet", {}), MATERIAL)
    told = {one.name: one for one in applied}["split"]
    assert told.kept
    assert isinstance(split.features, LinearFeatures)
    for mine, theirs in zip(split.detect(PIXELS), detector.detect(PIXELS), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
