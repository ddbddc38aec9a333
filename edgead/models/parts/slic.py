"""Superpixels of the picture at hand as one static graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.patterns import COLOURS, Size
from edgead.models.separable import Separable, resize_matrix


class SoftSlic(nn.Module):
    """SLIC (Achanta et al. 2012) with soft membership, unrolled: which cells of a picture are hidden together.

    Pixels of a smaller picture are described by brightness, two colour differences and their place; seeds stand on a grid. Some
    times: each pixel belongs to the seeds around it by softmax(-distance^2 / tau), seeds move to the mean of their pixels. The
    last membership is sharper, and is not made hard: a label that flips with rounding would move the map from engine to engine.

    Args:
        size: of the pictures, px.
        cells: seeds along each axis.
        steps: moves of the seeds.
        side: of the smaller picture, px.
        compact: how much a cell's width counts against the whole range of brightness.
        tau: of the softmax, in squared cell widths times `compact` squared; the last one is a fifth of it.
    """

    def __init__(
        self, size: Size, cells: int = 8, steps: int = 5, side: int = 32, compact: float = 0.3, tau: float = 0.2
    ) -> None:
        super().__init__()
        self.cells, self.steps, self.side, self.tau = cells, steps, side, tau * compact**2
        self.shrink = Separable(*(resize_matrix(length, side, antialias=True) for length in size))
        self.enlarge = Separable(*(resize_matrix(side, length) for length in size))
        place = (torch.arange(side) + 0.5) / side * cells
        rows, columns = torch.meshgrid(place, place, indexing="ij")
        seeds = torch.stack(torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij"), -1).view(-1, 2)
        near = (torch.stack([rows, columns], -1).view(-1, 1, 2) - seeds - 0.5).abs().amax(-1) <= 1.5  # P x S: own and neighbours
        self.register_buffer("place", compact * torch.stack([rows, columns]).flatten(1)[None], persistent=False)
        self.register_buffer("far", torch.where(near, 0.0, -1e4)[None], persistent=False)
        colour = seeds[:, 0] % 3 * 3 + seeds[:, 1] % 3
        self.register_buffer("of_colour", (colour == torch.arange(COLOURS)[:, None]).float(), persistent=False)  # 9 x S

    place: Tensor
    far: Tensor
    of_colour: Tensor

    def membership(self, x: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..1 -> N x P x S: how much each pixel of the smaller picture belongs to each cell."""
        small = self.shrink(x)
        red, green, blue = small.flatten(2).unbind(1)
        described = torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], 1)
        f = torch.cat([described, self.place.expand(len(x), -1, -1)], 1)  # N x 5 x P
        seeds = F.adaptive_avg_pool2d(f.view(-1, 5, self.side, self.side), self.cells).flatten(2)  # N x 5 x S
        belongs = f.new_zeros(())
        for step in range(self.steps + 1):
            sharp = 5.0 if step == self.steps else 1.0
            pairs = zip(f.unbind(1), seeds.unbind(1), strict=True)
            away = sum((own[:, :, None] - seed[:, None, :]).square() for own, seed in pairs)  # no difference of squares
            belongs = torch.softmax(self.far - away * (sharp / self.tau), -1)
            if step < self.steps:
                seeds = f @ belongs / belongs.sum(1)[:, None].clamp_min(1e-3)
        return belongs

    def forward(self, x: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..1 -> N x 9 x H x W: how much each mask hides of each pixel, of sum 1."""
        hidden = torch.matmul(self.of_colour, self.membership(x).transpose(1, 2))  # the constant on the left stays float in INT8
        told: Tensor = self.enlarge(hidden.view(-1, COLOURS, self.side, self.side))
        return told
