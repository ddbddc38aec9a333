"""The console that all verbs share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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


@contextmanager
def told_progress() -> Iterator[Callable[[str, float], None]]:
    """A job's progress as a bar for each of its stages, where somebody looks on."""
    if not sys.stderr.isatty():
        yield lambda stage, done: None
        return
    with progress() as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=done)

        yield report
