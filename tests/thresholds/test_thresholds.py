import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.thresholds.choose import threshold_from_good


def test_with_many_scores_it_is_the_conformal_quantile() -> None:
    scores = np.arange(1, 200, dtype=np.float32)  # n = 199: rank ceil(200 * 0.99) = 198
    threshold = threshold_from_good(scores, 0.01)
    assert 198.0 < threshold.value < 198.001
    assert "198 of 199" in threshold.method
    assert threshold_from_good(np.arange(1, 100, dtype=np.float32)).value > 99.0


def test_the_false_reject_promise_holds_on_fresh_scores() -> None:
    rng = np.random.default_rng(0)
    rejected = [float(rng.normal()) >= threshold_from_good(rng.normal(size=120), 0.05).value for _ in range(2000)]
    assert np.mean(rejected) < 0.065


def test_with_few_scores_it_lies_above_all_of_them() -> None:
    scores = np.array([1.0, 1.1, 1.3, 0.9, 1.2])
    threshold = threshold_from_good(scores)
    assert 1.3 < threshold.value < 3.0
    assert "exponential tail over 5" in threshold.method
    assert threshold_from_good(-scores).value > -0.9


def test_equal_scores_are_all_ok() -> None:
    assert threshold_from_good(np.full(3, 2.5, np.float32)).value > 2.5
    assert threshold_from_good(np.full(3, 2.5, np.float32)).value == pytest.approx(2.5)


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan"), 2.0], [1.0, float("inf")]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(BadInput):
        threshold_from_good(np.array(scores))


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(BadInput, match="false reject share"):
        threshold_from_good(np.arange(5.0), 0.0)


@given(st.lists(st.integers(1, 100), min_size=20, max_size=60), st.integers(0, 2**32 - 1))
def test_a_crossfitted_threshold_parts_the_pictures_also_for_an_engine_that_rounds_otherwise(gaps: list[int], seed: int) -> None:
    scores = np.cumsum(gaps) / 10
    rounding = 1e-6 * np.ptp(scores) * np.random.default_rng(seed).uniform(-1, 1, len(scores))
    value = threshold_from_good(scores, crossfit="leave-one-out").value
    assert ((scores + rounding >= value) == (scores >= value)).all()
    assert value - scores[scores < value].max() < 2e-5 * np.ptp(scores)
