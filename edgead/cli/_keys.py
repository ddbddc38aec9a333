"""Keys that are pressed on the terminal, without waiting for them and without Enter."""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType
from typing import Any


class Keys:
    """Reads standard input key by key while the block runs, where it is a terminal that can do so; else nothing is ever pressed.

    Attributes:
        there: whether somebody can press one.
    """

    def __init__(self) -> None:
        self.there = sys.stdin is not None and sys.stdin.isatty()
        self._before: Any = None

    def __enter__(self) -> Keys:
        if self.there:
            try:
                import termios
                import tty
            except ImportError:  # Windows
                self.there = False
                return self
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """All that was pressed since; "" for nothing. A terminal that was closed has pressed "q"."""
        if self._before is None or not select.select([sys.stdin], [], [], 0)[0]:
            return ""
        return os.read(sys.stdin.fileno(), 64).decode("ascii", "replace") or "q"
