"""Counters as other threads, metrics and a summary see them."""

from __future__ import annotations

import json

from edgead.runtime.loop.stats import BOUNDS_MS, STAGES, Stats, counts_of
from edgead.types import Frame, Inspection, StageTimes, Verdict
from tests.runtime._line import GOOD


def inspection(verdict: Verdict, cause: str = "", total_ms: float = 3.0, engine: str = "") -> Inspection:
    times = StageTimes(wait_ms=0.1, resize_ms=0.3, inference_ms=2.0, decision_ms=0.05, total_ms=total_ms)
    return Inspection(1, verdict, cause, 0.0, 1.0, None, times, Frame(GOOD, "fake", 0, 0), engine=engine)


def test_verdicts_are_counted_by_cause_and_late_ones_by_stage() -> None:
    stats = Stats()
    for cause in ("late: resize", "late: inference", "late: inference", "late", "engine_error: x", "engine_error: y"):
        stats.add(inspection(Verdict.UNKNOWN, cause))
    stats.add(inspection(Verdict.OK, engine="small"))
    assert stats.causes == {"late": 4, "engine_error": 2}
    assert stats.late == {"resize": 1, "inference": 2, "total": 1}
    assert stats.engines == {"small": 1}


def test_histograms_put_a_bound_into_its_own_bucket_and_what_is_above_into_the_last() -> None:
    stats = Stats()
    for total_ms in (0.1, 0.11, 5000.0, 5000.1):
        stats.add(inspection(Verdict.OK, total_ms=total_ms))
    histograms = stats.histograms()
    assert tuple(histograms) == STAGES
    counts, sum_ms = histograms["total"]
    assert len(counts) == len(BOUNDS_MS) + 1
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (1, 1, 1, 1)
    assert sum_ms == 0.1 + 0.11 + 5000.0 + 5000.1
    assert histograms["inference"] == (tuple(4 if bound == 2.0 else 0 for bound in (*BOUNDS_MS, 0)), 8.0)


def test_two_devices_of_a_kind_are_counted_apart() -> None:
    class Webhook:
        def __init__(self, lost: int) -> None:
            self.lost = lost

        def counts(self) -> dict[str, int]:
            return {"lost": self.lost}

    assert counts_of([Webhook(3), object(), Webhook(4)]) == {"Webhook": {"lost": 3}, "Webhook 2": {"lost": 4}}


def test_peaks_only_grow_and_everything_is_plain_json() -> None:
    stats = Stats()
    for depth in (1, 5, 2):
        stats.queue_depth("plc", depth)
    stats.drop("unused", 2)
    stats.add_late_output("plc")
    told = json.loads(json.dumps(stats.to_json()))
    assert told["queue_peaks"] == {"plc": 5}
    assert told["drops"] == {"unused": 2}
    assert told["late_outputs"] == {"plc": 1}
    assert told["latency_ms"] == {}
