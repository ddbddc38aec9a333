"""What is not there yet when a station starts: cameras, outputs, trigger lines and links."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgead.errors import BadInput, CameraError, CameraLost, MissingExtra, OutputError
from edgead.runtime.absent import AbsentCamera, Opening
from edgead.runtime.later import PAUSE_S, LateLink, LateOutput, Later, LateTriggers
from edgead.runtime.loop.triggers import CameraTrigger
from edgead.runtime.opening import Attempts
from edgead.runtime.outputs.gpio import GpioOutput, GpioSettings, GpioTrigger
from edgead.runtime.plc.device import LinkError
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.testing import AskedCamera, FakeCamera, FakeClock, FakeOutput, Hang, PushedCamera
from edgead.testing.plc import FakeChip
from edgead.types import Camera, Inspection, StageTimes, Verdict
from tests.runtime._line import BAD, GOOD, LineUnderTest
from tests.waiting import PATIENCE_S, until

AWAY = AbsentCamera(CameraLost("no power", hint="switch it on"))


def picture() -> FakeCamera:
    return FakeCamera([np.zeros((4, 4, 3), np.uint8)], live=True)


# Cameras


def test_a_camera_that_hangs_as_it_is_opened_is_lost_at_first_and_used_once_it_is_open() -> None:
    hang, opened, camera = Hang(), [], picture()

    def open_slowly() -> Camera:
        opened.append(1)
        hang.wait()
        return camera

    opening = Opening("top", open_slowly)
    opening.begin()
    absent = opening.first(0.01)
    assert isinstance(absent, AbsentCamera) and "camera top does not open in time" in str(absent.fault)
    with pytest.raises(CameraLost, match="does not open in time"):
        absent.grab(1.0)
    hang.let_go()
    assert opening() is camera and opened == [1]  # never two attempts at once
    assert opening() is camera and opened == [1, 1]


class Panic(BaseException):
    """As native extensions raise it."""


@pytest.mark.parametrize(
    "fault", [CameraLost("unplugged"), CameraError("it refuses"), RuntimeError("an adapter's own bug"), Panic("in its driver")]
)
def test_whatever_is_wrong_with_a_camera_makes_it_absent(fault: BaseException) -> None:
    def fail() -> Camera:
        raise fault

    absent = Opening("top", fail).first(PATIENCE_S)
    assert isinstance(absent, AbsentCamera) and str(fault) in str(absent.fault)


@pytest.mark.parametrize("fault", [BadInput("no such setting"), MissingExtra("pypylon is not installed")])
def test_whatever_is_wrong_with_the_file_ends_the_start(fault: Exception) -> None:
    def fail() -> Camera:
        raise fault

    with pytest.raises(type(fault)):
        Opening("top", fail).first(PATIENCE_S)


def test_a_stop_waits_for_no_camera_that_is_being_opened_and_closes_what_opens_after_it() -> None:
    hang, camera, told = Hang(), picture(), []

    def open_slowly() -> Camera:
        hang.wait()
        return camera

    def ask() -> None:
        with pytest.raises(CameraLost) as caught:
            opening()
        told.append(str(caught.value))

    opening = Opening("top", open_slowly)
    asking = threading.Thread(target=ask, name="test-ask")
    asking.start()
    assert hang.entered.acquire(timeout=PATIENCE_S)
    opening.let_go()
    asking.join(PATIENCE_S)
    assert told
    hang.let_go()
    until(lambda: camera.closed)


@pytest.mark.parametrize("asked", [False, True])
def test_a_part_of_an_absent_camera_is_unknown_at_once_and_the_camera_is_used_as_what_it_is_once_it_comes(asked: bool) -> None:
    clock = FakeClock(manual=True)
    camera = AskedCamera(clock, [GOOD, BAD]) if asked else PushedCamera(clock)
    there: list[Camera] = []

    def reopen() -> Camera:
        if not there:
            raise CameraLost("still no power")
        return there[0]

    with LineUnderTest(camera=AWAY, clock=clock, reopen=reopen) as line:
        until(lambda: line.station.health().state == "faulted")  # before anybody wanted a picture
        assert line.station.health().camera == "lost"
        for _ in range(2):
            line.fire()
            assert line.told(1) == ["UNKNOWN camera_lost"]
        there.append(camera)
        until(lambda: (line.pass_time(1000), line.station.health().camera != "lost")[1])
        line.camera = camera
        assert asked or camera.drained()  # which waits
        for view, verdict in ((GOOD, "OK"), (BAD, "NG")):
            line.pass_time(1)
            line.fire()
            if not asked:
                line.push(view)
            assert line.told(1) == [verdict]
        line.end()


def test_an_absent_camera_on_its_own_trigger_line_is_one_unknown() -> None:
    with LineUnderTest(camera=AWAY, triggers=CameraTrigger()) as line:
        assert line.told(1) == ["UNKNOWN camera_lost"]
        line.stop()


# Outputs, trigger lines, links


class Away:
    """Opens nothing until it is told to."""

    def __init__(self, made: Callable[[], Any]) -> None:
        self.made, self.there, self.tries = made, False, 0

    def __call__(self) -> Any:
        self.tries += 1
        if not self.there:
            raise OutputError("no such chip", hint="look for it")
        return self.made()


def later(open: Callable[[], Any], clock: FakeClock) -> tuple[Later[Any], list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    made: Later[Any] = Later(
        "output gpio", Attempts("output gpio", open, OutputError), OutputError("no such chip", hint="look for it"), clock
    )
    made.watch(lambda name, text: told.append((name, text)))
    return made, told


def inspection(verdict: Verdict = Verdict.OK) -> Inspection:
    return Inspection(1, verdict, "", 1.0, 2.0, None, StageTimes(), None)


def test_an_output_that_is_not_there_is_an_error_for_each_verdict_and_works_once_it_is() -> None:
    clock, chip = FakeClock(), FakeChip()
    away = Away(lambda: GpioOutput(GpioSettings(ok=1, busy=2), clock, chip=chip))
    made, told = later(away, clock)
    output = LateOutput(made)
    output.heartbeat()
    output.fail_safe()
    with pytest.raises(OutputError, match="output gpio is not there: no such chip"):
        output.signal(inspection())
    assert away.tries == 0 and told == [("output gpio", "no such chip (look for it); it is tried again")]
    for _ in range(20):
        clock.advance(PAUSE_S[1])
        output.heartbeat()
    assert away.tries == 20 and len(set(told)) == 1
    for _ in range(10):
        clock.advance(PAUSE_S[0])
        output.heartbeat()
    assert away.tries == 20  # by now it is tried every ten seconds
    away.there = True
    clock.advance(PAUSE_S[1])
    output.heartbeat()
    assert told[-1] == ("output gpio", "")
    output.signal(inspection())
    assert chip.levels[1]
    output.close()
    assert not chip.held


def test_an_output_of_somebody_else_that_fails_as_it_likes_is_tried_again() -> None:
    clock, given = FakeClock(), [FakeOutput()]

    def open_oddly() -> FakeOutput:
        if clock.now_ns() < 5e9:
            raise ConnectionRefusedError(111, "Connection refused")
        return given[0]

    made: Later[Any] = Later("output other", Attempts("output other", open_oddly, OutputError), OutputError("away"), clock)
    clock.advance(1)
    assert made.get() is None and "Connection refused" in str(made.fault)
    clock.advance(10)
    assert made.get() is given[0]
    made.close()
    made.close()
    assert given[0].closed and made.get() is None


def test_an_output_that_hangs_as_it_is_opened_holds_nobody_up_is_never_opened_twice_and_is_used_once_it_is_open() -> None:
    clock, hang, opened, given = FakeClock(), Hang(), [], FakeOutput()

    def open_slowly() -> FakeOutput:
        opened.append(1)
        hang.wait()
        return given

    made, told = later(open_slowly, clock)
    output = LateOutput(made)
    for _ in range(2):
        clock.advance(PAUSE_S[1])
        output.heartbeat()
    assert told[-1][1].startswith("output gpio does not open in time") and opened == [1]
    hang.let_go()
    until(lambda: clock.advance(PAUSE_S[1]) or made.get() is given)
    assert opened == [1] and told[-1] == ("output gpio", "")
    output.close()
    assert given.closed


def test_what_a_late_output_has_counted_is_known_after_the_end() -> None:
    class Counting(FakeOutput):
        def counts(self) -> dict[str, int]:
            return {"lost": 2 if self.closed else 0}

    clock, away = FakeClock(), Away(Counting)
    made, _ = later(away, clock)
    away.there = True
    clock.advance(1)
    output = LateOutput(made)
    output.heartbeat()
    output.close()
    assert output.counts() == {"lost": 2}


def test_what_opens_after_the_end_is_closed() -> None:
    clock, hang, given = FakeClock(), Hang(), FakeOutput()

    def open_slowly() -> FakeOutput:
        hang.wait()
        return given

    made, _ = later(open_slowly, clock)
    clock.advance(1)
    assert made.get() is None
    made.close()
    hang.let_go()
    until(lambda: given.closed)


def test_a_trigger_line_that_is_not_there_gives_no_trigger_until_it_is() -> None:
    clock, chip = FakeClock(), FakeChip()
    away = Away(lambda: GpioTrigger(chip, 3, active="rising", debounce_s=0.001))
    made, _ = later(away, clock)
    triggers = LateTriggers(made, clock)
    assert triggers.wait(0.0) is None
    away.there = True
    clock.advance(1)
    assert triggers.wait(0.0) is None and made.there is not None
    chip.edge(7)
    trigger = triggers.wait(PATIENCE_S)
    assert trigger is not None and trigger.at_ns == 7
    triggers.close()


def test_a_link_that_cannot_listen_yet_is_a_plc_that_is_away() -> None:
    class Link:
        def exchange(self, to_plc: ToPlc) -> FromPlc:
            return FromPlc(part_id=7)

        def close(self) -> None:
            """Nothing is open."""

    clock, away = FakeClock(), Away(Link)
    made, _ = later(away, clock)
    link = LateLink(made)
    with pytest.raises(LinkError, match="no such chip") as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "listen" and caught.value.hint == "look for it"
    away.there = True
    clock.advance(1)
    assert link.exchange(ToPlc()).part_id == 7
    link.close()


def test_nothing_is_opened_any_more_after_the_end() -> None:
    made, _ = later(away := Away(FakeOutput), clock := FakeClock())
    made.close()
    away.there = True
    clock.advance(100)
    assert made.get() is None and away.tries == 0
