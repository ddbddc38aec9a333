"""What a search tells: a row for each candidate, and what there is when nothing keeps the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgead.calibration.judging.deviation import Limits
from edgead.export.search.journal import Accuracy, Latency, Record
from edgead.export.search.pareto import broken, front, meets, noise, within_loss
from edgead.export.search.space import Choice
from edgead.measured import Candidate, SearchChoice, Timed
from edgead.typed import read

HINT = "allow more: --budget-ms, --max-auroc-drop, --max-flips or --search-minutes; or take a faster device"


def rows(
    records: Sequence[Record], chosen: Record | None, trained: Accuracy, budget_ms: float, limits: Limits
) -> tuple[Candidate, ...]:
    """Every candidate with what was measured and what follows from it; scores are left out.

    Args:
        trained: of the trained model itself.
    """
    best = {id(record) for record in front([record for record in records if not record.failed])}
    return tuple(
        _row(r, trained, limits, {"meets": meets(r, budget_ms), "front": id(r) in best, "chosen": r is chosen}) for r in records
    )


def _row(record: Record, trained: Accuracy, limits: Limits, place: Mapping[str, bool]) -> Candidate:
    row = {"name": str(record.choice), **record.choice.to_json(), "failed": record.failed, "bytes": record.bytes, **place}
    row |= {"graph": record.graph, "latency": record.latency and _rounded(record.latency), "accuracy": None}
    if record.accuracy is not None:
        row["accuracy"] = {k: v for k, v in asdict(record.accuracy).items() if k not in ("good", "defect")}
        row["accuracy"] |= {"noise": noise(record.accuracy, trained), "within_loss": within_loss(record.accuracy, limits)}
    found: Candidate = read(Candidate, row)
    return found


def choice_told(choice: Choice) -> SearchChoice:
    """For the manifest."""
    found: SearchChoice = read(SearchChoice, {"name": str(choice), **choice.to_json()})
    return found


def figures(latency: Latency) -> Timed:
    """For the manifest."""
    found: Timed = read(Timed, _rounded(latency))
    return found


def _rounded(latency: Latency) -> dict[str, Any]:
    """JSON-able, in microseconds' steps."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(latency).items()}


def nothing(records: Sequence[Record], budget_ms: float, limits: Limits) -> str:
    """One line on why there is no engine, and what there is."""
    timed = [record for record in records if record.latency is not None and not record.failed]
    judged = [record for record in timed if record.accuracy is not None]
    told = [f"no engine answers within {budget_ms:g} ms at p99 and loses no more than is tolerated"]
    if kept := [record for record in judged if record.accuracy and within_loss(record.accuracy, limits)]:
        best = min(kept, key=p99)
        told.append(f"fastest within the loss: {p99(best):.1f} ms ({best.choice})")
    if quick := [record for record in judged if p99(record) <= budget_ms]:
        best = max(quick, key=_change)
        lost = broken(best.accuracy, limits) if best.accuracy else ()
        told.append(f"most accurate within {budget_ms:g} ms: {best.choice} ({', '.join(lost) or 'a first look at a few parts'})")
    elif timed:
        best = min(timed, key=p99)
        told.append(f"fastest of all: {p99(best):.1f} ms ({best.choice})")
    return "; ".join(told)


def _change(record: Record) -> float:
    return record.accuracy.auroc_change if record.accuracy else -1.0


def p50(record: Record) -> float:
    """Milliseconds; infinite when it was not timed."""
    return record.latency.p50_ms if record.latency else float("inf")


def p99(record: Record) -> float:
    """The same at p99."""
    return record.latency.p99_ms if record.latency else float("inf")
