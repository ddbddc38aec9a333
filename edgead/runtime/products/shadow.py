"""A shadow: a second bundle judges the line's pictures in spare time, in a process of its own, and never touches the line.

    verdict -> see (a short queue, the oldest is dropped) -> thread "shadow" -> pipe -> process at idle priority
                                                             records <- answer

The process (:mod:`edgead.line.judge`) has the engine: whatever becomes of it, a crash of native code or memory that runs out
included, costs shadow verdicts only. One that does not answer in time is killed, and started again later. What is wrong is told
once, as the station's notice "shadow".
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgead.errors import EdgeadError
from edgead.runtime.loop.combine import Combine
from edgead.runtime.records.basis import Reading, combined
from edgead.runtime.records.record import to_record
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.threads import Crew, Supervised
from edgead.types import Frame, Inspection, StageTimes, Verdict

CAPACITY = 4  # parts that wait: so many pictures are kept in memory
OPENING_S = 600.0  # an engine may be compiled first, at idle priority
ANSWER_S = 60.0  # idle priority: a busy box may give it little time
RETRY_S = (60.0, 3600.0)  # after the first failure, and at most; doubled in between
LONGEST_LINE = 1 << 20

_log = logging.getLogger("edgead.shadow")


class ShadowFailed(EdgeadError):
    """The process does not answer, or not as it should."""


class _Ended(Exception):
    """The owner wants it to end."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds.

    Attributes:
        opening_s, answer_s: until the engine is there, and until a picture is judged.
        retry_s: after a failure; doubled each time up to the second number.
    """

    opening_s: float = OPENING_S
    answer_s: float = ANSWER_S
    retry_s: tuple[float, float] = RETRY_S


class Shadow:
    """Has pictures judged by a process, one after the other; between `start` and `close`.

    Args:
        command: starts the process, which talks as :mod:`edgead.line.judge` says.
        combine: how the frames of a part become one verdict.
        note: told the record of each verdict of the shadow (:meth:`edgead.runtime.records.store.RecordStore.shadow`).
        notice: told ("shadow", what is wrong), and ("shadow", "") once all is well.
        capacity: parts that may wait; more lose the oldest.
        patience: how long it is waited for.

    Attributes:
        judged, dropped, failures: parts that were judged, parts that were not because the shadow was slower or failed, and how
            often the process failed.
    """

    def __init__(
        self,
        command: Sequence[str],
        combine: Combine,
        note: Callable[[Mapping[str, Any]], None],
        notice: Callable[[str, str], None],
        *,
        capacity: int = CAPACITY,
        patience: Patience | None = None,
    ) -> None:
        self._command, self._combine, self._note, self._notice = list(command), combine, note, notice
        self._capacity, self._patience = capacity, patience or Patience()
        self._waiting: deque[Inspection] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._wake, self._waker = os.pipe()
        self._process: _Process | None = None
        self.judged = self.dropped = self.failures = 0
        # A crew of its own: what befalls it is no fault of the station.
        self._thread = Supervised("shadow", self._work, died=lambda error: self._kill(), crew=Crew("shadow"))

    def see(self, inspection: Inspection) -> None:
        """For :meth:`edgead.runtime.loop.station.Station.on_inspection`: never waits."""
        if any(one.frame is None for one in inspection.views or (inspection,)):
            return
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(inspection)
            self._changed.notify_all()

    title = "shadow"

    def counts(self) -> dict[str, int]:
        """For :meth:`edgead.runtime.loop.station.Station.count`, and so for health and metrics."""
        return {"judged": self.judged, "dropped": self.dropped, "failures": self.failures}

    def start(self) -> Shadow:
        self._thread.start()
        return self

    def close(self) -> None:
        """End the process and the thread; what waits is dropped. May be called twice."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        os.write(self._waker, b"x")
        if self._thread.join(5.0):
            os.close(self._wake)
            os.close(self._waker)
        self._kill()

    def __enter__(self) -> Shadow:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        pause_s, most_s = self._patience.retry_s
        next_s = pause_s
        while not self._closing:
            try:
                while True:
                    self._serve()
                    next_s = pause_s
            except _Ended:
                break
            except (ShadowFailed, OSError, ValueError) as error:
                self.failures += 1
                self._kill()
                self._notice("shadow", f"{error}; the line goes on without it, and it is tried again later")
            with self._changed:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self._changed.wait_for(lambda: self._closing, next_s)
            next_s = min(most_s, 2 * next_s)
        self._kill()

    def _serve(self) -> None:
        """Have the next part judged. Raises ShadowFailed, _Ended, OSError, ValueError (it answered nonsense)."""
        if self._process is None:
            self._process = _Process(self._command, self._wake)
            self._facts = self._process.opened(self._patience.opening_s)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                raise _Ended
            part = self._waiting.popleft()
        process, facts = self._process, self._facts
        try:
            answers = [
                process.ask(view.frame, self._patience.answer_s) for view in part.views or (part,) if view.frame is not None
            ]
            record = _record(part, answers, self._combine, facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ShadowFailed(f"the shadow answers nonsense: {error!r}") from error
        except BaseException:
            self.dropped += 1
            raise
        self.judged += 1
        self._notice("shadow", "")
        self._note(record)

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()


class _Process:
    """The process, with pipes that are never waited for longer than a given time, nor after `wake` can be read."""

    def __init__(self, command: Sequence[str], wake: int) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, bufsize=0)
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._in, self._out, self._wake = self._popen.stdin.fileno(), self._popen.stdout.fileno(), wake
        os.set_blocking(self._in, False)
        self._rest = b""

    def opened(self, wait_s: float) -> Mapping[str, Any]:
        """What it judges by. Raises ShadowFailed, with its own words when it has some."""
        told = self._read(wait_s)
        if "failed" in told:
            raise ShadowFailed(f"the shadow does not open: {str(told['failed'])[:500]}")
        facts: Mapping[str, Any] = told["ready"]
        return facts

    def ask(self, frame: Frame, wait_s: float) -> Mapping[str, Any]:
        """What it says of a picture."""
        image = np.ascontiguousarray(frame.image)
        self._write(json.dumps({"shape": image.shape}).encode() + b"\n", wait_s)
        self._write(image.data.cast("B"), wait_s)
        return self._read(wait_s)

    def kill(self) -> None:
        """At once."""
        with suppress(OSError):
            self._popen.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._popen.wait(5.0)
        except subprocess.TimeoutExpired:
            _log.error("the shadow's process %d cannot be killed", self._popen.pid)

    def _write(self, data: bytes | memoryview, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while len(data):
            self._ready(until, writing=True)
            try:
                data = data[os.write(self._in, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise ShadowFailed(f"the shadow has died ({self._end()})") from error

    def _read(self, wait_s: float) -> Mapping[str, Any]:
        until = time.monotonic() + wait_s
        while b"\n" not in self._rest:
            self._ready(until, writing=False)
            if not (more := os.read(self._out, 1 << 16)):
                raise ShadowFailed(f"the shadow has died ({self._end()})")
            self._rest += more
            if len(self._rest) > LONGEST_LINE:
                raise ShadowFailed("the shadow answers nonsense")
        line, _, self._rest = self._rest.partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ShadowFailed("the shadow answers nonsense")
        return found

    def _ready(self, until: float, *, writing: bool) -> None:
        left = max(0.0, until - time.monotonic())
        readers = [self._wake] if writing else [self._wake, self._out]
        can_read, can_write, _ = select.select(readers, [self._in] if writing else [], [], left)
        if self._wake in can_read:
            raise _Ended
        if not can_read and not can_write:
            raise ShadowFailed("the shadow hangs: it was killed")

    def _end(self) -> str:
        try:
            code = self._popen.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"signal {-code}" if code < 0 else f"status {code}"


def _record(
    part: Inspection, answers: Sequence[Mapping[str, Any]], combine: Combine, facts: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The shadow's record of a part. Raises KeyError, TypeError, ValueError: an answer is none."""
    views = [_inspection(view, answer, facts) for view, answer in zip(part.views or (part,), answers, strict=True)]
    readings = tuple(None if one["reading"] is None else (float(one["reading"][0]), float(one["reading"][1])) for one in answers)
    found = combine.inspection(views)
    reading = combined(readings, combine.ng_views) if len(views) > 1 else Reading(*(readings[0] or (None, None)))
    total_ms = sum(view.times.total_ms for view in views)
    found = replace(found, part_id=part.part_id, trigger=part.trigger, times=replace(found.times, total_ms=total_ms))
    record = to_record(found, time_utc=utc_now(), engine=str(facts["engine"]))
    levels = [list(view) if view else None for view in reading.views]
    return {**record, "basis": facts, "statistic": reading.statistic, "level": reading.level, "levels": levels}


def _inspection(view: Inspection, answer: Mapping[str, Any], facts: Mapping[str, Any]) -> Inspection:
    score = float("nan") if answer["score"] is None else float(answer["score"])
    times = StageTimes(inference_ms=float(answer["inference_ms"]), total_ms=float(answer["total_ms"]))
    verdict, cause = Verdict(answer["verdict"]), str(answer["cause"])
    return Inspection(view.part_id, verdict, cause, score, float(facts["threshold"]), None, times, view.frame)
