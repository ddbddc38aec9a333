"""Parts that are UNKNOWN because the engine fails are told, not only recorded."""

from __future__ import annotations

import pytest

from edgead.runtime.loop.answers import CALM, NOTICE, AnswerWatch
from edgead.runtime.plc.signals import Cause
from edgead.types import Inspection, StageTimes, Verdict


def seen(verdict: Verdict, cause: str = "") -> Inspection:
    return Inspection(1, verdict, cause, 1.0, 2.0, None, StageTimes(), None)


@pytest.mark.parametrize("cause", ["engine_error: out of memory", "score_not_finite", "bad_frame: no picture", "no_map"])
def test_an_engine_that_fails_is_told_once_and_taken_back_when_it_answers_again(cause: str) -> None:
    told: list[tuple[str, str]] = []
    watch = AnswerWatch(lambda name, text: told.append((name, text)))
    for _ in range(50):
        watch.see(seen(Verdict.UNKNOWN, cause))
    assert len(told) == 1 and told[0][0] == NOTICE
    assert told[0][1].startswith(f"parts are UNKNOWN: {cause}; look at: ")
    for _ in range(CALM - 1):
        watch.see(seen(Verdict.OK))
    watch.see(seen(Verdict.UNKNOWN, cause))  # now and then is not well
    for _ in range(2 * CALM):
        watch.see(seen(Verdict.NG))
    assert told[1:] == [(NOTICE, "")]


def test_what_is_no_fault_of_the_engine_is_not_told_as_one() -> None:
    told: list[tuple[str, str]] = []
    watch = AnswerWatch(lambda name, text: told.append((name, text)))
    for cause in ("unsure", "camera_timeout", "late", "plc_lost"):
        watch.see(seen(Verdict.UNKNOWN, cause))
    assert told == []


def test_each_cause_that_is_watched_has_a_number_for_the_plc() -> None:
    assert Cause.of("not_recorded: the disk is full") is Cause.NOT_RECORDED == 36
    assert Cause.of("engine_error: x") is Cause.ENGINE_ERROR
