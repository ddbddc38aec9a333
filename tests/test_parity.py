"""Comparing two sets of answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgead.decision import enlarged
from edgead.parity import Answers, ask, compare
from edgead.testing import FakeEngine

Array = np.ndarray[Any, Any]
VALUES = st.floats(-1e3, 1e3, width=32)


def answers(scores: list[float], maps: list[float] | None = None) -> Answers:
    values = np.array(maps if maps is not None else scores, np.float32)
    return Answers(np.array(scores, np.float32), values[:, None, None])


@given(arrays(np.float32, 5, elements=VALUES), VALUES)
def test_equal_answers_have_no_error(values: Array, threshold: float) -> None:
    report = compare(Answers(values, values[:, None, None]), Answers(values.copy(), values[:, None, None].copy()), threshold)
    assert (report.frames, report.score_error, report.map_error, report.score_deviation, report.label_flips) == (5, 0, 0, 0, 0)


@given(st.floats(0.125, 100, width=32))
def test_errors_are_relative_to_the_range_of_the_reference_maps(span: float) -> None:
    reference = answers([0.0, 0.0, 0.0, 0.0], [0.0, span, 0.0, 0.0])
    report = compare(reference, answers([0.0, 0.0, 0.5 * span, 0.0], [0.0, span, 0.25 * span, 0.0]), 1e9)
    assert math.isclose(report.score_error, 0.5, rel_tol=1e-5)
    assert math.isclose(report.map_error, 0.25, rel_tol=1e-5)


def test_a_label_flips_when_the_two_sides_of_the_threshold_differ() -> None:
    reference = answers([1.0, 2.0, 3.0])
    assert compare(reference, answers([1.0, 1.9, 3.0]), 2.0).label_flips == 1
    assert compare(reference, answers([1.0, 1.9, 3.0]), 2.0, 1.9).label_flips == 0


def test_what_is_not_finite_is_infinitely_wrong() -> None:
    report = compare(answers([1.0, 2.0]), answers([1.0, math.nan]), 2.0)
    assert report.score_error == math.inf
    assert report.map_error == math.inf


def test_a_constant_reference_still_compares() -> None:
    assert compare(answers([1.0, 1.0]), answers([1.0, 1.5]), 2.0).score_error == 0.5


def test_smaller_maps_are_compared_at_the_references_size() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(size=(3, 8, 8)).astype(np.float32)
    large = np.stack([enlarged(one, (64, 64)) for one in small])
    scores = np.zeros(3, np.float32)
    assert compare(Answers(scores, large), Answers(scores, small), 1.0).map_error == 0
    shifted = compare(Answers(scores, large), Answers(scores, small + np.float32(0.5 * np.ptp(large))), 1.0)
    assert math.isclose(shifted.map_error, 0.5, rel_tol=1e-3)
    small[1, 0, 0] = math.nan
    assert compare(Answers(scores, large), Answers(scores, small), 1.0).map_error == math.inf
    with pytest.raises(ValueError, match="do not fit"):
        compare(Answers(scores, small), Answers(scores, large), 1.0)


def test_where_only_a_score_is_told_only_scores_are_compared() -> None:
    reference = Answers(np.array([1.0, 2.0], np.float32), np.arange(32, dtype=np.float32).reshape(2, 4, 4))
    told = Answers(np.array([1.0, 2.5], np.float32), np.array([1.0, 2.5], np.float32)[:, None, None])
    report = compare(reference, told, 9.0)
    assert report.map_error == 0.0
    assert math.isclose(report.score_error, 0.5 / 31, rel_tol=1e-6)
    broken = Answers(told.scores, np.array([1.0, math.inf], np.float32)[:, None, None])
    assert compare(reference, broken, 9.0).map_error == math.inf


def test_asking_no_frames_gives_no_answers() -> None:
    assert ask(FakeEngine([1.0]), []).scores.shape == (0,)
