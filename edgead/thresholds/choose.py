"""From pictures' statistics to the threshold that a bundle carries, with its promise.

The means are in :mod:`edgead.thresholds.conformal` (good pictures alone) and :mod:`edgead.thresholds.operating` (defects too);
what a statistic is, in :mod:`edgead.decision`. Here wishes are combined into one choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from edgead.bundle import Chosen, Threshold
from edgead.errors import BadInput
from edgead.thresholds.chance import limit_above
from edgead.thresholds.conformal import CONFIDENCE, GoodChoice, Statistics, from_good, percent
from edgead.thresholds.operating import CostChoice, Counted, DefectChoice, by_cost, counted, from_defects

FEW = 15
"""With fewer good scores no rule is reliable; callers say so."""

DEFAULT_FALSE_REJECT = 0.01
"""Of a threshold from pictures that the model was not trained on, when nobody says otherwise."""

CROSSFIT_LARGEST, CROSSFIT_SMALLEST, CROSSFIT_ABOVE = 0.05, 0.01, 4
"""Of a cross-fitted one: the rate at which the fourth largest score sets it, so that three odd pictures cannot, from 1 to 5 %."""

CLEAR = 1e-5
"""Of the range of scores: ten times what FP32 engines differ by from the trained model (benchmarks/int8.py)."""

CROSSFIT_ODD = 0.1
"""Share of the pictures, and one at least, that may be odd; of more, chance was estimated wrongly."""

Band = float | tuple[float, float] | None
"""An UNKNOWN band: from where good parts reach this laxer false-reject rate, or from low to high, or none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a threshold.

    Attributes:
        max_false_reject: share of good parts that may be NG; None with nothing else takes `DEFAULT_FALSE_REJECT`.
        max_miss: share of defects that may be OK.
        cost_ratio: cost of a miss over that of a false reject; stands alone.
        defect_rate: share of defective parts on the line, for `cost_ratio`; None takes that of the given pictures.
        band: the UNKNOWN band.
        between: when no threshold keeps both rates, what lies between the two thresholds is UNKNOWN.
        value: given by hand; stands alone.
        crossfit: how statistics of pictures of training came about; "" when there are none.
    """

    max_false_reject: float | None = None
    max_miss: float | None = None
    cost_ratio: float | None = None
    defect_rate: float | None = None
    band: Band = None
    between: bool = False
    value: float | None = None
    crossfit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold and what is known of it.

    Attributes:
        value: statistics at or above are NG.
        band: the UNKNOWN band, or None.
        method: how it was chosen, in words.
        good, defects, cost: what it was chosen by; None: not by this.
        rejected: of the given good pictures those that are NG, and `unsure` those that are UNKNOWN.
        missed: of the given defects those that are OK.
    """

    value: float
    band: tuple[float, float] | None
    method: str
    good: GoodChoice | None
    defects: DefectChoice | None
    cost: CostChoice | None
    rejected: Counted
    unsure: int
    missed: Counted

    @property
    def guaranteed(self) -> bool:
        """Whether every asked rate is guaranteed on average."""
        made = [part.guaranteed for part in (self.good, self.defects) if part is not None]
        return bool(made) and all(made)

    def chosen(self, wish: Wish, tool: str, now: str, digest: str) -> Chosen:
        """The facts that the bundle keeps."""
        promised = None if self.good is None or self.good.crossfit else self.good
        return Chosen(
            tool,
            now,
            good=self.good.n if self.good else self.rejected.n if self.cost else 0,
            defects=self.defects.n if self.defects else self.missed.n if self.cost else 0,
            max_false_reject=self.good.asked if self.good else None,
            max_miss=self.defects.asked if self.defects else None,
            cost_ratio=wish.cost_ratio,
            guaranteed=self.guaranteed,
            false_reject_rate=promised.rate if promised else None,
            false_reject_bound=promised.bound if promised else None,
            crossfit=wish.crossfit,
            expected_false_reject=self.good.rate if self.good and not promised else None,
            miss_rate=self.defects.rate if self.defects else None,
            miss_bound=self.defects.bound if self.defects else None,
            confidence=CONFIDENCE,
            band=_band_text(wish),
            digest=digest,
        )


def crossfit_rate(scores: Statistics) -> float:
    """The false-reject rate of a cross-fitted threshold when nobody asks for one: see `CROSSFIT_ABOVE`. Of so few pictures that
    5 % cannot be told from their scores, the rate that the largest one gives; and no picture whose score chance does not explain
    sets the threshold, but counts as one that is rejected."""
    n = len(scores)
    wanted = min(CROSSFIT_LARGEST, max(CROSSFIT_SMALLEST, CROSSFIT_ABOVE / (n + 1)))
    odd = min(len(odd_places(scores)), max(1, int(CROSSFIT_ODD * n)))
    return max(wanted, (odd + 1) / (n + 1))


def odd_places(scores: Statistics) -> list[int]:
    """Places of the scores that chance does not explain (:func:`edgead.thresholds.chance.limit_above`), the largest first."""
    values = np.asarray(scores, np.float64)
    limit = limit_above(values)
    return [int(i) for i in np.argsort(-values, kind="stable") if values[i] > limit]


def threshold_from_good(
    scores: Statistics,
    max_false_reject: float | None = None,
    tool: str = "edgead export",
    digest: str = "",
    crossfit: str = "",
) -> Threshold:
    """The threshold by score that rejects at most `max_false_reject` of good parts, or, with too few scores, about so many.

    Args:
        scores: float, N (N at least 2), raw model units, of good parts by models that were not trained on them.
        max_false_reject: tolerated share of good parts that are NG, 0 < a < 1; None takes `DEFAULT_FALSE_REJECT`, or
            :func:`crossfit_rate`.
        tool, digest: noted in the threshold (see :class:`edgead.bundle.Chosen`).
        crossfit: how scores of pictures of training came about; "" when there are none.

    Returns:
        The value is one float32 step above the chosen score, since scores at or above the threshold are NG; of a cross-fitted one
        a little more (:func:`clear_of`).

    Raises:
        BadInput: fewer than two scores, one that is not finite, or a share outside (0, 1).
    """
    statistics = np.asarray(scores, np.float64).ravel()
    if not bool(np.isfinite(statistics).all()):
        raise BadInput("a good image has a score that is not finite", hint="the model is broken: train it again")
    if max_false_reject is None:
        max_false_reject = crossfit_rate(statistics) if crossfit else DEFAULT_FALSE_REJECT
    wish = Wish(max_false_reject, crossfit=crossfit)
    choice = choose(statistics, np.empty(0), wish, clear_of(statistics) if crossfit else None)
    return Threshold(choice.value, choice.method, chosen=choice.chosen(wish, tool, utc_now(), digest))


def clear_of(scores: Statistics) -> Callable[[float], float]:
    """Above one of these scores by `CLEAR` of their range, or half-way to the next larger one if that is less. An engine does not
    choose a cross-fitted threshold by its own scores, so the picture that sets it must not turn NG by the last bit of a float32.
    """
    ordered = np.sort(np.asarray(scores, np.float64).ravel())
    room = CLEAR * float(ordered[-1] - ordered[0])

    def above(value: float) -> float:
        larger = ordered[ordered > value]
        return next_float32(value + (min(room, float(larger[0] - value) / 2) if len(larger) else room))

    return above


def choose(good: Statistics, defects: Statistics, wish: Wish, above: Callable[[float], float] | None = None) -> Choice:
    """The threshold that a wish asks for.

    Args:
        good, defects: float, one statistic a picture (see :mod:`edgead.decision`); may be empty where the wish needs none.
        above: the smallest usable threshold above a statistic; None is the next float32 (:func:`next_float32`).

    Raises:
        BadInput: pictures are missing, a rate is not usable, or no threshold does what is asked.
    """
    above = above or next_float32
    good_choice = defect_choice = cost = None
    if wish.value is not None:
        value, method = wish.value, "given by hand"
    elif wish.cost_ratio is not None:
        rate = wish.defect_rate if wish.defect_rate is not None else len(defects) / max(1, len(good) + len(defects))
        cost = by_cost(good, defects, wish.cost_ratio, rate)
        value, method = _within(cost.below, cost.at, above), cost.method
    else:
        if wish.max_miss is not None:
            defect_choice = from_defects(defects, wish.max_miss)
        if wish.max_false_reject is not None or defect_choice is None:
            asked = DEFAULT_FALSE_REJECT if wish.max_false_reject is None else wish.max_false_reject
            good_choice = from_good(good, asked, wish.crossfit)
        value, method = _by_rates(good_choice, defect_choice, wish.between, above)
    band = _band(value, good, good_choice, defect_choice, wish, above)
    low, high = band or (value, value)
    rejected, at_low = counted(good, high), counted(good, low)
    missed = Counted.of(int(np.count_nonzero(defects < low)), len(defects))
    return Choice(value, band, method, good_choice, defect_choice, cost, rejected, at_low.events - rejected.events, missed)


def next_float32(value: float) -> float:
    """The smallest float32 above a number."""
    rounded = np.float32(value)
    while float(rounded) <= value:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def next_whole(value: float) -> float:
    """The smallest whole number above a number."""
    return math.floor(value) + 1.0


def utc_now() -> str:
    """ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _by_rates(
    good: GoodChoice | None, defects: DefectChoice | None, between: bool, above: Callable[[float], float]
) -> tuple[float, str]:
    if defects is None:
        assert good is not None
        return above(good.cut), good.method
    if good is None:
        return defects.at, defects.method
    lowest = above(good.cut)
    if lowest <= defects.at:
        return _within(good.cut, defects.at, above), f"in the middle of both: {good.method}; {defects.method}"
    if between:
        return lowest, f"UNKNOWN between both: {good.method}; {defects.method}"
    raise BadInput(
        f"no threshold keeps both: {percent(good.asked)} false rejects need {lowest:.6g} or above, "
        f"{percent(defects.asked)} misses {defects.at:.6g} or below",
        hint="allow more of one, or make what lies between UNKNOWN: --unknown-band rates",
    )


def _band(
    value: float,
    good: Statistics,
    good_choice: GoodChoice | None,
    defects: DefectChoice | None,
    wish: Wish,
    above: Callable[[float], float],
) -> tuple[float, float] | None:
    if wish.between and good_choice is not None and defects is not None and defects.at < value:
        return defects.at, value
    if wish.band is None or isinstance(wish.band, tuple):
        return wish.band
    low = above(from_good(good, wish.band).cut)
    if low >= value:
        raise BadInput(
            f"{percent(wish.band)} false rejects are reached at {low:.6g}, which leaves no UNKNOWN band below {value:.6g}",
            hint="ask for a larger rate than --max-false-reject, or give more good pictures",
        )
    return low, value


def _band_text(wish: Wish) -> str:
    if wish.between:
        return "rates"
    if isinstance(wish.band, tuple):
        return f"{wish.band[0]:.9g}:{wish.band[1]:.9g}"
    return "" if wish.band is None else f"{100 * wish.band:.9g} %"


def _within(below: float, at: float, above: Callable[[float], float]) -> float:
    """A threshold in the middle of the gap above `below`, up to `at`; one of them may be infinite."""
    if math.isinf(at):
        return above(below)
    return at if math.isinf(below) else min(above(below + (at - below) / 2), at)
