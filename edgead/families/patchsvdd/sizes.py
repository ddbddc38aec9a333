"""The size rule of a Patch SVDD."""

from __future__ import annotations

from typing import ClassVar

from edgead.families.patchsvdd.network import PATCH_PX, PatchSvdd
from edgead.families.sizes import Engine, SizeRule
from edgead.models.detector import Detector


class PatchSvddSizes(SizeRule):
    """Its patches have 32 and 64 px, so what they see of a part depends on the size: none beyond its own is tried."""

    engine: ClassVar[Engine] = Engine(1.0, 1.0, 0.5)

    def sides(self) -> tuple[int, int]:
        return 16, 2 * PATCH_PX

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        options = self.options
        config = {
            "encoder": options.encoder, "rows": options.rows, "big_rows": options.big_rows, "score": options.score_by,
        }  # fmt: skip
        return PatchSvdd(config, size).eval()
