"""The size rule of an MMD witness."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.mmd.fit import config_of
from edgead.families.mmd.network import MmdWitness
from edgead.families.patch_sizes import BackboneSizes, unweighted
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class MmdSizes(BackboneSizes):
    """Its rows are a number that the options say, whatever the size; those of one patch and another (`--score-by mmd`) grow with
    the square of the area."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        features = unweighted(self.new_backbone(), self.options.features)
        return MmdWitness(config_of(features, self.options, self.options.rows), size, features.backbone).eval()
