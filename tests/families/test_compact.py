"""Rewrites of EfficientAD: exact ones give the master's answers, lossy ones come closer the more they keep, and all export."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.families.efficientad.compact import CompactEfficientAd, thin
from edgead.families.efficientad.network import EfficientAd, load_teacher
from edgead.families.efficientad.rewrites import disturbed
from edgead.families.rewriting import parse, plan_for, rewrite
from edgead.models.detector import Detector
from edgead.models.rewrites import Material
from edgead.models.wrappers.resized import Resized
from edgead.types import Image

SIZE = (128, 128)


@cache
def pictures() -> tuple[Image, ...]:
    """A smooth texture, shifted: good pictures of one product."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:128, 0:128] / 128.0
    found = []
    for _ in range(4):
        shift = rng.uniform(0.0, 1.0, 2)
        waves = np.sin(20 * (x + shift[0])) + np.cos(31 * (y + shift[1])) + np.sin(13 * (x - y))
        grey = 120 + 30 * waves[..., None] * np.array([1.0, 0.8, 0.6]) + rng.normal(0, 4, (128, 128, 3))
        found.append(grey.clip(0, 255).astype(np.uint8))
    return tuple(found)


@cache
def master(shared_trunk: bool = True, **config: Any) -> EfficientAd:
    """The packaged teacher, a student that is nearly it, and an autoencoder that knows nothing; never changed by a test."""
    torch.manual_seed(0)
    made = EfficientAd.build({"size": "small", "shared_trunk": shared_trunk, **config}, SIZE).eval().requires_grad_(False)
    made.teacher.load_state_dict(load_teacher(None, "small"))
    for name, tensor in made.teacher.state_dict().items():
        own = made.student.state_dict()[name]
        own[: len(tensor)] = tensor
        if not shared_trunk or name.startswith("conv4"):
            own += 0.1 * own.std() * torch.randn_like(own)
    made.mean_std.mean.uniform_(-0.1, 0.1)
    made.mean_std.std.uniform_(0.5, 2.0)
    set_quantiles(made)
    return made


def set_quantiles(detector: EfficientAd, count: int = 2) -> None:
    for kind, one in zip(("st", "ae"), detector.raw_maps(pixels(count)), strict=True):
        getattr(detector.quantiles, f"qa_{kind}").copy_(one.median())
        getattr(detector.quantiles, f"qb_{kind}").copy_(one.max())


def material() -> Material:
    return Material.of(pictures())


def pixels(count: int = 2) -> Tensor:
    return torch.cat(list(material().batches()))[:count]


def rewritten(detector: Detector, *texts: str, leave_out: tuple[str, ...] = ()) -> Detector:
    return rewrite(detector, plan_for("efficientad", parse(texts), leave_out), material())[0]


def error(detector: Detector, changed: Detector, count: int = 2) -> float:
    """Largest error of map and score on disturbed pictures, relative to the map's range."""
    seen = disturbed(pixels(count), torch.Generator().manual_seed(7))
    (old, old_score), (new, new_score) = detector.detect(seen), changed.detect(seen)
    worst = max(float((new - old).abs().max()), float((new_score - old_score).abs().max()))
    return worst / float(old.max() - old.min())


@pytest.mark.parametrize(
    "config",
    [
        {"shared_trunk": True},
        {"shared_trunk": False},
        {"shared_trunk": False, "pad_maps": False},
        {"shared_trunk": True, "pad_maps": "normalized"},
        {"shared_trunk": False, "last_kernel": 4},
    ],
    ids=str,
)
def test_exact_rewrites_give_the_masters_answers(config: dict[str, Any]) -> None:
    detector = master(**config)
    changed, applied = rewrite(detector, plan_for("efficientad", {"rotate": 384}), material())
    assert all(one.kept and one.error < 1e-5 for one in applied)
    assert error(detector, changed) < 1e-5
    image = torch.from_numpy(pictures()[0])[None]
    torch.testing.assert_close(changed(image), detector(image), rtol=1e-4, atol=1e-4)  # the graph contract, BGR


def test_the_medium_network_is_rewritten_too() -> None:
    torch.manual_seed(0)
    detector = EfficientAd.build({"size": "medium"}, SIZE).eval().requires_grad_(False)
    set_quantiles(detector, 1)
    one = Material.of(pictures()[:1])
    changed, applied = rewrite(detector, plan_for("efficientad", parse(["conv2=128", "rotate=256"])), one)
    assert [(done.name, done.error < 1e-5) for done in applied] == [("fold", True), ("conv2", False), ("rotate", False)]
    assert error(detector, changed, 1) < 0.2


def test_separate_first_convolutions_become_one() -> None:
    changed = rewritten(master(False), "first_conv")
    assert isinstance(changed, CompactEfficientAd) and changed.stem is not None
    assert error(master(False), changed) < 1e-5
    assert rewrite(master(True), plan_for("efficientad", {"first_conv": True}), material())[1][-1].name == "fold"  # nothing to do


@pytest.mark.parametrize(("shared_trunk", "name", "ranks"), [(True, "rotate", (32, 300)), (False, "conv2", (16, 128))])
def test_more_rank_is_closer(shared_trunk: bool, name: str, ranks: tuple[int, int]) -> None:
    detector = CompactEfficientAd.of(master(shared_trunk))
    little, much = (error(detector, rewritten(detector, f"{name}={rank}")) for rank in ranks)
    assert much < 0.1 and much < little / 2


def test_all_together_keep_the_answers_whatever_the_order_of_asking() -> None:
    detector = master(False)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    one, other = (rewritten(detector, *texts) for texts in (("rotate=128", "conv2=96"), ("conv2=96", "rotate=128")))
    assert error(detector, one) < 0.2
    weights = other.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in one.state_dict().items())  # and reproducible
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())  # the given one is untouched


def test_a_rank_of_its_own_choice_holds_the_largest_value() -> None:
    detector = master()
    changed = rewritten(detector, "rotate=auto")
    assert isinstance(changed, CompactEfficientAd)
    assert changed.rank < 384 and sum(t.numel() for t in changed.lasts.parameters()) < 0.8 * 768 * 4097
    seen = disturbed(pixels(4), torch.Generator().manual_seed(7))
    old, new = (one.detect(seen)[1] - one.detect(seen)[0].amin() for one in (detector, changed))
    assert float(((new - old).abs() / old).mean()) < 0.05


def test_a_convolution_that_is_two_thin_ones_is_found_out() -> None:
    torch.manual_seed(0)
    tall, wide = torch.nn.Conv2d(8, 3, (4, 1), bias=False), torch.nn.Conv2d(3, 12, (1, 4))
    conv = torch.nn.Conv2d(8, 12, 4)
    conv.weight.data = torch.einsum("kci,okj->ocij", tall.weight[..., 0], wide.weight[:, :, 0])
    conv.bias = wide.bias
    seen = torch.randn(16, 8, 20, 20)
    with torch.no_grad():
        expected = wide(tall(seen))
        assert float((thin(conv, 3, seen)(seen) - expected).std() / expected.std()) < 0.01


def test_behind_a_resize() -> None:
    detector = Resized(master(), (200, 160), antialias=True)
    frames = Material.of([np.resize(picture, (200, 160, 3)) for picture in pictures()])
    changed, applied = rewrite(detector, plan_for("efficientad", parse(["rotate=300"])), frames)
    assert isinstance(changed, Resized) and isinstance(changed.inner, CompactEfficientAd)
    assert [one.name for one in applied] == ["fold", "rotate"] and applied[0].error < 1e-5 and applied[1].error < 0.02


@pytest.mark.parametrize(
    "text", ["rotate=0", "rotate=385", "rotate=8,8,8", "rotate=much", "rotate=", "conv2=0", "conv2=x", "fold=1"]
)
def test_unusable_settings_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not usable") as caught:
        parse([text])
    assert caught.value.hint.startswith(text.split("=")[0])


def test_what_wins_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="no less work") as caught:
        rewritten(master(), "conv2=342")
    assert "341" in caught.value.hint
    thinner = rewritten(master(), "conv2=16", "rotate=16")
    for text, words in (("conv2=8", "already"), ("rotate=32", "more than the 16")):
        with pytest.raises(BadInput, match=words):
            rewritten(thinner, text)


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "separate"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path, Path]:
    """The rewritten detector and its float and INT8 graphs, in which nothing but the stems is float."""
    folder = tmp_path_factory.mktemp("compact")
    changed = rewritten(master(request.param), "conv2=64", "rotate=96,32")
    write_onnx(changed, folder / "model.onnx")
    target = target_for("openvino", weight_bits=8)
    good = CalibrationSet.of(pictures())
    report = calibrate(folder / "model.onnx", good, target, output=folder / "int8.onnx", allow_unsafe=True)
    assert report.products >= 15 and all("channels" in why for _, _, why in report.kept_float)
    return changed, folder / "model.onnx", folder / "int8.onnx"


@pytest.mark.parametrize("kind", [OpenVinoEngine, OnnxRuntimeEngine])
def test_engines_answer_as_the_rewritten_detector(exported: tuple[Detector, Path, Path], kind: Any) -> None:
    detector, *graphs = exported
    for graph, limit in zip(graphs, (1e-5, 0.1), strict=True):
        engine = kind(graph)
        for picture in pictures()[:2]:
            score, anomaly_map = engine.infer(picture)
            expected = detector(torch.from_numpy(picture)[None])
            reach = float(expected[0].max() - expected[0].min())
            assert np.abs(anomaly_map - expected[0][0].numpy()).max() / reach < limit
            assert abs(score - float(expected[1])) / reach < limit
        engine.close()


def test_tensorrt_for_rtx_builds_it(exported: tuple[Detector, Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    from edgead.export.tensorrt import BuildOptions, build_engine

    for graph, precision in zip(exported[1:], ("fp32", "int8"), strict=True):
        built = build_engine(graph, tmp_path / "x.engine", "tensorrt-rtx", precision, BuildOptions(compute_capabilities=("8.9",)))
        assert built.warnings == () and built.fallback == ()
