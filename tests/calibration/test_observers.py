"""Ranges of activations and the rounding of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgead.calibration.int8.observers import BINS, LEVELS, METHODS, NOTHING, MagnitudeHistogram
from edgead.calibration.int8.rounding import quantize_weight, round_together

Array = np.ndarray[Any, Any]
WEIGHTS = arrays(np.float32, (3, 4, 2, 2), elements=st.floats(-50, 50, width=32))
TENSORS = st.lists(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=5)


def histogram_of(*tensors: Array) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for values in tensors:
        histogram.add(values)
    return histogram


def squared_error(values: Array, scale: float) -> float:
    return float(np.mean((np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale - values) ** 2))


@settings(max_examples=40, deadline=None)
@given(TENSORS)
def test_a_histogram_knows_the_largest_magnitude_and_forgets_nothing(tensors: list[Array]) -> None:
    histogram = histogram_of(*tensors)
    largest = max(float(np.abs(values).max()) for values in tensors)
    largest = largest if largest >= NOTHING else 0.0
    assert histogram.largest == pytest.approx(largest)
    assert histogram.scale("minmax") == pytest.approx(largest / LEVELS if largest else 1.0)
    assert histogram.clipped_share(histogram.scale("minmax")) == 0.0
    for method in METHODS:
        assert 0 < histogram.scale(method) <= histogram.scale("minmax") * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(TENSORS, st.floats(51, 100))
def test_a_percentile_covers_at_least_its_share(tensors: list[Array], percentile: float) -> None:
    scale = histogram_of(*tensors).scale("percentile", percentile)
    values = np.abs(np.concatenate(tensors)).astype(np.float64)
    assert np.mean(values <= LEVELS * scale * (1 + 1e-5)) >= percentile / 100 - 1e-9


def test_mse_and_percentile_clip_a_lonely_outlier_and_minmax_does_not() -> None:
    values = np.random.default_rng(0).normal(0, 1, 190_000).astype(np.float32)
    values[0] = 20.0
    histogram = histogram_of(values)
    assert squared_error(values, histogram.scale("mse")) < squared_error(values, histogram.scale("minmax")) * 0.7
    assert histogram.scale("percentile", 99.99) == pytest.approx(np.quantile(np.abs(values), 0.9999) / LEVELS, rel=2 / BINS * 5)
    assert histogram.clipped_share(3.0 / LEVELS) == pytest.approx(np.mean(np.abs(values) > 3.0), rel=0.1)


def test_the_stated_signal_to_noise_ratio_is_the_real_one() -> None:
    values = np.random.default_rng(0).gamma(2, 1, 100_000).astype(np.float32)
    histogram = histogram_of(values)
    for method in METHODS:
        scale = histogram.scale(method)
        real = 10 * np.log10(np.mean(values.astype(np.float64) ** 2) / squared_error(values, scale))
        assert histogram.sqnr_db(scale) == pytest.approx(real, abs=0.3)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        MagnitudeHistogram().add(np.array([1.0, bad], np.float32))


@settings(deadline=None)
@given(WEIGHTS, st.sampled_from([63, 127]), st.sampled_from([0, None]))
def test_weights_are_rounded_to_the_nearest_step_and_stay_in_range(values: Array, levels: int, axis: int | None) -> None:
    integers, step = quantize_weight(values, axis, levels)
    wide = step if axis is None else step[:, None, None, None]
    assert np.abs(integers.astype(int)).max() <= levels
    assert step.shape == (() if axis is None else (3,))
    assert (np.abs(integers * wide - values) <= 0.5 * wide + 1e-5 * np.abs(values)).all()


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (3, 6), elements=st.floats(-50, 50, width=32)),
    arrays(np.float64, (10, 6), elements=st.floats(-10, 10)),
    st.sampled_from([63, 127]),
)
def test_rounding_together_is_never_worse_and_stays_in_range(rows: Array, inputs: Array, levels: int) -> None:
    nearest, step = quantize_weight(rows, 0, levels)
    covariance = np.cov(inputs.T)
    integers = round_together(rows, nearest, step, levels, covariance)
    assert integers.dtype == np.int8 and np.abs(integers.astype(int)).max() <= levels
    damped = covariance + np.eye(6) * 0.01 * np.trace(covariance) / 6

    def variance(chosen: Array) -> Array:
        error = chosen * step[:, None].astype(np.float64) - rows
        return np.asarray(np.einsum("ok,kl,ol->o", error, damped, error))

    assert (variance(integers) <= variance(nearest) * (1 + 1e-9) + 1e-12).all()


def test_rounding_together_wins_where_inputs_move_together() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(0, 1, (2000, 4)) @ rng.normal(0, 1, (4, 32)) + rng.normal(0, 0.05, (2000, 32))
    rows = rng.normal(0, 1, (16, 32)).astype(np.float32)
    nearest, step = quantize_weight(rows, 0, 63)
    better = round_together(rows, nearest, step, 63, np.cov(inputs.T))
    errors = [np.std(inputs @ (integers * step[:, None] - rows).T) for integers in (nearest, better)]
    assert errors[1] < 0.5 * errors[0]
