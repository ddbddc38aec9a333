"""The size rule of a translation."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.sizes import Engine, SizeRule
from edgead.families.translate.network import Translate
from edgead.models.detector import Detector


class TranslateSizes(SizeRule):
    """It was tried at its own size only: none beyond that is."""

    engine: ClassVar[Engine] = Engine(1.0, 1.0, 0.5)

    def sides(self) -> tuple[int, int]:
        return 16, 32

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        return Translate({"base": self.options.base, "score": self.options.score_by}, size).eval()
