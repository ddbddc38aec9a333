"""Trigger sources that need no device; those of a PLC or a GPIO line follow the same protocol."""

from __future__ import annotations

import threading
from collections import deque

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, EndOfStream, OutputError
from edgead.types import Trigger


class SoftwareTrigger:
    """Triggers that the program itself fires, from any thread.

    The station reads them at once, whatever it is busy with: one that it cannot inspect in time still gets its verdict.

    Args:
        clock: the camera's and the station's.
        capacity: triggers that may wait here while no station runs.
    """

    def __init__(self, clock: Clock | None = None, *, capacity: int = 1024) -> None:
        if capacity < 1:
            raise BadInput(f"a trigger queue of {capacity} holds nothing", hint="give 1 or more")
        self._clock, self._capacity = clock or MonotonicClock(), capacity
        self._waiting: deque[Trigger] = deque()
        self._fired = 0
        self._ended = self._closed = False
        self._condition = threading.Condition()

    def fire(self, part_id: int | None = None, *, encoder: int | None = None) -> Trigger:
        """A part is in front of the camera now; it will get exactly one verdict, with this `part_id` in its trigger.

        Raises:
            OutputError: closed or ended, or no station has read the last `capacity` triggers. Then there is no verdict.
        """
        with self._condition:
            if self._closed or self._ended:
                raise OutputError("the software trigger is closed", hint="fire while a station runs")
            if len(self._waiting) >= self._capacity:
                raise OutputError(
                    f"nobody reads the software trigger: {self._capacity} triggers wait already", hint="run the station first"
                )
            self._fired += 1
            trigger = Trigger(self._fired, self._clock.now_ns(), part_id, "software", encoder)
            self._waiting.append(trigger)
            self._condition.notify()
            return trigger

    def end(self) -> None:
        """There will be no more triggers: a station finishes those that wait and returns from `run`."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger; see :class:`edgead.types.TriggerSource`."""
        with self._condition:
            if not self._waiting and not self._ended and not self._closed:
                self._condition.wait(timeout_s)
            if self._waiting:
                return self._waiting.popleft()
            if self._ended or self._closed:
                raise EndOfStream("there are no more software triggers")
            return None

    def close(self) -> None:
        """Refuse further triggers; may be called twice."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class IntervalTrigger:
    """A trigger every so many seconds, at fixed moments from the first call of `wait` on; none is left out when it is read late.

    Args:
        interval_s: seconds from one to the next.
        clock: the camera's and the station's.
        count: how many there are; None never ends.

    Raises:
        BadInput: the interval is not above 0.
    """

    def __init__(self, interval_s: float, clock: Clock | None = None, *, count: int | None = None) -> None:
        if not interval_s > 0:
            raise BadInput(f"a trigger interval of {interval_s} s is not above 0")
        self._clock, self._interval_ns, self._count = clock or MonotonicClock(), round(interval_s * 1e9), count
        self._due_ns: int | None = None
        self._fired = 0
        self._closed = False
        self._condition = threading.Condition()

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger; see :class:`edgead.types.TriggerSource`."""
        with self._condition:
            now_ns = self._clock.now_ns()
            if self._due_ns is None:
                self._due_ns = now_ns + self._interval_ns
            if self._closed or self._fired == self._count:
                raise EndOfStream("the interval trigger has ended")
            if now_ns < self._due_ns:
                self._clock.wait(self._condition, min(self._due_ns, now_ns + round(timeout_s * 1e9)))
            if self._closed or self._clock.now_ns() < self._due_ns:
                return None
            self._fired += 1
            trigger = Trigger(self._fired, self._due_ns, source="interval")
            self._due_ns += self._interval_ns
            return trigger

    def close(self) -> None:
        """Stop; may be called twice."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class CameraTrigger:
    """The camera's own hardware line triggers it: each frame that arrives is a trigger, and so is each that got lost.

    It is read by nobody: a station that is given one takes its triggers from the capture thread.
    """

    def wait(self, timeout_s: float) -> Trigger | None:
        """Never anything: the frames are the triggers."""
        return None

    def close(self) -> None:
        """Nothing to stop."""
