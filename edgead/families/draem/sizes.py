"""The size rule of a DRAEM."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.draem.fit import config_of
from edgead.families.draem.network import LEAST_PX, Draem
from edgead.families.sizes import Engine, SizeRule
from edgead.models.detector import Detector


class DraemSizes(SizeRule):
    """It was tried at its own size only: none beyond that is."""

    engine: ClassVar[Engine] = Engine(1.0, 1.0, 0.5)

    def sides(self) -> tuple[int, int]:
        return 16, LEAST_PX

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        return Draem(config_of(self.options), size).eval()
