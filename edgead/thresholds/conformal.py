"""A threshold from good pictures alone, and exactly what it promises.

Split conformal prediction (Vovk, Gammerman, Shafer 2005; Lei et al. 2018): of n good statistics take the k-th smallest, with
k = ceil((n + 1)(1 - a)), and reject what lies above it.

- *On average* (marginal): the next good part is rejected with a probability of at most (n + 1 - k) / (n + 1), which is at most
  a. This holds for every distribution and every n from 1 / a - 1 on, ties included (they only make it smaller), as long as the
  n parts and the next one are exchangeable: same product, same light, same camera, in no order that matters, and none of them
  used for training. The average is over such sets of n pictures; one single threshold may do worse.
- *With confidence* (conditional on this set; Vovk 2012): the false-reject rate of this very threshold follows Beta(n + 1 - k, k),
  so with 95 % confidence it is at most that distribution's 95 % quantile, which is the one-sided Clopper-Pearson bound for
  n - k events in n. Ties make it smaller.

With fewer pictures no threshold can be promised to keep to `a`. The upper half is then extrapolated by an exponential tail:
P(statistic > t) = 0.5 exp(-(t - median) / s), with s the mean excess over the median. That is heavier than a normal tail, so it
errs towards few false rejects, but it is a start and no guarantee. Never below the largest good statistic, so what k = n
promises, 1 / (n + 1), holds still. Simulated for a = 0.01 on normal, Gumbel and log-normal scores, fresh good parts were rejected
in 0.2 to 1 % (n = 60), 0.4 to 1.6 % (30), 0.7 to 2.1 % (15), 3 to 5 % (5) and 7 to 9 % (3) of cases.

*Cross-fitted* statistics (:mod:`edgead.training.crossfit`: of pictures of training, each from a model that has not seen it)
take the same rank, and then (n + 1 - k) / (n + 1) is an expectation and no guarantee: Barber, Candes, Ramdas and Tibshirani
(2021, "Predictive inference with the jackknife+") prove 2 a for whoever asks all those models about the new part, and that the
plain jackknife, which asks one model as a line does, can fail when a picture more or less changes the model much. Where more
pictures never make a score larger it cannot, and `a` holds (docs/thresholds.md has the proof).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput

SMALLEST_RATE = 1e-9
"""A smaller one means nothing: no line makes so many parts."""

CONFIDENCE = 0.95

Statistics = npt.NDArray[Any]
"""float, N: one number a picture, larger is more anomalous (see :mod:`edgead.decision`)."""


@dataclass(frozen=True, slots=True)
class GoodChoice:
    """What n good pictures give.

    Attributes:
        cut: parts with a statistic above this one are rejected.
        n: good pictures.
        rank: `cut` is the rank-th smallest of them; n when it was extrapolated (then it is at least the largest).
        asked: wished false-reject rate.
        guaranteed: whether the asked rate is guaranteed on average.
        rate: the false-reject rate that is guaranteed on average with these n, asked or not: (n + 1 - rank) / (n + 1).
        bound: with `CONFIDENCE`, the false-reject rate of this threshold is at most this.
        more_needed: good pictures that are missing for a guarantee of the asked rate; 0 when it holds.
        crossfit: how statistics of pictures of training came about, e.g. ``"leave-one-out"``; then `rate` is an expectation, no
            guarantee. "" when there are none.
    """

    cut: float
    n: int
    rank: int
    asked: float
    guaranteed: bool
    rate: float
    bound: float
    more_needed: int
    crossfit: str = ""

    @property
    def method(self) -> str:
        """How the threshold came about, in words."""
        share = percent(self.asked)
        if self.crossfit and not self.more_needed:
            return f"{self.crossfit} score {self.rank} of {self.n} good pictures: {percent(self.rate)} false rejects expected"
        if self.guaranteed:
            return f"good score {self.rank} of {self.n} held out: at most {share} false rejects"
        scores = f"{self.crossfit} scores of good pictures" if self.crossfit else "good scores held out"
        return (
            f"exponential tail over {self.n} {scores}: about {share} false rejects, no guarantee "
            f"({self.more_needed} more are needed)"
        )


def from_good(statistics: Statistics, max_false_reject: float, crossfit: str = "") -> GoodChoice:
    """The lowest cut that rejects at most `max_false_reject` of good parts.

    Args:
        statistics: float, N (at least 2), of good parts that the model was not trained on; -inf is never and +inf always NG.
        max_false_reject: 0 < a < 1.
        crossfit: how those of pictures of training came about; "" when there are none, and the rate can be guaranteed.

    Raises:
        BadInput: fewer than two, NaN, a rate outside (0, 1), or more pictures that are always NG than the rate allows.
    """
    if not SMALLEST_RATE <= max_false_reject < 1.0:
        raise BadInput(f"a false reject share of {max_false_reject} is not usable", hint="give a number between 0 and 1")
    ordered = np.sort(np.asarray(statistics, np.float64).ravel())
    n = len(ordered)
    if n < 2:
        raise BadInput(f"a threshold cannot be chosen from {n} good scores", hint="hold out at least 2 good images")
    if np.isnan(ordered[-1]):  # sorted last
        raise BadInput("a good image has a score that is not finite", hint="the model is broken: train it again")
    rank = rank_for(n, max_false_reject)
    reached = rank <= n
    cut = float(ordered[rank - 1]) if reached else _extrapolated(ordered, max_false_reject)
    if not math.isfinite(cut):
        stuck = int(np.isposinf(ordered).sum())
        what = f"{stuck} of {n} good images are NG whatever the threshold" if stuck else "no good image could ever be NG"
        raise BadInput(what, hint="change the regions or their own thresholds")
    rank = min(rank, n)
    needed = max(0, images_needed(max_false_reject) - n)
    rate = (n + 1 - rank) / (n + 1)
    guaranteed = reached and not crossfit
    return GoodChoice(cut, n, rank, max_false_reject, guaranteed, rate, upper_rate(n - rank, n), needed, crossfit)


def rank_for(n: int, rate: float) -> int:
    """k = ceil((n + 1)(1 - rate)); above n when n is too small."""
    return math.ceil(round((n + 1) * (1.0 - rate), 9))


def images_needed(rate: float) -> int:
    """The fewest good pictures that guarantee the rate on average: 1 / rate - 1, rounded up."""
    return math.ceil(round(1.0 / rate, 9)) - 1


def percent(rate: float) -> str:
    """``0.001`` -> ``"0.1 %"``, at most three digits."""
    return f"{100 * rate:.3g} %"


def _extrapolated(ordered: Statistics, rate: float) -> float:
    if not bool(np.isfinite(ordered).all()):  # pictures that are never or always NG leave nothing to fit
        return float(ordered[-1])
    median = float(np.median(ordered))
    excess = ordered[ordered > median] - median
    scale = float(excess.mean()) if excess.size else 0.0
    return max(float(ordered[-1]), median + scale * math.log(0.5 / rate))


def binomial_tail(events: int, n: int, rate: float) -> float:
    """P(X <= events) for X binomial with `n` trials of probability `rate`, exactly (log-gamma, no normal approximation)."""
    if events >= n or rate <= 0.0:
        return 1.0
    if events < 0 or rate >= 1.0:
        return 0.0
    logs = _log_choose(n, events) + np.arange(events + 1) * math.log(rate) + (n - np.arange(events + 1)) * math.log1p(-rate)
    return float(np.exp(logs).sum())


def upper_rate(events: int, n: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson upper bound of a rate after `events` in `n`: the `confidence` quantile of
    Beta(events + 1, n - events)."""
    if events >= n:
        return 1.0
    return _bisect(events, n, 1.0 - confidence)


def rate_interval(events: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval (Clopper, Pearson 1934) of a rate after `events` in `n`; (0, 1) when `n` is 0."""
    half = (1.0 - confidence) / 2
    if n == 0:
        return 0.0, 1.0
    return (0.0 if events == 0 else 1.0 - upper_rate(n - events, n, 1.0 - half)), upper_rate(events, n, 1.0 - half)


@lru_cache(maxsize=1024)
def _bisect(events: int, n: int, tail: float) -> float:
    """The rate with P(X <= events) = tail; the tail falls as the rate grows. Rounded up by less than 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(events, n, middle) > tail else (low, middle)
    return high


@lru_cache(maxsize=64)
def _log_choose(n: int, most: int) -> npt.NDArray[np.float64]:
    """log of n over i for i = 0 .. most."""
    return np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(most + 1)])
