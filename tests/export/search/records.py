"""Candidates as a search would have measured them."""

from __future__ import annotations

from edgead.export.search.journal import Accuracy, Latency, Record
from edgead.export.search.space import Choice

GOOD = tuple(float(i) for i in range(20))


def accuracy(swapped: int = 0, deviation: float = 0.01, flips: int = 0) -> Accuracy:
    """20 good frames and 20 defects, all above them but for so many that are below all."""
    defect = tuple(-1.0 - i if i < swapped else 100.0 + i for i in range(20))
    return Accuracy(1.0 - swapped / 20, -swapped / 20, deviation, flips, 40, GOOD, defect)


def record(p99_ms: float, swapped: int = 0, name: str = "", full: bool = True) -> Record:
    latency = Latency(0.8 * p99_ms, p99_ms, 200 if full else 15, 10.0, full)
    return Record(Choice("openvino", "fp32", (("rows", name or str(p99_ms)),)), latency, accuracy(swapped))
