"""The size rule of a reconstruction."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from edgead.families.reconstruction.fit import config_of
from edgead.families.reconstruction.kinds import NETWORKS
from edgead.families.reconstruction.network import Reconstruction
from edgead.families.sizes import USUAL_PX, Engine, SizeRule
from edgead.models.detector import Detector

LEAST_PX = 64
"""Of a side: below it there is hardly anything to rebuild."""


class ReconstructionSizes(SizeRule):
    """Cells, stripes and windows are as large as the paper has them for its own size, and larger networks were not tried: no size
    beyond its own is."""

    engine: ClassVar[Engine] = Engine(1.0, 1.0, 0.5)

    def sides(self) -> tuple[int, int]:
        """What the network halves, and what square cells fill."""
        network, masking = self.options.part("network"), self.options.part("masking")
        side = 16 * network["patch"] if "patch" in network else USUAL_PX
        kind = network.pop("kind")
        with torch.device("meta"):
            stride = NETWORKS[kind].load()((side, side), **network).stride
        cells = [int(px) for px in masking["cells"]] if masking["kind"] == "disjoint" else []
        multiple = math.lcm(stride, 2, *cells)
        return multiple, max(multiple, math.ceil(LEAST_PX / multiple) * multiple)

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        return Reconstruction.build(config_of(self.options, size), size).eval()
