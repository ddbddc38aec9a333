"""P-Net (Zhou et al. 2020) for industry: structure is soft edges, and a picture is rebuilt from its content and its structure.

The paper's structure is learned from another, labelled set of pictures (vessels, layers of the retina). There is none for parts, so
that edges of the picture itself stand for it here: a small fixed graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2


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
        slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.sobel)
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


class StructureNet(nn.Module):
    """Picture and structure -> rebuilt picture: two encoders, of which that of the structure alone hands its levels on.

    The finest level is not handed on: it would hand the edge of a defect straight to the decoder.

    Args:
        width: channels of the first level, doubled level by level up to four times.
        levels: halvings, 3 or more.
        code: channels that the picture's encoder is narrowed to.
    """

    def __init__(self, width: int = 16, levels: int = 4, code: int = 16) -> None:
        super().__init__()
        channels = [width * min(4, 2**level) for level in range(levels)]
        self.picture, self.structure = (self._encoder(first, channels) for first in (3, 2))
        self.narrow = nn.Conv2d(channels[-1], code, 1)
        self.start = nn.ModuleList([nn.Conv2d(i, channels[-1], 3, 1, 1) for i in (code, channels[-1])])
        self.up, self.skip, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(levels - 1, 0, -1):
            self.up.append(nn.Conv2d(channels[level], channels[level - 1], 3, 1, 1))
            skipped = level - 1 >= 1
            self.skip.append(
                nn.Conv2d(channels[level - 1], channels[level - 1], 3, 1, 1, bias=False) if skipped else nn.Identity()
            )
            self.norms.append(nn.BatchNorm2d(channels[level - 1]))
        self.tail = nn.Conv2d(channels[0], 3, 3, 1, 1)

    @staticmethod
    def _encoder(first: int, channels: Sequence[int]) -> nn.ModuleList:
        return nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(LEAK))
                for i, o in zip([first, *channels[:-1]], channels, strict=True)
            ]
        )

    def forward(self, x: Tensor, structure: Tensor) -> Tensor:
        """N x 3 x H x W and N x 2 x H x W, both in 0..1 -> N x 3 x H x W in 0..1."""
        for layer in self.picture:
            x = layer(x)
        levels = [structure]
        for layer in self.structure:
            levels.append(layer(levels[-1]))
        y = F.leaky_relu(self.start[0](self.narrow(x)) + self.start[1](levels[-1]), LEAK)
        for i, (up, skip, norm) in enumerate(zip(self.up, self.skip, self.norms, strict=True)):
            y = up(F.interpolate(y, scale_factor=2.0, mode="nearest"))
            if not isinstance(skip, nn.Identity):
                y = y + skip(levels[-2 - i])
            y = F.leaky_relu(norm(y), LEAK)
        return torch.sigmoid(self.tail(F.interpolate(y, scale_factor=2.0, mode="nearest")))
