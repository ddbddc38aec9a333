"""How large a tensor gets on good pictures, and which symmetric 8-bit range loses least.

A running histogram of magnitudes per tensor: whatever the number of pictures, memory stays at a few kilobytes a tensor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 2048
SAMPLES = 200_000
"""At most so many values of a tensor are counted per picture (evenly strided); the largest value is always taken from all."""

LEVELS = 127
"""Symmetric signed 8 bit: -127 to 127."""

NOTHING = LEVELS * float(np.finfo(np.float32).tiny)
"""A smaller magnitude counts as zero: its step would be no normal float32 number."""

METHODS = ("minmax", "mse", "percentile")


class MagnitudeHistogram:
    """Counts of |x| in `BINS` equal bins from 0; when a larger value comes, the range doubles and neighbouring bins merge."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._top = 0.0
        self._counts = np.zeros(BINS, np.float64)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count a tensor of any shape. Values that are not finite make the range useless, so they raise ValueError."""
        flat = values.ravel()
        largest = max(float(flat.max()), -float(flat.min())) if flat.size else 0.0
        if not np.isfinite(largest):
            raise ValueError("a value is not finite")
        self.largest = max(self.largest, largest if largest >= NOTHING else 0.0)
        if self.largest == 0.0:
            self._counts[0] += min(flat.size, SAMPLES)
            return
        self._top = self._top or self.largest
        while self.largest > self._top:
            self._top *= 2.0
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2)])
        step = max(1, -(-flat.size // SAMPLES))
        bins = (np.abs(flat[::step]).astype(np.float64) * (BINS / self._top)).astype(np.int32)
        self._counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    def scale(self, method: str, percentile: float = 99.99) -> float:
        """The step of the symmetric 8-bit grid: value = scale * integer in -127..127; 1 for a tensor of zeros.

        ``"minmax"`` covers the largest value seen. ``"mse"`` may clip: of 100 ranges it takes the one with the smallest
        squared error summed over the histogram (rounding plus clipping). ``"percentile"`` covers `percentile` percent of the
        magnitudes, to the upper edge of their bin.
        """
        if self.largest == 0.0:
            return 1.0
        if method == "minmax":
            return self.largest / LEVELS
        if method == "percentile":
            inside = np.cumsum(self._counts) >= percentile / 100.0 * self._counts.sum() * (1.0 - 1e-12)
            return min(self.largest, (int(np.argmax(inside)) + 1) * self._top / BINS) / LEVELS
        tops = self.largest * np.linspace(0.1, 1.0, 100)
        errors = [self._squared_error(top / LEVELS) for top in tops]
        return float(tops[int(np.argmin(errors))]) / LEVELS

    def clipped_share(self, scale: float) -> float:
        """Share of the counted values that a grid of this step cannot hold, 0 to 1."""
        if self.largest <= LEVELS * scale * (1 + 1e-6):
            return 0.0
        return float(self._counts[self._centres() > LEVELS * scale].sum() / self._counts.sum())

    def sqnr_db(self, scale: float) -> float:
        """Power of the values over that of their error on a grid of this step, in decibels; infinite for a tensor of zeros."""
        power = float(np.sum(self._counts * self._centres() ** 2))
        return 10.0 * math.log10(power / self._squared_error(scale)) if self.largest else math.inf

    def _centres(self) -> npt.NDArray[Any]:
        return (np.arange(BINS, dtype=np.float64) + 0.5) * (self._top / BINS)

    def _squared_error(self, scale: float) -> float:
        """Within a step the rounding error is uniform: scale^2 / 12 a value."""
        excess: npt.NDArray[Any] = np.maximum(self._centres() - LEVELS * scale, 0.0)
        inside = np.where(excess > 0.0, 0.0, scale * scale / 12.0)
        return float(np.sum(self._counts * (inside + excess * excess)))
