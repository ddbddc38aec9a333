"""P-Net (Zhou et al. 2020) for industry: structure is soft edges, and a picture is rebuilt from its content and its structure.

The paper's structure is learned from another, labelled set of pictures (vessels, layers of the retina). There is none for parts,
so that edges of the picture itself stand for it here: a small fixed graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.convnets import Block, Joined, Skips, to_picture, twice


class SoftEdges(nn.Module):
    """How much of an edge each pixel is, at two scales: e = g / (g + m), g the length of the Sobel gradient.

    Attributes:
        middle: m, the median of g on good pictures at each scale; set by :meth:`measure`.
    """

    middle: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 8
        self.register_buffer("sobel", torch.stack([across, across.T])[:, None], persistent=False)
        self.register_buffer("middle", torch.full((2,), 0.05))

    sobel: Tensor

    def gradients(self, x: Tensor) -> list[Tensor]:
        """N x 3 x H x W in 0..1 -> N x 1 x h x w at full and at half size."""
        grey = x.mean(1, keepdim=True)
        return [self._length(one) for one in (grey, F.avg_pool2d(grey, 2))]

    def _length(self, grey: Tensor) -> Tensor:
        slopes: Tensor = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.sobel)
        return (slopes.square().sum(1, keepdim=True) + 1e-6).sqrt()

    @torch.no_grad()
    def measure(self, pictures: Sequence[Tensor]) -> None:
        """Take m from good pictures 1 x 3 x H x W."""
        for scale, found in enumerate(zip(*(self.gradients(one) for one in pictures), strict=True)):
            self.middle[scale] = torch.stack([g.median() for g in found]).median().clamp_min(0.004)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W in 0..1 -> N x 2 x H x W in 0..1."""
        fine, coarse = (g / (g + m) for g, m in zip(self.gradients(x), self.middle, strict=True))
        return torch.cat([fine, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], 1)


class Structure(nn.Module):
    """An error (:mod:`edgead.models.parts.errors`): how much the edges of a picture and a rebuilt one differ, |S(x) - S(y)|."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = SoftEdges()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        apart: Tensor = self.edges(x) - self.edges(y)
        return apart.abs().mean(1, keepdim=True)


class StructureNet(nn.Module):
    """A network that rebuilds (:mod:`edgead.models.parts.convnets`) with two encoders: of the picture, whose code is narrow, and
    of its edges, whose levels are handed on to the decoder.

    But for the finest level, which would hand the edge of a defect straight on.

    Args:
        image_size: (height, width), multiples of its stride.
        base: channels of the first level; each has twice those before, up to 4 times.
        levels: halvings, 2 or more.
        norm: batch norms.
    """

    def __init__(self, image_size: tuple[int, int], base: int = 16, levels: int = 4, norm: bool = False) -> None:
        super().__init__()
        widths = [base * min(4, 2**level) for level in range(levels)]
        self.channels, self.stride = base, 2**levels
        self.edges = SoftEdges()
        self.picture, self.structure = (
            nn.ModuleList(Block(c_in, c_out, 4, 2, norm=norm) for c_in, c_out in pairwise([first, *widths])) for first in (3, 2)
        )
        self.narrow = nn.Conv2d(widths[-1], base, 1)
        self.start = Joined(base, widths[-1], widths[-1], norm=norm)
        self.up = nn.ModuleList(
            Joined(c_in, c_out, c_out, norm=norm) if level else Block(c_in, c_out, norm=norm)
            for level, (c_out, c_in) in reversed(list(enumerate(pairwise(widths))))
        )
        self.last = nn.Conv2d(base, 3, 3, padding=1)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Skips]:
        levels = [self.edges(x)]
        for layer in self.structure:
            levels.append(layer(levels[-1]))
        code = 2.0 * x - 1.0
        for layer in self.picture:
            code = layer(code)
        return self.narrow(code), levels[2:]

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        *levels, deepest = skips
        y = self.start(code, deepest)
        for layer in self.up:
            y = layer(twice(y), levels.pop()) if isinstance(layer, Joined) else layer(twice(y))
        return to_picture(self.last, twice(y))
