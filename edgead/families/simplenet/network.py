"""SimpleNet (Liu et al. 2023): a small discriminator that learned to tell good patch features from noisy copies of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones import Backbone
from edgead.models.patches import LinearFeatures, PatchDetector, PatchFeatures, ToModelSize, build_features

LEAK = 0.2
"""Slope of the leaky ReLU below zero, as in the authors' code."""


class SimpleNet(PatchDetector):
    """Patch features -> hidden (1 x 1 convolution, leaky ReLU) -> anomaly (1 x 1 convolution).

    The adaptor is linear and the batch norm is fixed after training, so both are folded into the discriminator's first layer
    (:func:`edgead.families.simplenet.fit.fold`). The anomaly of a patch is minus the discriminator's output.

    Config keys: ``backbone``, ``layers``, ``channels`` C, ``hidden``, ``features``. For imported models also ``normalize`` and
    ``map`` (see :mod:`edgead.models.patches`). With ``split`` the hidden layer's convolution is done on each layer of the
    backbone at its own resolution (:class:`edgead.models.patches.LinearFeatures`), and `hidden` does nothing.
    """

    family: ClassVar[str] = "simplenet"
    features: PatchFeatures | LinearFeatures
    hidden: nn.Conv2d | nn.Identity

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        features = build_features(config, backbone, image_size)
        self.to_model_size = ToModelSize(config, features, image_size)
        split = "split" in config
        self.features = LinearFeatures(features, int(config["hidden"])) if split else features
        self.hidden = nn.Identity() if split else nn.Conv2d(int(config["channels"]), int(config["hidden"]), 1)
        self.anomaly = nn.Conv2d(int(config["hidden"]), 1, 1)

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> SimpleNet:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patch_map = self.anomaly(F.leaky_relu(self.hidden(self.features(pixels)), LEAK)).squeeze(1)  # N x h x w
        return self.to_model_size(patch_map), patch_map.flatten(1).amax(1)
