"""The heart of the promise: each part that was opened is closed exactly once, in order, by its deadline, whoever hangs.

    open (trigger thread, capture thread or loop) -> taken by the loop -> closed by the loop, or at the deadline by the referee

Everything that a verdict sets off (counters, outputs' queues) happens in `deliver`, under the ledger's one lock: so verdicts
leave in the order of their part ids, and nobody can hear of a part twice. `deliver` must therefore never wait.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgead.clock import Clock
from edgead.runtime.threads import Supervised
from edgead.types import Frame, Inspection, Trigger, Verdict

STOPPED = "stopped"
HANG = "engine_hang"
LATE = "late"

_log = logging.getLogger("edgead.station")


@dataclass(eq=False, slots=True)
class Part:
    """A part whose verdict is owed.

    Attributes:
        part_id: counts up from the station's first part id, without gaps.
        trigger: what asked; None when free-running.
        start_ns: when its time began: the trigger, or the frame's arrival.
        deadline_ns: when its verdict must be out; None: no limit.
        doom: why it cannot be inspected, known from the beginning (e.g. "trigger_overrun"); it only waits for its turn.
        stage: where it is: "queue", "frame", "resize", "inference", "decision". Written by the loop, read by the referee.
        frame: its picture, once there is one. Likewise.
        closed: its verdict is out.
    """

    part_id: int
    trigger: Trigger | None
    start_ns: int
    deadline_ns: int | None
    doom: str = ""
    stage: str = "queue"
    frame: Frame | None = None
    closed: bool = False

    def overdue(self, now_ns: int) -> bool:
        """Has it taken more than twice the time that it had? Then whoever works on it hangs."""
        return self.deadline_ns is not None and now_ns - self.deadline_ns > self.deadline_ns - self.start_ns

    def enter(self, stage: str, now_ns: int) -> None:
        """The loop comes to a stage; a part that is late stays in the stage in which it became late."""
        if self.deadline_ns is None or now_ns <= self.deadline_ns:
            self.stage = stage


class Ledger:
    """Opens and closes parts; a referee thread, between `start` and `end`, closes those whose deadline has passed.

    Args:
        clock: of triggers, frames and deadlines.
        deliver: called with each verdict, in order, one at a time; it must not wait and not call the ledger.
        unknown: makes the verdict on a part that got none: the part, the cause.
        lateness: makes the verdict on a part that is late out of what was found, if anything: the part, the cause, the finding.
        late_result: called for each result that came when its part was closed already.
        first_part_id: the number of the first part.

    Attributes:
        closed: parts that were closed, whatever became of their verdicts then.
    """

    def __init__(
        self,
        clock: Clock,
        deliver: Callable[[Inspection], None],
        *,
        unknown: Callable[[Part, str], Inspection],
        lateness: Callable[[Part, str, Inspection | None], Inspection],
        late_result: Callable[[], None],
        first_part_id: int = 1,
    ) -> None:
        self._clock, self._deliver = clock, deliver
        self._unknown, self._lateness, self._late_result = unknown, lateness, late_result
        self._next_id = first_part_id
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)  # for the loop
        self._due = threading.Condition(self._lock)  # for the referee
        self._watched_ns: int | None = None  # the deadline that the referee waits for
        self._open: deque[Part] = deque()
        self._waiting: deque[Part] = deque()  # opened, not taken by the loop
        self._taken: Part | None = None  # the one that the loop is busy with
        self._running = False
        self._referee: Supervised | None = None
        self.closed = 0

    def start(self) -> None:
        """Begin to keep deadlines."""
        with self._lock:
            self._running = True
        self._referee = Supervised("referee", self._watch)
        self._referee.start()

    def end(self) -> None:
        """Close every open part as UNKNOWN("stopped"), and each that is opened from now on at once."""
        with self._lock:
            while self._open:
                self._close(self._open[0], self._unknown(self._open[0], STOPPED))
            self._running, self._taken = False, None
            self._arrived.notify_all()
            self._due.notify_all()
        if self._referee is not None:
            self._referee.join()
            self._referee = None

    def open(
        self,
        trigger: Trigger | None,
        start_ns: int,
        deadline_ns: int | None,
        *,
        doom: str = "",
        taken: bool = False,
        limit: int | None = None,
        opened: Callable[[Part], None] | None = None,
    ) -> Part:
        """A part whose verdict is owed from now on.

        Args:
            trigger, start_ns, deadline_ns, doom: see :class:`Part`.
            taken: the loop itself opens it; else it waits for the loop's `take`.
            limit: with so many parts waiting already, it is doomed as "trigger_overrun".
            opened: told about the part before anybody else can take or close it; must not wait.
        """
        with self._lock:
            if limit is not None and len(self._waiting) >= limit:
                doom = doom or "trigger_overrun"
            part = Part(self._next_id, trigger, start_ns, deadline_ns, doom)
            self._next_id += 1
            self._open.append(part)
            if opened is not None:
                opened(part)
            if not self._running:
                self._close(part, self._unknown(part, STOPPED))
                return part
            if taken:
                self._taken = part
            else:
                self._waiting.append(part)
                self._arrived.notify()
            if deadline_ns is not None and (self._watched_ns is None or deadline_ns < self._watched_ns):
                self._due.notify()
            return part

    def take(self, wait_s: float) -> Part | None:
        """The oldest part that waits; None when none came within about `wait_s` seconds of real time, or after `wake`."""
        with self._lock:
            self._taken = None
            if not self._waiting:
                self._arrived.wait(wait_s)
            if self._waiting:
                self._taken = self._waiting.popleft()
                self._taken.stage = "frame"
            return self._taken

    def wake(self) -> None:
        """Let `take` return, so that the loop looks around."""
        with self._lock:
            self._arrived.notify()

    def close(self, part: Part, finding: Inspection) -> bool:
        """Give the verdict; False when the part was closed already, and then the finding is thrown away.

        Part id, trigger and deadline of the finding are filled in here. After the deadline it becomes a late one.
        """
        with self._lock:
            if self._taken is part:
                self._taken = None
            if part.closed:
                self._late_result()
                return False
            while self._open[0] is not part:  # the loop works in order, so this is a caller's mistake; order is kept all the same
                self._close(self._open[0], self._unknown(self._open[0], "overtaken"))
            if part.deadline_ns is not None and self._clock.now_ns() > part.deadline_ns:
                finding = self._lateness(part, f"{LATE}: {part.stage}", finding)
            self._close(part, finding)
            return True

    def busy(self) -> tuple[int, int, Part | None]:
        """How many parts are open, how many of these wait, and the loop's own one (closed already: it hangs there)."""
        with self._lock:
            return len(self._open), len(self._waiting), self._taken

    def _close(self, part: Part, finding: Inspection) -> None:
        """With the lock held, and `part` the oldest open one."""
        self._open.popleft()
        if self._waiting and self._waiting[0] is part:
            self._waiting.popleft()
        part.closed = True
        self.closed += 1
        try:
            self._deliver(
                replace(finding, part_id=part.part_id, trigger=part.trigger, deadline_ns=part.deadline_ns),
            )
        except BaseException:  # noqa: BLE001 - a bug here must not end the referee, nor the loop
            _log.exception("internal error: the verdict on part %d was not delivered", part.part_id)

    def _watch(self) -> None:
        with self._lock:
            while self._running:
                self._watched_ns = min((part.deadline_ns for part in self._open if part.deadline_ns is not None), default=None)
                if self._watched_ns is not None and self._clock.now_ns() > self._watched_ns:
                    self._expire(self._clock.now_ns())
                    continue
                self._clock.wait(self._due, None if self._watched_ns is None else self._watched_ns + 1)

    def _expire(self, now_ns: int) -> None:
        """Close every part whose deadline has passed, and, to keep the order, those that were opened before it."""
        last = max(i for i, part in enumerate(self._open) if part.deadline_ns is not None and now_ns > part.deadline_ns)
        for _ in range(last + 1):
            part = self._open[0]
            self._close(part, self._expired(part))

    def _expired(self, part: Part) -> Inspection:
        if part.doom:
            return self._unknown(part, part.doom)
        # A part that the loop has not come to is late for what the loop is busy with.
        busy = self._taken if part.stage == "queue" and self._taken is not None else part
        if busy.stage == "frame":
            return self._unknown(part, "camera_timeout")
        if busy is not part and busy.closed and busy.stage == "inference":
            return self._unknown(part, HANG)
        return self._lateness(part, f"{LATE}: {part.stage}", None)


def told_late(finding: Inspection, cause: str, verdict: Verdict) -> Inspection:
    """`finding` with a verdict that is not OK, because it comes too late; an UNKNOWN keeps its own cause."""
    if finding.verdict is Verdict.UNKNOWN:
        return finding
    return replace(finding, verdict=verdict, cause=cause)
