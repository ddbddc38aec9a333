"""The reject gate stands downstream of the camera: each part's verdict takes effect when that part is there, others in between.

:class:`ShiftRegister` keeps the parts on the way, in nanoseconds or encoder counts; :class:`GateOutput` works a device by it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, OutputError
from edgead.runtime.threads import Supervised
from edgead.types import Inspection, Output, StageTimes, Trigger, Verdict

MISSING = "gate_missing"
"""Cause told at the gate for a part whose verdict did not come before the part did."""

PATIENCE_S = 10.0
"""A device that does not come back for so long stands still."""

_log = logging.getLogger("edgead.gate")


@dataclass(slots=True)
class _OnTheWay:
    part_id: int
    due: int
    inspection: Inspection | None = None


class ShiftRegister:
    """Parts between camera and gate, first in, first out; pure: no clock, no threads.

    Each part that was expected comes out of `arrived` exactly once, in the order of expectation, with its own verdict or, when
    that is missing or came too late, with none. None means reject. When several come out at once, or one by more than `slack`
    late, those are by already: whatever the gate does now, it does to another part, so they have none either.

    Args:
        distance: from the trigger to the gate, in whatever unit positions have; 0 or more.
        slack: how far behind the gate a part may still be treated; None: until the next one comes.
    """

    def __init__(self, distance: int, slack: int | None = None) -> None:
        if distance < 0 or (slack is not None and slack < 0):
            raise BadInput(f"the gate cannot stand {min(distance, slack or 0)} before the camera or itself")
        self._distance, self._slack = distance, slack
        self._parts: deque[_OnTheWay] = deque()
        self._last_due: int | None = None
        self._last_id = 0

    @property
    def next_due(self) -> int | None:
        """The position at which the next part is at the gate."""
        return self._parts[0].due if self._parts else None

    def expect(self, part_id: int, at: int) -> bool:
        """A part passed the camera at position `at`; False when it was expected before. Part ids count up."""
        if part_id <= self._last_id:
            return False
        due = at + self._distance
        due = due if self._last_due is None else max(due, self._last_due)  # nothing overtakes on a belt
        self._parts.append(_OnTheWay(part_id, due))
        self._last_id, self._last_due = part_id, due
        return True

    def tell(self, inspection: Inspection) -> bool:
        """The verdict on an expected part; False when it has passed the gate already, or was told before: then it is ignored."""
        for part in self._parts:
            if part.part_id == inspection.part_id and part.inspection is None:
                part.inspection = inspection
                return True
        return False

    def arrived(self, position: int) -> list[tuple[int, Inspection | None]]:
        """The parts that have come to the gate by now: part id and verdict."""
        found: list[tuple[int, Inspection | None]] = []
        while self._parts and self._parts[0].due <= position:
            part = self._parts.popleft()
            passed = self._slack is not None and position - part.due > self._slack
            if found:
                found[-1] = (found[-1][0], None)
            found.append((part.part_id, None if passed else part.inspection))
        return found

    def forget_verdicts(self) -> None:
        """Every part on the way will be rejected, even when its verdict comes again."""
        for part in self._parts:
            part.inspection = _missing(part.part_id)


class GateOutput:
    """Tells another output each verdict when its part is at the gate; a part without a verdict by then is UNKNOWN.

    Parts become known by `expect` (a triggered station calls it for each trigger), else by their verdict. By time, the delay
    counts from the trigger, free-running from the frame's arrival. By encoder counts, whoever reads the encoder calls `advance`.

    Args:
        inner: works the gate; used by one thread at a time. This one closes it.
        delay_s: from the trigger to the gate.
        slack_s: a part that is that much by already is rejected (this process was held up).
        counts, slack_counts: encoder counts from the trigger to the gate, instead of `delay_s`; likewise.
        hold_s: OK is asserted for so long; None: until the next part, or as long as `inner` does by itself.
        clock: of triggers and frames.

    Raises:
        BadInput: not exactly one of `delay_s` and `counts`, or out of range.
    """

    def __init__(
        self,
        inner: Output,
        *,
        delay_s: float | None = None,
        slack_s: float = 0.05,
        counts: int | None = None,
        slack_counts: int | None = None,
        hold_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if (delay_s is None) == (counts is None):
            raise BadInput("a gate is reached after a time or after encoder counts", hint="give one of delay_s and counts")
        if hold_s is not None and not hold_s > 0:
            raise BadInput(f"OK cannot be held for {hold_s} s", hint="give a time above 0 s")
        self._inner, self._by_time = inner, counts is None
        self._register = (
            ShiftRegister(counts, slack_counts)
            if counts is not None
            else ShiftRegister(round((delay_s or 0.0) * 1e9), round(slack_s * 1e9))
        )
        self._hold_ns = None if hold_s is None else round(hold_s * 1e9)
        self._clock = clock or MonotonicClock()
        self._position = 0  # of the encoder
        self._release_ns: int | None = None  # when OK is taken back
        self._error: Exception | None = None
        self._safe = 0  # how often the safe state was asked for
        self._closed = False
        self.late = 0  # verdicts that came when their part had passed
        self._condition = threading.Condition()
        self._device = threading.Lock()
        self._thread = Supervised("gate", self._run, died=self._died, stalled=inner.fail_safe, patience_s=PATIENCE_S)
        self._thread.start()

    def expect(self, part_id: int, trigger: Trigger) -> None:
        """A part was triggered; it will be at the gate later, with or without a verdict. Returns at once."""
        with self._condition:
            at = trigger.at_ns if self._by_time else trigger.encoder
            self._register.expect(part_id, self._position if at is None else at)
            self._condition.notify_all()

    def advance(self, count: int) -> None:
        """The encoder shows `count` now (it only grows)."""
        with self._condition:
            self._position = max(self._position, count)
            self._condition.notify_all()

    def signal(self, inspection: Inspection) -> None:
        """Keep the verdict until its part is there.

        Raises:
            OutputError: closed, or the device has failed since the last call.
        """
        with self._condition:
            self._raise_error()
            if inspection.trigger is None:
                frame = inspection.frame
                at_ns = frame.captured_at_ns if frame is not None else self._clock.now_ns()
                self._register.expect(inspection.part_id, at_ns if self._by_time else self._position)
            if not self._register.tell(inspection):
                self.late += 1
                _log.warning("the verdict on part %d came when it had passed the gate", inspection.part_id)
            self._condition.notify_all()

    def heartbeat(self) -> None:
        with self._device:
            self._inner.heartbeat()

    def fail_safe(self) -> None:
        """Nothing is asserted, and every part on the way will be rejected."""
        with self._condition:
            self._register.forget_verdicts()
            self._safe += 1
        with self._device:
            self._inner.fail_safe()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if not self._thread.join(5.0):
            _log.error("the gate's device does not answer; its thread is left behind")
            return
        self._inner.close()

    def _raise_error(self) -> None:
        if self._closed:
            raise OutputError("the gate is closed")
        if self._error is not None:
            error, self._error = self._error, None
            raise OutputError(f"the gate's device failed: {error}") from error

    def _run(self) -> None:
        while True:
            with self._condition:
                arrived = self._register.arrived(self._now())
                release = self._release_ns is not None and self._clock.now_ns() >= self._release_ns
                if self._closed:
                    return
                if not arrived and not release:
                    self._thread.rest()
                    self._clock.wait(self._condition, self._wake_ns())
                    continue
                safe = self._safe
            self._thread.turn()
            if not arrived:
                self._release_ns = None
                self._work(self._inner.fail_safe)
            for part_id, inspection in arrived:
                self._tell(part_id, inspection, safe)

    def _died(self, error: BaseException) -> None:
        """Nobody knows what the device shows: every part on the way is rejected."""
        with self._condition:
            self._register.forget_verdicts()
            self._safe += 1
            self._release_ns = None
        with self._device:
            self._inner.fail_safe()

    def _now(self) -> int:
        return self._clock.now_ns() if self._by_time else self._position

    def _wake_ns(self) -> int | None:
        due = self._register.next_due if self._by_time else None
        moments = [moment for moment in (due, self._release_ns) if moment is not None]
        return min(moments, default=None)

    def _tell(self, part_id: int, inspection: Inspection | None, safe: int) -> None:
        def tell() -> None:  # with the device's lock: the safe state may have been asked for meanwhile
            told = inspection if inspection is not None and safe == self._safe else _missing(part_id)
            ok = told.verdict is Verdict.OK
            self._release_ns = self._clock.now_ns() + self._hold_ns if ok and self._hold_ns is not None else None
            self._inner.signal(replace(told, deadline_ns=None))

        self._work(tell)

    def _work(self, call: Callable[[], None]) -> None:
        """Call the device; its fault is told to whoever signals next, and it is left safe."""
        with self._device:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever the device does, the next part comes
                with self._condition:
                    self._error = error
                try:
                    self._inner.fail_safe()
                except Exception as worse:  # noqa: BLE001 - a dead device
                    _log.error("the gate cannot go to its safe state: %s", worse)


def _missing(part_id: int) -> Inspection:
    return Inspection(part_id, Verdict.UNKNOWN, MISSING, math.nan, math.nan, None, StageTimes(), None)
