"""Parts that come one after the other at a pace, for cameras that make it themselves."""

from __future__ import annotations

from edgead.clock import Clock
from edgead.errors import CameraTimeout


class Pace:
    """The first part is due at once.

    Args:
        clock: that is waited on.
        fps: parts a second; 0: each is due whenever it is asked for.
    """

    def __init__(self, clock: Clock, fps: float) -> None:
        self._clock, self._period_ns = clock, round(1e9 / fps) if fps else 0
        self._due_ns = clock.now_ns()

    def wait(self, timeout_s: float) -> None:
        """Until the next part is due. Raises CameraTimeout: it is not within `timeout_s` seconds."""
        if not self._period_ns:
            return
        now = self._clock.now_ns()
        wait_s = (self._due_ns - now) / 1e9
        if wait_s > timeout_s:
            self._clock.sleep(timeout_s)
            raise CameraTimeout(f"no part came by within {timeout_s:g} s")
        if wait_s > 0:
            self._clock.sleep(wait_s)
        self._due_ns = max(self._due_ns, now) + self._period_ns
