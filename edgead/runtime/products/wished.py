"""A threshold that the PLC gives: which of the numbers in its word is one to take.

Pure: no thread, no clock; it is asked for each look. A number counts once it has stood still for `STEADY` looks, so that a word
that is written in two halves, or turned by hand, changes nothing on the way. 0 is no wish: the bundle's own threshold. What is no
number or beyond the bounds of the station's file is refused by name, once; what was in force stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgead.typed import FLOAT32_MAX

STEADY = 20
"""Looks in which a number must be the same: a second, as often as :mod:`edgead.runtime.products.recipes` looks."""

RESTLESS = 200
"""So many looks without a number that stood still are told of."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do. `threshold` None: take the bundle's own; with `fault`, take nothing and tell it."""

    threshold: float | None = None
    fault: str = ""


class Word:
    """Looks at the word, again and again.

    Args:
        least, most: bounds, raw model units, as a REAL of the PLC can say them.
    """

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = float(np.float32(least)), float(np.float32(most))
        self._seen = self._decided = repr(0.0)  # as text: not a number is not equal to itself
        self._steady = self._restless = 0

    def look(self, value: float) -> Wish | None:
        """What follows from the number that stands there now; None: nothing new."""
        text = repr(value + 0.0)  # -0.0 is 0.0
        if text != self._seen:
            self._seen, self._steady = text, 0
        self._steady += 1
        if self._steady < STEADY:
            self._restless += 1
            if self._restless == RESTLESS:
                self._decided = ""
                return Wish(fault=f"it changes all the time, now to {value:g}: it must stand still for a second")
            return None
        self._restless = 0
        if text == self._decided:
            return None
        self._decided = text
        return self._of(value)

    def _of(self, value: float) -> Wish:
        if value == 0.0:
            return Wish()
        if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
            return Wish(fault=f"{value} is no number that decides anything")
        if not self._least <= value <= self._most:
            return Wish(fault=f"{value:g} is not from {self._least:g} to {self._most:g} (min and max in the station's file)")
        return Wish(value)
