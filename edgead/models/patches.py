"""Locally aware patch features (Roth et al. 2022, section 3.1), shared by PatchCore and SimpleNet.

Other people's trained models average, pool and align features a little differently; those ways are chosen by the configuration
(:func:`build_features`), so that their banks and heads give the answers they were trained for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.detector import Detector
from edgead.models.separable import bilinear, smooth_upsample


class PatchFeatures(nn.Module):
    """Each layer's features averaged over 3 x 3 cells, brought to the first (finest) layer's grid and concatenated.

    The mean is of the cells that are there: up to 9, 6 at an edge, 4 in a corner. Models trained before 30 November 2026 have it.

    Attributes:
        backbone: the frozen backbone.
        channels: C, the sum over its layers.
        recipe: what a model's configuration says of them under ``features``.
    """

    kind: ClassVar[str] = "paper"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = sum(backbone.channels)
        self.recipe: dict[str, Any] = {"kind": self.kind}

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..255 -> float32 N x C x h x w, with h x w the finest of the layers' grids."""
        return torch.cat(self.aligned(self.pooled(pixels)), 1)

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        """What is done to each layer at its own resolution: N x C_l x h_l x w_l each."""
        return [_mean_of_cells(f) for f in self.backbone(pixels)]

    def aligned(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The rest, which is linear and treats all channels alike: any maps at the layers' resolutions -> on the common grid."""
        size = max((tuple(m.shape[-2:]) for m in maps), key=lambda hw: hw[0] * hw[1])
        return [m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps]

    def shares(self, weight: Tensor) -> list[Tensor]:
        """A linear map O x C of the features as a sum over the layers: O x C_l each, to be applied to what `pooled` gives."""
        return list(torch.split(weight, list(self.backbone.channels), 1))


class QuietBorderFeatures(PatchFeatures):
    """As :class:`PatchFeatures`, with the outermost cells of each layer multiplied by `weight`, in the corners by its square.

    These cells see the zeros that the backbone pads its layers with, and a mean of 6 or 4 cells wavers more than one of 9. Left
    loud they took up to four fifths of a coreset and were the worst cells of most good pictures; counting cells outside of the
    map as zeros (2/3, 4/9) quietens them so far that defects there are missed (docs/decisions/0026-features.md).
    """

    kind = "quiet_border"

    def __init__(self, backbone: Backbone, weight: float = 0.8) -> None:
        super().__init__(backbone)
        if not isinstance(weight, int | float) or not 0.0 < weight <= 1.0:
            raise BadInput(f"outermost cells cannot be weighed {weight!r}", hint="give a number above 0, up to 1")
        self.recipe |= {"weight": weight}
        self.weight = weight

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        return [f * self._border(f) for f in super().pooled(pixels)]

    def _border(self, f: Tensor) -> Tensor:
        """h_l x w_l, a constant of the graph."""
        rows, columns = ([self.weight if i in (0, n - 1) else 1.0 for i in range(n)] for n in map(int, f.shape[-2:]))
        return torch.tensor([[row * column for column in columns] for row in rows], dtype=f.dtype, device=f.device)


class OwnCellFeatures(QuietBorderFeatures):
    """As :class:`QuietBorderFeatures`, of which each cell's own features are the share `own`, the mean over its surroundings the
    rest: what PatchCore's training takes.

    The mean alone blurs nicks of a few pixels away, the cell alone is as loud as the grain of the material
    (docs/decisions/0033-what-was-tried.md).
    """

    kind = "own_cell"

    def __init__(self, backbone: Backbone, weight: float = 0.8, own: float = 0.5) -> None:
        super().__init__(backbone, weight)
        if not isinstance(own, int | float) or not 0.0 <= own <= 1.0:
            raise BadInput(f"a cell's own share cannot be {own!r}", hint="give a number from 0 to 1")
        self.recipe |= {"own": own}
        self.own = own

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        return [(self.own * f + (1.0 - self.own) * _mean_of_cells(f)) * self._border(f) for f in self.backbone(pixels)]


class ZeroBorderFeatures(PatchFeatures):
    """As :class:`PatchFeatures`, but cells outside of the map count as zeros and the first layer gives the grid (anomalib)."""

    kind = "zero_border"

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(f, 3, 1, 1) for f in self.backbone(pixels)]

    def aligned(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = tuple(maps[0].shape[-2:])
        return [m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps]


class RawFeatures(PatchFeatures):
    """The layers as they are, each brought to the first one's grid by the nearest cell (anomalib's PaDiM)."""

    kind = "raw"

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone(pixels)
        return maps

    def aligned(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = tuple(maps[0].shape[-2:])
        return [m if tuple(m.shape[-2:]) == size else F.interpolate(m, size=size, mode="nearest") for m in maps]


class DoubledFeatures(PatchFeatures):
    """All layers at twice the first layer's grid, then averaged over 3 x 3 cells with a border of zeros (SuperSimpleNet)."""

    kind = "doubled"

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.backbone(pixels)
        size = (2 * maps[0].shape[-2], 2 * maps[0].shape[-1])
        return F.avg_pool2d(torch.cat([_resize(m, size) for m in maps], 1), 3, 1, 1)

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone(pixels)
        return maps

    def aligned(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = (2 * maps[0].shape[-2], 2 * maps[0].shape[-1])
        return [F.avg_pool2d(_resize(m, size), 3, 1, 1) for m in maps]


class BinnedFeatures(PatchFeatures):
    """The features of the authors' PatchCore and SimpleNet code.

    Each layer's 3 x 3 patches (C_l channels, border of zeros) are 9 C_l numbers that are averaged in `layer_bins` bins of equal
    length; the bins of all layers together are averaged in `channels` bins. Bins are aligned with channels in groups of
    gcd(C_l, bins), so the first step is a grouped 3 x 3 convolution. It commutes with the resize to the first layer's grid.
    """

    kind = "binned"

    def __init__(self, backbone: Backbone, layer_bins: int, channels: int) -> None:
        super().__init__(backbone)
        self.recipe |= {"layer_bins": layer_bins, "channels": channels}
        self.binning = nn.ModuleList([_binning(c, layer_bins, 3) for c in backbone.channels])
        self.merge = _binning(layer_bins * len(backbone.channels), channels, 1)
        self.channels = channels

    def forward(self, pixels: Tensor) -> Tensor:
        merged: Tensor = self.merge(super().forward(pixels))
        return merged

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        return [bins(f) for bins, f in zip(self.binning, self.backbone(pixels), strict=True)]

    def aligned(self, maps: Sequence[Tensor]) -> list[Tensor]:
        size = tuple(maps[0].shape[-2:])
        return [m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps]

    def shares(self, weight: Tensor) -> list[Tensor]:
        merge = self.merge.weight.flatten(1)  # C / groups outputs of a group see the same inputs
        blocks = torch.split(merge, len(merge) // self.merge.groups)
        merged: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # C x all bins
        return list((weight @ merged).chunk(len(self.backbone.channels), 1))


class TokenFeatures(PatchFeatures):
    """The patch tokens of a vision transformer, each of length 1 and alone: no mean over neighbours, which have seen each other
    in every block (AnomalyDINO, Damm et al. 2025). Squared distances are then 2 (1 - cosine), the sum over the layers."""

    kind = "tokens"

    def pooled(self, pixels: Tensor) -> list[Tensor]:
        return [F.normalize(f, dim=1) for f in self.backbone(pixels)]


class LinearFeatures(nn.Module):
    """A linear map of patch features that never makes the features themselves.

    Averaging and bilinear resizing commute with a 1 x 1 convolution, so each layer is multiplied at its own resolution and the
    products are added on the common grid: W [f1; up(f2)] + b = W1 f1 + b + up(W2 f2). It is exact.

    Args:
        features: the patch features, C channels.
        outputs: O.
    """

    def __init__(self, features: PatchFeatures, outputs: int) -> None:
        super().__init__()
        self.features = features
        shares = features.shares(torch.empty(0, features.channels))
        self.layers = nn.ModuleList([nn.Conv2d(share.shape[1], outputs, 1, bias=False) for share in shares])
        self.bias = nn.Parameter(torch.empty(outputs, 1, 1))

    @classmethod
    def of(cls, features: PatchFeatures, weight: Tensor, bias: Tensor) -> LinearFeatures:
        """From a weight float32 O x C and a bias float32 O."""
        made = cls(features, len(weight))
        with torch.no_grad():
            made.bias.copy_(bias.view(-1, 1, 1))
            for layer, share in zip(made.layers, features.shares(weight), strict=True):
                assert isinstance(layer, nn.Conv2d)
                layer.weight.copy_(share[:, :, None, None])
        return made

    @property
    def backbone(self) -> Backbone:
        return self.features.backbone

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..255 -> float32 N x O x h x w."""
        maps: list[Tensor] = [layer(m) for layer, m in zip(self.layers, self.features.pooled(pixels), strict=True)]
        first, *others = self.features.aligned(maps)
        return sum(others, first + self.bias)


_KINDS = (
    PatchFeatures, QuietBorderFeatures, OwnCellFeatures, ZeroBorderFeatures, RawFeatures, DoubledFeatures, BinnedFeatures,
    TokenFeatures,
)  # fmt: skip
FEATURES: Mapping[str, type[PatchFeatures]] = {made.kind: made for made in _KINDS}


def build_features(
    config: Mapping[str, Any], backbone: Backbone | None = None, image_size: tuple[int, int] | None = None
) -> PatchFeatures:
    """Patch features by a detector's configuration.

    Args:
        config: ``backbone``, ``layers``; optionally ``features``: {``kind``: of `FEATURES`, and its arguments} (not given:
            "paper") and ``normalize``: {``mean``, ``std``} (three numbers each, of RGB 0 to 255) in place of the backbone's own.
        backbone: with its weights; None builds one without.
        image_size: (height, width) of all pictures it will see; None: any.

    Raises:
        BadInput: unknown backbone, layer or kind, or a size that the backbone does not take.
    """
    backbone = backbone or build_backbone(config["backbone"], config["layers"])
    if image_size is not None:
        backbone.fix_size(image_size)
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

    def __init__(self, config: Mapping[str, Any], features: nn.Module, image_size: tuple[int, int]) -> None:
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


class PatchDetector(Detector):
    """One that judges patch features of a frozen backbone, and enlarges what it finds in cells to the picture.

    Attributes:
        features: pixels -> N x C x h x w.
        to_model_size: N x h x w -> N x H x W.
    """

    features: nn.Module
    to_model_size: nn.Module

    @property
    def enlarging(self) -> str:  # a blur is no plain enlarging
        module = self.to_model_size
        return "to_model_size" if isinstance(module, ToModelSize) and module.smooth is None else ""

    def seen(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.features(pixels)
        return found


def to_model_size(patch_map: Tensor, image_size: Sequence[int]) -> Tensor:
    """Bilinear map at the model's input size: N x h x w -> N x H x W."""
    return bilinear(patch_map, image_size)


def _mean_of_cells(f: Tensor) -> Tensor:
    """Of the 3 x 3 cells around each that are there: N x C x h x w, as it came."""
    return F.avg_pool2d(f, 3, 1, 1, count_include_pad=False)


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
