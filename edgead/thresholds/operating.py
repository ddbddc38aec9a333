"""Thresholds from labelled pictures: a wished miss rate, a cost ratio, and how sure one can be of the rates.

A wished miss rate is the mirror image of :mod:`edgead.thresholds.conformal`: with m defective statistics, the j-th smallest with
j = floor((m + 1) a) as the threshold misses the next defect with a probability of at most j / (m + 1) on average, and with 95 %
confidence the miss rate of this very threshold is at most the 95 % quantile of Beta(j, m + 1 - j). Both hold for defects that are
exchangeable with the given ones: of the same kinds, in the same mixture. Nobody can promise anything about a new kind of defect.

Rates that are only counted, on pictures that did not choose the threshold, get the two-sided Clopper-Pearson interval, which is
exact (never too narrow). On pictures that did choose it (cost ratio) the same interval is too hopeful; there the bootstrap tells
how far the threshold itself depends on the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.thresholds.conformal import SMALLEST_RATE, Statistics, images_needed, percent, rate_interval, upper_rate

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Counted:
    """A count, and what it says of the rate behind it.

    Attributes:
        events: pictures of this kind,
        n: of so many.
        low, high: the exact 95 % interval of the rate.
    """

    events: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, events: int, n: int) -> Counted:
        return cls(events, n, *rate_interval(events, n))


@dataclass(frozen=True, slots=True)
class DefectChoice:
    """What m defective pictures give; the fields are those of :class:`edgead.thresholds.conformal.GoodChoice`, for misses.

    Attributes:
        at: parts with a statistic at or above this one are rejected; one of the given ones.
        n, asked, guaranteed, rate, bound, more_needed: as there.
    """

    at: float
    n: int
    asked: float
    guaranteed: bool
    rate: float
    bound: float
    more_needed: int

    @property
    def method(self) -> str:
        """How the threshold came about, in words."""
        if self.guaranteed:
            return f"from {self.n} defects: at most {percent(self.asked)} like them are missed"
        return f"the smallest of {self.n} defects: none of them is missed, no guarantee for {percent(self.asked)}"


@dataclass(frozen=True, slots=True)
class CostChoice:
    """The cheapest threshold on the given pictures.

    Attributes:
        below, at: any threshold above `below`, up to `at`, costs the same there; `below` may be -inf, `at` +inf.
        low, high: 95 % bootstrap interval of the threshold (percentiles of the middles of such gaps).
        ratio: cost of a miss over that of a false reject.
        defect_rate: assumed share of defective parts on the line.
        cost: per part, in false rejects.
    """

    below: float
    at: float
    low: float
    high: float
    ratio: float
    defect_rate: float
    cost: float

    @property
    def method(self) -> str:
        """How the threshold came about, in words."""
        return f"cheapest when a miss costs {self.ratio:g} false rejects and {percent(self.defect_rate)} of parts are defective"


def from_defects(statistics: Statistics, max_miss: float) -> DefectChoice:
    """The highest threshold that misses at most `max_miss` of defects like the given ones.

    Args:
        statistics: float, N (at least 1), of defective parts; -inf is never and +inf always NG.
        max_miss: 0 < a < 1.

    Raises:
        BadInput: none, NaN, a rate outside (0, 1), or more defects that are never NG than the rate allows.
    """
    if not SMALLEST_RATE <= max_miss < 1.0:
        raise BadInput(f"a miss rate of {max_miss} is not usable", hint="give a number between 0 and 1")
    ordered = np.sort(np.asarray(statistics, np.float64).ravel())
    n = len(ordered)
    if n == 0 or np.isnan(ordered[-1]):
        raise BadInput("a defect has a score that is not finite" if n else "a miss rate needs pictures of defects")
    rank = math.floor(round((n + 1) * max_miss, 9))
    guaranteed, rank = rank >= 1, max(1, rank)
    at = float(ordered[rank - 1])
    if not math.isfinite(at):
        hopeless = int(np.isneginf(ordered).sum())
        what = (
            f"{hopeless} of {n} defects are OK whatever the threshold"
            if hopeless
            else "every defect is NG whatever the threshold"
        )
        raise BadInput(what, hint="change the minimal area, the regions or their own thresholds")
    needed = max(0, images_needed(max_miss) - n)
    return DefectChoice(at, n, max_miss, guaranteed, rank / (n + 1), upper_rate(rank - 1, n), needed)


def by_cost(good: Statistics, defects: Statistics, ratio: float, defect_rate: float, seed: int = 0) -> CostChoice:
    """The threshold with the smallest mean cost per part, ``defect_rate * ratio * misses + (1 - defect_rate) * false rejects``.

    Args:
        good, defects: float, at least one each.
        ratio: cost of a miss over that of a false reject, above 0.
        defect_rate: share of defective parts on the line, 0 < p < 1.
        seed: of the bootstrap.

    Raises:
        BadInput: one kind is missing, or a number is not usable.
    """
    if not (math.isfinite(ratio) and ratio > 0):
        raise BadInput(f"a cost ratio of {ratio:g} is not usable", hint="give the cost of a miss over that of a false reject")
    if not SMALLEST_RATE <= defect_rate < 1.0:
        raise BadInput(f"a defect rate of {defect_rate:g} is not usable", hint="give a number between 0 and 1")
    if not len(good) or not len(defects):
        raise BadInput("a cost ratio needs good pictures and defects", hint="give --good DIR and --defects DIR")
    both = np.concatenate([good, defects])
    if not bool(np.isfinite(both).all()):
        raise BadInput("some pictures are OK or NG whatever the threshold", hint="change the regions or their own thresholds")
    levels, place = np.unique(both, return_inverse=True)
    place = place.ravel()
    of_good, of_defects = (np.bincount(p, minlength=len(levels)) for p in (place[: len(good)], place[len(good) :]))
    weights = (defect_rate * ratio, 1.0 - defect_rate)
    best, cost = _cheapest(of_good, of_defects, weights)
    rng = np.random.default_rng(seed)
    resampled = zip(
        rng.multinomial(len(good), of_good / len(good), RESAMPLES),
        rng.multinomial(len(defects), of_defects / len(defects), RESAMPLES),
        strict=True,
    )
    edges = np.concatenate([[-np.inf], levels, [np.inf]])  # threshold i lies above edges[i], up to edges[i + 1]
    middles = [_middle(*edges[i : i + 2]) for i in (_cheapest(g, d, weights)[0] for g, d in resampled)]
    low, high = np.percentile(middles, (2.5, 97.5), method="nearest")
    return CostChoice(float(edges[best]), float(edges[best + 1]), float(low), float(high), ratio, defect_rate, cost)


def counted(statistics: Statistics, at: float) -> Counted:
    """How many reach the threshold `at`."""
    return Counted.of(int(np.count_nonzero(statistics >= at)), len(statistics))


def _cheapest(
    of_good: npt.NDArray[np.int64], of_defects: npt.NDArray[np.int64], weights: tuple[float, float]
) -> tuple[int, float]:
    """Which of the thresholds at each level, and above all of them, costs least (of equals the lowest), and how much."""
    missed = np.concatenate([[0], np.cumsum(of_defects)]) / of_defects.sum()
    rejected = 1.0 - np.concatenate([[0], np.cumsum(of_good)]) / of_good.sum()
    cost = weights[0] * missed + weights[1] * rejected
    best = int(np.argmin(cost))
    return best, float(cost[best])


def _middle(below: float, at: float) -> float:
    if math.isinf(below):
        return float(at)
    return float(below) if math.isinf(at) else float(below) + (float(at) - float(below)) / 2
