import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import limit, peers
from benchmarks._peers.built import Built, f1_threshold, unit_rgb
from benchmarks._peers.pictures import Pictures
from benchmarks._peers.plain import Levels, Peer, plain
from benchmarks._peers.rates import gflop, profile
from benchmarks._peers.runners import Faiss, OnnxRuntime, OpenVino, Torch
from edgead.models.backbones.efficientnet import EfficientNetLite
from edgead.models.detector import Detector
from edgead.models.efficientad import EfficientAd
from edgead.models.patchcore import PatchCore
from edgead.models.patches import PatchFeatures
from edgead.models.simplenet import SimpleNet
from edgead.types import Image

SIZE = (128, 128)
LEVELS = Levels(0.0, 4.0, 1.0, 0.0, 4.0)


@pytest.fixture(scope="module")
def image() -> Image:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def patchcore() -> Detector:
    torch.manual_seed(0)
    features = PatchFeatures(EfficientNetLite("efficientnet_lite0", ("blocks.1", "blocks.2")).freeze())
    with torch.no_grad():
        bank = features(torch.rand(1, 3, *SIZE) * 255).flatten(2).transpose(1, 2)[0, ::17]
    return PatchCore.from_bank(features, bank, 5, SIZE)


@pytest.fixture(scope="module")
def built(patchcore: Detector, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    scores = {"low": 0.0, "high": 4.0, "threshold": 1.0, "map_low": 0.0, "map_high": 4.0}
    (folder / "levels.json").write_text(json.dumps(scores), "utf-8")
    return Built("patchcore", folder, folder, Pictures(0, 1), patchcore, {})


def efficientad() -> Detector:
    torch.manual_seed(0)
    return EfficientAd.build({"size": "small"}, SIZE).eval().requires_grad_(False)


def simplenet() -> Detector:
    torch.manual_seed(0)
    config = {"backbone": "efficientnet_lite0", "layers": ["blocks.1", "blocks.2"], "channels": 48, "hidden": 16}
    return SimpleNet.build(config, SIZE).eval().requires_grad_(False)


def own(detector: Detector, image: Image) -> float:
    with torch.no_grad():
        return float(detector(torch.from_numpy(image)[None])[1])


@pytest.mark.parametrize("make", [efficientad, simplenet])
def test_plain_models_score_as_the_trained_ones_do(make: Any, image: Image) -> None:
    detector = make()
    with torch.no_grad():
        score, anomaly_map = plain(detector)(torch.from_numpy(unit_rgb(image)))
    assert float(score) == pytest.approx(own(detector, image), rel=1e-3)
    assert anomaly_map.shape == (1, 1, *SIZE)


def test_every_peer_gives_the_trained_models_score(built: Built, image: Image) -> None:
    raw = own(built.detector, image)
    expected = min(max((raw - LEVELS.threshold) / 4.0 + 0.5, 0.0), 1.0)
    runners = {
        "torch": Torch.eager(built), "onnxruntime": OnnxRuntime.open(built, 1),
        "openvino": OpenVino.open(built.plain_onnx(False), SIZE, 1, f32=True),
        "resized in the graph": OpenVino.open(built.plain_onnx(True), None, 1, f32=True),
    }  # fmt: skip
    for name, runner in runners.items():
        score, ng = runner(image)
        assert score == pytest.approx(expected, abs=2e-3), name
        assert ng == (expected > 0.5), name
        runner.close()


def test_faiss_finds_the_same_score(built: Built, image: Image) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    score, ng = Faiss.open(built, 1)(image)
    assert score == pytest.approx(own(built.detector, image), rel=1e-3)
    assert ng == (score >= LEVELS.threshold)


def test_scores_leave_the_post_processing_clamped_and_labelled(image: Image) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor([9.0]), torch.full((1, 1, *SIZE), 1.5)

    score, label, anomaly_map, mask = Peer(Constant(), SIZE, LEVELS, False)(torch.from_numpy(unit_rgb(image)))
    assert (float(score), bool(label)) == (1.0, True)
    assert float(anomaly_map.max()) == pytest.approx(0.625)
    assert bool(mask.all())


def test_the_f1_threshold_separates_what_can_be_separated() -> None:
    labels = np.array([False, False, True, False, True, True])
    assert f1_threshold(labels, np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(0.3)
    assert f1_threshold(labels, np.array([0.1, 0.2, 0.9, 0.4, 0.8, 0.7])) == pytest.approx(0.7)


def test_operations_are_counted_and_given_to_the_nodes_that_do_them(built: Built, image: Image) -> None:
    graph = built.original()
    detector: Any = built.detector
    rows, channels = detector.product.weight.shape
    patches = 32 * 32  # the product once for all patches and once for the worst one
    assert gflop(graph) > 2 * (patches + 1) * rows * channels / 1e9
    layers = profile(graph, {"image": image[None]}, 1, runs=2)
    assert sum(layer.share for layer in layers) == pytest.approx(1.0)
    done = sum(layer.gflop_per_s * layer.ms for layer in layers) / 1e3
    assert 0.5 * gflop(graph) < done <= gflop(graph) * 1.001


def row(model: str, variant: str, p50_ms: float, auroc: float = 0.95) -> dict[str, Any]:
    return {
        "model": model, "threads": 1, "variant": variant, "p50_ms": p50_ms, "p95_ms": p50_ms + 1, "auroc": auroc,
        "trained_auroc": 0.95, "tested": 150, "float_layers": "float32",
    }  # fmt: skip


ROWS = [
    row("efficientad", "edgead rewritten INT8", 10.0, 0.90),  # too inaccurate to count
    row("efficientad", "edgead OpenVINO INT8", 50.0, 0.946),
    row("efficientad", "OpenVINO FP32", 200.0),
    row("efficientad", "anomalib INT8_PTQ, 256 px", 90.0),
    row("efficientad", "anomalib INT8_PTQ, any size", 120.0),
    row("simplenet", "edgead OpenVINO FP32", 13.0),
]


def test_goals_take_the_fastest_variant_that_is_accurate_and_the_fastest_peer() -> None:
    reached = {one["goal"]: (one["reached"], one["met"]) for one in peers.goals(ROWS)}
    assert list(reached.values()) == [(4.0, True), (1.8, False), (13.0, False)]


def test_pages_tell_every_row_and_goal() -> None:
    data = {"rows": ROWS, "goals": peers.goals(ROWS), "anomalib": "absent", "skipped": {"faiss": "not installed"}}
    text = peers.page(data)
    assert text.startswith("## ")
    assert text.count("| edgead ") == 3
    assert "| 1.8 times | missed |" in text
    assert "faiss: not installed" in text


def test_the_limits_page_tells_engines_and_layers() -> None:
    rows = [
        {
            "model": "simplenet", "threads": 1, "engine": "INT8", "p50_ms": 5.0, "original_gflop": 0.7, "own_gflop": 0.6,
            "gflop_per_s": 140.0, "fp32_peak": 100.0, "int8_peak": 400.0, "of_fp32_peak": 1.4, "of_int8_peak": 0.35,
            "layers": [{"name": "conv", "kernel": "brgconv", "ms": 1.0, "share": 0.2, "gflop_per_s": 90.0}],
        }
    ]  # fmt: skip
    goals = limit.goals(rows)
    assert [goal["met"] for goal in goals] == [True]
    text = limit.page({"rows": rows, "goals": goals})
    assert "| simplenet | 1 | INT8 | 5.00 | 0.7 | 0.6 | 140 | 140% | 35% |" in text
    assert "| simplenet | INT8 | conv | brgconv | 1.00 | 20% | 90 |" in text


@pytest.mark.parametrize("benchmark", [peers, limit])
def test_unknown_models_are_refused(benchmark: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--families", "moon", "--cache", str(tmp_path)])
