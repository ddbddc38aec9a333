"""Waiting for what other threads and processes do, and reading what they write."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
"""How long anything may take on a slow, busy machine. It costs time only where a test fails."""


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S, what: str = "it") -> None:
    """Wait in real time until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for: {what}"
        time.sleep(0.002)


class JsonLines:
    """What another process writes into a file, one JSON object a line; a line that is still being written is left for later.

    Each line is read once, so that asking again costs little however long the file is.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """All whole lines so far, oldest first."""
        with self._lock:
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(self._at)
                    lines, end, _ = file.read().rpartition(b"\n")
                self._at += len(lines) + len(end)
                self._entries += [json.loads(line) for line in lines.splitlines()]
            return list(self._entries)
