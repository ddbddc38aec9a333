"""The console that all verbs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from edgead.clock import MonotonicClock
from edgead.words import hide, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from edgead.clock import Clock

STARTING = "starting"
"""Stands there until the job tells its first stage."""

PAUSE_NS = 60 * 10**9
"""Between two lines where there is no terminal."""


def console(*, width: int | None = None, stderr: bool = False) -> Console:
    """Standard output (or error): tables and results; plain text when it is not a terminal. Names of files and what stands in a
    bundle cannot move its cursor: control characters are shown as what they are."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(hide(text)), **options)

    return Plain(highlight=False, soft_wrap=not stderr, width=width, stderr=stderr)


def progress() -> Progress:
    """A progress bar with elapsed time and time left, on standard error, so that results can be piped."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(stderr=True), transient=True)


class Told:
    """A job's progress: a bar for each of its stages where somebody looks on, elsewhere a line a minute, so that a log tells
    that it lives and how long it takes.

    Args:
        bars: that are shown; None: there is no terminal.
        clock: times the lines.
    """

    def __init__(self, bars: Progress | None, clock: Clock) -> None:
        self._bars, self._clock = bars, clock
        self._tasks: dict[str, TaskID] = {}
        self._began_ns: dict[str, int] = {}
        self._said_ns = clock.now_ns()
        if bars is not None:
            self._tasks[STARTING] = bars.add_task(STARTING, total=None)

    def __call__(self, stage: str, done: float) -> None:
        """So much of the stage is done, 0 to 1."""
        if self._bars is None:
            self._note(stage, done)
            return
        if (starting := self._tasks.pop(STARTING, None)) is not None:
            self._bars.remove_task(starting)
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=1.0)
        self._bars.update(self._tasks[stage], completed=done)

    def say(self, line: str) -> None:
        """A line on standard error, above the bars."""
        (console(stderr=True) if self._bars is None else self._bars.console).print(line, markup=False)

    def _note(self, stage: str, done: float) -> None:
        """Say where it stands, when that was not said for a minute."""
        now_ns = self._clock.now_ns()
        began_ns = self._began_ns.setdefault(stage, now_ns)
        if now_ns - self._said_ns < PAUSE_NS:
            return
        self._said_ns = now_ns
        left_s = (now_ns - began_ns) / 1e9 * (1.0 - done) / done if done > 0 else 0.0
        self.say(f"{stage}: {done:.0%}" + (f", about {timedelta(seconds=round(left_s))} left" if left_s >= 1 else ""))


@contextmanager
def told_progress() -> Iterator[Told]:
    """To be told by a job where it stands. On a terminal something moves at once: torch alone takes seconds to load."""
    if not sys.stderr.isatty():
        yield Told(None, MonotonicClock())
        return
    with progress() as bars:
        yield Told(bars, MonotonicClock())
