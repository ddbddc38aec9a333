"""How training tells where it stands."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called now and then with the name of the stage and the done share of that stage (0 to 1)."""


def silent(stage: str, done: float) -> None:
    """Tells nobody."""
