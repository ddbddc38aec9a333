"""A word when parts are UNKNOWN because the engine fails: records hold it for each part, people look at the log and at health."""

from __future__ import annotations

from collections.abc import Callable

from edgead.types import Inspection, Verdict

NOTICE = "answers"
CALM = 20
"""So many answers in a row, and it is taken back."""

CAUSES = {
    "engine_error": "memory, and the engine's driver",
    "score_not_finite": "edgead verify",
    "map_not_finite": "edgead verify",
    "no_map": "the rule needs a map: edgead threshold",
    "bad_frame": "the camera's pictures, and the bundle's recipe (edgead inspect)",
}
"""What to look at."""


class AnswerWatch:
    """Looks at each part; for :meth:`edgead.runtime.loop.station.Station.on_inspection`.

    Args:
        notice: told `NOTICE` and text, "" when all is well again; :meth:`edgead.runtime.loop.station.Station.notice`.
    """

    def __init__(self, notice: Callable[[str, str], None]) -> None:
        self._notice = notice
        self._told = ""
        self._calm = 0

    def see(self, inspection: Inspection) -> None:
        """Look at one part."""
        cause = inspection.cause.partition(":")[0]
        if inspection.verdict is Verdict.UNKNOWN and cause in CAUSES:
            self._calm = 0
            self._tell(f"parts are UNKNOWN: {inspection.cause}; look at: {CAUSES[cause]}")
        elif inspection.verdict is not Verdict.UNKNOWN:
            self._calm += 1
            if self._calm >= CALM:
                self._tell("")

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._notice(NOTICE, text)
