"""One part seen by several cameras: one trigger for all of them, one verdict out of all of theirs, one deadline.

    trigger source -> Fanout -> a station for each camera -> its view -> Views -> ledger -> outputs, records

Each camera's station works as ever, with the whole part's budget. :class:`Views` is the only output that it has.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from edgead.budget import LatencyBudget
from edgead.clock import Clock
from edgead.errors import BadInput, EndOfStream
from edgead.runtime.conditions import blocking, conditions_of, texts
from edgead.runtime.loop.combine import Combine
from edgead.runtime.loop.first import RecordFirst
from edgead.runtime.loop.ledger import Ledger, Part
from edgead.runtime.loop.sinks import Sink
from edgead.runtime.loop.stats import Health, Stats, counts_of
from edgead.runtime.records.record import records_trouble, to_record
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.threads import Crew
from edgead.types import Inspection, Output, StageTimes, Trigger, TriggerSource, Verdict

VIEW_MISSING = "view_missing"
MAX_TRIGGERS = 4096  # for a camera that has ended

_log = logging.getLogger("edgead.views")


class Fanout:
    """Gives every trigger of one source to each of several cameras. Whoever waits reads for all; nobody waits for another.

    Args:
        source: read here only; closed by `close`.
        cameras: their names.
    """

    def __init__(self, source: TriggerSource, cameras: Sequence[str]) -> None:
        self._source = source
        self._lock = threading.Condition()
        self._reading = False
        self._ended = False
        self._waiting: dict[str, deque[Trigger]] = {name: deque(maxlen=MAX_TRIGGERS) for name in cameras}

    def of(self, camera: str) -> TriggerSource:
        """The source of one camera."""
        return _Branch(self, camera)

    def close(self) -> None:
        """Close the source; may be called twice."""
        self._source.close()

    def hold(self, held: bool) -> None:
        """As the source does, if it can."""
        if (hold := getattr(self._source, "hold", None)) is not None:
            hold(held)

    def wait(self, camera: str, timeout_s: float) -> Trigger | None:
        """The camera's next trigger; see :class:`edgead.types.TriggerSource`."""
        mine = self._waiting[camera]
        with self._lock:
            if not mine and self._reading:
                self._lock.wait(timeout_s)
            if mine:
                return mine.popleft()
            if self._ended:
                raise EndOfStream("there are no more triggers")
            if self._reading:
                return None
            self._reading = True
        trigger: Trigger | None = None
        try:
            trigger = self._source.wait(timeout_s)
        except EndOfStream:
            self._ended = True
            raise
        finally:
            with self._lock:
                self._reading = False
                if trigger is not None:
                    for waiting in self._waiting.values():
                        waiting.append(trigger)
                self._lock.notify_all()
        with self._lock:
            return mine.popleft() if mine else None


class _Branch:
    """A camera's end of a Fanout."""

    def __init__(self, fanout: Fanout, camera: str) -> None:
        self._fanout, self._camera = fanout, camera

    def wait(self, timeout_s: float) -> Trigger | None:
        return self._fanout.wait(self._camera, timeout_s)

    def hold(self, held: bool) -> None:
        self._fanout.hold(held)

    def close(self) -> None:
        """The source belongs to all."""


class _Open:
    """A part and what its cameras said so far."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.views: dict[str, Inspection] = {}


class Views:
    """Makes one verdict out of those of several cameras, told by its deadline. A view that is missing is UNKNOWN, never OK.

    Args:
        cameras: their names, in the order in which :attr:`Inspection.views` lists them.
        budget: of the whole part, from its trigger.
        outputs: told each part's verdict; closed by `close`.
        clock: the one of the triggers.
        combine: "any", "all" or a number of NG views that make the part NG (:class:`edgead.runtime.loop.combine.Combine`).
        output_capacity: verdicts that may wait for an output.
        first_part_id: the number of the first part.

    Attributes:
        stats: of the parts; frames are counted by the cameras' stations.

    Raises:
        BadInput: fewer than two cameras, no budget, or a combination that cannot be.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        budget: LatencyBudget,
        outputs: Sequence[Output],
        clock: Clock,
        *,
        combine: str | int,
        output_capacity: int = 64,
        first_part_id: int = 1,
    ) -> None:
        if len(set(cameras)) < 2 or len(set(cameras)) < len(cameras) or budget.total_ms is None:
            raise BadInput("a part of several views needs two cameras or more, each once, and a latency budget")
        self.stats = Stats()
        self._cameras, self._budget, self._outputs, self._clock = tuple(cameras), budget, tuple(outputs), clock
        self._combine = Combine.named(len(cameras), combine)
        self._output_capacity = output_capacity
        self._listeners: list[Callable[[], Sink]] = []
        self._told: ExitStack | None = None  # of the listeners, while it runs
        self._first: RecordFirst | None = None
        self._keepers: list[Any] = []  # who says what is wrong with records
        self._held: list[Sink] = []  # those of the sinks that are told when the record is safe
        self._crew = Crew.current()
        self._expecting = [output.expect for output in self._outputs if hasattr(output, "expect")]
        self._lock = threading.Lock()  # taken before the ledger's, never the other way round
        self._open: dict[int, _Open] = {}
        self._last_trigger = 0
        self._beats: set[str] = set()
        self._progress_at_ns = self._verdict_at_ns = 0
        self._missing: dict[str, str] = {}
        self._sinks: list[Sink] = []
        self._stack = ExitStack()
        self._ledger = Ledger(
            clock,
            self._deliver,
            unknown=self._unknown,
            lateness=self._late,
            late_result=self.stats.add_late_result,
            first_part_id=first_part_id,
        )

    def on_inspection(self, callback: Callable[[Inspection], None], *, capacity: int = 64) -> Views:
        """Call `callback` with each part's verdict from now on, on a thread of its own."""
        self._listen(lambda: Sink("inspection", callback, self.stats, capacity))
        return self

    def on_record(self, callback: Callable[[dict[str, Any]], None], *, capacity: int = 1024, first: bool = False) -> Views:
        """As `on_inspection`, with the part's record; see :meth:`edgead.runtime.loop.station.Station.on_record`."""
        owner: Any = getattr(callback, "__self__", None)
        if hasattr(owner, "owe"):
            owner.owe(self.told)
            self._keepers.append(owner)
        if first:
            self._first = RecordFirst(owner, _record, self._tell_outputs, self.stats, self._clock)
        else:
            self._listen(lambda: Sink("record", callback, self.stats, capacity, prepare=_record))
        return self

    def _listen(self, make: Callable[[], Sink]) -> None:
        self._listeners.append(make)
        if self._told is not None:
            with self._crew.own():
                self._sinks = [*self._sinks, self._told.enter_context(make())]

    def told(self) -> int:
        """Verdicts that there were, by the ledger's own count."""
        return self._ledger.closed

    def output(self, camera: str) -> Output:
        """For the camera's station; the only output that it needs."""
        if camera not in self._cameras:
            raise BadInput(f"{camera} is none of the part's cameras")
        return _View(self, camera)

    def start(self) -> Views:
        """Before the cameras' stations run."""
        with self._crew.own():
            return self._start()

    def _start(self) -> Views:
        sinks = [Sink.of_output(o, self.stats, self._clock, self._output_capacity) for o in self._outputs]
        self._sinks = Sink.entered([*sinks, *(make() for make in self._listeners)], self._stack)
        self._told = self._stack.enter_context(ExitStack())  # they end after the ledger, which tells what is open still
        if self._first is not None:
            self._held = [sink for sink in self._sinks if sink.is_output]
            self._stack.enter_context(self._first)
        self._ledger.start()
        self._stack.callback(self._ledger.end)
        self._progress_at_ns = self._clock.now_ns()
        return self

    def close(self) -> None:
        """After the stations have ended: open parts are UNKNOWN(stopped), outputs safe and closed. May be called twice."""
        self._stack.close()
        self._sinks, self._held, self._told = [], [], None
        for output in self._outputs:
            output.close()

    def missing(self, name: str, text: str) -> None:
        """Something that the parts cannot do without: as long as there is a text it is shown by `health`, as a fault."""
        if text != self._missing.get(name, ""):
            _log.warning("%s: %s", name, text or "it is there now")
        self._missing = {key: value for key, value in {**self._missing, name: text}.items() if value}

    def health(self) -> Health:
        """How the parts are doing; each camera's station has its own."""
        open_parts, waiting, _ = self._ledger.busy()
        queues = {sink.name: sink.depth for sink in self._sinks}
        faults = self._crew.faults() if self._sinks else {}
        conditions = conditions_of(self._outputs)
        told = [f"{name}: {text}" for name, text in faults.items()]
        told += [found] if (found := blocking(conditions)) else []
        told += [f"not there: {', '.join(self._missing)}"] if self._missing else []
        told += [found] if self._first is not None and (found := self._first.trouble) else []
        fault = "; ".join(told) if self._sinks else ""
        state = "stopped" if not self._sinks else "faulted" if fault else "ready"
        devices = counts_of(self._outputs)
        notices = {**self._missing, **texts(conditions), **records_trouble(self._keepers)}
        ages = self._progress_at_ns, self._verdict_at_ns
        return Health(state, fault, *ages, open_parts, waiting, queues, "ok", "", devices, notices, self._crew.deaths())

    def __enter__(self) -> Views:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def expect(self, trigger: Trigger) -> None:
        """A camera's station has learned of a trigger; the first one opens the part."""
        with self._lock:
            if trigger.trigger_id <= self._last_trigger:
                return
            self._last_trigger = trigger.trigger_id
            self.stats.add_trigger()
            deadline = self._budget.start(trigger.at_ns)
            self._ledger.open(trigger, trigger.at_ns, deadline.at_ns if deadline else None, opened=self._opened)

    def tell(self, camera: str, inspection: Inspection) -> None:
        """A camera's verdict; the last one closes the part."""
        with self._lock:
            entry = self._open.get(inspection.trigger.trigger_id) if inspection.trigger is not None else None
            if entry is None:
                self.stats.add_late_result()
                return
            entry.views[camera] = inspection
            if len(entry.views) == len(self._cameras):
                self._ledger.close(entry.part, self._combined(entry.part))

    def beat(self, camera: str) -> None:
        """A camera's loop has made progress; outputs hear of it when all have."""
        with self._lock:
            self._beats.add(camera)
            if len(self._beats) < len(self._cameras):
                return
            self._beats.clear()
            self._progress_at_ns = self._clock.now_ns()
        for sink in self._sinks:
            sink.beat()

    # what follows is called with the ledger's lock held, perhaps by its referee: it takes no lock

    def _opened(self, part: Part) -> None:
        assert part.trigger is not None
        self._open[part.trigger.trigger_id] = _Open(part)
        for expect in self._expecting:
            try:
                expect(part.part_id, part.trigger)
            except BaseException as error:  # noqa: BLE001 - an output's fault costs that output
                self.stats.add_error("expect")
                _log.error("an output could not be told of a trigger: %s", error)

    def _deliver(self, inspection: Inspection) -> None:
        if inspection.trigger is not None:
            self._open.pop(inspection.trigger.trigger_id, None)
        self._verdict_at_ns = self._clock.now_ns()
        self.stats.add(inspection)
        for sink in self._sinks:
            if sink not in self._held:
                sink.tell(inspection)
        if self._first is not None:
            self._first.take(inspection)

    def _tell_outputs(self, inspection: Inspection) -> None:
        for sink in self._held:
            sink.tell(inspection)

    def _combined(self, part: Part) -> Inspection:
        """Of the views that are there."""
        entry = self._open.get(part.trigger.trigger_id) if part.trigger is not None else None
        views = [entry.views[name] for name in self._cameras if name in entry.views] if entry is not None else []
        total_ms = (self._clock.now_ns() - part.start_ns) / 1e6
        missing = f"{VIEW_MISSING}: {', '.join(name for name in self._cameras if entry is None or name not in entry.views)}"
        if not views:
            return Inspection(
                part.part_id, Verdict.UNKNOWN, missing, math.nan, math.nan, None, StageTimes(total_ms=total_ms), None
            )
        found = self._combine.inspection(views)
        cause = missing if found.cause == VIEW_MISSING and len(views) < len(self._cameras) else found.cause
        times = replace(found.times, total_ms=total_ms)
        return replace(found, cause=cause, times=times, views=tuple(views), basis=None)  # each camera has one of its own

    def _unknown(self, part: Part, cause: str) -> Inspection:
        found = self._combined(part)
        if cause == "overtaken":  # a view of it got lost on the way: the part after it is complete
            return found
        return replace(found, verdict=Verdict.UNKNOWN, cause=cause)

    def _late(self, part: Part, cause: str, finding: Inspection | None) -> Inspection:
        if finding is None:
            return self._combined(part)
        # NG rests on views that were there in time (a late one is UNKNOWN), so it stays what it would be without the last one
        return replace(finding, verdict=Verdict.UNKNOWN, cause=cause) if finding.verdict is Verdict.OK else finding


class _View:
    """The output of one camera's station."""

    def __init__(self, views: Views, camera: str) -> None:
        self._views, self._camera = views, camera

    def expect(self, part_id: int, trigger: Trigger) -> None:
        self._views.expect(trigger)

    def signal(self, inspection: Inspection) -> None:
        self._views.tell(self._camera, inspection)

    def heartbeat(self) -> None:
        self._views.beat(self._camera)

    def fail_safe(self) -> None:
        """A view that got lost makes its part UNKNOWN at the deadline; there is nothing else to do."""

    def close(self) -> None:
        """The outputs belong to all."""


def _record(inspection: Inspection) -> dict[str, Any]:
    return to_record(inspection, time_utc=utc_now())
