"""DifferNet (Rudolph, Wandt, Rosenhahn 2021): a picture is as anomalous as its pooled features are unlikely by a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.families.differnet.options import LATENT
from edgead.models.backbones import Backbone, build_backbone
from edgead.models.detector import Detector
from edgead.models.parts.flows import VectorFlow
from edgead.models.parts.scores import reduced
from edgead.models.patches import ToModelSize


class DifferNet(Detector):
    """The means over the picture of a backbone's features, at several sizes of it, and a flow of that vector y.

    The score is the mean of z^2 over its d numbers (and over the turns of the picture that are judged together, one batch). The
    map is what each place adds to the negative log-likelihood, to first order: with g its gradient by y, place p of a layer has
    max(0, g . (f(p) - mean of good ones)). That is exact, for pooling is linear, and g is written out in the graph
    (:meth:`edgead.models.parts.flows.VectorFlow.gradient`), where the authors go back through the backbone to the pixels.

    Config keys: ``backbone``, ``layers``, ``scales``, ``turns`` (1, 4 or 8), ``blocks``, ``hidden``, ``depth``, ``score``
    ("latent", or of the map: :mod:`edgead.models.parts.scores`).
    """

    family: ClassVar[str] = "differnet"
    mean: Tensor
    width: Tensor

    def __init__(
        self,
        config: Mapping[str, Any],
        image_size: tuple[int, int],
        backbone: Backbone | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, image_size)
        self.backbone = backbone or build_backbone(config["backbone"], config["layers"])
        if int(config["scales"]) == 1:
            self.backbone.fix_size(image_size)
        d = int(config["scales"]) * sum(self.backbone.channels)
        self.flow = VectorFlow(d, int(config["blocks"]), [int(config["hidden"])] * int(config["depth"]), generator)
        self.to_model_size = ToModelSize(config, self.backbone, image_size)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("width", torch.ones(d))

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> DifferNet:
        return cls(config, image_size)

    @property
    def enlarging(self) -> str:
        return "to_model_size"

    def seen(self, pixels: Tensor) -> Tensor:
        maps: list[Tensor] = self.backbone(pixels)
        return maps[-1]

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Features of the picture at all sizes: N x C_l x h x w each, the order of y."""
        return [m for i in range(int(self.config["scales"])) for m in self.backbone(shrunk(pixels, 2**i))]

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        turns = TURNS[: int(self.config["turns"])]
        maps = self.maps(torch.cat([turn(pixels) for turn, _ in turns]))
        y = (torch.cat([m.mean((2, 3)) for m in maps], 1) - self.mean) / self.width
        z, gradient = self.flow.gradient(y.T)  # d x T N
        shares = self.shares(maps, (gradient / self.width[:, None]).T).chunk(len(turns))
        cells = torch.stack([back(share) for share, (_, back) in zip(shares, turns, strict=True)]).mean(0)
        how = self.config["score"]
        latent = torch.stack(z.square().mean(0).chunk(len(turns))).mean(0)
        return self.to_model_size(cells), latent if how == LATENT else reduced(cells, how)

    def shares(self, maps: Sequence[Tensor], gradient: Tensor) -> Tensor:
        """What each place adds to the negative log-likelihood, summed over all maps on the finest grid: N x h x w.

        Args:
            maps: N x C_l x h x w each.
            gradient: by y, N x d.
        """
        size = max((m.shape[-2:] for m in maps), key=lambda hw: hw[0] * hw[1])
        total: Tensor | None = None
        first = 0
        for m in maps:
            last = first + m.shape[1]
            mean, g = self.mean[first:last].view(1, -1, 1, 1), gradient[:, first:last, None, None]
            share = ((m - mean) * g).sum(1, keepdim=True).relu()
            first = last
            if share.shape[-2:] != size:
                share = F.interpolate(share, size, mode="bilinear", align_corners=False)
            total = share if total is None else total + share
        assert total is not None
        return total.squeeze(1)


def shrunk(pixels: Tensor, by: int) -> Tensor:
    """Means of by x by pixels; what is left over at the right and below is cut off."""
    return pixels if by == 1 else F.avg_pool2d(pixels, by)


Turn = Callable[[Tensor], Tensor]


def _flip(*axes: int) -> Turn:
    return lambda x: x.flip(axes) if axes else x


def _turned(*axes: int) -> Turn:
    return lambda x: x.transpose(-1, -2).flip(axes) if axes else x.transpose(-1, -2)


def _turned_back(*axes: int) -> Turn:
    return lambda x: x.flip(axes).transpose(-1, -2) if axes else x.transpose(-1, -2)


_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
TURNS: tuple[tuple[Turn, Turn], ...] = (
    *((_flip(*axes), _flip(*axes)) for axes in _FLIPS),
    *((_turned(*axes), _turned_back(*axes)) for axes in _FLIPS),
)
"""The picture itself, its flips, and of a square one its quarter turns: each with its inverse."""
