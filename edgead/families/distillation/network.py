"""STFPM (Wang et al. 2021) and Reverse Distillation (Deng & Li 2022): where a student fails to rebuild a teacher's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.distillation.rebuilders import REBUILDERS
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.detector import Detector
from edgead.models.parts.scores import reduced
from edgead.models.separable import Separable, blur_matrix, resize_matrix

SMALLEST = 1e-6
"""Lengths of feature vectors are taken as no less."""


def distance(teacher: Tensor, student: Tensor) -> Tensor:
    """1 - cosine of the two vectors in each cell, as half the squared distance of their directions, which loses no digits:
    N x C x h x w each -> N x h x w."""
    apart = F.normalize(teacher, dim=1, eps=SMALLEST) - F.normalize(student, dim=1, eps=SMALLEST)
    return 0.5 * apart.square().sum(1)


class Cells(nn.Module):
    """Maps of the layers, N x h_l x w_l each, as one on the finest grid, and the score of that.

    Args:
        combine: ``"sum"`` or ``"product"``.
        score: of :mod:`edgead.models.parts.scores`.
    """

    def __init__(self, combine: str, score: str) -> None:
        super().__init__()
        self.combine, self.score = combine, score

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        size = max((tuple(int(n) for n in one.shape[-2:]) for one in maps), key=lambda hw: hw[0] * hw[1])
        found = joined([m if tuple(m.shape[-2:]) == size else _resize(m, size) for m in maps], self.combine)
        return found, reduced(found, self.score)


class Pictures(nn.Module):
    """The same at the picture's size, as the papers and anomalib do it: each layer's map is enlarged on its own, all are joined,
    and a Gaussian smooths that. The score is the largest value.

    Args:
        grids: (h, w) of each layer's map.
        settings: ``combine``; ``corners``: the outermost cells' middles lie on the picture's edge (else half a cell inside);
            ``sigma`` and ``radius`` of the Gaussian, px; sigma 0: there is none.
    """

    def __init__(self, grids: Sequence[tuple[int, int]], image_size: tuple[int, int], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.combine = str(settings["combine"])
        mode = "corners" if settings["corners"] else "bilinear"
        sigma, radius = float(settings["sigma"]), int(settings["radius"])
        blurs = [blur_matrix(n, sigma, radius, "reflect") if sigma else torch.eye(n) for n in image_size]
        early = self.combine == "sum"  # a sum of smoothed maps is the smoothed sum
        self.enlarge = nn.ModuleList()
        for grid in grids:
            lines = [resize_matrix(before, after, mode) for before, after in zip(grid, image_size, strict=True)]
            self.enlarge.append(Separable(*[b @ line for b, line in zip(blurs, lines, strict=True)] if early else lines))
        self.smooth = Separable(*blurs) if sigma and not early else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        found = self.smooth(joined([grow(one) for grow, one in zip(self.enlarge, maps, strict=True)], self.combine))
        return found, found.flatten(1).amax(1)


class Enlarge(nn.Module):
    """Cells to the picture, bilinear: N x h x w -> N x H x W."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, cells: Tensor) -> Tensor:
        return _resize(cells, self.image_size)


class Distillation(Detector):
    """Teacher and rebuilder, their distance in each cell of each layer times the layer's scale, joined over the layers.

    Config keys: ``backbone``, ``layers``, ``rebuilder``: {``kind``: of `REBUILDERS`, and its settings}, ``combine``: ``"sum"`` or
    ``"product"``, and either ``score`` (of :class:`Cells`) or ``picture`` (of :class:`Pictures`, without ``combine``). For models
    of others also ``normalize`` (see :func:`edgead.models.patches.build_features`).
    """

    family = "distillation"
    scale: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], teacher: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        self.teacher = teacher or build_backbone(config["backbone"], config["layers"])
        for name, values in config.get("normalize", {}).items():
            getattr(self.teacher, name).copy_(torch.tensor(values).view(1, 3, 1, 1))
        settings = dict(config["rebuilder"])
        kind = str(settings.pop("kind"))
        if kind not in REBUILDERS:
            raise BadInput(f"unknown rebuilder {kind!r}", hint=f"known: {', '.join(REBUILDERS)}")
        self.rebuilder = REBUILDERS[kind](self.teacher, settings)
        self.register_buffer("scale", torch.ones(len(self.teacher.layers)))
        combine = str(config["combine"])
        self.to_model_size: nn.Module
        if "picture" in config:
            with torch.no_grad():
                grids = [(int(m.shape[-2]), int(m.shape[-1])) for m in self.teacher(torch.zeros(1, 3, *image_size))]
            self.join: nn.Module = Pictures(grids, image_size, {**config["picture"], "combine": combine})
            self.to_model_size = nn.Identity()
        else:
            self.join = Cells(combine, str(config["score"]))
            self.to_model_size = Enlarge(image_size)

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> Distillation:
        return cls(config, image_size)

    @property
    def enlarging(self) -> str:
        return "to_model_size" if isinstance(self.to_model_size, Enlarge) else ""

    def seen(self, pixels: Tensor) -> Tensor:
        maps: list[Tensor] = self.teacher(pixels)
        size = max((tuple(int(n) for n in one.shape[-2:]) for one in maps), key=lambda hw: hw[0] * hw[1])
        return torch.cat([F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps], 1)

    def distances(self, pixels: Tensor) -> list[Tensor]:
        """Of each layer, N x h_l x w_l, not scaled."""
        maps: list[Tensor] = self.teacher(pixels)
        return [distance(t, s) for t, s in zip(maps, self.rebuilder(pixels, maps), strict=True)]

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found, score = self.join([one * self.scale[i] for i, one in enumerate(self.distances(pixels))])
        return self.to_model_size(found), score


def joined(maps: Sequence[Tensor], combine: str) -> Tensor:
    """Maps of one size as one."""
    found = maps[0]
    for one in maps[1:]:
        found = found * one if combine == "product" else found + one
    return found


def _resize(cells: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(cells.unsqueeze(1), size=tuple(size), mode="bilinear", align_corners=False).squeeze(1)
