"""Locally aware patch features (Roth et al. 2022, section 3.1), shared by PatchCore and SimpleNet.

Other people's trained models average, pool and align features a little differently; those ways are chosen by the configuration
(:func:`build_features`), so that their banks and heads give the answers they were trained for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.separable import smooth_upsample


class PatchFeatures(nn.Module):
    """Each layer's features averaged over 3 x 3 cells, brought to the first (finest) layer's grid and concatenated.

    Attributes:
        backbone: the frozen backbone.
        channels: C, the sum over its layers.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = sum(backbone.channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..255 -> float32 N x C x h x w, with h x w the finest of the layers' grids."""
        maps = [F.avg_pool2d(f, 3, 1, 1, count_include_pad=False) for f in self.backbone(pixels)]
        size = max((tuple(m.shape[-2:]) for m in maps), key=lambda hw: hw[0] * hw[1])
        return torch.cat([m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps], 1)


class ZeroBorderFeatures(PatchFeatures):
    """As :class:`PatchFeatures`, but cells outside of the map count as zeros and the first layer gives the grid (anomalib)."""

    def forward(self, pixels: Tensor) -> Tensor:
        maps = [F.avg_pool2d(f, 3, 1, 1) for f in self.backbone(pixels)]
        size = tuple(maps[0].shape[-2:])
        return torch.cat([m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps], 1)


class DoubledFeatures(PatchFeatures):
    """All layers at twice the first layer's grid, then averaged over 3 x 3 cells with a border of zeros (SuperSimpleNet)."""

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.backbone(pixels)
        size = (2 * maps[0].shape[-2], 2 * maps[0].shape[-1])
        return F.avg_pool2d(torch.cat([_resize(m, size) for m in maps], 1), 3, 1, 1)


class BinnedFeatures(PatchFeatures):
    """The features of the authors' PatchCore and SimpleNet code.

    Each layer's 3 x 3 patches (C_l channels, border of zeros) are 9 C_l numbers that are averaged in `layer_bins` bins of equal
    length; the bins of all layers together are averaged in `channels` bins. Bins are aligned with channels in groups of
    gcd(C_l, bins), so the first step is a grouped 3 x 3 convolution. It commutes with the resize to the first layer's grid.
    """

    def __init__(self, backbone: Backbone, layer_bins: int, channels: int) -> None:
        super().__init__(backbone)
        self.binning = nn.ModuleList([_binning(c, layer_bins, 3) for c in backbone.channels])
        self.merge = _binning(layer_bins * len(backbone.channels), channels, 1)
        self.channels = channels

    def forward(self, pixels: Tensor) -> Tensor:
        maps = [bins(f) for bins, f in zip(self.binning, self.backbone(pixels), strict=True)]
        size = tuple(maps[0].shape[-2:])
        merged: Tensor = self.merge(torch.cat([m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps], 1))
        return merged


FEATURES: dict[str, Callable[..., PatchFeatures]] = {
    "paper": PatchFeatures,
    "zero_border": ZeroBorderFeatures,
    "doubled": DoubledFeatures,
    "binned": BinnedFeatures,
}


def build_features(config: Mapping[str, Any], backbone: Backbone | None = None) -> PatchFeatures:
    """Patch features by a detector's configuration.

    Args:
        config: ``backbone``, ``layers``; optionally ``features``: {``kind``: of `FEATURES`, and its arguments} and ``normalize``:
            {``mean``, ``std``} (three numbers each, of RGB 0 to 255) in place of the backbone's own.
        backbone: with its weights; None builds one without.

    Raises:
        BadInput: unknown backbone, layer or kind.
    """
    backbone = backbone or build_backbone(config["backbone"], config["layers"])
    if "normalize" in config:
        for name in ("mean", "std"):
            getattr(backbone, name).copy_(torch.tensor(config["normalize"][name]).view(1, 3, 1, 1))
    wanted = dict(config.get("features", {"kind": "paper"}))
    kind = str(wanted.pop("kind"))
    if kind not in FEATURES:
        raise BadInput(f"unknown patch features {kind!r}", hint=f"known: {', '.join(FEATURES)}")
    return FEATURES[kind](backbone, **wanted)


class ToModelSize(nn.Module):
    """Patch map N x h x w -> anomaly map N x H x W: bilinear, or as ``map`` in the configuration says (smoothed, see
    :func:`edgead.models.separable.smooth_upsample`)."""

    def __init__(self, config: Mapping[str, Any], features: PatchFeatures, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size
        self.smooth: nn.Module | None = None
        if "map" in config:
            with torch.no_grad():
                height, width = features(torch.zeros(1, 3, *image_size)).shape[-2:]
            self.smooth = smooth_upsample(config["map"], (height, width), image_size)

    def forward(self, patch_map: Tensor) -> Tensor:
        if self.smooth is None:
            return to_model_size(patch_map, self.image_size)
        out: Tensor = self.smooth(patch_map)
        return out


def to_model_size(patch_map: Tensor, image_size: Sequence[int]) -> Tensor:
    """Bilinear map at the model's input size: N x h x w -> N x H x W."""
    return _resize(patch_map.unsqueeze(1), (image_size[0], image_size[1])).squeeze(1)


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _binning(before: int, after: int, kernel: int) -> nn.Conv2d:
    """Means over `after` equal bins of the `before` * kernel^2 numbers of a patch (channel first), as a grouped convolution."""
    groups = math.gcd(before, after)
    inputs, outputs = before // groups * kernel * kernel, after // groups
    weight = torch.zeros(outputs, inputs)
    for i in range(outputs):
        first, last = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        weight[i, first:last] = 1.0 / (last - first)
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, groups=groups, bias=False)
    with torch.no_grad():
        conv.weight.copy_(weight.view(outputs, before // groups, kernel, kernel).repeat(groups, 1, 1, 1))
    return conv.requires_grad_(False)
