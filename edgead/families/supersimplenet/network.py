"""SuperSimpleNet (Rolih, Fučka, Skočaj 2024), for models trained with anomalib: a segmentation head and a classification head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.simplenet.network import LEAK
from edgead.models.backbones import Backbone
from edgead.models.patches import PatchDetector, ToModelSize, build_features

HIDDEN = 1024
CLASSIFIER = 128


class SuperSimpleNet(PatchDetector):
    """Features f -> adaptor a (1 x 1) -> patch map m (two 1 x 1 convolutions). Score: a 5 x 5 convolution over f (or a) and m,
    its largest and mean value per channel and those of m, one linear layer. Score and map are logits. Batch norms are folded.

    Config keys: ``backbone``, ``layers``, ``channels`` C, ``adapt_score``: the score sees a in place of f; ``features``,
    ``normalize`` and ``map`` (see :mod:`edgead.models.patches`).
    """

    family: ClassVar[str] = "supersimplenet"

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int], backbone: Backbone | None = None) -> None:
        super().__init__(config, image_size)
        channels = int(config["channels"])
        self.features = build_features(config, backbone, image_size)
        self.to_model_size = ToModelSize(config, self.features, image_size)
        self.adaptor = nn.Conv2d(channels, channels, 1)
        self.hidden = nn.Conv2d(channels, HIDDEN, 1)
        self.anomaly = nn.Conv2d(HIDDEN, 1, 1, bias=False)
        self.context = nn.Conv2d(channels + 1, CLASSIFIER, 5, padding=2)
        self.verdict = nn.Linear(2 * CLASSIFIER + 2, 1)

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> SuperSimpleNet:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(pixels)
        adapted = self.adaptor(features)
        patch_map = self.anomaly(F.leaky_relu(self.hidden(adapted), LEAK))  # N x 1 x h x w
        seen = adapted if self.config["adapt_score"] else features
        context = F.relu(self.context(torch.cat([seen, patch_map], 1)))
        parts = [context.amax((2, 3)), context.mean((2, 3)), patch_map.amax((2, 3)), patch_map.mean((2, 3))]
        score: Tensor = self.verdict(torch.cat(parts, 1)).squeeze(1)
        return self.to_model_size(patch_map.squeeze(1)), score
