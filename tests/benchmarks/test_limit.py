from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import limit
from benchmarks._limit.built import Built
from benchmarks._limit.plain import PlainEfficientAd
from benchmarks._limit.rates import gflop, profile
from edgead.families.efficientad.network import EfficientAd
from edgead.families.patchcore.network import PatchCore
from edgead.models.backbones.efficientnet import EfficientNetLite
from edgead.models.patches import PatchFeatures
from edgead.types import Image

SIZE = (128, 128)


@pytest.fixture(scope="module")
def image() -> Image:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def patchcore() -> PatchCore:
    torch.manual_seed(0)
    features = PatchFeatures(EfficientNetLite("efficientnet_lite0", ("blocks.1", "blocks.2")).freeze())
    with torch.no_grad():
        bank = features(torch.rand(1, 3, *SIZE) * 255).flatten(2).transpose(1, 2)[0, ::17]
    return PatchCore.from_bank(features, bank, 5, SIZE)


def efficientad() -> EfficientAd:
    torch.manual_seed(0)
    return EfficientAd.build({"size": "small"}, SIZE).eval().requires_grad_(False)


def test_efficientad_with_separate_networks_scores_as_the_trained_one_does(image: Image) -> None:
    detector = efficientad()
    pixels = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255.0)
    with torch.no_grad():
        score, anomaly_map = PlainEfficientAd(detector)(pixels)
        own = detector(torch.from_numpy(image)[None])[1]
    assert float(score) == pytest.approx(float(own), rel=1e-3)
    assert anomaly_map.shape == (1, 1, *SIZE)


def test_operations_are_counted_and_given_to_the_nodes_that_do_them(image: Image, tmp_path: Path) -> None:
    detector = patchcore()
    graph = Built("patchcore", tmp_path, tmp_path, detector).original()
    rows, channels = detector.product.weight.shape
    patches = 32 * 32  # the product once for all patches and once for the worst one
    assert gflop(graph) > 2 * (patches + 1) * rows * channels / 1e9
    layers = profile(graph, {"image": image[None]}, 1, runs=2)
    assert sum(layer.share for layer in layers) == pytest.approx(1.0)
    done = sum(layer.gflop_per_s * layer.ms for layer in layers) / 1e3
    assert 0.5 * gflop(graph) < done <= gflop(graph) * 1.001


def test_the_work_to_be_done_has_all_three_networks(tmp_path: Path) -> None:
    detector = efficientad()
    graph = Built("efficientad", tmp_path, tmp_path, detector).original()
    weights = sum(weight.numel() for net in (detector.teacher, detector.student) for weight in net.parameters())
    assert gflop(graph) > 2 * weights * (SIZE[0] // 4 - 8) ** 2 / 1e9  # each weight at least once for each output


def test_the_limits_page_tells_engines_and_layers() -> None:
    rows = [
        {
            "model": "simplenet", "threads": 1, "engine": "INT8", "p50_ms": 5.0, "original_gflop": 0.7, "own_gflop": 0.6,
            "gflop_per_s": 140.0, "fp32_peak": 100.0, "int8_peak": 400.0, "of_fp32_peak": 1.4, "of_int8_peak": 0.35,
            "layers": [{"name": "conv", "kernel": "brgconv", "ms": 1.0, "share": 0.2, "gflop_per_s": 90.0}],
        }
    ]  # fmt: skip
    goals: list[dict[str, Any]] = limit.goals(rows)
    assert [goal["met"] for goal in goals] == [True]
    text = limit.page({"rows": rows, "goals": goals})
    assert "| simplenet | 1 | INT8 | 5.00 | 0.7 | 0.6 | 140 | 140% | 35% |" in text
    assert "| simplenet | INT8 | conv | brgconv | 1.00 | 20% | 90 |" in text


def test_unknown_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        limit.main(["--families", "moon", "--cache", str(tmp_path)])
