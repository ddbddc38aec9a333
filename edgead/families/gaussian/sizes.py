"""The size rule of a Gaussian."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.gaussian.cells import Cells, grid_of
from edgead.families.gaussian.fit import config_of, picked_of
from edgead.families.gaussian.network import Gaussian
from edgead.families.patch_sizes import BackboneSizes, unweighted
from edgead.families.patches import FINE_LAYERS
from edgead.families.sizes import Engine
from edgead.models.detector import Detector


class GaussianSizes(BackboneSizes):
    """Its time depends on the size alone."""

    engine: ClassVar[Engine] = Engine(0.75, 0.55, 0.5)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        options = self.options
        features = unweighted(self.new_backbone(FINE_LAYERS.get(options.backbone)), "paper")
        features.backbone.fix_size(size)
        picked = picked_of(features.channels, options.channels, 0)
        cells = Cells(features, grid_of(features, size, options.cell), picked)
        return Gaussian(config_of(cells, options, picked), size, features.backbone).eval()
