"""A triggered station: which frame belongs to which part, several frames a part, software and hardware triggers."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgead.clock import MonotonicClock
from edgead.errors import BadInput, CameraLost, EndOfStream, OutputError, UnreadableFrame
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.settings import StageBudgets, StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.triggers import CameraTrigger, IntervalTrigger, SoftwareTrigger
from edgead.testing import AskedCamera, FakeCamera, FakeClock, FakeEngine, FakeOutput, PushedCamera
from edgead.types import Trigger
from tests.runtime._line import BAD, GOOD, RECIPE, LineUnderTest, brightness, words
from tests.waiting import PATIENCE_S, until


def test_each_trigger_gets_the_frame_after_it_and_the_lines_own_part_id() -> None:
    with LineUnderTest() as line:
        for picture, part_id in ((GOOD, 4711), (BAD, 4712), (GOOD, None)):
            trigger = line.fire(part_id)
            line.push(picture)
            found = line.verdict()
            assert found.trigger == trigger
            assert found.trigger is not None
            assert found.trigger.part_id == part_id
            assert found.frame is not None
            assert found.frame.trigger_id == trigger.trigger_id
            assert found.deadline_ns == trigger.at_ns + 100_000_000
            line.pass_time(10)
        line.end()
    assert [words(i) for i in line.seen] == ["OK", "NG", "OK"]
    assert line.station.stats.drops == {}


def test_a_frame_from_before_the_trigger_is_never_used() -> None:
    with LineUnderTest() as line:
        line.push(BAD)  # the part before
        line.pass_time(1)
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert line.station.stats.drops == {"unused": 1}


def test_a_frame_that_came_while_the_trigger_was_on_its_way_is_found() -> None:
    with LineUnderTest() as line:
        trigger = Trigger(1, line.clock.now_ns(), source="plc")
        line.pass_time(5)
        line.push(GOOD)
        line.pass_time(5)
        assert isinstance(line.triggers, SoftwareTrigger)
        with line.triggers._condition:  # what a device's source does: it stamps when it sees, and hands over later
            line.triggers._waiting.append(trigger)
            line.triggers._condition.notify_all()
        assert line.told(1) == ["OK"]
        line.end()


def test_a_part_is_in_front_of_the_camera_only_after_the_delay() -> None:
    with LineUnderTest(trigger_delay_ms=20) as line:
        line.fire()
        line.pass_time(10)
        line.push(BAD)  # too early: what was there before
        line.pass_time(10)
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert line.station.stats.drops == {"unused": 1}


def test_two_parts_in_flight_get_their_own_frames() -> None:
    with LineUnderTest(trigger_delay_ms=50) as line:
        line.fire()
        line.pass_time(20)
        line.fire()
        line.pass_time(30)
        line.push(BAD)
        line.pass_time(20)
        line.push(GOOD)
        assert line.told(2) == ["NG", "OK"]
        line.end()


def test_no_frame_in_the_window_is_a_timeout_and_the_frame_after_it_is_not_used() -> None:
    with LineUnderTest(frame_window_ms=30) as line:
        line.fire()
        line.pass_time(31)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        line.push(GOOD)
        line.pass_time(1)
        line.fire()
        line.push(BAD)
        assert line.told(1) == ["NG"]
        line.end()
    assert line.station.stats.drops == {"unused": 1}


def test_several_frames_make_one_verdict() -> None:
    with LineUnderTest(frames_per_part=3, combine=2) as line:
        for pictures in ((GOOD, BAD, GOOD), (BAD, GOOD, BAD), (GOOD, GOOD, UnreadableFrame("torn"))):
            line.fire()
            line.push(*pictures)
            line.pass_time(1)
            found = line.verdict()
            assert len(found.views) == 3
        line.end()
    assert [words(i) for i in line.seen] == ["OK", "NG", "UNKNOWN unreadable_image: torn"]


def test_a_missing_view_is_unknown_unless_ng_is_certain() -> None:
    with LineUnderTest(frames_per_part=2, frame_window_ms=50) as line:
        for picture in (GOOD, BAD):
            line.fire()
            line.push(picture)
            assert line.camera.drained()  # type: ignore[attr-defined]
            line.pass_time(51)
            line.verdict()
        line.end()
    assert [words(i) for i in line.seen] == ["UNKNOWN camera_timeout", "NG"]


def test_a_camera_with_a_software_trigger_is_asked_for_each_part() -> None:
    clock = FakeClock(manual=True)
    camera = AskedCamera(clock, [GOOD, BAD, GOOD])
    with LineUnderTest(camera=camera, clock=clock) as line:
        for expected in ("OK", "NG", "OK"):
            line.fire()
            assert line.told(1) == [expected]
        assert camera.asked == 3
        line.end()


def test_a_software_trigger_comes_after_the_delay_and_a_late_picture_is_not_the_next_parts() -> None:
    clock = FakeClock(manual=True)
    camera = AskedCamera(clock, [])
    with LineUnderTest(camera=camera, clock=clock, trigger_delay_ms=10, frame_window_ms=20) as line:
        line.fire()
        line.pass_time(9)
        assert camera.asked == 0
        line.pass_time(1)
        until(lambda: camera.asked == 1)
        line.pass_time(25)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        camera.push(GOOD)  # of the first part, late
        line.pass_time(1)
        camera._pictures.append(BAD)
        line.fire()
        line.pass_time(10)
        assert line.told(1) == ["NG"]
        line.end()
    assert line.station.stats.drops == {"unused": 1}


@pytest.mark.parametrize(("skipped", "expected"), [(0, "UNKNOWN frame_doubtful"), (1, "NG")])
def test_a_picture_that_may_be_the_part_befores_is_not_used(skipped: int, expected: str) -> None:
    clock = FakeClock(manual=True)
    camera = AskedCamera(clock, [])
    with LineUnderTest(camera=camera, clock=clock, frame_window_ms=20) as line:
        camera.push(GOOD)  # taken as the camera was opened: emptied with the first question
        line.pass_time(1)
        line.fire()
        line.wait_for_frame()
        assert camera.drained()
        line.pass_time(21)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        line.fire()
        until(lambda: camera.asked == 2)
        camera.push(BAD, skipped=skipped)  # of the first part, very late, or of this one, and the first one got lost
        assert line.told(1) == [expected]
        line.pass_time(1)
        camera._pictures.append(BAD)
        line.fire()
        assert line.told(1) == ["NG"]
        line.end()


def test_a_recording_gives_each_trigger_its_next_picture_and_then_the_run_ends() -> None:
    clock = FakeClock(manual=True)
    camera = FakeCamera([GOOD, UnreadableFrame("torn"), BAD], clock=clock)
    with LineUnderTest(camera=camera, clock=clock) as line:
        for expected in ("OK", "UNKNOWN unreadable_image: torn", "NG", "UNKNOWN end_of_stream"):
            line.fire()
            assert line.told(1) == [expected]
        line.thread.join(PATIENCE_S)
        assert not line.thread.is_alive()


def test_the_cameras_own_line_makes_every_frame_a_part_and_every_gap_too() -> None:
    with LineUnderTest(triggers=CameraTrigger()) as line:
        line.push(GOOD, BAD)
        line.push(GOOD, skipped=2)
        line.push(UnreadableFrame("torn"))
        assert line.told(6) == [
            "OK",
            "NG",
            "UNKNOWN frame_lost",
            "UNKNOWN frame_lost",
            "OK",
            "UNKNOWN unreadable_image: torn",
        ]
        line.end()
    assert {i.trigger.source for i in line.seen if i.trigger} == {"camera"}


def test_frames_of_the_cameras_line_are_grouped_by_their_window() -> None:
    with LineUnderTest(triggers=CameraTrigger(), frames_per_part=2, frame_window_ms=20) as line:
        line.push(GOOD)
        line.pass_time(10)
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.pass_time(50)
        line.push(BAD)  # its second view never comes
        line.pass_time(50)
        line.push(GOOD, GOOD)
        assert line.told(2) == ["NG", "OK"]
        line.end()


def test_a_lost_camera_on_its_own_line_is_one_unknown_without_a_trigger() -> None:
    with LineUnderTest(triggers=CameraTrigger()) as line:
        line.push(GOOD, CameraLost("unplugged"))
        assert line.told(2) == ["OK", "UNKNOWN camera_lost"]
        assert line.seen[-1].trigger is None
        line.stop()


def test_triggers_at_an_interval() -> None:
    clock = FakeClock(manual=True)
    triggers = IntervalTrigger(0.01, clock, count=3)
    camera = FakeCamera([GOOD, BAD, GOOD], clock=clock)
    with LineUnderTest(camera=camera, triggers=triggers, clock=clock) as line:
        while not line.seen or len(line.seen) < 3:
            line.pass_time(1)
            threading.Event().wait(0.001)
        line.thread.join(PATIENCE_S)
    assert [words(i) for i in line.seen] == ["OK", "NG", "OK"]


def test_max_parts_takes_so_many_triggers_and_leaves_the_others_for_the_next_run() -> None:
    clock = FakeClock(manual=True)
    triggers = SoftwareTrigger(clock)
    for _ in range(5):
        triggers.fire()
    with LineUnderTest(camera=FakeCamera([GOOD] * 9, clock=clock), triggers=triggers, clock=clock, max_parts=2) as line:
        line.thread.join(PATIENCE_S)
        assert len(line.seen) == 2
        assert line.station.run(max_parts=2).parts == 4
        triggers.end()
        assert line.station.run().parts == 5


def test_part_ids_go_on_after_a_restart() -> None:
    clock = FakeClock(manual=True)
    triggers = SoftwareTrigger(clock)
    triggers.fire()
    seen: list[int] = []
    camera = FakeCamera([GOOD], clock=clock)
    with Station(
        camera, FakeEngine([0.0]), RECIPE, 1.0, StationSettings(budget_ms=10), clock=clock, triggers=triggers, first_part_id=1000
    ) as station:
        station.on_inspection(lambda i: seen.append(i.part_id)).run(max_parts=1)
    assert seen == [1000]


def test_an_output_that_expects_parts_hears_of_each_before_its_verdict() -> None:
    class Expecting(FakeOutput):
        def __init__(self) -> None:
            super().__init__()
            self.expected: list[tuple[int, int | None]] = []

        def expect(self, part_id: int, trigger: Trigger) -> None:
            assert all(i.part_id != part_id for i in self.told)
            self.expected.append((part_id, trigger.part_id))

    output = Expecting()
    with LineUnderTest(outputs=[output]) as line:
        for part_id in (7, 8):
            line.fire(part_id)
            line.push(GOOD)
            line.verdict()
            line.pass_time(1)
        line.end()
    assert output.expected == [(1, 7), (2, 8)]


def test_a_trigger_source_that_fails_is_counted_and_the_next_trigger_is_served(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky(SoftwareTrigger):
        faults = 3

        def wait(self, timeout_s: float) -> Trigger | None:
            if self.faults:
                self.faults -= 1
                raise OutputError("the PLC does not answer") if self.faults else ZeroDivisionError("a bug")
            return super().wait(timeout_s)

    clock = FakeClock(manual=True)
    with LineUnderTest(triggers=Flaky(clock), clock=clock) as line:
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert line.station.stats.errors == {"triggers": 3}
    assert "the trigger source failed (1): the PLC does not answer" in caplog.text


def test_a_faster_engine_answers_what_the_main_one_would_not_finish_in_time() -> None:
    clock = FakeClock(manual=True)
    main = FakeEngine(brightness, clock=clock, takes_s=0.08)
    fallback = Answerer(FakeEngine(brightness), RECIPE, 100.0, "small")
    with LineUnderTest(engine=main, clock=clock, fallback=fallback, engine_name="main") as line:
        for waited_ms, picture, engine in ((0, GOOD, "main"), (30, BAD, "small"), (10, GOOD, "main")):
            line.fire()
            line.pass_time(waited_ms)  # until its frame comes
            line.push(picture)
            found = line.verdict()
            assert (found.engine, found.verdict.value) == (engine, "NG" if picture is BAD else "OK")
            line.pass_time(1)
        line.end()
    assert line.station.stats.engines == {"main": 2, "small": 1}


def test_limits_of_single_stages_and_parts_that_are_rejected_when_late() -> None:
    clock = FakeClock(manual=True)
    engine = FakeEngine([0.0], clock=clock, takes_s=0.03)
    with LineUnderTest(
        engine=engine,
        camera=FakeCamera([GOOD], clock=clock),
        clock=clock,
        stage_budget_ms=StageBudgets(inference=20),
        on_late="reject",
    ) as line:
        line.fire()
        assert line.told(1) == ["NG late: inference"]
        line.end()
    assert line.station.stats.late == {"inference": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget_ms": None}, "latency budget"),
        ({"settle_frames": 3}, "settle"),
        ({"trigger_delay_ms": -1.0}, "trigger delay"),
        ({"frame_window_ms": 0.0}, "frame window"),
        ({"max_waiting": 0}, "1 or more"),
        ({"on_late": "ignore"}, "late parts"),
        ({"combine": "some"}, "combined"),
        ({"frames_per_part": 2, "combine": 3}, "3 NG views of 2"),
        ({"triggers": CameraTrigger()}, "no trigger line"),
        ({"triggers": None, "frames_per_part": 2}, "need triggers"),
        ({"frozen_after": 1}, "frozen"),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"budget_ms": 100.0, "triggers": SoftwareTrigger(), **options}
    triggers = given.pop("triggers")
    settings = StationSettings(**given)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=message):
        Station(FakeCamera([GOOD]), FakeEngine([0.0]), RECIPE, 1.0, settings, triggers=triggers)  # type: ignore[arg-type]


def test_on_the_machines_own_clock_nothing_is_lost() -> None:
    clock = MonotonicClock()
    triggers = SoftwareTrigger(clock)
    seen: list[int] = []
    output = FakeOutput()
    camera = AskedCamera(clock, [GOOD, BAD] * 100)
    with Station(
        camera,
        FakeEngine(brightness),
        RECIPE,
        100.0,
        StationSettings(budget_ms=10_000, max_waiting=300),
        [output],
        clock,
        triggers=triggers,
    ) as station:
        station.on_inspection(lambda i: seen.append(i.part_id), capacity=1000)
        thread = threading.Thread(target=station.run)
        thread.start()
        for _ in range(200):
            triggers.fire()
        triggers.end()
        thread.join(PATIENCE_S)
        camera.end()
    assert seen == list(range(1, 201))
    assert station.stats.verdicts == {"OK": 100, "NG": 100}
    assert len(output.told) + station.stats.undelivered["FakeOutput"] == 200


def test_a_camera_that_runs_by_itself_and_ends_ends_the_run() -> None:
    clock = FakeClock(manual=True)
    camera = PushedCamera(clock)
    with LineUnderTest(camera=camera, clock=clock) as line:
        line.fire()
        camera.push(np.array(GOOD))
        assert line.told(1) == ["OK"]
        camera.end()
        line.thread.join(PATIENCE_S)
        assert not line.thread.is_alive()
        with pytest.raises(EndOfStream):
            camera.grab(0)


@pytest.mark.parametrize("interval_s", [0.001, 0.03])
def test_an_interval_that_is_shorter_than_a_look_at_the_camera_ends_with_its_recording(interval_s: float) -> None:
    clock = MonotonicClock()
    camera = FakeCamera([GOOD, BAD, GOOD], clock=clock)
    triggers = IntervalTrigger(interval_s, clock)
    station = Station(
        camera, FakeEngine(brightness), RECIPE, 100.0, StationSettings(budget_ms=60_000), (), clock, triggers=triggers
    )
    with station:
        runner = threading.Thread(target=station.run, name="test-station")
        runner.start()
        runner.join(PATIENCE_S)
        ended = not runner.is_alive()
        station.stop()
        runner.join()
    assert ended
    assert station.stats.verdicts["OK"] == 2 and station.stats.verdicts["NG"] == 1
    assert station.stats.triggers == station.stats.parts
