"""anomalib's Stfpm and ReverseDistillation: the answers that anomalib gives, from checkpoints with its names of weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.importers import import_model
from edgead.trained import load_model
from tests.bundles import saved
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _preprocessing

LAYERS = ("layer1", "layer2", "layer3")
NORMAL = ("Normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})
STEPS = _preprocessing(("Resize", {"size": [64, 64], "antialias": True}), NORMAL)

State = dict[str, Tensor]


def _checkpoint(path: Path, state: State, hyper: dict[str, Any]) -> Path:
    torch.save(
        {
            "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
            "hyper_parameters": {"backbone": "resnet18", "layers": list(LAYERS), **hyper},
            "anomalib_pre_processor_config": STEPS,
        },
        path,
    )
    return path


def stfpm(path: Path, **hyper: Any) -> tuple[State, State]:
    """A checkpoint with random weights; the teacher's and the student's."""
    teacher, student = reference.resnet18_state(1), reference.resnet18_state(2)
    named = {f"teacher_model.feature_extractor.{k}": v for k, v in teacher.items()}
    named |= {f"student_model.feature_extractor.{k}": v for k, v in student.items()}
    _checkpoint(path, named, hyper)
    return teacher, student


class _Random:
    """Weights by name, made when they are first asked for by the forward pass that needs them."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self._g = torch.Generator().manual_seed(seed)

    def conv(self, name: str, x: Tensor, out: int, k: int, stride: int = 1) -> Tensor:
        key = f"{name}.weight"
        if key not in self.state:
            self.state[key] = torch.randn(out, x.shape[1], k, k, generator=self._g) * (1.6 / (x.shape[1] * k * k) ** 0.5)
        return F.conv2d(x, self.state[key], stride=stride, padding=k // 2)

    def transposed(self, name: str, x: Tensor, out: int) -> Tensor:
        key = f"{name}.weight"
        if key not in self.state:
            self.state[key] = torch.randn(x.shape[1], out, 2, 2, generator=self._g) * (1.6 / x.shape[1] ** 0.5)
        return F.conv_transpose2d(x, self.state[key], stride=2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        c = x.shape[1]
        if f"{name}.weight" not in self.state:
            spread, shift = torch.rand(2, c, generator=self._g), torch.randn(2, c, generator=self._g)
            made = {
                "weight": 0.8 + 0.4 * spread[0], "bias": 0.2 * shift[0],
                "running_mean": 0.1 * shift[1], "running_var": 0.7 + 0.6 * spread[1], "num_batches_tracked": torch.tensor(7),
            }  # fmt: skip
            self.state |= {f"{name}.{key}": value for key, value in made.items()}
        return F.batch_norm(x, *(self.state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))


def _rebuilt(w: _Random, maps: list[Tensor]) -> list[Tensor]:
    """Bottleneck and decoder of ResNet-18, as published: three maps -> three."""
    b = "bottleneck."
    fine = F.relu(w.norm(f"{b}bn1", w.conv(f"{b}conv1", maps[0], 128, 3, 2)))
    fine = F.relu(w.norm(f"{b}bn2", w.conv(f"{b}conv2", fine, 256, 3, 2)))
    middle = F.relu(w.norm(f"{b}bn3", w.conv(f"{b}conv3", maps[1], 256, 3, 2)))
    x = torch.cat([fine, middle, maps[2]], 1)
    for i in range(2):
        name, stride = f"{b}bn_layer.{i}", 1 if i else 2
        y = F.relu(w.norm(f"{name}.bn1", w.conv(f"{name}.conv1", x, 512, 3, stride)))
        y = w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", y, 512, 3))
        x = F.relu(y + (x if i else w.norm(f"{name}.downsample.1", w.conv(f"{name}.downsample.0", x, 512, 1, 2))))
    rebuilt = []
    for stage, width in ((1, 256), (2, 128), (3, 64)):
        for i in range(2):
            name = f"decoder.layer{stage}.{i}"
            y = w.conv(f"{name}.conv1", x, width, 3) if i else w.transposed(f"{name}.conv1", x, width)
            y = w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", F.relu(w.norm(f"{name}.bn1", y)), width, 3))
            x = F.relu(y + (x if i else w.norm(f"{name}.upsample.1", w.transposed(f"{name}.upsample.0", x, width))))
        rebuilt.insert(0, x)
    return rebuilt


def reverse(path: Path, **hyper: Any) -> tuple[State, _Random]:
    """A checkpoint with random weights; the encoder's, and those of bottleneck and decoder."""
    encoder, w = reference.resnet18_state(3), _Random(4)
    _rebuilt(w, reference.resnet18(encoder, torch.zeros(1, 3, 64, 64), LAYERS))
    b = "bottleneck."  # anomalib's bottleneck holds these, and does not use them
    unused = {f"{b}conv4.weight": torch.zeros(512, 1024, 1, 1), f"{b}bn4.weight": torch.ones(512)}
    named = {**{f"encoder.feature_extractor.{k}": v for k, v in encoder.items()}, **w.state, **unused}
    _checkpoint(path, named, hyper)
    return encoder, w


def _stfpm_answer(teacher: State, student: State, image: Any) -> Tensor:
    x = reference.normalised(image)
    found = torch.ones(1, 1, 64, 64)
    for t, s in zip(reference.resnet18(teacher, x, LAYERS), reference.resnet18(student, x, LAYERS), strict=True):
        apart = 0.5 * (F.normalize(t) - F.normalize(s)).square().sum(1, keepdim=True)
        found = found * F.interpolate(apart, (64, 64), mode="bilinear", align_corners=False)
    return found[0, 0]


def _reverse_answer(encoder: State, w: _Random, image: Any, multiplied: bool) -> Tensor:
    maps = reference.resnet18(encoder, reference.normalised(image), LAYERS)
    found = torch.ones(1, 1, 64, 64) if multiplied else torch.zeros(1, 1, 64, 64)
    for t, s in zip(maps, _rebuilt(w, maps), strict=True):
        apart = F.interpolate((1 - F.cosine_similarity(t, s))[:, None], (64, 64), mode="bilinear", align_corners=True)
        found = found * apart if multiplied else found + apart
    line = torch.exp(-0.5 * (torch.arange(-16, 17) / 4.0) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(found, (16,) * 4, mode="reflect"), kernel[None, None])[0, 0]


@pytest.mark.parametrize("kind", ["stfpm", "add", "multiply"])
def test_score_and_map_are_those_of_the_published_network(tmp_path: Path, kind: str) -> None:
    image = reference.pictures(1, 64)[0]
    with torch.no_grad():
        if kind == "stfpm":
            expected = _stfpm_answer(*stfpm(tmp_path / "m.ckpt"), image)
        else:
            expected = _reverse_answer(*reverse(tmp_path / "m.ckpt", anomaly_map_mode=kind), image, kind == "multiply")
        imported = import_model(tmp_path / "m.ckpt")
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
    assert imported.detector.family == "distillation"
    assert imported.assumptions[-1:] == ["the file does not tell a sensitivity: 0.5 assumed"]
    assert float((anomaly_map[0] - expected).abs().max()) < 1e-5
    assert float(score[0]) == pytest.approx(float(expected.max()), abs=1e-5)


@pytest.mark.parametrize("make", [stfpm, reverse])
def test_it_answers_alike_when_saved_loaded_and_exported(tmp_path: Path, make: Callable[..., Any]) -> None:
    make(tmp_path / "m.ckpt")
    imported = import_model(tmp_path / "m.ckpt")
    saved(tmp_path / "model", imported.detector)
    image = reference.pictures(1, 64, 5)[0]
    detector, card = load_model(tmp_path / "model")
    assert card.family == "distillation"
    with torch.no_grad():
        anomaly_map, score = imported.detector(torch.from_numpy(image)[None])
        assert torch.equal(detector(torch.from_numpy(image)[None])[0], anomaly_map)
    write_onnx(detector, tmp_path / "model.onnx")
    engine = OnnxRuntimeEngine(tmp_path / "model.onnx", threads=1)
    try:
        told, told_map = engine.infer(image)
    finally:
        engine.close()
    assert told == pytest.approx(float(score[0]), abs=1e-5)
    assert np.abs(told_map - anomaly_map[0].numpy()).max() < 1e-5


def test_what_the_file_does_not_tell_is_assumed_aloud(tmp_path: Path) -> None:
    reverse(tmp_path / "m.ckpt")
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    del content["hyper_parameters"]["layers"]
    torch.save(content, tmp_path / "m.ckpt")
    told = import_model(tmp_path / "m.ckpt").assumptions
    assert "the file does not name its layers: layer1, layer2, layer3 assumed" in told
    assert "the file does not tell how the layers' maps are joined: add assumed" in told


@pytest.mark.parametrize(
    ("make", "hyper", "says"),
    [
        (stfpm, {"backbone": "wide_resnet50_2"}, "the weights are not those of wide_resnet50_2"),
        (stfpm, {"layers": ["layer1", "layer5"]}, "no layer 'layer5'"),
        (reverse, {"anomaly_map_mode": "median"}, "anomaly_map_mode of 'median'"),
        (reverse, {"layers": ["layer2", "layer3"]}, "no mirrored decoder for resnet18 with the layers layer2, layer3"),
        (reverse, {"backbone": "resnet34"}, "resnet34"),
    ],
)
def test_what_cannot_be_followed_is_told_by_name(
    tmp_path: Path, make: Callable[..., Any], hyper: dict[str, Any], says: str
) -> None:
    make(tmp_path / "m.ckpt", **hyper)
    with pytest.raises(BadInput, match=says) as caught:
        import_model(tmp_path / "m.ckpt")
    assert caught.value.hint
    assert "m.ckpt" in str(caught.value)


@pytest.mark.parametrize("spoil", ["missing", "shape"])
def test_a_decoder_that_is_not_whole_is_refused(tmp_path: Path, spoil: str) -> None:
    reverse(tmp_path / "m.ckpt")
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    name = "model.decoder.layer2.0.conv1.weight"
    if spoil == "missing":
        del content["state_dict"][name]
    else:
        content["state_dict"][name] = torch.zeros(256, 128, 3, 3)
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(BadInput, match=r"decoder\.layer2\.0\.conv1\.weight"):
        import_model(tmp_path / "m.ckpt")


def test_anomalibs_own_answers() -> None:
    """Of checkpoints that anomalib wrote: ``benchmarks/_peers/checkpoints.py`` makes them."""
    folder = Path(os.environ.get("EDGEAD_ANOMALIB_CHECKPOINTS", ""))
    files = sorted(folder.glob("*.ckpt")) if "EDGEAD_ANOMALIB_CHECKPOINTS" in os.environ else []
    if not files:
        pytest.skip("EDGEAD_ANOMALIB_CHECKPOINTS names no folder of checkpoints")
    for file in files:
        stored = np.load(file.with_suffix(".npz"))
        detector = import_model(file).detector
        with torch.no_grad():
            maps, scores = detector(torch.from_numpy(np.ascontiguousarray(stored["images"][..., ::-1])))
        assert np.abs(scores.numpy() - stored["scores"]).max() < 1e-4, file.name
        assert np.abs(maps.numpy() - stored["maps"]).max() < 1e-4, file.name
