"""The size rule of a DifferNet."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.differnet.fit import config_of
from edgead.families.differnet.network import DifferNet
from edgead.families.patch_sizes import BackboneSizes
from edgead.families.sizes import Engine
from edgead.models.detector import Detector
from edgead.published import published


class DifferNetSizes(BackboneSizes):
    """It tells the mean over a whole picture, in which small defects drown at any size: none beyond its own is tried."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)
    grows: ClassVar[bool] = False

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        backbone = self.new_backbone(published(self.options.backbone).layers[-1:])
        return DifferNet(config_of(backbone, self.options), size, backbone).eval()
