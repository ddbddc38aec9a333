"""DeScarGAN's run time (Wolleb et al. 2020): the branch that makes a picture good, and the head that says which kind it is.

The generator is a U-Net with the picture and a plane for each kind, set where the answer is to be of that kind; a branch of its
own for each kind at the end; and no skip connection at the uppermost level, which would copy the defect. At run time the planes
are constant: with replicated borders (not zeros) they are a constant for each channel of the first convolution, its bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.detector import Detector
from edgead.models.parts.convnets import Block, Joined, fold_norms, to_picture, twice
from edgead.models.parts.errors import Smooth, odd_side
from edgead.models.parts.scores import reduced

GOOD, DEFECT = 0, 1
LEVELS = 3
STRIDE = 2**LEVELS

SMOOTH = 11
"""Side, px of 256, of the map's mean filter."""


class Generator(nn.Module):
    """Pictures from 0 to 1, and which kind each is to be -> pictures from 0 to 1.

    Args:
        base: channels of the first level, twice as many at each of three below.
        whole: with planes and both branches, for training; else as :meth:`fold` leaves it.
    """

    def __init__(self, base: int, whole: bool) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(LEVELS + 1)]
        first = Block(5 if whole else 3, base, norm=whole, slope=0.0)
        first.conv = nn.Conv2d(5 if whole else 3, base, 3, padding=1, padding_mode="replicate")
        self.down = nn.ModuleList([nn.Sequential(first, Block(base, base, norm=whole, slope=0.0))])
        for c_in, c_out in itertools.pairwise(widths):
            pair = (Block(c_in, c_out, 4, 2, norm=whole, slope=0.0), Block(c_out, c_out, norm=whole, slope=0.0))
            self.down.append(nn.Sequential(*pair))
        self.up = nn.ModuleList(
            Block(c_in, c_out, norm=whole, slope=0.0) for c_out, c_in in reversed(list(itertools.pairwise(widths)))
        )
        self.join = nn.ModuleList(Joined(c, c, c, norm=whole, slope=0.0) for c in reversed(widths[1:-1]))
        self.branches = nn.ModuleList(
            nn.Sequential(Block(base, base, norm=whole, slope=0.0), nn.Conv2d(base, 3, 3, padding=1))
            for _ in ((GOOD, DEFECT) if whole else (GOOD,))
        )

    def forward(self, x: Tensor, kinds: Tensor | None = None) -> Tensor:
        """`kinds`: int64 N; None: good, without planes."""
        x = 2.0 * x - 1.0
        if kinds is not None:
            planes = F.one_hot(kinds, 2).to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes], 1)
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        for i, up in enumerate(self.up):
            x = up(twice(x))
            if i < len(self.join):
                x = self.join[i](x, skips[-2 - i])
        answers = [to_picture(branch[1], branch[0](x)) for branch in self.branches]  # type: ignore[index]
        if kinds is None:
            return answers[GOOD]
        return torch.where((kinds == GOOD)[:, None, None, None], answers[GOOD], answers[DEFECT])

    @torch.no_grad()
    def fold(self) -> None:
        """Training is over: batch norms become part of their convolutions, the planes of the first bias, and one branch stays."""
        fold_norms(self)
        first = self.down[0][0]  # type: ignore[index]
        was = first.conv
        first.conv = nn.Conv2d(3, was.out_channels, 3, padding=1, padding_mode="replicate")
        first.conv.weight.copy_(was.weight[:, :3])
        first.conv.bias.copy_(was.bias + was.weight[:, 3 + GOOD].sum((1, 2)))
        self.branches = nn.ModuleList([self.branches[GOOD]])


class Judge(nn.Module):
    """The class head, and for training a critic for each kind, on one encoder.

    Args:
        base: a half of the channels of its first level.
        whole: with the critics.
    """

    def __init__(self, base: int, whole: bool) -> None:
        super().__init__()
        widths = [3, 2 * base, 4 * base, 8 * base, 8 * base]
        self.encoder = nn.Sequential(*(Block(c_in, c_out, 4, 2) for c_in, c_out in itertools.pairwise(widths)))
        self.classes = nn.Conv2d(widths[-1], 2, 1)
        self.critics = nn.ModuleList(nn.Conv2d(widths[-1], 1, 3, padding=1) for _ in ((GOOD, DEFECT) if whole else ()))

    def kinds(self, x: Tensor) -> Tensor:
        """N x 2: how much each picture looks like either kind."""
        found: Tensor = self.classes(self.encoder(2.0 * x - 1.0)).mean((2, 3))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """How real pictures look, of which the first half is to be good and the second defective: N x 1 x h x w."""
        halves = self.encoder(2.0 * x - 1.0).chunk(2)
        return torch.cat([critic(half) for critic, half in zip(self.critics, halves, strict=True)])


class Translate(Detector):
    """Map: what the good one of a picture differs in, smoothed. Score: the class head's defect less good, or of the map.

    Config keys: ``base``, ``score``: see :class:`edgead.families.translate.options.TranslateOptions`.

    Args:
        whole: as it is trained; :meth:`fold` takes away what is for training only.
    """

    family: ClassVar[str] = "translate"

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], whole: bool = False) -> None:
        super().__init__(config, image_size)
        if any(px % STRIDE for px in image_size):
            near = " x ".join(str(max(STRIDE, round(px / STRIDE) * STRIDE)) for px in image_size)
            raise BadInput(
                f"this network cannot take pictures of {image_size[0]} x {image_size[1]} px",
                hint=f"height and width must be multiples of {STRIDE}, e.g. {near}",
            )
        base = int(config["base"])
        self.generator, self.judge = Generator(base, whole), Judge(base, whole)
        self.smooth = Smooth(odd_side(SMOOTH * min(image_size) / 256, min(image_size)))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Translate:
        return cls(config, image_size)

    def fold(self) -> None:
        """Training is over."""
        self.generator.fold()
        self.judge.critics = nn.ModuleList()

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels * (1.0 / 255.0)
        changed = (x - self.generator(x)).abs().mean(1, keepdim=True)
        anomaly_map = self.smooth(changed).squeeze(1)
        if self.config["score"] != "class":
            return anomaly_map, reduced(anomaly_map, str(self.config["score"]))
        kinds = self.judge.kinds(x)
        return anomaly_map, kinds[:, DEFECT] - kinds[:, GOOD]
