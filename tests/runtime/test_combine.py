"""Several verdicts become one: the truth table, exhaustively."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.runtime.loop.combine import Combine, Settle
from edgead.types import Inspection, StageTimes, Verdict

OK, NG, UNKNOWN = Verdict.OK, Verdict.NG, Verdict.UNKNOWN


def inspection(verdict: Verdict, score: float = 0.0, cause: str = "") -> Inspection:
    times = StageTimes(resize_ms=1.0, inference_ms=2.0, decision_ms=3.0)
    return Inspection(1, verdict, cause, score, 100.0, None, times, None)


def outcomes(views: tuple[Verdict, ...]) -> list[tuple[Verdict, ...]]:
    """What the views may be in truth: an UNKNOWN may be either."""
    return list(product(*[(OK, NG) if view is UNKNOWN else (view,) for view in views]))


@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_every_combination_of_up_to_four_views(views: int) -> None:
    for ng_views in range(1, views + 1):
        combine = Combine(views, ng_views)
        for seen in product(Verdict, repeat=views):
            told = combine.verdict(seen)
            truths = [sum(view is NG for view in truth) >= ng_views for truth in outcomes(seen)]
            if UNKNOWN not in seen:
                assert told is (NG if truths[0] else OK)
            else:
                assert told is (NG if all(truths) else UNKNOWN), "UNKNOWN unless NG is certain; never OK"
            if told is OK:
                assert seen.count(OK) >= views - ng_views + 1


@pytest.mark.parametrize("views", [2, 3, 4])
def test_missing_views_count_as_unknown(views: int) -> None:
    for ng_views in range(1, views + 1):
        combine = Combine(views, ng_views)
        for count in range(views):
            for seen in product(Verdict, repeat=count):
                assert combine.verdict(seen) is combine.verdict((*seen, *[UNKNOWN] * (views - count)))


def test_the_view_that_decides_gives_score_and_cause_and_the_stages_are_added() -> None:
    combine = Combine.named(3, 2)
    part = combine.inspection([inspection(NG, 120.0), inspection(NG, 150.0), inspection(OK, 10.0)])
    assert (part.verdict, part.score, len(part.views)) == (NG, 150.0, 3)
    assert (part.times.resize_ms, part.times.inference_ms, part.times.decision_ms) == (3.0, 6.0, 9.0)
    assert combine.inspection([inspection(OK, 5.0), inspection(OK, 30.0), inspection(NG, 150.0)]).score == 30.0
    unsure = combine.inspection([inspection(OK), inspection(UNKNOWN, math.nan, "late"), inspection(UNKNOWN, math.nan, "x")])
    assert (unsure.verdict, unsure.cause) == (UNKNOWN, "late")


def test_names_for_the_usual_ways() -> None:
    assert Combine.named(4) == Combine.named(4, "any") == Combine(4, 1)
    assert Combine.named(4, "all") == Combine(4, 4)
    assert Combine.named(4, 3) == Combine(4, 3)
    for views, how in ((0, "any"), (3, 0), (3, 4), (3, "most")):
        with pytest.raises(BadInput):
            Combine.named(views, how)


@given(st.lists(st.sampled_from(Verdict), max_size=40), st.integers(1, 4))
def test_settling_never_says_ok_early_and_leaves_ok_at_once(verdicts: list[Verdict], frames: int) -> None:
    settle = Settle(frames)
    run = 0
    for verdict in verdicts:
        told = settle(inspection(verdict, 0.0)).verdict
        run = run + 1 if verdict is OK else 0
        if verdict is not OK:
            assert told is verdict, "the safe direction is immediate"
        else:
            assert (told is OK) is (run >= frames)


def test_settling_keeps_telling_what_was_told_before() -> None:
    settle = Settle(2)
    told = [settle(inspection(verdict)) for verdict in (OK, OK, NG, OK, OK)]
    assert [(i.verdict, i.cause) for i in told] == [(UNKNOWN, "settling"), (OK, ""), (NG, ""), (NG, "settling"), (OK, "")]


def test_settling_refuses_what_means_nothing() -> None:
    for frames, margin in ((0, 0.0), (1, -1.0), (1, math.nan)):
        with pytest.raises(BadInput):
            Settle(frames, margin)
