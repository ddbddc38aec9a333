"""A word when the camera's pictures have another shape than those that the model was trained on: it is told once, not refused,
since the station cannot know whether the part looks different for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgead.preprocess import PreprocessRecipe
from edgead.runtime.records.overlay import HeatScale
from edgead.types import Inspection

NOTICE = "picture shape"


class ShapeWatch:
    """Compares the size of what comes; for :meth:`edgead.runtime.loop.station.Station.on_inspection`.

    Args:
        looks: recipes by the name of the engine that answers (:attr:`Inspection.engine`); others are not looked at. May grow.
        notice: told `NOTICE` and text, "" when all is well again; :meth:`edgead.runtime.loop.station.Station.notice`.
    """

    def __init__(self, looks: Mapping[str, tuple[HeatScale, PreprocessRecipe]], notice: Callable[[str, str], None]) -> None:
        self._looks, self._notice = looks, notice
        self._last: tuple[str, int, int] | None = None

    def see(self, inspection: Inspection) -> None:
        """Look at one part."""
        if inspection.frame is None or inspection.engine not in self._looks:
            return
        height, width = inspection.frame.image.shape[:2]
        if (inspection.engine, width, height) == self._last:
            return
        self._last = (inspection.engine, width, height)
        self._notice(NOTICE, self._looks[inspection.engine][1].strange(width, height))
