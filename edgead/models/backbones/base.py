"""What every backbone shares: its interface, and strict reading of published weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgead.errors import BadInput

State = Mapping[str, Tensor]
Shape = tuple[int, ...]

TORCHVISION_MEAN = (123.675, 116.28, 103.53)
TORCHVISION_STD = (58.395, 57.12, 57.375)

_NAMED = 3
"""So many entries are named when a weight file does not fit."""


class Backbone(nn.Module):
    """A frozen feature extractor.

    Attributes:
        name: the backbone's name, e.g. ``"efficientnet_lite0"``.
        layers: names of the layers whose outputs `forward` returns, in that order.
        channels: their channel counts.
        patch_features: the kind of patch features that it must have (:data:`edgead.models.patches.FEATURES`); empty: any.
    """

    name: str
    mean: Tensor
    std: Tensor
    patch_features: ClassVar[str] = ""

    def __init__(self, name: str, layers: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        self.channels: tuple[int, ...] = ()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """N x 3 x H x W RGB 0..255 -> one N x C_l x H/s_l x W/s_l tensor for each of `layers`."""
        raise NotImplementedError

    def normalize(self, pixels: Tensor) -> Tensor:
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized

    def fix_size(self, image_size: tuple[int, int]) -> None:
        """Prepare for pictures of one size (height, width), which is what a detector's graph is exported for.

        Raises:
            BadInput: a size that the backbone does not take.
        """

    def freeze(self) -> Backbone:
        """Evaluation mode without gradients."""
        self.requires_grad_(False)
        return self.eval()

    def entries(self) -> dict[str, Shape]:
        """Names and shapes of the published weights that this network needs."""
        raise NotImplementedError

    def whole(self) -> Backbone:
        """The same network with all layers, without memory for weights."""
        raise NotImplementedError

    def renamed(self, state: State) -> State:
        """Weights named as other publishers name them -> named as in `entries`."""
        return state

    def folded(self, state: State) -> dict[str, Tensor]:
        """Published weights -> this module's own."""
        raise NotImplementedError

    def unfolded(self) -> dict[str, Tensor]:
        """This module's own weights -> published ones that are read as the same again, for the layers that it has.

        Raises:
            BadInput: it cannot be written so.
        """
        raise BadInput(f"the weights of {self.name} cannot be written again", hint="take an EfficientNet-Lite or a ResNet")

    surplus: str = r"(?!)"
    """What a weight file may hold beside the weights of all layers: a regular expression of names."""

    def load_published(self, state: State) -> None:
        """Take the weights of the publisher's file; layers beyond the deepest wanted one may be missing.

        Raises:
            BadInput: an entry is missing, unknown, of another shape, or not finite; they are named.
        """
        state = self.renamed(state)
        self._check(state)
        folded = {name: tensor.float() for name, tensor in self.folded(state).items()}
        for name, tensor in folded.items():
            if not bool(torch.isfinite(tensor).all()):
                raise BadInput(
                    f"the weights of {self.name} are not finite (NaN or infinite) at {name!r}",
                    hint="the file is damaged or its training diverged: take another",
                )
        self.load_state_dict(folded)

    def fits(self, state: State) -> bool:
        """Does a weight file hold entries of these names and shapes?"""
        try:
            self._check(self.renamed(state))
        except BadInput:
            return False
        return True

    def _check(self, state: State) -> None:
        needed, whole = self.entries(), self.whole().entries()
        hint = f"give the weights of exactly this backbone, {self.name}"
        if missing := [name for name in needed if name not in state]:
            raise BadInput(f"the weight file has no entry {_listed(missing)}", hint=hint)
        if unknown := [name for name in state if name not in whole and not re.fullmatch(self.surplus, name)]:
            raise BadInput(f"the weight file holds what {self.name} has not: {_listed(unknown)}", hint=hint)
        for name, shape in needed.items():
            if tuple(state[name].shape) != shape:
                found = " x ".join(map(str, state[name].shape)) or "a number"
                raise BadInput(f"the entry {name!r} is {found}, expected {' x '.join(map(str, shape))}", hint=hint)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name[:80]) for name in names[:_NAMED]) + more


def layer_index(layer: str, pattern: str, name: str, choices: str, most: int) -> int:
    """The number in a layer's name.

    Raises:
        BadInput: the backbone has no such layer.
    """
    match = re.fullmatch(pattern, layer)
    if not match or int(match[1]) > most:
        raise BadInput(f"{name} has no layer {layer[:80]!r}", hint=f"choose from {choices}")
    return int(match[1])


def conv_entries(network: nn.Module, names: Iterable[tuple[str, str, str]]) -> dict[str, Shape]:
    """Published names and shapes of convolutions and the batch norms behind them, which `network` holds folded together.

    Args:
        names: of a convolution, of its batch norm, and of the convolution in `network` that is both.
    """
    found: dict[str, Shape] = {}
    for conv, norm, new in names:
        weight = network.get_submodule(new).weight
        assert isinstance(weight, Tensor)
        found[f"{conv}.weight"] = tuple(weight.shape)
        found |= {f"{norm}.{part}": (len(weight),) for part in ("weight", "bias", "running_mean", "running_var")}
    return found


def unfold(network: nn.Module, names: Iterable[tuple[str, str, str]], eps: float) -> dict[str, Tensor]:
    """Convolutions and batch norms that :func:`fold` makes into the network's own convolutions, bit for bit."""
    found: dict[str, Tensor] = {}
    for conv, norm, new in names:
        module = network.get_submodule(new)
        weight, bias = (getattr(module, part).detach().float().cpu().clone() for part in ("weight", "bias"))
        one = torch.ones(len(weight))
        found[f"{conv}.weight"] = weight
        found |= {f"{norm}.weight": torch.sqrt(one + eps), f"{norm}.bias": bias}
        found |= {f"{norm}.running_mean": torch.zeros(len(weight)), f"{norm}.running_var": one}
    return found


def fold(state: State, conv: str, norm: str, eps: float, new: str) -> dict[str, Tensor]:
    """Batch norm folded into the convolution before it: w' = w * g / sqrt(v + eps), b' = beta - m * g / sqrt(v + eps)."""
    gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + eps)
    weight = state[f"{conv}.weight"] * gain.view(-1, 1, 1, 1)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return {f"{new}.weight": weight, f"{new}.bias": bias}
