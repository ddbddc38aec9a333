"""Thresholds from labelled pictures: miss rates, costs, both rates together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgead.errors import BadInput
from edgead.thresholds.choose import Choice, Wish, choose, next_whole
from edgead.thresholds.operating import Counted, by_cost, from_defects

GOOD = np.arange(200, dtype=np.float64)  # 0 .. 199
DEFECTS = np.arange(100, dtype=np.float64) + 150  # 150 .. 249
NONE = np.empty(0)


def test_a_miss_rate_takes_the_defect_of_that_rank() -> None:
    choice = from_defects(DEFECTS, 0.05)  # floor(101 * 0.05) = 5
    assert (choice.at, choice.guaranteed, choice.more_needed) == (154.0, True, 0)
    assert choice.rate == pytest.approx(5 / 101)
    assert choice.rate < choice.bound < 0.1


def test_too_few_defects_catch_all_of_them_and_promise_what_they_can() -> None:
    choice = from_defects(DEFECTS[:10], 0.01)
    assert (choice.at, choice.guaranteed, choice.more_needed, choice.rate) == (150.0, False, 89, 1 / 11)
    assert "no guarantee for 1 %" in choice.method


@pytest.mark.parametrize(
    ("defects", "rate", "says"),
    [
        (NONE, 0.1, "needs pictures of defects"),
        (np.array([np.nan]), 0.1, "not finite"),
        (DEFECTS, 0.0, "miss rate of 0"),
        (DEFECTS, 1.0, "miss rate of 1"),
        (np.array([-np.inf, 1.0]), 0.1, "1 of 2 defects are OK whatever the threshold"),
        (np.full(3, np.inf), 0.1, "every defect is NG whatever"),
    ],
)
def test_unusable_defects_are_refused(defects: np.ndarray, rate: float, says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadInput, match=says):
        from_defects(defects, rate)


def test_the_cheapest_threshold_follows_the_costs() -> None:
    good, defects = np.array([0.0, 1.0, 2.0, 5.0]), np.array([3.0, 6.0, 7.0, 8.0])
    dear_miss = by_cost(good, defects, 100.0, 0.5)
    assert (dear_miss.below, dear_miss.at) == (2.0, 3.0)  # one false reject rather than one miss
    assert dear_miss.cost == pytest.approx(0.5 * 1 / 4)
    cheap_miss = by_cost(good, defects, 0.5, 0.5)
    assert (cheap_miss.below, cheap_miss.at) == (5.0, 6.0)
    assert by_cost(good, defects, 100.0, 0.001).at == 6.0  # rare defects: the same ratio buys less
    assert dear_miss.low <= dear_miss.at <= dear_miss.high
    assert by_cost(good, defects, 100.0, 0.5) == dear_miss  # the bootstrap has its seed


def test_the_cheapest_threshold_is_the_cheapest_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        good, defects = np.round(rng.normal(size=30), 1), np.round(rng.normal(1.5, size=20), 1)
        ratio, share = float(rng.uniform(0.5, 50)), float(rng.uniform(0.01, 0.9))
        value = choose(good, defects, Wish(cost_ratio=ratio, defect_rate=share)).value

        def cost(at: float) -> float:
            return share * ratio * (defects < at).mean() + (1 - share) * (good >= at).mean()  # noqa: B023

        everywhere = [cost(at) for at in np.arange(-5, 8, 0.05)]
        assert cost(value) == pytest.approx(min(everywhere))


@pytest.mark.parametrize(
    ("ratio", "share", "says"), [(0.0, 0.1, "cost ratio"), (np.inf, 0.1, "cost ratio"), (5.0, 0.0, "defect")]
)
def test_unusable_costs_are_refused(ratio: float, share: float, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        by_cost(GOOD, DEFECTS, ratio, share)


def test_both_rates_meet_in_the_middle() -> None:
    choice = choose(GOOD, DEFECTS + 100, Wish(max_false_reject=0.01, max_miss=0.05))
    assert choice.value == pytest.approx((198 + 254) / 2, abs=0.01)
    assert (choice.rejected.events, choice.missed.events, choice.guaranteed) == (0, 0, True)


def test_rates_that_no_threshold_keeps_are_refused_or_become_a_band() -> None:
    wish = Wish(max_false_reject=0.01, max_miss=0.05)
    with pytest.raises(BadInput, match="no threshold keeps both: 1 % false rejects need 198 or above, 5 % misses 154 or below"):
        choose(GOOD, DEFECTS, wish)
    choice = choose(GOOD, DEFECTS, dataclasses.replace(wish, between=True))
    assert choice.band == (154.0, choice.value)
    assert 198.0 < choice.value < 198.001
    assert (choice.rejected.events, choice.unsure, choice.missed.events) == (1, 45, 4)


def test_a_band_begins_where_a_larger_rate_is_reached() -> None:
    choice = choose(GOOD, NONE, Wish(max_false_reject=0.01, band=0.1))
    assert choice.band is not None
    assert choice.band == (pytest.approx(180, abs=0.001), choice.value)
    assert (choice.rejected.events, choice.unsure) == (1, 18)
    with pytest.raises(BadInput, match="leaves no UNKNOWN band"):
        choose(GOOD, NONE, Wish(max_false_reject=0.1, band=0.05))


def test_a_minimal_area_is_a_whole_number_that_holds_the_rate() -> None:
    areas = np.array([0.0] * 90 + [3.0] * 9 + [7.0])
    choice = choose(areas, NONE, Wish(max_false_reject=0.05), next_whole)
    assert (choice.value, choice.rejected.events) == (4.0, 1)


def test_by_hand_nothing_is_promised_only_counted() -> None:
    choice = choose(GOOD, DEFECTS, Wish(value=180.0))
    assert (choice.value, choice.method, choice.guaranteed) == (180.0, "given by hand", False)
    assert (choice.rejected.events, choice.missed.events) == (20, 30)
    facts = choice.chosen(Wish(value=180.0), "edgead threshold", "now", "")
    assert (facts.good, facts.defects, facts.false_reject_rate) == (0, 0, None)


def test_the_interval_of_a_counted_rate_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.02, 0.3):
        intervals = [Counted.of(int(k), 40) for k in rng.binomial(40, rate, 1000)]
        assert np.mean([one.low <= rate <= one.high for one in intervals]) >= 0.95 - 0.02


def test_facts_of_a_choice() -> None:
    wish = Wish(max_false_reject=0.01, max_miss=0.05, between=True)
    choice: Choice = choose(GOOD, DEFECTS, wish)
    facts = choice.chosen(wish, "edgead threshold", "2026-11-22", "d")
    assert (facts.good, facts.defects, facts.max_false_reject, facts.max_miss, facts.band) == (200, 100, 0.01, 0.05, "rates")
    assert facts.guaranteed
    assert facts.false_reject_bound is not None
    assert facts.miss_bound is not None
