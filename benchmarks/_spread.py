"""Means over seeds, with what the seeds do not settle."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

_STUDENT = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % points of Student's t distribution with 0 (none) to 9 degrees of freedom."""


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """``mean``, and from two values on ``half``: half the width of its 95 % interval (Student). Up to ten values."""
    found = {"mean": round(statistics.fmean(values), digits)}
    if len(values) > 1:
        found["half"] = round(_STUDENT[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values)), digits)
    return found


def cell(figure: Mapping[str, float] | None) -> str:
    """A mean and half of its interval, for a table; "" for none."""
    if figure is None:
        return ""
    return f"{figure['mean']:.3f}" + (f" ± {figure['half']:.3f}" if "half" in figure else "")
