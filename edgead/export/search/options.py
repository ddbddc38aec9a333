"""What is asked of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgead.calibration.judging.deviation import Limits
from edgead.errors import BadInput
from edgead.export.search.space import Size

Retrain = Callable[[Size, Path, Callable[[], bool]], None]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is asked for, and how long it may take.

    Attributes:
        budget_ms: from the camera's picture to the verdict, at p99.
        frame: width and height of the camera's pictures.
        minutes: bound on the whole, the final bundle included as far as that can be foreseen. The plain engines are always
            measured, so that there is an answer.
        folder: for journal and models trained again; None takes ``NAME.edgead.search`` beside the bundle.
        restart: forget what an earlier search of the same model on the same machine measured.
        retrain: (size, folder, whether to stop) trains the model again at another input size, with the arguments that it was
            trained with; raises BadInput when that is impossible. None: it cannot be.
        why_not: why it cannot be.
        with_defects: what may be lost where there are labelled defects; None, and where there are none, what every export allows.
    """

    budget_ms: float
    frame: Size = (1920, 1080)
    minutes: float = 10.0
    folder: Path | None = None
    restart: bool = False
    retrain: Retrain | None = None
    why_not: str = ""
    with_defects: Limits | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.budget_ms < float("inf"):
            raise BadInput(f"a budget of {self.budget_ms:g} ms is not usable", hint="give milliseconds above 0: --budget-ms 40")
        if not 0.0 < self.minutes < float("inf"):
            raise BadInput(f"{self.minutes:g} minutes of search are not usable", hint="give a number above 0")
