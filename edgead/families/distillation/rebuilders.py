"""What rebuilds a teacher's feature maps: from the picture (STFPM), or from the maps through a bottleneck (Reverse Distillation).

All take (pixels float32 N x 3 x H x W RGB 0..255, the teacher's maps) and give one map for each of the teacher's, of its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.backbones.resnet import PLANS, ResidualBlock
from edgead.models.parts.norms import SubPixel

MOST_HALVINGS = 6


class Rebuilder(nn.Module):
    """See the module's text.

    Attributes:
        unbounded: names of modules whose output is any number: no batch norm stands behind them in training.
    """

    unbounded: tuple[str, ...] = ()

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        raise NotImplementedError


class Twin(Rebuilder):
    """The backbone's own architecture, which sees the picture."""

    def __init__(self, teacher: Backbone, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = build_backbone(teacher.name, teacher.layers)
        for name in ("mean", "std"):
            getattr(self.network, name).copy_(getattr(teacher, name))

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        rebuilt: list[Tensor] = self.network(pixels)
        return rebuilt


class Small(Rebuilder):
    """Plain 3 x 3 convolutions that see the picture: one for each halving, another at each of the teacher's resolutions, and a
    1 x 1 for each of its maps."""

    unbounded = ("heads",)

    def __init__(self, teacher: Backbone, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.halvings = halvings_of(teacher)
        width = int(settings["width"])
        widths = [min(width << i, 4 * width) for i in range(max(self.halvings))]
        inputs = [3, *widths]
        self.down = nn.ModuleList([nn.Conv2d(c_in, c, 3, 2, 1) for c_in, c in zip(inputs, widths, strict=False)])
        self.same = nn.ModuleList([nn.Conv2d(c, c, 3, 1, 1) for c in widths])
        self.heads = nn.ModuleList([nn.Conv2d(widths[n - 1], c, 1) for n, c in zip(self.halvings, teacher.channels, strict=True)])

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        x, seen = (pixels - 127.5) / 63.75, []
        for i, (down, same) in enumerate(zip(self.down, self.same, strict=True), 1):
            x = F.relu(down(x))
            x = F.relu(same(x)) if i > 1 else x
            seen.append(x)
        return [head(seen[n - 1]) for n, head in zip(self.halvings, self.heads, strict=True)]


class Reverse(Rebuilder):
    """A bottleneck of half the coarsest map's resolution, and a decoder that enlarges by nearest neighbours and convolves.

    The maps come to the bottleneck by strided convolutions each, which are added up: it is one convolution of them all.
    """

    unbounded = ("heads",)

    def __init__(self, teacher: Backbone, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width, halvings = int(settings["width"]), halvings_of(teacher)
        self.halvings, last = halvings, max(halvings) + 1
        self.ways = nn.ModuleList([_Way([c, *[width] * (last - n)]) for n, c in zip(halvings, teacher.channels, strict=True)])
        self.code = nn.Conv2d(width, width, 3, 1, 1)
        self.levels = sorted(set(halvings), reverse=True)
        self.up = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1) for _ in self.levels])
        self.same = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1) for _ in self.levels])
        self.heads = nn.ModuleList([nn.Conv2d(width, c, 1) for c in teacher.channels])

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        codes = [way(one) for way, one in zip(self.ways, maps, strict=True)]
        x = F.relu(self.code(F.relu(sum(codes[1:], codes[0]))))
        seen: dict[int, Tensor] = {}
        for level, up, same in zip(self.levels, self.up, self.same, strict=True):
            size = maps[self.halvings.index(level)].shape[-2:]
            x = F.relu(up(F.interpolate(x, (int(size[0]), int(size[1])), mode="nearest")))
            x = F.relu(same(x))
            seen[level] = x
        return [head(seen[n]) for n, head in zip(self.halvings, self.heads, strict=True)]


class _Way(nn.Module):
    """Halved by a 3 x 3 convolution for each pair of these channels, with ReLUs between them."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(c_in, c_out, 3, 2, 1) for c_in, c_out in pairwise(channels)])

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = conv(F.relu(x) if i else x)
        return x


class UpBlock(nn.Module):
    """A residual block that doubles the resolution where `up` (Deng & Li 2022): its transposed convolutions of kernel 2 and
    stride 2 are :class:`edgead.models.parts.norms.SubPixel`."""

    def __init__(self, c_in: int, width: int, c_out: int, up: bool, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            middle = SubPixel(width, width) if up else nn.Conv2d(width, width, 3, 1, 1)
            convs = [nn.Conv2d(c_in, width, 1), middle, nn.Conv2d(width, c_out, 1)]
        else:
            first = SubPixel(c_in, c_out) if up else nn.Conv2d(c_in, c_out, 3, 1, 1)
            convs = [first, nn.Conv2d(c_out, c_out, 3, 1, 1)]
        self.convs = nn.ModuleList(convs)
        self.upsample = SubPixel(c_in, c_out) if up else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, conv in enumerate(self.convs):
            y = conv(F.relu(y) if i else y)
        return F.relu(y + (x if self.upsample is None else self.upsample(x)))


class ResNetReverse(Rebuilder):
    """The paper's bottleneck and decoder for a ResNet's layer1 to layer3 (Deng & Li 2022; anomalib's): the maps are brought to
    layer3's grid, a residual stage makes the code of them, and the decoder mirrors the backbone."""

    def __init__(self, teacher: Backbone, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if teacher.name not in PLANS or teacher.layers != ("layer1", "layer2", "layer3"):
            told = f"{teacher.name} with the layers {', '.join(teacher.layers)}"
            raise BadInput(
                f"there is no mirrored decoder for {told}", hint="take a ResNet with layer1,layer2,layer3, or --rebuilder reverse"
            )
        plan = PLANS[teacher.name]
        four, deep = (4, True) if plan.bottleneck else (1, False)
        one, two, three = teacher.channels
        self.conv1, self.conv2 = nn.Conv2d(one, two, 3, 2, 1), nn.Conv2d(two, three, 3, 2, 1)
        self.conv3 = nn.Conv2d(two, three, 3, 2, 1)
        last = plan.repeats[3]
        self.code = nn.Sequential(
            *[ResidualBlock(3 * three if i == 0 else 512 * four, 512, 512 * four, 2 if i == 0 else 1, deep) for i in range(last)]
        )
        c_in, stages = 512 * four, []
        for planes, repeats in zip((256, 128, 64), plan.repeats, strict=False):
            width = planes * plan.base_width // 64
            blocks = [UpBlock(c_in if i == 0 else planes * four, width, planes * four, i == 0, deep) for i in range(repeats)]
            stages.append(nn.Sequential(*blocks))
            c_in = planes * four
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        fine = F.relu(self.conv2(F.relu(self.conv1(maps[0]))))
        x = self.code(torch.cat([fine, F.relu(self.conv3(maps[1])), maps[2]], 1))
        rebuilt: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            rebuilt.insert(0, x)
        return rebuilt


REBUILDERS: Mapping[str, Callable[[Backbone, Mapping[str, Any]], Rebuilder]] = {
    "small": Small,
    "twin": Twin,
    "reverse": Reverse,
    "mirror": ResNetReverse,
}


@torch.no_grad()
def halvings_of(teacher: Backbone) -> list[int]:
    """How often each of the teacher's maps is half as large as the picture.

    Raises:
        BadInput: it is not made by halving (a transformer's patches).
    """
    side = 1 << MOST_HALVINGS
    maps = teacher(torch.zeros(1, 3, side, side)) if teacher.patch_features == "" else []
    found = [MOST_HALVINGS - int(one.shape[-1]).bit_length() + 1 for one in maps]
    if not found or min(found) < 1:
        raise BadInput(
            f"{teacher.name} does not halve its pictures, which a student does", hint="take an EfficientNet-Lite or a ResNet"
        )
    return found
