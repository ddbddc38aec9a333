"""The station: frames in, exactly one verdict for each inspected frame and each fault, outputs and callbacks told.

    capture thread -> slot (newest frame) -> the thread in `run`: resize, inference, decision -> a worker per output/callback

Nothing slow runs on the loop's thread: each output and each callback has its own thread and a bounded queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from edgead.budget import LatencyBudget
from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraError, CameraLost, CameraTimeout, EndOfStream
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.feed import Feed, LiveFeed, PullFeed
from edgead.runtime.inspector import Inspector, one_line
from edgead.runtime.records import to_record
from edgead.runtime.stats import Stats
from edgead.runtime.worker import Worker
from edgead.types import Camera, Engine, Frame, Inspection, Output

SLICE_S = 0.1  # how long the loop waits at most before it looks whether it shall stop
FLUSH_S = 5.0  # how long a stop waits for each output and callback to finish its queue

_log = logging.getLogger("edgead.station")


class Station:
    """A free-running inspection station.

    A camera with an attribute ``live`` that is False (recordings) is asked when the loop is ready, and nothing is dropped.
    Any other camera gets a capture thread: frames that come while one is being inspected replace each other and are
    counted, as are frames older than `max_age_s` when their turn comes.

    Faults: each CameraTimeout is one UNKNOWN("camera_timeout"), so a silent camera gives one per `frame_timeout_s`; each
    UnreadableFrame is one UNKNOWN("unreadable_image: ..."); each loss of the camera is one UNKNOWN("camera_lost"), however
    long it takes to come back. Stale frames alone for `frame_timeout_s` give UNKNOWN("stale"). For the causes of inspected
    frames see :class:`edgead.runtime.inspector.Inspector`.

    Args:
        camera: where frames come from. The station closes it.
        engine: answers; the caller closes it, since it may be shared.
        recipe: the engine's preprocess recipe.
        threshold: scores at or above are NG, raw model units.
        budget: from the frame's arrival to the verdict; LatencyBudget(None) has no deadline.
        outputs: told each verdict; the station closes them.
        clock: the one that stamps the camera's frames.
        reopen: opens a lost live camera again; None goes on asking the same one.
        frame_timeout_s: seconds without a frame that count as one timeout.
        max_age_s: live frames older than this are not inspected; None takes any.
        engine_name: for the records.

    Raises:
        BadInput: the threshold is not finite, or recipe and engine do not fit.
    """

    def __init__(
        self,
        camera: Camera,
        engine: Engine,
        recipe: PreprocessRecipe,
        threshold: float,
        budget: LatencyBudget | None = None,
        outputs: Sequence[Output] = (),
        clock: Clock | None = None,
        *,
        reopen: Callable[[], Camera] | None = None,
        frame_timeout_s: float = 1.0,
        max_age_s: float | None = 1.0,
        engine_name: str = "",
    ) -> None:
        if not frame_timeout_s > 0 or (max_age_s is not None and not max_age_s > 0):
            raise BadInput("frame timeout and largest age must be above 0 s")
        self._clock = clock or MonotonicClock()
        self._inspector = Inspector(engine, recipe, threshold, budget or LatencyBudget(None), self._clock)
        self._camera, self._outputs, self._reopen = camera, tuple(outputs), reopen
        self._live = bool(getattr(camera, "live", True))
        self._frame_timeout_s, self._max_age_s, self._engine_name = frame_timeout_s, max_age_s, engine_name
        self._listeners: list[tuple[str, Callable[[Inspection], None], int]] = []
        self._record_listeners: list[tuple[str, Callable[[dict[str, Any]], None], int]] = []
        self._stopping = False
        self._verdict_at_ns = 0
        self.stats = Stats()

    def on_inspection(self, callback: Callable[[Inspection], None], *, capacity: int = 16) -> Station:
        """Call `callback` with each inspection on a thread of its own, from the next `run` on.

        What it raises is logged and counted. When it is slower than a live camera, the oldest of `capacity` waiting
        inspections is lost to it and counted; recordings wait for it.
        """
        self._listeners.append((_name(callback), callback, capacity))
        return self

    def on_record(self, callback: Callable[[dict[str, Any]], None], *, capacity: int = 1024) -> Station:
        """As `on_inspection`, with the part's record (:func:`edgead.runtime.records.to_record`), which holds no pictures."""
        self._record_listeners.append((_name(callback), callback, capacity))
        return self

    def run(self, max_parts: int | None = None) -> Stats:
        """Inspect until the source ends, `stop` is called, or `max_parts` verdicts were given in this run.

        Returns:
            The station's counters (all runs).

        Raises:
            CameraLost: a recording broke off (after its UNKNOWN verdict); a live camera is waited for instead.
        """
        self._verdict_at_ns = self._clock.now_ns()
        with ExitStack() as stack:
            feed = self._open_feed()
            stack.callback(self._keep_camera, feed)
            sinks = [stack.enter_context(sink) for sink in self._sinks()]
            stack.callback(feed.close)  # before the sinks
            self._loop(feed, sinks, max_parts)
        self._stopping = False
        return self.stats

    def stop(self) -> None:
        """Let `run` return soon; from any thread, and from a signal handler. Before `run`, the next one ends at once."""
        self._stopping = True

    def close(self) -> None:
        """Close the camera and the outputs; may be called twice, not while `run` runs."""
        with ExitStack() as stack:
            for output in self._outputs:
                stack.callback(output.close)
            self._camera.close()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open_feed(self) -> Feed:
        if not self._live:
            return PullFeed(self._camera, self.stats, timeout_s=self._frame_timeout_s)
        return LiveFeed(self._camera, self.stats, self._clock, timeout_s=self._frame_timeout_s, reopen=self._reopen)

    def _keep_camera(self, feed: Feed) -> None:
        self._camera = feed.camera  # it may have been opened again

    def _sinks(self) -> list[_Sink]:
        sinks = [_Sink(_name(o), o.signal, self.stats, 64, output=o) for o in self._outputs]
        sinks += [_Sink(name, callback, self.stats, capacity) for name, callback, capacity in self._listeners]
        return sinks + [_Sink(n, c, self.stats, size, prepare=self._record) for n, c, size in self._record_listeners]

    def _record(self, inspection: Inspection) -> dict[str, Any]:
        return to_record(inspection, time_utc=datetime.now(timezone.utc), engine=self._engine_name)

    def _loop(self, feed: Feed, sinks: list[_Sink], max_parts: int | None) -> None:
        last = self.stats.parts + max_parts if max_parts is not None else None
        while not self._stopping and self.stats.parts != last:
            entry = feed.next(SLICE_S)
            if isinstance(entry, EndOfStream):
                break
            inspection = self._judge(entry)
            if inspection is not None:
                self._verdict_at_ns = self._clock.now_ns()
                self.stats.add(inspection)
                for sink in sinks:
                    sink.tell(inspection, patient=self._patient)
            for sink in sinks:
                sink.beat()
            if isinstance(entry, CameraLost) and not self._live:
                raise entry

    def _judge(self, entry: Frame | CameraError | None) -> Inspection | None:
        """The verdict on what the feed gave; None when there is nothing to say."""
        part_id = self.stats.parts + 1
        if entry is None:
            return None
        if isinstance(entry, CameraError):
            return self._inspector.unknown(part_id, _cause(entry))
        now_ns = self._clock.now_ns()
        if self._live and self._max_age_s is not None and now_ns - entry.captured_at_ns > self._max_age_s * 1e9:
            self.stats.drop("stale")
            silent_s = (now_ns - self._verdict_at_ns) / 1e9
            return self._inspector.unknown(part_id, "stale") if silent_s > self._frame_timeout_s else None
        return self._inspector.inspect(part_id, entry)

    def _patient(self) -> bool:
        return not self._live and not self._stopping


class _Sink:
    """A worker that tells one output or callback, and what happens when it fails or is slow."""

    def __init__(
        self,
        name: str,
        handle: Callable[[Any], None],
        stats: Stats,
        capacity: int,
        *,
        output: Output | None = None,
        prepare: Callable[[Inspection], Any] | None = None,
    ) -> None:
        self._name, self._stats, self._output, self._prepare = name, stats, output, prepare
        beat = output.heartbeat if output is not None else None
        self._beats = beat is not None
        self._worker: Worker[Any] = Worker(name, handle, capacity=capacity, on_error=self._failed, idle=beat)

    def tell(self, inspection: Inspection, *, patient: Callable[[], bool]) -> None:
        """Queue the inspection; while `patient()`, wait for room rather than lose one."""
        item = self._prepare(inspection) if self._prepare is not None else inspection
        while patient() and not self._worker.wait_for_room(SLICE_S):
            pass
        if not self._worker.put(item) and self._stats.add_undelivered(self._name) == 1:
            _log.warning("%s is too slow: it misses verdicts", self._name)

    def beat(self) -> None:
        if self._beats:
            self._worker.poke()

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._worker.close(FLUSH_S):
            _log.error("%s does not answer; its thread is left behind", self._name)
        elif self._output is not None:
            self._fail_safe()

    def _failed(self, error: Exception) -> None:
        count = self._stats.add_error(self._name)
        _log.log(logging.ERROR if count == 1 else logging.DEBUG, "%s failed (%d): %s", self._name, count, one_line(error))
        self._fail_safe()

    def _fail_safe(self) -> None:
        if self._output is None:
            return
        try:
            self._output.fail_safe()
        except Exception as error:  # noqa: BLE001 - a dead device must not keep the others from their safe state
            _log.error("%s cannot go to its safe state: %s", self._name, one_line(error))


def _cause(fault: CameraError) -> str:
    if isinstance(fault, CameraTimeout):
        return "camera_timeout"
    if isinstance(fault, CameraLost):
        return "camera_lost"
    return f"unreadable_image: {one_line(fault)}"


def _name(thing: object) -> str:
    """A short name of an output or a callback for counters and logs."""
    return getattr(thing, "__qualname__", None) or type(thing).__name__
