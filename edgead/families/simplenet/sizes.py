"""The size rule of a SimpleNet."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.patch_sizes import PatchSizes
from edgead.families.simplenet.network import SimpleNet
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class SimpleNetSizes(PatchSizes):
    """Its time depends on the size alone."""

    engine: ClassVar[Engine] = Engine(0.75, 0.5, 0.55)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        features = self.new_features()
        config = {
            "backbone": features.backbone.name, "layers": list(features.backbone.layers), "channels": features.channels,
            "hidden": self.options.hidden or features.channels,
        }  # fmt: skip
        return SimpleNet(config, size, features.backbone).eval()
