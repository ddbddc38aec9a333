"""How a job tells where it stands, and what it left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, float], None]
"""Called now and then with the name of the stage and the done share of that stage (0 to 1)."""


def silent(stage: str, done: float) -> None:
    """Tells nobody."""


class Ticking:
    """Progress of a stage of so many equal steps.

    Args:
        progress: told at once, and after each step.
        stage: its name.
        steps: 1 or more.
    """

    def __init__(self, progress: Progress, stage: str, steps: int) -> None:
        self._progress, self._stage, self._steps, self._done = progress, stage, steps, 0
        progress(stage, 0.0)

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._stage, self._done / self._steps)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An engine that was not asked, because it does not open here.

    Attributes:
        bundle: its folder.
        engine, backend: its names.
        why: what is wrong.
        hint: what to do about it; "" for nothing.
    """

    bundle: str
    engine: str
    backend: str
    why: str
    hint: str
