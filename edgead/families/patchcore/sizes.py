"""The size rule of a PatchCore: its time depends on the rows of its bank."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from edgead.families.patch_sizes import PatchSizes
from edgead.families.patchcore.network import PatchCore
from edgead.families.patchcore.options import coreset_rows
from edgead.families.sizes import USUAL_PX, Engine
from edgead.models.detector import Detector

FEW_ROWS = 1024
"""A bank of more rows is cut down to so many before a larger input is given up for it: rows cost time at every patch."""


class PatchCoreSizes(PatchSizes):
    """A share of all patches would make the bank grow with the picture, and the time with the square of its area. So above the
    usual size the bank has as many rows as it would have at that one, or `FEW_ROWS`; one whose rows the user gave keeps them."""

    engine: ClassVar[Engine] = Engine(0.62, 0.35, 0.53)  # of 2,048 rows

    def unfitted(self, size: tuple[int, int], rows: int | None) -> Detector:
        features = self.new_features()
        assert rows is not None
        bank = torch.randn(rows, features.channels, generator=torch.Generator().manual_seed(0))
        return PatchCore.from_bank(features, bank, self.options.neighbours, size)

    def banks(self, area: int, pictures: int) -> list[int | None]:
        own, multiple = "coreset" in self.given, self.sides()[0]
        side = multiple * (USUAL_PX // multiple)
        with torch.no_grad():
            cells = self.features(torch.zeros(1, 3, side, side)).shape[2:].numel() * pictures
        scale = 1.0 if area > USUAL_PX**2 and not own else area / USUAL_PX**2
        rows = min(coreset_rows(self.options.coreset, round(cells * scale)), round(cells * area / USUAL_PX**2))
        return [rows] if own else [*dict.fromkeys((rows, min(rows, FEW_ROWS)))]

    def chosen(self, rows: int | None, area: int) -> dict[str, Any]:
        usual = area <= USUAL_PX**2 and rows != FEW_ROWS
        return {} if usual or "coreset" in self.given else {"coreset": rows}
