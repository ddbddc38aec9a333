"""A head on frozen features, or a critic on the picture itself, that says of each cell how far from good it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones import Backbone, build_backbone
from edgead.models.detector import Detector
from edgead.models.parts.scores import reduced
from edgead.models.parts.spread import GaussUp

LEAK = 0.2
"""Slope of the critic's leaky ReLU below zero."""


class Head(nn.Module):
    """Feature maps -> an anomaly A of each cell of the first of them: 3 x 3 and 3 x 3 convolutions with ReLU, 1 x 1 to a
    number a.

    A = sqrt(a^2 + 1) - 1, the pseudo-Huber loss (Liznerski et al. 2021); written as a^2 / (sqrt(a^2 + 1) + 1), which is exact
    near zero. Each map has a first convolution of its own whose result is added: what one convolution of all maps would be,
    with a grid of 8 bits for each. While it is trained the two convolutions are followed by batch norm, which :meth:`fold` takes
    away.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.first = nn.ModuleList([nn.Conv2d(c, width, 3, padding=1, bias=i == 0) for i, c in enumerate(channels)])
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 1)
        self.norms = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """N x C_l x h_l x w_l each -> N x h x w, 0 or more."""
        size = tuple(maps[0].shape[-2:])
        said = [_resized(conv(m), size) for conv, m in zip(self.first, maps, strict=True)]
        x = F.relu(self.norms[0](sum(said[1:], said[0])))
        a = self.last(F.relu(self.norms[1](self.second(x))))
        q: Tensor = (a * a).squeeze(1)
        return q / (torch.sqrt(q + 1.0) + 1.0)

    def with_norms(self) -> Head:
        self.norms = nn.ModuleList([nn.BatchNorm2d(self.second.out_channels) for _ in range(2)])
        return self

    @torch.no_grad()
    def fold(self) -> Head:
        """The same answers without batch norm."""
        behind: list[list[nn.Module]] = [list(self.first), [self.second]]
        for norm, convs in zip(self.norms, behind, strict=True):
            assert isinstance(norm, nn.BatchNorm2d)
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            gain = norm.weight / torch.sqrt(variance + norm.eps)
            for conv in convs:
                assert isinstance(conv, nn.Conv2d)
                conv.weight.mul_(gain.view(-1, 1, 1, 1))
            bias = convs[0].bias
            assert isinstance(bias, nn.Parameter)
            bias.copy_((bias - mean) * gain + norm.bias)
        self.norms = nn.ModuleList([nn.Identity(), nn.Identity()])
        return self


class Critic(nn.Module):
    """PatchGAN (Isola et al. 2017): strided 4 x 4 convolutions, one number for each place of an eighth of the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList([nn.Conv2d(before, after, 4, 2, 1) for before, after in itertools.pairwise(channels)])
        self.more = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.last = nn.Conv2d(4 * width, 1, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W, 0 to 255 -> N x H/8 x W/8."""
        x = (pixels - 127.5) / 127.5
        for conv in (*self.convs, self.more):
            x = F.leaky_relu(conv(x), LEAK)
        out: Tensor = self.last(x)
        return out.squeeze(1)


class OneClass(Detector):
    """What the network says of each cell, enlarged to the picture; the score is a reduction of the cells.

    Config keys: ``network`` ("head" or "critic"), ``width``, ``score`` (:func:`edgead.models.parts.scores.reduced`), ``sigma`` of
    the Gaussian that a cell speaks for, px. Of the head also ``backbone``, ``layers``.
    """

    family: ClassVar[str] = "oneclass"
    backbone: Backbone | None

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        width = int(config["width"])
        self.judge: nn.Module
        self.backbone = None
        if config["network"] == "head":
            self.backbone = backbone or build_backbone(config["backbone"], config["layers"])
            self.backbone.fix_size(image_size)
            self.judge = Head(self.backbone.channels, width)
        else:
            self.judge = Critic(width)
        with torch.no_grad():
            grid = self.cells(torch.zeros(1, 3, *image_size)).shape[-2:]
        self.spread = GaussUp((int(grid[0]), int(grid[1])), image_size, float(config["sigma"]))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> OneClass:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        cells = self.cells(pixels)
        return self.spread(cells), reduced(cells, str(self.config["score"]))

    def cells(self, pixels: Tensor) -> Tensor:
        """float32 N x 3 x H x W, RGB, 0 to 255 -> N x h x w."""
        found: Tensor = self.judge(pixels if self.backbone is None else self.backbone(pixels))
        return found

    def seen(self, pixels: Tensor) -> Tensor:
        return pixels if self.backbone is None else self.backbone(pixels)[0]


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
