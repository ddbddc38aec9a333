"""What a station counts: every part, every verdict, every frame that was not inspected and why; and how it is doing now."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgead.runtime.threads import Death
from edgead.types import Inspection

WINDOW = 10_000  # parts over which latency percentiles are taken
BOUNDS_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""Upper ends of the histograms' buckets (each belongs to its bucket); one more bucket takes what is above."""
STAGES = ("wait", "resize", "inference", "decision", "total")


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers: the engine's name, and the SHA-256 of its bundle's manifest ("" where they are not known)."""

    engine: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Health:
    """How a running station is doing.

    Attributes:
        state: "stopped" (no `run`), "starting", "ready", "faulted" or "stopping".
        fault: why it is faulted, in words, else "".
        progress_at_ns: when the loop last began a turn, monotonic clock; it turns several times a second even without parts.
        verdict_at_ns: when the last verdict was given; 0 before the first.
        open_parts: parts whose verdict is owed.
        waiting_parts: how many of these the loop has not begun.
        queues: items that wait, by output and callback.
        camera: "ok", "silent", "lost" or "ended".
        time_source: what the times of its pictures are made from, see :class:`edgead.types.Camera`; "" when it does not say.
        devices: what the camera and the outputs count themselves (lost packets, failed exchanges), by device.
        threads: what threads died of so far, by thread; also of those that work again.
        notices: what people should know while the station works (a refused recipe, darker pictures), by what noticed it.
        answering: who answers parts that come now, "main" and, where there is one, "fallback".
    """

    state: str
    fault: str
    progress_at_ns: int
    verdict_at_ns: int
    open_parts: int
    waiting_parts: int
    queues: Mapping[str, int]
    camera: str
    time_source: str = ""
    devices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)
    threads: Mapping[str, Death] = field(default_factory=dict)
    answering: Mapping[str, Answering] = field(default_factory=dict)


def counts_of(devices: Iterable[object]) -> dict[str, dict[str, int]]:
    """What those with a method ``counts()`` have counted, by their kind; the second of a kind is "... 2"."""
    found: dict[str, dict[str, int]] = {}
    kinds: Counter[str] = Counter()
    for device in devices:
        if hasattr(device, "counts"):
            kind = getattr(device, "title", "") or type(device).__name__
            kinds[kind] += 1
            found[kind if kinds[kind] == 1 else f"{kind} {kinds[kind]}"] = dict(device.counts())
    return found


class Histogram:
    """Counts of milliseconds by bucket, with their sum; not locked."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, value_ms: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, value_ms)] += 1
        self.sum_ms += value_ms


class Stats:
    """Counters of one station, safe to read from other threads while it runs.

    Frames are conserved: ``frames == inspected + sum of drops without "camera"`` once the station has stopped;
    ``drops["camera"]`` (gaps in frame_id) were lost before they arrived here. So are triggers: each is one part, and each part
    one verdict.

    Attributes:
        frames: frames that arrived from the camera.
        inspected: frames that the loop took, to give a verdict on them.
        triggers: triggers that arrived; each got, or will get, one verdict.
        parts: verdicts given, with or without a frame or a trigger.
        verdicts: by "OK", "NG", "UNKNOWN".
        causes: of verdicts that have one, e.g. "late"; the text after a colon is left out.
        late: deadlines and stage limits that were missed, by stage, e.g. "inference".
        late_results: results that came when their part had its verdict already.
        drops: frames without a verdict of their own: "overrun" (a newer one, or too many parts, came first), "stale" (too old),
            "unused" (no trigger wanted it), "camera", "stopped".
        errors: faults of outputs, callbacks and the trigger source by their name.
        undelivered: inspections that an output or callback was too slow to take, by its name.
        late_outputs: verdicts that an output could tell only after the deadline (then it told UNKNOWN or nothing), by its name.
        queue_peaks: the most items that ever waited, by output or callback, and "parts" for parts that waited for the loop.
        reconnects: how often a lost camera came back.
        engines: answers by the engine's name, when it has one.
    """

    _COUNTERS = ("verdicts", "causes", "late", "drops", "errors", "undelivered", "late_outputs", "queue_peaks", "engines")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals_ms: deque[float] = deque(maxlen=WINDOW)
        self._max_ms = 0.0
        self._histograms = {stage: Histogram() for stage in STAGES}
        self.frames = self.inspected = self.triggers = self.parts = self.reconnects = self.late_results = 0
        self.verdicts: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.undelivered: Counter[str] = Counter()
        self.late_outputs: Counter[str] = Counter()
        self.queue_peaks: Counter[str] = Counter()
        self.engines: Counter[str] = Counter()

    def add_frame(self) -> None:
        with self._lock:
            self.frames += 1

    def add_inspected(self) -> None:
        with self._lock:
            self.inspected += 1

    def add_trigger(self) -> None:
        with self._lock:
            self.triggers += 1

    def add_reconnect(self) -> None:
        with self._lock:
            self.reconnects += 1

    def add_late_result(self) -> None:
        with self._lock:
            self.late_results += 1

    def drop(self, cause: str, count: int = 1) -> None:
        with self._lock:
            self.drops[cause] += count

    def add_error(self, name: str) -> int:
        """Count a fault of an output, a callback or the trigger source; returns how many it has had."""
        with self._lock:
            self.errors[name] += 1
            return self.errors[name]

    def add_undelivered(self, name: str) -> int:
        with self._lock:
            self.undelivered[name] += 1
            return self.undelivered[name]

    def add_late_output(self, name: str) -> int:
        with self._lock:
            self.late_outputs[name] += 1
            return self.late_outputs[name]

    def queue_depth(self, name: str, depth: int) -> None:
        """So many items wait now."""
        if depth > self.queue_peaks[name]:  # counters only grow here: a stale look costs one more comparison
            with self._lock:
                self.queue_peaks[name] = max(depth, self.queue_peaks[name])

    def add(self, inspection: Inspection) -> None:
        """Count a verdict."""
        times = inspection.times
        cause, _, detail = inspection.cause.partition(":")
        with self._lock:
            self.parts += 1
            self.verdicts[inspection.verdict.value] += 1
            if cause:
                self.causes[cause] += 1
                if cause == "late":
                    self.late[detail.strip() or "total"] += 1
            if inspection.engine:
                self.engines[inspection.engine] += 1
            if inspection.frame is not None or inspection.trigger is not None:
                self._totals_ms.append(times.total_ms)
                self._max_ms = max(self._max_ms, times.total_ms)
                spent = (times.wait_ms, times.resize_ms, times.inference_ms, times.decision_ms, times.total_ms)
                for stage, value_ms in zip(STAGES, spent, strict=True):
                    self._histograms[stage].add(value_ms)

    def latency_ms(self) -> dict[str, float]:
        """p50, p95, p99 of the last 10,000 parts that had a trigger or a frame, and the max of all, from then to the verdict."""
        with self._lock:
            totals = np.array(self._totals_ms)
        if not totals.size:
            return {}
        p50, p95, p99 = np.percentile(totals, (50, 95, 99))
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": self._max_ms}

    def histograms(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """For each of `STAGES` the counts in the buckets of `BOUNDS_MS` (and above), and the sum in milliseconds."""
        with self._lock:
            return {stage: (tuple(found.counts), found.sum_ms) for stage, found in self._histograms.items()}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        latency = self.latency_ms()
        with self._lock:
            counts = {name: dict(getattr(self, name)) for name in self._COUNTERS}
            return {
                "parts": self.parts,
                "triggers": self.triggers,
                "frames": self.frames,
                "inspected": self.inspected,
                "reconnects": self.reconnects,
                "late_results": self.late_results,
                **counts,
                "latency_ms": latency,
            }
