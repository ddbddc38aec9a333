"""Which candidate is taken."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgead.calibration.judging.deviation import Limits
from edgead.export.search.journal import Accuracy, Record
from edgead.export.search.pareto import front, noise, ranking, within_loss
from tests.export.search.records import accuracy, record

LOOSE = Limits(1.0, 1.0, 1e6)
RECORDS = st.lists(st.tuples(st.floats(1, 100), st.integers(0, 5)), max_size=8).map(
    lambda items: [record(ms, swapped, str(i)) for i, (ms, swapped) in enumerate(items)]
)


def auroc(one: Record) -> float:
    assert one.accuracy is not None
    return one.accuracy.auroc


def p99(one: Record) -> float:
    assert one.latency is not None
    return one.latency.p99_ms


@given(RECORDS)
def test_no_candidate_beats_one_on_the_front_and_one_there_beats_every_other(records: list[Record]) -> None:
    chosen = front(records)
    for one in records:
        better = [r for r in chosen if p99(r) <= p99(one) and auroc(r) >= auroc(one)]
        assert better
        if one in chosen:
            assert all(p99(r) == p99(one) and auroc(r) == auroc(one) for r in better)


@given(RECORDS, st.floats(1, 100), st.floats(0, 0.3))
def test_only_what_keeps_budget_and_loss_is_ranked_and_all_of_it(records: list[Record], budget_ms: float, drop: float) -> None:
    limits = Limits(1.0, drop, 1e6)
    found = ranking(records, budget_ms, limits)
    kept = [r for r in records if p99(r) <= budget_ms and 1.0 - auroc(r) <= max(drop, 1 / 400) * (1 + 1e-9)]
    assert sorted(r.choice.key for r in found) == sorted(r.choice.key for r in kept)
    if found:
        best, first = max(kept, key=auroc), found[0]
        assert best.accuracy is not None and first.accuracy is not None
        assert auroc(best) - auroc(first) <= noise(best.accuracy, first.accuracy)


def test_the_most_accurate_wins_and_within_noise_the_faster() -> None:
    slow, fast, lossy = record(30, 0), record(20, 0), record(5, 5)
    assert ranking([slow, fast, lossy], 40, LOOSE) == [fast, slow, lossy]
    assert ranking([slow, fast, lossy], 10, LOOSE) == [lossy]
    assert ranking([slow, fast, lossy], 10, Limits(1.0, 0.01, 1e6)) == []


def test_a_first_look_at_the_time_is_not_enough() -> None:
    assert ranking([record(5, full=False)], 40, LOOSE) == []


def test_every_limit_counts() -> None:
    limits = Limits(0.01, 0.005, 0.2)
    assert within_loss(accuracy(), limits)
    assert not within_loss(accuracy(deviation=0.3), limits)
    assert not within_loss(accuracy(flips=2), limits)
    assert not within_loss(accuracy(swapped=1), limits)


@given(st.integers(0, 2**32 - 1))
def test_noise_is_the_spread_of_the_difference_over_other_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, 60)  # what both see the same way cancels out
    one, other = (side(hard[:30] + shift, hard[30:] + 1 + shift) for shift in (0.0, 0.0))
    assert noise(one, other) == 1 / 900
    apart = side(rng.normal(0, 1, 30), rng.normal(1, 1, 30))
    assert noise(one, apart) == noise(apart, one) > 1 / 900


def test_delong_against_resampling() -> None:
    rng = np.random.default_rng(0)
    good, defect = rng.normal(0, 1, (2, 200)), rng.normal(1, 1, (2, 200))
    good[1] += 0.5 * good[0]
    defect[1] += 0.5 * defect[0]
    told = noise(side(good[0], defect[0]), side(good[1], defect[1]))
    drawn = []
    for _ in range(400):
        i, j = rng.integers(0, 200, 200), rng.integers(0, 200, 200)
        drawn.append(side(good[0][i], defect[0][j]).auroc - side(good[1][i], defect[1][j]).auroc)
    assert 0.8 < told / np.std(drawn) < 1.25


def side(good: np.ndarray, defect: np.ndarray) -> Accuracy:
    share = float((defect[:, None] > good).mean())
    return dataclasses.replace(accuracy(), auroc=share, good=tuple(map(float, good)), defect=tuple(map(float, defect)))
