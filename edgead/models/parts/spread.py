"""What was found in cells, told in pixels: each pixel gets a weighted mean of the cells that have seen it.

The papers do it by transposed convolutions with fixed kernels, divided by what all cells at one would give. That is linear and
the same along rows and columns, so it is two constant matrices (:class:`edgead.models.separable.Separable`), which every backend
computes alike and no 8-bit grid touches. Each row of them sums to one: an even map stays as it is, to the very edge.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgead.models.separable import Separable


class GaussUp(Separable):
    """Each cell speaks for a Gaussian around its middle (Liznerski et al. 2021, FCDD: the receptive field): N x ... x h x w ->
    N x ... x H x W.

    Args:
        grid: (h, w) cells, which share the picture evenly.
        image_size: (H, W), px.
        sigma: px.
    """

    def __init__(self, grid: tuple[int, int], image_size: tuple[int, int], sigma: float) -> None:
        rows, columns = (_gauss(cells, px, sigma) for cells, px in zip(grid, image_size, strict=True))
        super().__init__(rows, columns)


class BoxUp(Separable):
    """The mean of all patches of `patch` px, one every `stride` px from the top left corner, that hold a pixel (Yi & Yoon 2020,
    Patch SVDD): N x ... x h x w -> N x ... x H x W. Pixels that no patch holds get the answer of the nearest one that has one.

    Args:
        grid: (h, w) patches.
        image_size: (H, W), px.
        patch, stride: px.
    """

    def __init__(self, grid: tuple[int, int], image_size: tuple[int, int], patch: int, stride: int) -> None:
        rows, columns = (_box(cells, px, patch, stride) for cells, px in zip(grid, image_size, strict=True))
        super().__init__(rows, columns)


def _gauss(cells: int, px: int, sigma: float) -> Tensor:
    """float32 px x cells."""
    middles = (torch.arange(cells, dtype=torch.float64) + 0.5) * px / cells - 0.5
    away = (torch.arange(px, dtype=torch.float64)[:, None] - middles) / sigma
    return torch.softmax(-0.5 * away * away, 1).float()  # as a softmax, which has a nearest cell however small sigma is


def _box(cells: int, px: int, patch: int, stride: int) -> Tensor:
    """float32 px x cells."""
    starts = torch.arange(cells) * stride
    pixels = torch.arange(px)[:, None]
    away = torch.maximum(starts - pixels, pixels - (starts + patch - 1)).clamp_min(0)  # 0: the patch holds the pixel
    nearest = (away == away.amin(1, keepdim=True)).double()
    return (nearest / nearest.sum(1, keepdim=True)).float()
