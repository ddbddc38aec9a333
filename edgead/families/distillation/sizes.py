"""The size rule of a distillation."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.distillation.fit import config_of
from edgead.families.distillation.network import Distillation
from edgead.families.patch_sizes import BackboneSizes
from edgead.families.patches import FINE_LAYERS
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class DistillationSizes(BackboneSizes):
    """Its time depends on the size alone."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        teacher = self.new_backbone(FINE_LAYERS.get(self.options.backbone))
        return Distillation(config_of(teacher, self.options), size, teacher).eval()
