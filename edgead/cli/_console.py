"""The console that all verbs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgead.words import hide, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


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
    """A job's progress as a bar for each of its stages, where somebody looks on."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: float) -> None:
        """So much of the stage is done, 0 to 1."""
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=1.0)
        self._bars.update(self._tasks[stage], completed=done)

    def say(self, line: str) -> None:
        """A line on standard error, above the bars."""
        (console(stderr=True) if self._bars is None else self._bars.console).print(line, markup=False)


@contextmanager
def told_progress() -> Iterator[Told]:
    """To be told by a job where it stands."""
    if not sys.stderr.isatty():
        yield Told(None)
        return
    with progress() as bars:
        yield Told(bars)
