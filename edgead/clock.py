"""Monotonic time, injected everywhere, so that tests move it by hand (:class:`edgead.testing.FakeClock`)."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time that never jumps back."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start."""

    def sleep(self, duration_s: float) -> None:
        """Wait for `duration_s` seconds."""

    def wait(self, condition: threading.Condition, until_ns: int | None) -> None:
        """Wait on a condition that the caller holds until it is notified or the moment has come (None: notified only).

        It may return for no reason, so call it in a loop that looks for itself.
        """


class MonotonicClock:
    """The machine's monotonic clock (CLOCK_MONOTONIC)."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)

    def wait(self, condition: threading.Condition, until_ns: int | None) -> None:
        if until_ns is None:
            condition.wait()
        else:
            condition.wait(min(max(0.0, (until_ns - self.now_ns()) / 1e9), threading.TIMEOUT_MAX))
