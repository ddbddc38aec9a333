"""The size rule of students."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.sizes import Engine, SizeRule
from edgead.families.students.fit import config_of
from edgead.families.students.network import SMALLEST_PX, Students
from edgead.models.detector import Detector


class StudentsSizes(SizeRule):
    """Their cells see a patch of so many px, so what they see of a part depends on the size: none beyond their own is tried."""

    engine: ClassVar[Engine] = Engine(1.2, 1.2, 0.5)

    def sides(self) -> tuple[int, int]:
        return 16, SMALLEST_PX

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        return Students(config_of(self.options), size).eval()
