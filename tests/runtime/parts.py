"""Inspections for tests of what comes after the verdict."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np

from edgead.runtime.records.record import to_record
from edgead.types import Frame, Inspection, StageTimes, Trigger, Verdict

START = datetime(2026, 11, 22, 6, 0, 0, tzinfo=timezone.utc)


def inspection(
    part_id: int, verdict: Verdict = Verdict.OK, cause: str = "", *, frame: bool = True, source: str = "", total_ms: float = 10.0
) -> Inspection:
    """A part with a noisy 48 x 64 picture of its own."""
    picture = np.random.default_rng(part_id).integers(0, 256, (48, 64, 3), np.uint8)
    shown = Frame(picture, "cam", part_id, part_id * 1000, source=source) if frame else None
    times = StageTimes(1.0, 0.5, 7.0, 0.25, total_ms)
    trigger = Trigger(part_id, part_id * 900, part_id + 5000, "plc")
    return Inspection(part_id, verdict, cause, 1.5, 2.0, np.ones((4, 4), np.float32), times, shown, trigger)


def record(
    part_id: int, verdict: Verdict = Verdict.OK, cause: str = "", *, when: datetime = START, **more: Any
) -> dict[str, Any]:
    """Its record."""
    return to_record(inspection(part_id, verdict, cause, **more), time_utc=when, engine="openvino-int8")
