"""Which candidate to take: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.calibration.judging.deviation import Deviation, Limits, paired_error
from edgead.export.search.journal import Accuracy, Record


def noise(one: Accuracy, other: Accuracy) -> float:
    """One standard error of the difference of two AUROCs on the same frames
    (:func:`edgead.calibration.judging.deviation.paired_error`).

    Both sides saw the same parts, so what is hard for both cancels out. It is at least what one swapped pair of frames is worth.
    """
    smallest = 1.0 / (len(one.good) * len(one.defect))
    (good, defect), (good_other, defect_other) = (
        (np.asarray(side.good, np.float32), np.asarray(side.defect, np.float32)) for side in (one, other)
    )
    return max(smallest, paired_error((good, defect), (good_other, defect_other)))


def within_loss(found: Accuracy, limits: Limits) -> bool:
    """Whether a candidate loses no more than is tolerated."""
    return not broken(found, limits)


def broken(found: Accuracy, limits: Limits) -> tuple[str, ...]:
    """Words for each limit that a candidate breaks."""
    deviation = Deviation(
        frames=found.frames,
        score_deviation=found.score_deviation,
        map_deviation=0.0,
        rank_correlation=1.0,
        label_flips=found.label_flips,
        auroc=found.auroc,
        auroc_change=found.auroc_change,
        auroc_error=found.auroc_error,
    )
    return limits.broken(deviation, len(found.good) * len(found.defect))


def front(records: Sequence[Record]) -> list[Record]:
    """Those that no other one beats: none is as fast and more accurate, or as accurate and faster. Fastest first."""
    known = [r for r in records if r.latency is not None and r.accuracy is not None]
    chosen: list[Record] = []
    best = -1.0
    for record in sorted(known, key=_speed_then_accuracy):
        assert record.accuracy is not None
        if record.accuracy.auroc > best:
            chosen.append(record)
            best = record.accuracy.auroc
    return chosen


def _speed_then_accuracy(record: Record) -> tuple[float, float]:
    assert record.latency is not None and record.accuracy is not None
    return record.latency.p99_ms, -record.accuracy.auroc


def ranking(records: Sequence[Record], budget_ms: float, limits: Limits) -> list[Record]:
    """The candidates within budget at p99 and within the tolerated loss, the one to take first.

    Of those whose AUROC is within one standard error of the best one's (:func:`noise`) the fastest comes first: more could not be
    told with so few frames. Then the same with the rest.
    """
    rest = [r for r in records if meets(r, budget_ms) and r.accuracy is not None and within_loss(r.accuracy, limits)]
    ordered: list[Record] = []
    while rest:
        best = max(rest, key=_auroc)
        tied = [r for r in rest if _auroc(best) - _auroc(r) <= _noise(best, r)]
        chosen = min(tied, key=_p50)
        ordered.append(chosen)
        rest = [r for r in rest if r is not chosen]
    return ordered


def meets(record: Record, budget_ms: float) -> bool:
    """Whether enough parts were timed, and 99 of 100 within the budget."""
    return record.latency is not None and record.latency.full and record.latency.p99_ms <= budget_ms


def _auroc(record: Record) -> float:
    assert record.accuracy is not None
    return record.accuracy.auroc


def _p50(record: Record) -> float:
    assert record.latency is not None
    return record.latency.p50_ms


def _noise(one: Record, other: Record) -> float:
    assert one.accuracy is not None and other.accuracy is not None
    return noise(one.accuracy, other.accuracy)
