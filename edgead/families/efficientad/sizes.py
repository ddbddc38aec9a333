"""The size rule of an EfficientAD."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.efficientad.network import SIZE_MULTIPLE, SMALLEST_PX, EfficientAd
from edgead.families.sizes import Engine, SizeRule
from edgead.models.detector import Detector


class EfficientAdSizes(SizeRule):
    """Its time depends on the size alone."""

    engine: ClassVar[Engine] = Engine(1.0, 0.26, 0.03)
    always: ClassVar[bool] = True
    grows: ClassVar[bool] = True

    def sides(self) -> tuple[int, int]:
        return SIZE_MULTIPLE, SMALLEST_PX

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        options = self.options
        shared = options.start == "fitted" and options.steps == 0 and options.pdn == "small"
        return EfficientAd.build({"size": options.pdn, "shared_trunk": shared}, size).eval()
