"""Waiting for what other threads and processes do, and reading what they write."""

from __future__ import annotations

import json
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


def json_lines(path: Path) -> list[dict[str, Any]]:
    """What another process has written so far, one JSON object a line; a line that is still being written is left for later."""
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
