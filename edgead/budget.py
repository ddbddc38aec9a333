"""The latency budget of one part: from the frame's arrival to the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.errors import BadInput


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock after which the only answer is UNKNOWN."""

    at_ns: int

    def passed(self, now_ns: int) -> bool:
        return now_ns > self.at_ns

    def remaining_s(self, now_ns: int) -> float:
        return max(0.0, (self.at_ns - now_ns) / 1e9)


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """Milliseconds that one part may take; None means free-running without a deadline."""

    total_ms: float | None

    def __post_init__(self) -> None:
        if self.total_ms is not None and not self.total_ms > 0:
            raise BadInput(f"a latency budget of {self.total_ms} ms cannot be met", hint="give a number above 0")

    def start(self, now_ns: int) -> Deadline | None:
        """The deadline of a part whose frame arrived at `now_ns`."""
        return None if self.total_ms is None else Deadline(now_ns + int(self.total_ms * 1e6))
