"""What is promised holds: on average over 1,000 random splits, and with confidence for single thresholds."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgead.decision import PixelRule, Region, Rule
from edgead.errors import BadInput
from edgead.thresholds.choose import next_float32, next_whole
from edgead.thresholds.conformal import (
    binomial_tail,
    from_good,
    images_needed,
    percent,
    rate_interval,
    upper_rate,
)
from edgead.thresholds.operating import from_defects
from edgead.types import Verdict

SPLITS = 1000
POOLS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=1.5, size=n),
    "heavy-tailed": lambda rng, n: rng.standard_t(1.5, size=n),
    "tied": lambda rng, n: np.round(rng.exponential(size=n), 1),
    "two values": lambda rng, n: rng.integers(0, 2, n).astype(float),
}


@pytest.mark.parametrize("rate", [0.05, 0.005])
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.promise("a guaranteed false-reject rate from good pictures alone")
def test_the_promised_false_reject_rate_holds_over_1000_random_splits(kind: str, rate: float) -> None:
    rng = np.random.default_rng(1)
    pool = POOLS[kind](rng, 600).astype(np.float32)
    rejected = np.empty(SPLITS)
    for i in range(SPLITS):
        order = rng.permutation(len(pool))
        choice = from_good(pool[order[:300]], rate)
        rejected[i] = (pool[order[300:]] >= next_float32(choice.cut)).mean()
    assert choice.guaranteed
    assert choice.rate <= rate
    chance = 4 * rejected.std() / math.sqrt(SPLITS)
    assert rejected.mean() <= choice.rate + chance
    if kind not in ("tied", "two values"):  # without ties it is not merely kept to, but used up
        assert rejected.mean() >= choice.rate - chance


@pytest.mark.parametrize("n", [20, 200])
def test_with_confidence_means_19_thresholds_of_20(n: int) -> None:
    rng = np.random.default_rng(2)
    choices = [from_good(rng.exponential(size=n), 0.05) for _ in range(SPLITS)]
    actual = np.array([math.exp(-choice.cut) for choice in choices])
    broken = float((actual > choices[0].bound).mean())
    assert abs(broken - 0.05) < 4 * math.sqrt(0.05 * 0.95 / SPLITS)
    assert choices[0].rate < choices[0].bound


def test_the_promise_holds_for_the_verdict_by_area() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(240, 24, 24)).astype(np.float32)
    maps = [np.asarray(cv2.GaussianBlur(one, (0, 0), 1.2), np.float32) for one in noise]
    pixel = PixelRule(0.0, 6, (Region.rectangle(0, 0, 1, 0.25, include=False),))
    statistics = np.array([pixel.statistic(one) for one in maps])
    rejected = np.empty(200)
    for i in range(len(rejected)):
        order = rng.permutation(len(maps))
        threshold = next_float32(from_good(statistics[order[:120]], 0.05).cut)
        rejected[i] = (statistics[order[120:]] >= threshold).mean()
    assert rejected.mean() <= 0.05 + 4 * rejected.std() / math.sqrt(len(rejected))
    rule = Rule(0.0, None, pixel, "area").with_level(threshold)
    verdicts = [rule.decide(0.0, maps[i])[0] is Verdict.NG for i in order[120:]]
    assert np.mean(verdicts) == rejected[-1]


@pytest.mark.parametrize("kind", POOLS)
def test_the_promised_miss_rate_holds_over_1000_random_splits(kind: str) -> None:
    rng = np.random.default_rng(4)
    pool = POOLS[kind](rng, 200)
    missed = np.empty(SPLITS)
    for i in range(SPLITS):
        order = rng.permutation(len(pool))
        missed[i] = (pool[order[100:]] < from_defects(pool[order[:100]], 0.05).at).mean()
    assert missed.mean() <= 0.05 + 4 * missed.std() / math.sqrt(SPLITS)


def test_too_few_pictures_are_told_of_and_still_promise_what_they_can() -> None:
    rng = np.random.default_rng(5)
    choice = from_good(rng.normal(size=40), 0.01)
    assert (choice.guaranteed, choice.more_needed, choice.rate) == (False, 59, 1 / 41)
    assert "no guarantee (59 more are needed)" in choice.method
    actual = [1 - math.exp(-math.exp(-from_good(rng.gumbel(size=40), 0.01).cut)) for _ in range(SPLITS)]
    assert np.mean(actual) <= 1 / 41
    assert np.mean(np.array(actual) > choice.bound) <= 0.05


@pytest.mark.parametrize(("rate", "needed"), [(0.5, 1), (0.1, 9), (0.01, 99), (0.001, 999), (0.003, 333), (1 / 3, 2)])
def test_one_picture_less_than_needed_is_no_guarantee(rate: float, needed: int) -> None:
    assert images_needed(rate) == needed
    if needed >= 2:
        assert from_good(np.arange(needed, dtype=float), rate).guaranteed
    if needed > 2:
        short = from_good(np.arange(needed - 1, dtype=float), rate)
        assert (short.guaranteed, short.more_needed) == (False, 1)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    assert upper_rate(0, 299) == pytest.approx(1 - 0.05 ** (1 / 299), abs=1e-10)
    assert rate_interval(3, 50) == pytest.approx((0.01254859, 0.16548195), abs=1e-7)  # scipy.stats.beta.ppf
    assert rate_interval(0, 10) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)), abs=1e-10)
    assert rate_interval(10, 10) == pytest.approx((0.025 ** (1 / 10), 1.0), abs=1e-10)
    assert rate_interval(0, 0) == (0.0, 1.0)
    for events, n in [(0, 5), (7, 20), (4000, 10_000)]:
        assert binomial_tail(events, n, upper_rate(events, n)) == pytest.approx(0.05, abs=1e-6)


def test_thresholds_lie_just_above_what_is_still_good() -> None:
    for value in (1.0, -1.0, 0.0, 1e-30, 2.1, 1e30):
        above = next_float32(value)
        assert above > value
        assert np.nextafter(np.float32(above), np.float32(-np.inf)) <= value
        assert np.float32(above) == above
    assert [next_whole(v) for v in (0.0, 3.0, 3.5)] == [1.0, 4.0, 4.0]


def test_pictures_that_are_always_or_never_ng() -> None:
    always = np.array([np.inf, *range(199)])
    assert from_good(always, 0.01).cut == 198.0  # one of 200 may be
    with pytest.raises(BadInput, match="3 of 200 good images are NG whatever the threshold"):
        from_good(np.array([np.inf] * 3 + [1.0] * 197), 0.01)
    with pytest.raises(BadInput, match="no good image could ever be NG"):
        from_good(np.full(200, -np.inf), 0.01)
    assert from_good(np.array([-np.inf, 1.0, 2.0]), 0.01).cut == 2.0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_rates_that_cannot_be_are_refused(rate: float) -> None:
    with pytest.raises(BadInput, match="false reject share"):
        from_good(np.arange(5.0), rate)


def test_percent_is_short() -> None:
    assert [percent(rate) for rate in (0.001, 0.05, 0.0123456, 1.0)] == ["0.1 %", "5 %", "1.23 %", "100 %"]
