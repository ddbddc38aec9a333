"""Records first: outputs are told a verdict only when its record is on the disk, for lines where nothing may pass unrecorded.

    verdict -> record queued, verdict held -> commit -> outputs
                                           -> its deadline -> outputs: UNKNOWN(late_output), or, when the disk refuses,
                                              UNKNOWN(not_recorded), at once

The disk is in the way of each verdict then; docs/records.md says what that costs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

from edgead.clock import Clock
from edgead.runtime.loop.inspector import one_line
from edgead.runtime.loop.sinks import FLUSH_S, LATE_OUTPUT
from edgead.runtime.loop.stats import Stats
from edgead.runtime.threads import Supervised
from edgead.types import Inspection, Verdict

NOT_RECORDED = "not_recorded"
LATE = f"{LATE_OUTPUT}: its record was not safe in time"
LIMIT_S = 1.0  # how long a verdict without a deadline is held back

NAME = "records first"  # in counters


class Keeps(Protocol):
    """Where records go: a :class:`edgead.runtime.records.store.RecordStore`."""

    fault: str

    def write(self, record: Mapping[str, Any]) -> None: ...

    def amend(self, part_id: int, verdict: str, cause: str) -> None: ...

    def listen(self, told: Callable[[Sequence[int]], None]) -> None: ...


@dataclass(slots=True)
class _Held:
    inspection: Inspection
    until_ns: int
    safe: bool = False
    cause: str = ""  # why it will not be recorded in time


class RecordFirst:
    """Holds verdicts, in order, until their records are safe; between `__enter__` and `__exit__`.

    A verdict whose record is not safe by its deadline is told as UNKNOWN(late_output) then; as UNKNOWN(not_recorded), and at
    once, when the disk refuses. Its record, which may still be written later, says so, too. A verdict that has a cause of its
    own (e.g. late) is told as it is.

    Args:
        store: commits, and says what.
        record: makes the record of an inspection.
        tell: hands a verdict to the outputs; must not wait.
        stats: counts verdicts that were not recorded in time.
        clock: of deadlines.
    """

    def __init__(
        self,
        store: Keeps,
        record: Callable[[Inspection], Mapping[str, Any]],
        tell: Callable[[Inspection], None],
        stats: Stats,
        clock: Clock,
    ) -> None:
        self._store, self._record, self._tell, self._stats, self._clock = store, record, tell, stats, clock
        self._held: deque[_Held] = deque()
        self._changed = threading.Condition()
        self._closing = True
        self._thread: Supervised | None = None
        store.listen(self._committed)

    @property
    def trouble(self) -> str:
        """Why no verdict is told as it is now; "" when they are."""
        fault = self._store.fault
        return f"all is told as UNKNOWN ({NOT_RECORDED}) while the disk does not take records: {fault}" if fault else ""

    def take(self, inspection: Inspection) -> None:
        """Record it, then have it told. Never waits, never raises."""
        until_ns = inspection.deadline_ns
        if until_ns is None:
            until_ns = self._clock.now_ns() + round(LIMIT_S * 1e9)
        held = _Held(inspection, until_ns, cause=f"{NOT_RECORDED}: {self._store.fault}" if self._store.fault else "")
        with self._changed:
            self._held.append(held)
            self._changed.notify_all()
        try:
            self._store.write(self._record(inspection))
        except BaseException as error:  # noqa: BLE001 - what cannot be made a record of is not recorded
            held.cause = f"{NOT_RECORDED}: {one_line(error)}"
        with self._changed:
            if held.cause or self._closing:
                held.cause = held.cause or LATE
                self._tell_on()

    def wait_for_room(self, wait_s: float) -> bool:
        """For recordings: wait up to `wait_s` seconds of real time until nothing is held."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, wait_s)

    def __enter__(self) -> RecordFirst:
        self._closing = False
        self._thread = Supervised(NAME, self._run)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._held, FLUSH_S)
            for held in self._held:
                held.cause = held.cause or LATE
            self._tell_on()
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(FLUSH_S)

    def _committed(self, part_ids: Sequence[int]) -> None:
        """On the store's thread."""
        stored, newest = frozenset(part_ids), max(part_ids)
        with self._changed:
            for held in self._held:
                if held.inspection.part_id in stored:
                    held.safe = True
                elif held.inspection.part_id < newest:  # commits keep the order
                    held.cause = held.cause or f"{NOT_RECORDED}: it cannot be stored"
            self._tell_on()

    def _run(self) -> None:
        """Lets go of what is due."""
        with self._changed:
            while not self._closing:
                if self._held and self._clock.now_ns() >= self._held[0].until_ns:
                    fault = self._store.fault
                    self._held[0].cause = self._held[0].cause or (f"{NOT_RECORDED}: {fault}" if fault else LATE)
                    self._tell_on()
                else:
                    self._clock.wait(self._changed, self._held[0].until_ns if self._held else None)

    def _tell_on(self) -> None:
        """With the lock: tell what is ready, in order."""
        while self._held and (self._held[0].safe or self._held[0].cause):
            held = self._held.popleft()
            inspection = held.inspection
            if not held.safe and not inspection.cause:
                inspection = replace(inspection, verdict=Verdict.UNKNOWN, cause=held.cause)
                self._stats.add_late_output(NAME)
                self._store.amend(inspection.part_id, inspection.verdict.value, inspection.cause)
            self._tell(inspection)
        self._changed.notify_all()
