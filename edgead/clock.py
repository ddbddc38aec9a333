"""Monotonic time, injected everywhere, so that tests move it by hand (:class:`edgead.testing.FakeClock`)."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time that never jumps back."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start."""

    def sleep(self, duration_s: float) -> None:
        """Wait for `duration_s` seconds."""


class MonotonicClock:
    """The machine's monotonic clock (CLOCK_MONOTONIC)."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)
