"""FastFlow (Yu et al. 2021): each place is as anomalous as its features are unlikely by a normalising flow of convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones import Backbone
from edgead.models.parts.flows import MapFlow
from edgead.models.parts.scores import reduced
from edgead.models.patches import PatchDetector, PatchFeatures, ToModelSize, build_features


class FastFlow(PatchDetector):
    """A flow for each layer; a place's distance is half the mean of z^2 over its channels, and the mean over the layers.

    The flow stays float in INT8: e^s would make rounding loud.

    Config keys: ``backbone``, ``layers``, ``features``, ``kernels`` of the flow's couplings, ``ratio``, ``score``
    (:mod:`edgead.models.parts.scores`). Of imported models also ``normalize`` (see :mod:`edgead.models.patches`), ``norm``:
    "layer", each layer's features are normalised by their own mean and deviation over the picture, with a weight and a bias for
    each place; and ``density``: a place tells minus e to the minus of its distance, enlarged layer by layer, and the score is of
    the map at picture size.
    """

    family: ClassVar[str] = "fastflow"
    float_parts: ClassVar[tuple[str, ...]] = ("flows",)

    features: PatchFeatures

    def __init__(
        self,
        config: Mapping[str, Any],
        image_size: tuple[int, int],
        backbone: Backbone | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, image_size)
        self.features = build_features(config, backbone, image_size)
        self.to_model_size = ToModelSize(config, self.features, image_size)
        channels = self.features.backbone.channels
        if config.get("norm") == "layer":
            with torch.no_grad():
                shapes = [m.shape[1:] for m in self.features.pooled(torch.zeros(1, 3, *image_size))]
            self.norms = nn.ModuleList([nn.LayerNorm(list(shape)) for shape in shapes])
        else:
            self.norms = nn.ModuleList([Standard(c) for c in channels])
        kernels, ratio = [int(k) for k in config["kernels"]], float(config["ratio"])
        self.flows = nn.ModuleList([MapFlow(c, kernels, ratio, generator) for c in channels])

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> FastFlow:
        return cls(config, image_size)

    @property
    def enlarging(self) -> str:
        return "" if self.config.get("density") else super().enlarging

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps = [norm(m) for norm, m in zip(self.norms, self.features.pooled(pixels), strict=True)]
        places = [flow(m)[0].square().mean(1, keepdim=True) * 0.5 for flow, m in zip(self.flows, maps, strict=True)]
        if self.config.get("density"):
            whole = _mean([-torch.exp(-place) for place in places], self.image_size)
            return whole, reduced(whole, self.config["score"])
        finest = max((tuple(place.shape[-2:]) for place in places), key=lambda hw: hw[0] * hw[1])
        cells = _mean(places, (finest[0], finest[1]))
        return self.to_model_size(cells), reduced(cells, self.config["score"])


class Standard(nn.Module):
    """N x C x h x w in deviations of good pictures' features from their mean, channel by channel."""

    mean: Tensor
    width: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("width", torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.width

    def learn(self, x: Tensor) -> None:
        """From the features of good pictures. A channel that says nothing is not made loud."""
        width = x.std((0, 2, 3))
        self.mean.copy_(x.mean((0, 2, 3))[:, None, None])
        self.width.copy_(torch.maximum(width, 0.01 * width.mean()).clamp_min(1e-6)[:, None, None])


def _mean(places: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Of maps N x 1 x h x w, brought to one size: N x H x W."""
    same = [p if tuple(p.shape[-2:]) == size else F.interpolate(p, size, mode="bilinear", align_corners=False) for p in places]
    return torch.cat(same, 1).mean(1)
