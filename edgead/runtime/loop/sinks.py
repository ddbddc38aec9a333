"""Who is told about verdicts, each on a thread of its own with a bounded queue: outputs, callbacks and records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from edgead.clock import Clock
from edgead.runtime.loop.stats import Stats
from edgead.runtime.worker import Worker
from edgead.types import Inspection, Output, Verdict

LATE_OUTPUT = "late_output"
PATIENCE_S = 10.0  # an output that does not come back for so long stands still
CALLBACK_PATIENCE_S = 30.0  # likewise a callback, e.g. one that saves pictures
READER_S = 2.0  # how long it waits for somebody who reads our output, and stands still perhaps
FLUSH_S = 5.0  # how long a stop waits for each output and callback to finish its queue

_log = logging.getLogger("edgead.station")


class Sink:
    """A worker that tells one output or callback, and what happens when it fails or is slow.

    Args:
        name: for counters and logs.
        handle: told each item on the worker's thread.
        stats: counts faults and what was missed.
        capacity: items that may wait; a full queue loses its oldest.
        prepare: makes the item of an inspection, on the thread that gives the verdict.
        output: goes to its safe state on every fault, loss and end, and hears the heartbeat.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Any], None],
        stats: Stats,
        capacity: int,
        *,
        prepare: Callable[[Inspection], Any] | None = None,
        output: Output | None = None,
    ) -> None:
        self.name = name
        self._stats, self._output, self._prepare = stats, output, prepare
        beat = output.heartbeat if output is not None else None
        self._beats = beat is not None
        self.is_output = output is not None
        teller = output if output is not None else getattr(handle, "__self__", None)
        self._let_go: Callable[[], None] | None = getattr(teller, "let_go", None)
        self._stood = False  # it stood still, and was made safe by another thread meanwhile
        self._worker: Worker[Any] = Worker(
            name if output is None else f"output {name}",
            handle,
            capacity=capacity,
            on_error=self._failed,
            idle=beat,
            on_lost=self._fail_safe,
            stalled=self._stalled,
            patience_s=CALLBACK_PATIENCE_S if output is None else PATIENCE_S,
        )

    @staticmethod
    def entered(sinks: Sequence[Sink], stack: ExitStack) -> list[Sink]:
        """All of them, begun; at the end of `stack` those are waited for last that wait for a reader themselves: by then nothing
        says any more that the station is ready."""
        for sink in sorted(sinks, key=lambda sink: sink._let_go is None):
            stack.enter_context(sink)
        return list(sinks)

    @classmethod
    def of_output(cls, output: Output, stats: Stats, clock: Clock, capacity: int) -> Sink:
        """A sink that keeps deadlines: what can be told only after it is UNKNOWN("late_output"), and no OK is left standing.

        A verdict that has a cause already (UNKNOWN, or late and rejected) is told as it is.
        """
        name = getattr(output, "title", "") or type(output).__name__

        def late(inspection: Inspection) -> bool:
            return inspection.deadline_ns is not None and clock.now_ns() > inspection.deadline_ns

        def signal(inspection: Inspection) -> None:
            if not inspection.cause and late(inspection):
                stats.add_late_output(name)
                inspection = replace(inspection, verdict=Verdict.UNKNOWN, cause=LATE_OUTPUT)
            output.signal(inspection)
            stood, sink._stood = sink._stood, False
            if inspection.verdict is Verdict.OK and (late(inspection) or stood):
                stats.add_late_output(name)
                output.fail_safe()

        sink = cls(name, signal, stats, capacity, output=output)
        return sink

    @property
    def depth(self) -> int:
        """Items that wait."""
        return self._worker.depth

    def wait_for_room(self, wait_s: float) -> bool:
        """Wait up to `wait_s` seconds until `tell` would lose nothing."""
        return self._worker.wait_for_room(wait_s)

    def tell(self, inspection: Inspection) -> None:
        """Queue the inspection; never waits, never raises."""
        try:
            item = self._prepare(inspection) if self._prepare is not None else inspection
        except BaseException as error:  # noqa: BLE001 - a fault in making a record costs that record
            self._failed(error)
            return
        if not self._worker.put(item) and self._stats.add_undelivered(self.name) == 1:
            _log.warning("%s is too slow: it misses verdicts", self.name)
        self._stats.queue_depth(self.name, self._worker.depth)

    def beat(self) -> None:
        """The loop has made progress."""
        if self._beats:
            self._worker.poke()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._let_go is not None and not self._worker.finished(READER_S):
            self._let_go()
        if not self._worker.close(FLUSH_S):
            _log.error("%s does not answer; its thread is left behind", self.name)
            for _ in range(self._worker.depth):
                self._stats.add_undelivered(self.name)
        else:
            self._fail_safe()

    def _failed(self, error: BaseException) -> None:
        count = self._stats.add_error(self.name)
        _log.log(logging.ERROR if count == 1 else logging.DEBUG, "%s failed (%d): %s", self.name, count, error)
        self._fail_safe()

    def _stalled(self) -> None:
        """On a thread of its own: whatever OK the output shows while it does not answer is not ours any more."""
        self._stood = True
        self._fail_safe()

    def _fail_safe(self) -> None:
        if self._output is None:
            return
        try:
            self._output.fail_safe()
        except BaseException as error:  # noqa: BLE001 - a dead device must not keep the others from their safe state
            _log.error("%s cannot go to its safe state: %s", self.name, error)
