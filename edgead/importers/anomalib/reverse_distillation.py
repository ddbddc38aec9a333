"""ReverseDistillation in checkpoints of anomalib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.distillation.network import Distillation
from edgead.families.distillation.rebuilders import ResNetReverse, UpBlock
from edgead.importers.anomalib.reading import State, backbone_of, load, normalization, px, value_of
from edgead.importers.model import ImportOptions
from edgead.importers.steps import shown
from edgead.importers.transforms import Followed
from edgead.importers.weights import backbone_with, fold_norm
from edgead.models.backbones.resnet import ResidualBlock
from edgead.models.detector import Detector
from edgead.models.parts.norms import SubPixel

MARK, TITLE, NORMALIZED = "bottleneck.bn_layer.", "ReverseDistillation", True

USUAL = ("wide_resnet50_2", ("layer1", "layer2", "layer3"))
COMBINED = {"add": "sum", "multiply": "product"}


def build(
    state: State, hyper: Mapping[str, Any], followed: Followed, options: ImportOptions, assumptions: list[str]
) -> tuple[Detector, str]:
    """The detector of a checkpoint's weights and hyperparameters, and what it is in a few words. Raises BadInput."""
    name, layers = backbone_of(hyper, options, assumptions, USUAL)
    mode = value_of(hyper.get("anomaly_map_mode", "add"))
    if mode not in COMBINED:
        raise BadInput(f"the file tells an anomaly_map_mode of {shown(mode)}, not add or multiply", hint="it is damaged")
    if "anomaly_map_mode" not in hyper:
        assumptions.append("the file does not tell how the layers' maps are joined: add assumed")
    prefix = "encoder.feature_extractor."
    teacher = backbone_with(name, layers, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    config = {
        "backbone": name, "layers": list(layers), "rebuilder": {"kind": "mirror"}, "combine": COMBINED[mode],
        "picture": {"corners": True, "sigma": 4.0, "radius": 16}, **normalization(followed, teacher),
    }  # fmt: skip
    detector = Distillation(config, followed.size, teacher)
    student = detector.rebuilder
    assert isinstance(student, ResNetReverse)
    weights = {f"rebuilder.{key}": tensor for key, tensor in _weights(student, state).items()}
    load(detector, {**detector.state_dict(), **weights})
    return detector, f"ReverseDistillation, {name}, {px(followed.size)}"


def _weights(student: ResNetReverse, state: State) -> dict[str, Tensor]:
    """The file's weights by the names of ours, norms folded."""
    found: dict[str, Tensor] = {}
    for i in (1, 2, 3):
        found |= _folded(state, f"bottleneck.conv{i}", f"bottleneck.bn{i}", f"conv{i}")
    for i, block in enumerate(student.code):
        assert isinstance(block, ResidualBlock)
        old, new = f"bottleneck.bn_layer.{i}", f"code.{i}"
        for n in range(1, block.n_convs + 1):
            found |= _folded(state, f"{old}.conv{n}", f"{old}.bn{n}", f"{new}.conv{n}")
        if block.downsample is not None:
            found |= _folded(state, f"{old}.downsample.0", f"{old}.downsample.1", f"{new}.downsample")
    for s, stage in enumerate(student.stages):
        assert isinstance(stage, nn.Sequential)
        for i, block in enumerate(stage):
            assert isinstance(block, UpBlock)
            old, new = f"decoder.layer{s + 1}.{i}", f"stages.{s}.{i}"
            for n, conv in enumerate(block.convs, 1):
                found |= _folded(state, f"{old}.conv{n}", f"{old}.bn{n}", f"{new}.convs.{n - 1}", isinstance(conv, SubPixel))
            if block.upsample is not None:
                found |= _folded(state, f"{old}.upsample.0", f"{old}.upsample.1", f"{new}.upsample", True)
    return found


def _folded(state: State, layer: str, norm: str, new: str, enlarges: bool = False) -> dict[str, Tensor]:
    """As :func:`edgead.importers.weights.fold_norm`; a transposed convolution of kernel 2 becomes what :class:`SubPixel` has."""
    if not enlarges:
        return fold_norm(state, layer, norm, new, biased=False)
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 4 or tuple(weight.shape[2:]) != (2, 2):
        told = "no such entry" if weight is None else " x ".join(map(str, weight.shape))
        raise BadInput(f"{layer}.weight is no transposed convolution of kernel 2 ({told})", hint="the file is of another version")
    each = {
        name: torch.repeat_interleave(tensor, 4) for name, tensor in state.items() if name.startswith(f"{norm}.") and tensor.ndim
    }
    return fold_norm({f"{layer}.weight": SubPixel.from_transposed(weight), **each}, layer, norm, f"{new}.conv", biased=False)
