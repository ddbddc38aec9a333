"""Partial convolutions (Liu et al. 2018): what is hidden counts nowhere, and what is seen counts for it.

Out of a window with some of its inputs hidden comes W (x m) k^2 / sum(m) + b where anything is seen, 0 elsewhere, and what came
out is seen from then on. Where masks are constants, so are all ratios and all masks of the layers behind: after
:meth:`PartialUNet.fix` a layer is an ordinary convolution and a multiplication by a constant map, with the same numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.convnets import Block, Joined, Skips, twice

Maps: TypeAlias = tuple[Tensor | None, Tensor | None]
"""Ratio and mask behind a layer, B x 1 x h x w each; None where all is 1."""


class Partial(Block):
    """A partial convolution, perhaps a batch norm, and a leaky ReLU."""

    def shares(self, mask: Tensor) -> Tensor:
        """The seen share of each window; beyond the border nothing is seen."""
        return _share(self.conv, mask)

    def forward(self, x: Tensor, maps: Maps = (None, None)) -> Tensor:
        """x is 0 where it is hidden, and so is what comes out where nothing was seen."""
        return self.told(_bare(self.conv, x), maps)

    def told(self, summed: Tensor, maps: Maps) -> Tensor:
        ratio, seen = maps
        assert self.conv.bias is not None
        y = _times(summed, ratio) + self.conv.bias[:, None, None]
        return _times(self.active(self.norm(y)), seen)


class PartialJoined(Partial, Joined):
    """The same of two inputs, as of their concatenation: each has a convolution of its own, and their answers are added."""

    def shares(self, mask: Tensor, of_skip: Tensor | None = None) -> Tensor:
        assert of_skip is not None
        own, other = self.conv.in_channels, self.skip.in_channels
        return (own * _share(self.conv, mask) + other * _share(self.skip, of_skip)) / (own + other)

    def forward(self, x: Tensor, skip: Tensor | None = None, maps: Maps = (None, None)) -> Tensor:  # type: ignore[override]
        assert skip is not None
        return self.told(_bare(self.conv, x) + _bare(self.skip, skip), maps)


class PartialUNet(nn.Module):
    """A U-Net of partial convolutions that halve the picture, as a network that rebuilds (:mod:`edgead.models.parts.convnets`).

    Args:
        image_size: (height, width), multiples of its stride.
        base: channels of the first level; each has twice those before, up to 4 times.
        levels: halvings.
        norm: batch norms.
    """

    def __init__(self, image_size: tuple[int, int], base: int = 16, levels: int = 4, norm: bool = False) -> None:
        super().__init__()
        widths = [3, *(base * min(4, 2**level) for level in range(levels))]
        self.channels, self.stride = widths[-1], 2**levels
        self.down = nn.ModuleList(Partial(c_in, c_out, 5 if c_in == 3 else 3, 2, norm=norm) for c_in, c_out in pairwise(widths))
        self.up = nn.ModuleList(
            PartialJoined(c_in, c_out, base if c_out == 3 else c_out, norm=norm) for c_in, c_out in pairwise(reversed(widths))
        )
        self.last = Partial(base, 3, slope=1.0)
        self.fixed = 0

    def maps(self, visible: Tensor) -> list[Maps]:
        """Ratios and masks of all layers, for what is visible of the pictures, B x 1 x H x W."""
        made, masks = [], [visible]
        for layer in self.down:
            made.append(_maps(layer.shares(masks[-1])))  # type: ignore[operator]
            masks.append(made[-1][1])
        mask = masks.pop()
        for layer in self.up:
            made.append(_maps(layer.shares(twice(mask), masks.pop())))  # type: ignore[operator]
            mask = made[-1][1]
        return [*made, _maps(self.last.shares(mask))]

    def fix(self, visible: Tensor) -> None:
        """From now on all pictures come with these masks, P x 1 x H x W, in turn: their maps are constants."""
        made = self.maps(visible)
        for i, maps in enumerate(made):
            for name, one in zip(("ratio", "seen"), maps, strict=True):
                assert one is not None
                needed = one.is_meta or bool((one != 1.0).any())
                self.register_buffer(f"{name}_{i}", one if needed else None, persistent=False)
        self.fixed = len(made)

    def known(self, visible: Tensor) -> list[Maps]:
        """The maps of all layers, as they were fixed or else for these masks."""
        if self.fixed:
            return [(getattr(self, f"ratio_{i}"), getattr(self, f"seen_{i}")) for i in range(self.fixed)]
        return self.maps(visible)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Skips]:
        """The last of the skips is what is visible."""
        visible = torch.ones_like(x[:, :1]) if visible is None else visible
        kept = [_times(x, visible)]
        for layer, maps in zip(self.down, self.known(visible), strict=False):
            kept.append(layer(kept[-1], maps))
        return kept.pop(), [*kept, visible]

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        *kept, visible = skips
        maps = self.known(visible)[len(self.down) :]
        for layer, own in zip(self.up, maps, strict=False):
            code = layer(twice(code), kept.pop(), own)
        return torch.sigmoid(self.last(code, maps[-1]))


def _bare(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution without its bias."""
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def _share(conv: nn.Conv2d, mask: Tensor) -> Tensor:
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    return F.avg_pool2d(mask, kernel, stride, padding)


def _maps(share: Tensor) -> tuple[Tensor, Tensor]:
    seen = (share > 0).to(share.dtype)
    return seen / torch.where(share > 0, share, torch.ones_like(share)), seen


def _times(x: Tensor, factor: Tensor | None) -> Tensor:
    """Pictures B x C x h x w by maps B x 1 x h x w, or by P of them in turn."""
    if factor is None:
        return x
    return x * (factor if len(x) == len(factor) else factor.repeat(len(x) // len(factor), 1, 1, 1))
