"""Features of places: some channels of several layers on one grid, which need not be the finest layer's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones import Backbone
from edgead.models.patches import PatchFeatures, RawFeatures


class Cells(nn.Module):
    """float32 N x 3 x H x W RGB 0..255 -> N x d x h x w.

    Channels are chosen in each layer at its own resolution. A layer that is finer than the grid is averaged (3 x 3 cells with a
    stride of 2, as often as needed), a coarser one enlarged.

    Args:
        features: of whole layers.
        grid: (h, w), as :func:`grid_of` gives it.
        picked: the chosen channels of all layers one after the other, ascending; None: all.
    """

    def __init__(self, features: PatchFeatures, grid: tuple[int, int], picked: Sequence[int] | None = None) -> None:
        super().__init__()
        self.features, self.grid = features, grid
        self.channels = features.channels if picked is None else len(picked)
        self._rule = "nearest" if features.kind == RawFeatures.kind else "bilinear"
        self._picked: list[Tensor] | None = None
        if picked is not None:
            ends = [0, *accumulate(features.backbone.channels)]
            self._picked = [
                torch.tensor([c - first for c in picked if first <= c < last], dtype=torch.int64)
                for first, last in pairwise(ends)
            ]

    @property
    def backbone(self) -> Backbone:
        return self.features.backbone

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.features.pooled(pixels)
        if self._picked is not None:
            chosen = zip(maps, self._picked, strict=True)
            maps = [m.index_select(1, places.to(m.device)) for m, places in chosen if len(places)]
        return torch.cat([self._on_grid(m) for m in maps], 1)

    def _on_grid(self, f: Tensor) -> Tensor:
        while f.shape[-2] > self.grid[0] and f.shape[-1] > self.grid[1]:
            f = F.avg_pool2d(f, 3, 2, 1, count_include_pad=False)
        if tuple(f.shape[-2:]) == self.grid:
            return f
        corners = None if self._rule == "nearest" else False
        return F.interpolate(f, self.grid, mode=self._rule, align_corners=corners)


def grid_of(features: PatchFeatures, image_size: tuple[int, int], cell: int) -> tuple[int, int]:
    """The finest of the grids that the features can be told on whose cells are at least `cell` px high: (h, w)."""
    with torch.no_grad():
        height, width = features(torch.zeros(1, 3, *image_size, device=features.backbone.mean.device)).shape[-2:]
    while image_size[0] < cell * height and min(height, width) > 1:
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width
