"""Weights from other people's names: backbones inside of checkpoints, batch norms, fully connected layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.importers.steps import shown
from edgead.models.backbones import EfficientNetLite0, ResNet, build_backbone

TIMM_LITE0 = "tf_efficientnet_lite0"
_LITE0_REPEATS = (1, 2, 2, 3, 3, 4)
_EPS = 1e-5
MOST_LAYERS = 8


def backbone_with(name: str, layers: Sequence[str], weights: Mapping[str, Tensor]) -> EfficientNetLite0 | ResNet:
    """A frozen backbone with weights that are named as its publisher names them.

    Raises:
        BadInput: unknown backbone or layer, or a weight is missing.
    """
    backbone = build_backbone(name, layers)
    try:
        backbone.load_published({k: v.float() for k, v in weights.items()})
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise BadInput(f"the weights are not those of {name}: {detail[:120]}", hint="give the right --backbone") from error
    backbone.freeze()
    return backbone


def check_layers(layers: Sequence[Any]) -> tuple[str, ...]:
    """Names of feature layers that a file tells.

    Raises:
        BadInput: none, more than a handful, one twice, or no names.
    """
    if not 1 <= len(layers) <= MOST_LAYERS or not all(isinstance(one, str) for one in layers) or len(set(layers)) != len(layers):
        raise BadInput(f"the file tells the layers {shown(layers)}", hint="give the layers it was trained with: --layers")
    return tuple(str(one)[:80] for one in layers)


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not numbers: every score of theirs would be none either.

    Raises:
        BadInput: names the entry, and how many rows of it are not finite.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = tensor.reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
            bad = int((~torch.isfinite(rows).all(1)).sum())
            raise BadInput(
                f"{path}: {bad} of {len(rows)} rows of {name[:80]!r} are not finite (NaN or infinite)",
                hint="the training diverged or the file is damaged: train again",
            )


def fold_norm(state: Mapping[str, Tensor], layer: str, norm: str, new: str) -> dict[str, Tensor]:
    """A linear or convolution layer with the batch norm after it folded in (epsilon 1e-5), in double precision.

    Raises:
        BadInput: a weight is missing.
    """
    try:
        gain = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + _EPS).sqrt()
        weight = state[f"{layer}.weight"].double()
        bias = (state[f"{layer}.bias"].double() - state[f"{norm}.running_mean"].double()) * gain + state[f"{norm}.bias"].double()
    except KeyError as missing:
        raise BadInput(f"the file has no entry {missing.args[0]!r}", hint="it is incomplete or of another version") from missing
    scaled = weight * gain.view(-1, *[1] * (weight.ndim - 1))
    return {f"{new}.weight": scaled.float(), f"{new}.bias": bias.float()}


def from_timm_lite0(layers: Sequence[str], weights: Mapping[str, Tensor]) -> tuple[str, tuple[str, ...], dict[str, Tensor]]:
    """EfficientNet-Lite0 as timm names it -> edgead's name, layers and published weight names.

    timm counts stages ("blocks.2" is the output of stage 2), the published weights count blocks.

    Raises:
        BadInput: a layer is not a stage.
    """
    ends = [sum(_LITE0_REPEATS[: i + 1]) - 1 for i in range(len(_LITE0_REPEATS))]
    try:
        chosen = tuple(f"blocks.{ends[int(layer.removeprefix('blocks.'))]}" for layer in layers)
    except (ValueError, IndexError) as error:
        raise BadInput(f"{TIMM_LITE0} has no layers {', '.join(layers)}", hint="choose from blocks.0 to blocks.5") from error
    renamed = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if parts[0] in ("conv_stem", "bn1"):
            renamed[".".join([{"conv_stem": "_conv_stem", "bn1": "_bn0"}[parts[0]], *parts[1:]])] = tensor
        elif parts[0] == "blocks" and len(parts) > 4:
            stage, block = int(parts[1]), int(parts[2])
            index = sum(_LITE0_REPEATS[:stage]) + block
            renamed[f"_blocks.{index}.{_timm_layer(parts[3], first=stage == 0)}.{parts[4]}"] = tensor
    return "efficientnet_lite0", chosen, renamed


def _timm_layer(name: str, first: bool) -> str:
    """timm's layer names: the first stage has no expansion, so its names are shifted by one."""
    if first:
        names = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    else:
        names = {
            "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
            "conv_pwl": "_project_conv", "bn3": "_bn2",
        }  # fmt: skip
    return names.get(name, name)
