"""Whatever goes wrong: each trigger gets exactly one verdict, by its deadline, and none that is wrong is OK.

`LineUnderTest` checks at the end of each test what must always hold: one verdict a trigger, in order, no wrong OK.
"""

from __future__ import annotations

import logging
import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import CameraLost, EngineError, OutputError, UnreadableFrame
from edgead.runtime.loop import sinks, station
from edgead.runtime.loop.settings import StationSettings
from edgead.testing import AskedCamera, FakeCamera, FakeClock, FakeEngine, FakeOutput, Hang, PushedCamera
from edgead.types import Image, Inspection, Verdict
from tests.runtime._line import BAD, GOOD, RECIPE, LineUnderTest, words
from tests.waiting import PATIENCE_S, until


def test_an_engine_that_hangs_makes_unknowns_in_time_and_its_late_answer_is_thrown_away() -> None:
    hang = Hang()
    output = FakeOutput()
    with LineUnderTest(engine=FakeEngine([0.0, hang, 0.0]), outputs=[output], hangs=[hang]) as line:
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        until(lambda: output.asserted)
        line.pass_time(1)
        line.fire()
        line.push(GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        line.pass_time(50)
        line.fire()  # while it hangs
        line.pass_time(50)
        assert line.seen[1:] == [], "exactly at its deadline a part is not late yet"
        line.pass_time(1)
        assert line.told(1) == ["UNKNOWN late: inference"]
        until(lambda: not output.asserted)
        line.pass_time(50)
        assert line.told(1) == ["UNKNOWN engine_hang"]
        assert line.station.health().state == "ready", "late is not yet a hang"
        line.pass_time(50)
        health = line.station.health()
        assert (health.state, health.fault) == ("faulted", "part 2 hangs in inference")
        assert health.progress_at_ns < line.clock.now_ns() - 100_000_000
        hang.let_go()
        until(lambda: line.station.stats.late_results == 1)
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        assert line.station.health().state == "ready"
        line.end()
    assert [i.verdict for i in output.told] == [Verdict.OK, Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.OK]


def test_heartbeats_come_only_as_the_loop_makes_progress() -> None:
    hang = Hang()
    output = FakeOutput()
    with LineUnderTest(engine=FakeEngine([hang, 0.0]), outputs=[output], hangs=[hang]) as line:
        until(lambda: output.heartbeats > 0)  # an idle line beats
        line.fire()
        line.push(GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        before = output.heartbeats
        for _ in range(3):
            line.fire()
        line.pass_time(101)
        line.told(4)  # verdicts by the referee are no progress
        assert output.heartbeats <= before + 1  # one may have been on its way
        hang.let_go()
        until(lambda: output.heartbeats > before + 1)
        line.end()


def test_a_stop_while_the_engine_hangs_ends_safe_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "FLUSH_S", 0.05)
    hang = Hang()
    output = FakeOutput()
    line = LineUnderTest(engine=FakeEngine([hang, 0.0]), outputs=[output])
    with line:
        line.fire()
        line.push(GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        line.fire()
        until(lambda: line.station.health().open_parts == 2)
        line.station.stop()
        line.camera.end()  # type: ignore[attr-defined]
        line.thread.join(PATIENCE_S)
        assert not line.thread.is_alive()
        assert isinstance(line.error, EngineError)
        assert "part 1 hangs in inference" in str(line.error)
        assert not output.asserted
        with pytest.raises(EngineError, match="hangs still"):
            line.station.run()
        hang.let_go()
        until(lambda: line.station.stats.late_results == 1)
        until(lambda: not any(t.name == "edgead-loop" for t in threading.enumerate()))
    assert [words(i) for i in line.seen] == ["UNKNOWN stopped", "UNKNOWN stopped"]


@pytest.mark.parametrize("asked", [False, True])
def test_a_camera_whose_adapter_hangs_costs_each_part_a_timeout(asked: bool) -> None:
    clock, hang = FakeClock(manual=True), Hang()
    camera = AskedCamera(clock, [hang, GOOD]) if asked else PushedCamera(clock)
    if not asked:
        camera.push(hang)
    with LineUnderTest(camera=camera, clock=clock, hangs=[hang]) as line:
        line.fire()
        assert hang.entered.acquire(timeout=PATIENCE_S)
        line.wait_for_frame()
        line.pass_time(101)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        line.fire()
        line.wait_for_frame()
        line.pass_time(101)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        line.end()


def test_a_software_trigger_that_hangs_does_not_hold_up_other_triggers() -> None:
    clock, hang = FakeClock(manual=True), Hang()

    class Stuck(AskedCamera):
        def software_trigger(self) -> None:
            hang.wait()
            super().software_trigger()

    with LineUnderTest(camera=Stuck(clock, [GOOD] * 3), clock=clock, hangs=[hang]) as line:
        for _ in range(3):
            line.fire()
        assert hang.entered.acquire(timeout=PATIENCE_S)
        until(lambda: line.station.health().waiting_parts == 2)
        line.wait_for_frame()
        line.pass_time(101)
        assert line.told(3) == ["UNKNOWN camera_timeout"] * 3
        line.end()


def test_a_lost_camera_fails_waiting_parts_at_once_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(manual=True)
    second = PushedCamera(clock)
    first = PushedCamera(clock)
    with caplog.at_level(logging.CRITICAL), LineUnderTest(camera=first, clock=clock, reopen=lambda: second) as line:
        line.fire()
        line.push(CameraLost("unplugged"))
        assert line.told(1) == ["UNKNOWN camera_lost"]
        line.fire()
        assert line.told(1) == ["UNKNOWN camera_lost"]
        assert line.station.health().fault == "the camera is lost"
        line.pass_time(500)
        until(lambda: line.station.stats.reconnects == 1)
        line.camera = second
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert first.closed


def test_garbage_pictures_are_unknown_and_the_line_goes_on() -> None:
    garbage: list[Image | Exception] = [
        UnreadableFrame("half a JPEG"),
        np.zeros((64, 64, 3), np.float64),  # type: ignore[list-item]
        np.zeros((64, 64), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((480, 640, 3), np.uint8),
    ]
    with LineUnderTest() as line:
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        for picture in garbage:
            line.pass_time(1)
            line.fire()
            line.push(picture)
            assert line.verdict().verdict is Verdict.UNKNOWN
        line.pass_time(1)
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert [words(i).partition(":")[0] for i in line.seen[1:-1]] == [
        "UNKNOWN unreadable_image",
        "UNKNOWN bad_frame",
        "UNKNOWN bad_frame",
        "UNKNOWN bad_frame",
        "UNKNOWN wrong_size",
    ]


@pytest.mark.parametrize(
    ("size", "expected"), [(None, "OK"), ((64, 64), "OK"), ((48, 64), "UNKNOWN wrong_size: 64 x 64 px, not 64 x 48")]
)
def test_the_size_of_the_picture_is_the_first_ones_or_the_one_that_was_asked_for(
    size: tuple[int, int] | None, expected: str
) -> None:
    with LineUnderTest(picture_size=size) as line:
        line.fire()
        line.push(GOOD)
        assert line.told(1) == [expected]
        line.pass_time(1)
        line.fire()
        line.push(np.full((32, 64, 3), 10, np.uint8))
        assert line.told(1)[0].startswith("UNKNOWN wrong_size: 64 x 32 px")
        line.end()


def test_a_frozen_picture_is_unknown_until_it_moves() -> None:
    moving = GOOD.copy()
    moving[3, 5] = 11  # not among the pixels that are looked at first
    with LineUnderTest(frozen_after=3) as line:
        for picture in (GOOD, GOOD, GOOD, GOOD, moving, GOOD):
            line.fire()
            line.push(picture)
            line.verdict()
            line.pass_time(1)
        line.end()
    assert [words(i) for i in line.seen] == ["OK", "OK", "UNKNOWN frozen_picture", "UNKNOWN frozen_picture", "OK", "OK"]


def test_engine_faults_are_unknown_and_the_line_goes_on() -> None:
    answers = [0.0, EngineError("device removed"), math.nan, math.inf, ZeroDivisionError("a bug"), 0.0]
    clock = FakeClock(manual=True)
    with LineUnderTest(engine=FakeEngine(answers), camera=FakeCamera([GOOD] * 6, clock=clock), clock=clock) as line:
        for _ in answers:
            line.fire()
        line.told(6)
        line.end()
    assert [words(i) for i in line.seen] == [
        "OK",
        "UNKNOWN engine_error: device removed",
        "UNKNOWN score_not_finite",
        "UNKNOWN score_not_finite",
        "UNKNOWN engine_error: a bug",
        "OK",
    ]


def test_a_burst_of_triggers_is_answered_in_order_and_none_is_dropped() -> None:
    clock, hang = FakeClock(manual=True), Hang()
    camera = FakeCamera([GOOD] * 100, clock=clock)
    with LineUnderTest(engine=FakeEngine([hang, *[0.0] * 100]), camera=camera, clock=clock, hangs=[hang], max_waiting=4) as line:
        line.fire()
        assert hang.entered.acquire(timeout=PATIENCE_S)
        for part_id in range(20):
            line.fire(part_id)
        until(lambda: line.station.health().open_parts == 21)
        hang.let_go()
        line.told(21)
        line.end()
    assert [words(i) for i in line.seen] == ["OK"] * 5 + ["UNKNOWN trigger_overrun"] * 16
    assert [i.trigger.part_id for i in line.seen[1:] if i.trigger] == list(range(20))


def test_a_burst_during_a_hang_gets_all_its_verdicts_by_the_deadline() -> None:
    hang = Hang()
    with LineUnderTest(engine=FakeEngine([hang, 0.0]), hangs=[hang], max_waiting=4) as line:
        line.fire()
        line.push(GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        for _ in range(20):
            line.fire()
        until(lambda: line.station.health().open_parts == 21)
        line.pass_time(101)
        told = line.told(21)
        line.end()
    assert told == ["UNKNOWN late: inference", *["UNKNOWN engine_hang"] * 4, *["UNKNOWN trigger_overrun"] * 16]


def test_a_stop_closes_every_open_part() -> None:
    clock = FakeClock(manual=True)
    with LineUnderTest(clock=clock, camera=AskedCamera(clock, [])) as line:
        for _ in range(3):
            line.fire()
        until(lambda: line.station.health().open_parts == 3)
        line.stop()
    assert [words(i) for i in line.seen] == ["UNKNOWN stopped"] * 3


def test_an_output_that_hangs_costs_only_its_own_queue(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(FakeOutput):
        pass

    hang = Hang()
    stuck, fine = Stuck([hang]), FakeOutput()
    with LineUnderTest(outputs=[stuck, fine], hangs=[hang], output_capacity=2) as line:
        for _ in range(6):
            line.fire()
            line.push(GOOD)
            assert line.told(1) == ["OK"]
            until(lambda: len(fine.told) == len(line.seen))
            line.pass_time(1)
        assert line.station.health().queues["Stuck"] == 2
        line.end()
    stats = line.station.stats
    assert stats.undelivered == {"Stuck": 3}
    assert [i.part_id for i in stuck.told] == [1, 5, 6]
    assert stuck.history[1] == "safe", "after a verdict was lost, none is left standing"
    assert not stuck.asserted
    assert "too slow" in caplog.text


def test_a_verdict_that_cannot_be_told_in_time_is_told_as_unknown() -> None:
    hang = Hang()
    output = FakeOutput([hang])
    with LineUnderTest(outputs=[output], hangs=[hang]) as line:
        for _ in range(2):
            line.fire()
            line.push(GOOD)
            assert line.told(1) == ["OK"]
        assert hang.entered.acquire(timeout=PATIENCE_S)
        line.pass_time(101)
        hang.let_go()
        until(lambda: len(output.told) == 2)
        line.end()
    assert output.history[:3] == ["OK", "safe", "UNKNOWN"]  # the first was told too late, and taken back
    assert words(output.told[1]) == "UNKNOWN late_output"
    assert line.station.stats.late_outputs == {"FakeOutput": 2}
    assert [words(i) for i in line.seen] == ["OK", "OK"], "the verdict itself was in time"


def test_an_output_that_fails_is_left_safe(caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput([OutputError("no answer")])
    with LineUnderTest(outputs=[output]) as line:
        for _ in range(2):
            line.fire()
            line.push(GOOD)
            line.told(1)
            line.pass_time(1)
        line.end()
    assert output.history[:2] == ["safe", "OK"]
    assert line.station.stats.errors == {"FakeOutput": 1}
    assert "no answer" in caplog.text


def test_an_output_that_never_answers_does_not_keep_a_stop_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "FLUSH_S", 0.05)
    hang = Hang()
    line = LineUnderTest(outputs=[FakeOutput([hang])])
    with line:
        line.fire()
        line.push(GOOD)
        line.told(1)
        line.end()
        hang.let_go()
        until(lambda: not any(t.name == "edgead-FakeOutput" for t in threading.enumerate()))


def test_free_running_an_engine_that_hangs_is_late_in_time() -> None:
    clock, hang = FakeClock(manual=True), Hang()
    camera = PushedCamera(clock)
    output = FakeOutput()
    line = LineUnderTest(camera=camera, engine=FakeEngine([0.0, hang, 0.0]), clock=clock, outputs=[output], hangs=[hang])
    line.station._triggers = None  # the same line, free-running
    with line:
        camera.push(GOOD)
        assert line.told(1) == ["OK"]
        until(lambda: output.asserted)
        camera.push(GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        line.pass_time(101)
        assert line.told(1) == ["UNKNOWN late: inference"]
        until(lambda: not output.asserted)
        line.end()
    assert line.station.stats.late_results == 1


def test_free_running_ok_is_signalled_again_only_when_it_has_settled() -> None:
    clock = FakeClock()
    scores = [150.0, 0.0, 0.0, 95.0, 0.0, 0.0, 0.0, 95.0, math.nan, 0.0]
    seen: list[Inspection] = []
    with station.Station(
        FakeCamera([GOOD] * len(scores), clock=clock),
        FakeEngine(scores),
        RECIPE,
        100.0,
        StationSettings(settle_frames=3, hysteresis=10.0),
        clock=clock,
    ) as free:
        free.on_inspection(seen.append).run()
    assert [words(i) for i in seen] == [
        "NG",
        *["NG settling"] * 2,
        "NG settling",  # 95 is not below 100 - 10: the count begins anew
        *["NG settling"] * 2,
        "OK",
        "OK",
        "UNKNOWN score_not_finite",
        "UNKNOWN settling",
    ]


EVENTS = ("good", "bad", "unreadable", "silence", "nan", "crash", "hang", "wrong size", "lost frame")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=12))
@pytest.mark.promise("OK, NG or UNKNOWN(cause). Late, broken or not finite is UNKNOWN, never OK.")
def test_any_sequence_of_faults_gives_each_trigger_its_own_verdict(events: list[str]) -> None:
    expected = {
        "good": "OK",
        "bad": "NG",
        "unreadable": "UNKNOWN unreadable_image",
        "silence": "UNKNOWN camera_timeout",
        "nan": "UNKNOWN score_not_finite",
        "crash": "UNKNOWN engine_error",
        "hang": "UNKNOWN late",
        "wrong size": "UNKNOWN wrong_size",
        "lost frame": "OK",
    }
    hangs: list[Hang] = []
    answers: list[float | Exception | Hang] = []
    for event in events:
        if event in ("good", "lost frame", "bad"):
            answers.append(200.0 if event == "bad" else 0.0)
        elif event == "nan":
            answers.append(math.nan)
        elif event == "crash":
            answers.append(OSError("y"))
        elif event == "hang":
            hangs.append(Hang())
            answers += [hangs[-1], 0.0]
    pictures: dict[str, Image | Exception] = {
        "bad": BAD,
        "unreadable": UnreadableFrame("x"),
        "wrong size": np.zeros((9, 9, 3), np.uint8),
    }
    waiting = list(hangs)
    with LineUnderTest(engine=FakeEngine(answers or [0.0]), hangs=hangs, picture_size=(64, 64)) as line:
        for event in events:
            line.fire()
            if event != "silence":
                line.push(pictures.get(event, GOOD), skipped=event == "lost frame")
            if event == "hang":
                assert waiting[0].entered.acquire(timeout=PATIENCE_S)
            if event == "silence":
                line.wait_for_frame()
            if event in ("hang", "silence"):
                line.pass_time(101)
            assert line.told(1)[0].partition(":")[0] == expected[event]
            if event == "hang":
                results = line.station.stats.late_results
                waiting.pop(0).let_go()
                until(lambda before=results: line.station.stats.late_results == before + 1)  # type: ignore[misc]
            line.pass_time(1)
        line.end()
