"""Weights from other people's names: backbones inside of checkpoints, batch norms, fully connected layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.importers.steps import shown
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.backbones.efficientnet import PLANS

TIMM_LITE = {f"tf_{name}": name for name in PLANS}
_EPS = 1e-5
MOST_LAYERS = 8

LARGEST = 1e12
"""No weight, statistic or feature of a trained network is larger; squares and sums of such numbers leave float32."""


def backbone_with(name: str, layers: Sequence[str], weights: Mapping[str, Tensor]) -> Backbone:
    """A frozen backbone with weights that are named as its publisher names them.

    Raises:
        BadInput: unknown backbone or layer, or the weights are not its.
    """
    backbone = build_backbone(name, layers)
    try:
        backbone.load_published(weights)
    except BadInput as error:
        raise BadInput(f"the weights are not those of {name}: {error}", hint="give the right --backbone") from error
    return backbone.freeze()


def check_layers(layers: Sequence[Any]) -> tuple[str, ...]:
    """Names of feature layers that a file tells.

    Raises:
        BadInput: none, more than a handful, one twice, or no names.
    """
    if not 1 <= len(layers) <= MOST_LAYERS or not all(isinstance(one, str) for one in layers) or len(set(layers)) != len(layers):
        raise BadInput(f"the file tells the layers {shown(layers)}", hint="give the layers it was trained with: --layers")
    return tuple(str(one)[:80] for one in layers)


def check_numbers(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that no trained network has: every score of theirs would be no number either.

    Raises:
        BadInput: names the entry, and how many rows of it are not finite or beyond `LARGEST`, or that a variance is below 0.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            continue
        rows = tensor.reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
        where = f"rows of {name[:80]!r}"
        if bad := int((~torch.isfinite(rows).all(1)).sum()):
            what = f"{bad} of {len(rows)} {where} are not finite (NaN or infinite)"
        elif bad := int((rows.abs() > LARGEST).any(1).sum()):
            what = f"{bad} of {len(rows)} {where} hold numbers beyond {LARGEST:g} (up to {float(rows.abs().max()):.3g})"
        elif name.endswith("running_var") and (bad := int((rows < 0).any(1).sum())):
            what = f"{bad} of {len(rows)} variances in {name[:80]!r} are below 0 (down to {float(rows.min()):.3g})"
        else:
            continue
        raise BadInput(f"{path}: {what}", hint="the training diverged or the file is damaged: train again")


def fold_norm(state: Mapping[str, Tensor], layer: str, norm: str, new: str, biased: bool = True) -> dict[str, Tensor]:
    """A linear or convolution layer with the batch norm after it folded in (epsilon 1e-5), in double precision.

    Args:
        biased: the layer has a bias of its own.

    Raises:
        BadInput: a weight is missing.
    """
    try:
        gain = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + _EPS).sqrt()
        weight = state[f"{layer}.weight"].double()
        own = state[f"{layer}.bias"].double() if biased else 0.0
        bias = (own - state[f"{norm}.running_mean"].double()) * gain + state[f"{norm}.bias"].double()
    except KeyError as missing:
        raise BadInput(f"the file has no entry {missing.args[0]!r}", hint="it is incomplete or of another version") from missing
    scaled = weight * gain.view(-1, *[1] * (weight.ndim - 1))
    return {f"{new}.weight": scaled.float(), f"{new}.bias": bias.float()}


def from_timm_lite(name: str, layers: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """An EfficientNet-Lite as timm names it -> edgead's name and layers: timm counts stages, edgead blocks.

    Raises:
        BadInput: a layer is not a stage.
    """
    own = TIMM_LITE[name]
    ends = PLANS[own].ends
    try:
        chosen = tuple(f"blocks.{ends[int(layer.removeprefix('blocks.'))]}" for layer in layers)
    except (ValueError, IndexError) as error:
        raise BadInput(f"{name} has no layers {', '.join(layers)}", hint="choose from blocks.0 to blocks.5") from error
    return own, chosen
