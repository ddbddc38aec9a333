"""Where chance ends: beyond what lies a number that the others do not explain? (How:
:mod:`edgead.calibration.pictures.screening`.)"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

CHANCE = 0.05
"""Of honest sets, so many have a number beyond the limit."""

FEWEST_TO_COMPARE = 8

Floats = npt.NDArray[np.float64]


def limits(known: Floats, least: Floats, looks: int) -> tuple[Floats, Floats]:
    """Where chance ends below and above, for each column of an N x K table, when one looks so many times (see there)."""
    middle = np.median(known, axis=0)
    factor = math.log(0.5 * looks / CHANCE) / math.log(2) * (1.0 + 2.0 / math.sqrt(len(known)))
    ends = []
    for side in (-1.0, 1.0):
        excess = side * (known - middle)
        reach = [float(np.median(column[column > 0])) * factor if (column > 0).any() else 0.0 for column in excess.T]
        ends.append(middle + side * np.maximum(reach, least))
    return ends[0], ends[1]


def limit_above(values: npt.NDArray[np.float64]) -> float:
    """Where chance ends above for N numbers of which each one is looked at once (see there); infinite of fewer than
    `FEWEST_TO_COMPARE`."""
    if len(values) < FEWEST_TO_COMPARE:
        return math.inf
    return float(limits(values[:, None], np.zeros(1), len(values))[1][0])
