"""The size rule of a FastFlow."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.fastflow.fit import KIND, config_of
from edgead.families.fastflow.network import FastFlow
from edgead.families.patch_sizes import BackboneSizes, unweighted
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class FastFlowSizes(BackboneSizes):
    """Its time depends on the size alone."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        features = unweighted(self.new_backbone(), KIND)
        return FastFlow(config_of(features, self.options), size, features.backbone).eval()
