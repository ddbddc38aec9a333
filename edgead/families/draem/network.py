"""DRAEM (Zavrtanik et al. 2021): one network rebuilds the picture without what is odd, another one sees both and says where they
differ by more than good pictures do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.detector import Detector
from edgead.models.parts.convnets import Block, Joined
from edgead.models.parts.errors import Smooth

LEAST_PX = 32
"""Of a side: the second network halves it five times."""

DOWN = (1, 2, 4, 8, 8)
"""Channels of the levels, as multiples of the width; each level has half the size of the one before."""


class Rebuild(nn.Module):
    """Four levels down, and up again without skip connections: float32 N x 3 x H x W, 0 to 1 -> the same."""

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()
        self.down, self.up, self.back = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c = 3
        for times in DOWN:
            self.down.append(_two(c, times * width, times * width, norm))
            c = times * width
        for times in (4, 2, 1, 1):
            self.up.append(_block(c, c, norm))
            self.back.append(_two(c, c if times * width < c else times * width, times * width, norm))
            c = times * width
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        sizes = []
        for i, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if i else x)
            sizes.append(x.shape[2:])
        for up, back, size in zip(self.up, self.back, sizes[-2::-1], strict=True):
            x = back(up(_enlarged(x, size)))
        out: Tensor = self.last(x)
        return out


class Segment(nn.Module):
    """A U-Net of five levels on the picture and the rebuilt one: float32 N x 3 x H x W each, 0 to 1 -> N x 1 x H x W, above 0
    where a pixel is rather odd than good.

    Wherever the authors concatenate, there are two convolutions whose answers are added, and where they tell two numbers of each
    pixel, of which a softmax is taken, it is the difference of the two.
    """

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()
        self.first = Joined(3, 3, width, norm=norm, slope=0.0)
        self.then = _block(width, width, norm)
        self.down, self.up, self.join, self.back = nn.ModuleList(), nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c = width
        for times in (*DOWN[1:], DOWN[-1]):
            self.down.append(_two(c, times * width, times * width, norm))
            c = times * width
        for times, skip in zip((8, 4, 2, 1, 1), reversed(DOWN), strict=True):
            self.up.append(_block(c, times * width, norm))
            self.join.append(Joined(times * width, skip * width, times * width, norm=norm, slope=0.0))
            self.back.append(_block(times * width, times * width, norm))
            c = times * width
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        x = self.then(self.first(x, rebuilt))
        skips = []
        for level in self.down:
            skips.append(x)
            x = level(F.max_pool2d(x, 2))
        for up, join, back in zip(self.up, self.join, self.back, strict=True):
            skip = skips.pop()
            x = back(join(up(_enlarged(x, skip.shape[2:])), skip))
        out: Tensor = self.last(x)
        return out


class Draem(Detector):
    """The map is how sure it is of each pixel, 0 to 1; the score is the largest mean of `smooth` x `smooth` pixels of it.

    Config keys: ``width`` of the network that rebuilds, ``segment_width`` of the one that compares, ``smooth`` (1: single pixels,
    as anomalib tells it).
    """

    family: ClassVar[str] = "draem"

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        if min(image_size) < LEAST_PX:
            raise BadInput(
                f"DRAEM takes pictures of {LEAST_PX} px a side or more, not {image_size[1]} x {image_size[0]}",
                hint="give a larger --size",
            )
        self.rebuild = Rebuild(int(config["width"]))
        self.segment = Segment(int(config["segment_width"]))
        self.smooth = Smooth(int(config["smooth"]))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Draem:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels / 255.0
        odd = torch.sigmoid(self.segment(x, self.rebuild(x)))
        return odd.squeeze(1), self.smooth(odd).flatten(1).amax(1)


def _block(c_in: int, c_out: int, norm: bool) -> Block:
    return Block(c_in, c_out, norm=norm, slope=0.0)


def _two(c_in: int, between: int, c_out: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(_block(c_in, between, norm), _block(between, c_out, norm))


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    """Twice the size (or one more, where a pool has dropped it), as the authors do it: corner pixels stay where they are."""
    return F.interpolate(x, size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=True)
