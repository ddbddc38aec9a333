"""MMD witness (Gretton et al. 2012): the mean of a kernel between a patch and good patches, as a map; the maximum mean
discrepancy between a picture's patches and good ones, as a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgead.families.mmd.options import MMD
from edgead.models.backbones import Backbone
from edgead.models.parts.scores import reduced
from edgead.models.patches import PatchDetector, ToModelSize, build_features


class MmdWitness(PatchDetector):
    """Patches p (C values each, divided by their deviation) and R rows q of good ones.

    The map is -log mean_q k(p, q), minus the logarithm of a kernel density; the score "mmd" is the squared discrepancy, mean
    k(p, p') - 2 mean k(p, q) + mean k(q, q'). With c the width, k = c / (c + d^2) ("imq") or exp(-d^2 / 2c) ("gauss"). d^2 comes
    from one product with the rows, as in PatchCore, on features minus the rows' mean.

    Config keys: ``backbone``, ``layers``, ``features``, ``channels`` C, ``rows`` R, ``kernel``, ``score`` ("mmd", or of the map:
    :mod:`edgead.models.parts.scores`).
    """

    family: ClassVar[str] = "mmd"
    centre: Tensor
    deviation: Tensor
    width: Tensor
    among: Tensor

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        self.features = build_features(config, backbone, image_size)
        self.to_model_size = ToModelSize(config, self.features, image_size)
        channels = int(config["channels"])
        self.product = nn.Linear(channels, int(config["rows"]))
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("among", torch.zeros(()))  # mean k(q, q')

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> MmdWitness:
        return cls(config, image_size)

    @torch.no_grad()
    def learn(self, rows: Tensor, width: float) -> None:
        """From patches of good pictures, float32 R x C; `width` as a share of their median squared distance."""
        deviation = rows.std(0)
        self.deviation.copy_(torch.maximum(deviation, 0.01 * deviation.mean()).clamp_min(1e-6))
        self.centre.copy_(rows.mean(0))
        rows = (rows - self.centre) / self.deviation
        self.product.weight.copy_(-2.0 * rows)
        self.product.bias.copy_(rows.square().sum(1))
        squared = torch.cdist(rows, rows).square()
        apart = squared[torch.triu(torch.ones_like(squared), 1) > 0]
        self.width.copy_((width * apart.median()).clamp_min(1e-6))
        self.among.copy_(self.kernel(squared).mean())

    def kernel(self, squared: Tensor) -> Tensor:
        """Of squared distances."""
        if self.config["kernel"] == "imq":
            return self.width / (self.width + squared)
        return torch.exp(squared / (-2.0 * self.width))

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        n, _, h, w = features.shape
        patches = (features.flatten(2).transpose(1, 2) - self.centre) / self.deviation  # N x P x C
        norms = patches.square().sum(2, keepdim=True)
        squared = (norms + self.product(patches.flatten(0, 1)).view(n, h * w, -1)).clamp_min(0.0)  # N x P x R
        cells = self.rarity(squared).view(n, h, w)
        how = self.config["score"]
        return self.to_model_size(cells), self.discrepancy(patches, norms, squared) if how == MMD else reduced(cells, how)

    def rarity(self, squared: Tensor) -> Tensor:
        """Minus the logarithm of the density: N x P x R -> N x P. A Gaussian's is taken after the nearest row's share, which is
        exact, and never the logarithm of nothing."""
        if self.config["kernel"] == "imq":
            return -torch.log(self.kernel(squared).mean(2))
        nearest = squared.amin(2, keepdim=True)
        share = torch.exp((squared - nearest) / (-2.0 * self.width)).sum(2)
        return nearest.squeeze(2) / (2.0 * self.width) - torch.log(share) + math.log(squared.shape[2])

    def discrepancy(self, patches: Tensor, norms: Tensor, squared: Tensor) -> Tensor:
        """Squared, of each picture's patches and the rows: N."""
        own = (norms + norms.transpose(1, 2) - 2.0 * torch.matmul(patches, patches.transpose(1, 2))).clamp_min(0.0)
        return self.kernel(own).mean((1, 2)) - 2.0 * self.kernel(squared).mean((1, 2)) + self.among
