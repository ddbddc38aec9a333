"""What a station counts: every part, every verdict, every frame that was not inspected and why."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

import numpy as np

from edgead.types import Inspection

WINDOW = 10_000  # parts over which latency percentiles are taken


class Stats:
    """Counters of one station, safe to read from other threads while it runs.

    Frames are conserved: ``frames == inspected + drops["overrun"] + drops["stale"] + drops["stopped"]`` once the station has
    stopped; ``drops["camera"]`` (gaps in frame_id) were lost before they arrived here.

    Attributes:
        frames: frames that arrived from the camera.
        inspected: frames that got a verdict.
        parts: verdicts given, with or without a frame.
        verdicts: by "OK", "NG", "UNKNOWN".
        causes: of UNKNOWN, e.g. "late"; the text after a colon is left out.
        drops: frames without a verdict: "overrun" (a newer one came first), "stale" (too old), "camera", "stopped".
        errors: faults of outputs and callbacks by their name.
        undelivered: inspections that an output or callback was too slow to take, by its name.
        reconnects: how often a lost camera came back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals_ms: deque[float] = deque(maxlen=WINDOW)
        self._max_ms = 0.0
        self.frames = self.inspected = self.parts = self.reconnects = 0
        self.verdicts: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.undelivered: Counter[str] = Counter()

    def add_frame(self) -> None:
        with self._lock:
            self.frames += 1

    def add_reconnect(self) -> None:
        with self._lock:
            self.reconnects += 1

    def drop(self, cause: str, count: int = 1) -> None:
        with self._lock:
            self.drops[cause] += count

    def add_error(self, name: str) -> int:
        """Count a fault of an output or callback; returns how many it has had."""
        with self._lock:
            self.errors[name] += 1
            return self.errors[name]

    def add_undelivered(self, name: str) -> int:
        with self._lock:
            self.undelivered[name] += 1
            return self.undelivered[name]

    def add(self, inspection: Inspection) -> None:
        """Count a verdict."""
        with self._lock:
            self.parts += 1
            self.verdicts[inspection.verdict.value] += 1
            if inspection.cause:
                self.causes[inspection.cause.partition(":")[0]] += 1
            if inspection.frame is not None:
                self.inspected += 1
                self._totals_ms.append(inspection.times.total_ms)
                self._max_ms = max(self._max_ms, inspection.times.total_ms)

    def latency_ms(self) -> dict[str, float]:
        """p50, p95 and p99 of the last 10,000 inspected frames and the max of all, from arrival to verdict; empty without any."""
        with self._lock:
            totals = np.array(self._totals_ms)
        if not totals.size:
            return {}
        p50, p95, p99 = np.percentile(totals, (50, 95, 99))
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": self._max_ms}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        latency = self.latency_ms()
        with self._lock:
            counters = ("verdicts", "causes", "drops", "errors", "undelivered")
            counts = {name: dict(getattr(self, name)) for name in counters}
            return {
                "parts": self.parts,
                "frames": self.frames,
                "inspected": self.inspected,
                "reconnects": self.reconnects,
                **counts,
                "latency_ms": latency,
            }
