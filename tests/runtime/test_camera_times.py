"""When cameras say a picture was made, where no such device exists here: GenICam cameras with a latch, USB cameras' drivers."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import CameraError, CameraLost, CameraTimeout, FrameDoubtful
from edgead.runtime.cameras.aravis import Since
from edgead.runtime.cameras.genicam import Value
from edgead.runtime.cameras.genicam_camera import Buffer, GenicamCamera
from edgead.runtime.cameras.opencv import OpenCvCamera, decoders
from edgead.runtime.cameras.settings import CameraSettings
from edgead.runtime.cameras.stamps import Driver, Sender, stamps_of
from edgead.runtime.threads import Crew
from edgead.testing import FakeClock
from edgead.types import Frame
from tests.waiting import until

MS = 1_000_000
S = 1_000_000_000
AHEAD_NS = 777 * S  # of the camera's clock to ours
MONO8 = 0x01080001


class ClockedNodes:
    """The features of a camera whose clock can be read; reading takes a millisecond."""

    def __init__(self, clock: FakeClock, *, command: str = "TimestampLatch", value: str = "TimestampLatchValue") -> None:
        self._clock, self._command, self._value = clock, command, value
        self.ahead_ns = AHEAD_NS
        self.ticks_per_s: int | None = None
        self.fails = False
        self.read = 0
        self._latched = 0

    def kind(self, name: str) -> str:
        if name == "GevTimestampTickFrequency" and self.ticks_per_s:
            return "integer"
        return {self._command: "command", self._value: "integer"}.get(name, "")

    def get(self, name: str) -> Value:
        return self.ticks_per_s or 0 if name == "GevTimestampTickFrequency" else self._latched

    def execute(self, name: str) -> None:
        assert name == self._command
        if self.fails:
            raise CameraError("it did not answer")
        self.read += 1
        self._latched = (self._clock.now_ns() + self.ahead_ns) * (self.ticks_per_s or S) // S
        self._clock.advance(0.001)

    def set(self, name: str, value: Value) -> None:
        raise AssertionError(f"nobody sets {name}")

    def bounds(self, name: str) -> tuple[float, float, float]:
        raise AssertionError(f"nobody asks for {name}")

    def choices(self, name: str) -> list[str]:
        raise AssertionError(f"nobody asks for {name}")


class ClockedDevice:
    """What a vendor's library received, put there by the test."""

    def __init__(self, nodes: ClockedNodes, clock: FakeClock) -> None:
        self.nodes, self._clock = nodes, clock
        self._buffers: deque[tuple[int, int]] = deque()

    def arrive(self, sensor_ns: int) -> None:
        self._buffers.append((self._clock.now_ns(), sensor_ns))

    def start(self) -> None:
        """Nothing to start."""

    def take(self, timeout_s: float) -> Buffer | None:
        if not self._buffers:
            self._clock.advance(timeout_s)
            return None
        at_ns, sensor_ns = self._buffers.popleft()
        age_ns = self._clock.now_ns() - at_ns
        return Buffer(np.zeros(4, np.uint8), 2, 2, 0, MONO8, None, age_ns, sensor_ns, "", lambda: None)

    def lost(self) -> bool:
        return False

    def statistics(self) -> dict[str, int]:
        return {}

    def close(self, *, lost: bool) -> None:
        """Nothing to close."""


class Rig:
    """A camera with a clock, and its network."""

    def __init__(self, *, trigger_source: str = "free", **options: str) -> None:
        self.clock = FakeClock(5 * S)
        self.nodes = ClockedNodes(self.clock, **options)
        self.device = ClockedDevice(self.nodes, self.clock)
        self.settings = CameraSettings(trigger_source=trigger_source)

    def open(self) -> GenicamCamera:
        return GenicamCamera(self.device, "gige:1", self.settings, self.clock)

    def picture(self, camera: GenicamCamera, after_s: float, *, has_clock: bool = True) -> tuple[int, Frame]:
        """The light now, the arrival later; when the light was, and the frame."""
        made_ns = self.clock.now_ns()
        self.clock.advance(after_s)
        self.device.arrive(made_ns + self.nodes.ahead_ns if has_clock else 0)
        return made_ns, camera.grab(0.0)


@pytest.mark.parametrize(
    "options", [{}, {"command": "GevTimestampControlLatch", "value": "GevTimestampValue"}], ids=["today", "before SFNC 2"]
)
def test_a_camera_whose_clock_can_be_read_tells_when_the_light_was(options: dict[str, str]) -> None:
    rig = Rig(**options)
    camera = rig.open()
    for after_s in (0.035, 0.012, 1.8):
        made_ns, frame = rig.picture(camera, after_s)
        assert 0 <= frame.captured_at_ns - made_ns < 4 * MS
        assert frame.captured_at_ns + frame.age_ns == made_ns + round(after_s * 1e9)
    assert camera.time_source == "sensor"


def test_ticks_of_an_old_camera_are_made_nanoseconds() -> None:
    rig = Rig(command="GevTimestampControlLatch", value="GevTimestampValue")
    rig.nodes.ticks_per_s = 125_000_000
    made_ns, frame = rig.picture(rig.open(), 0.035)
    assert 0 <= frame.captured_at_ns - made_ns < 2 * MS


def test_the_clocks_are_compared_again_as_they_drift_and_when_the_camera_sets_its_own() -> None:
    rig = Rig()
    camera = rig.open()
    for second in range(60):
        rig.nodes.ahead_ns += 200_000  # 0.02 %
        if second == 30:
            rig.nodes.ahead_ns += 3600 * S  # it has found its PTP master
        made_ns, frame = rig.picture(camera, 0.030)
        with pytest.raises(CameraTimeout):
            camera.grab(0.97)
        if not 30 <= second < 36:
            assert 0 <= frame.captured_at_ns - made_ns < 10 * MS
    assert 8 <= rig.nodes.read <= 14


def test_a_camera_whose_clock_cannot_be_read_is_off_by_the_smallest_delay() -> None:
    rig = Rig(command="Other")
    camera = rig.open()
    for _ in range(10):
        rig.picture(camera, 0.030)
    made_ns, frame = rig.picture(camera, 1.8)
    assert frame.captured_at_ns - made_ns == pytest.approx(30 * MS, abs=3 * MS)
    assert camera.time_source == "sensor"


def test_a_camera_that_does_not_let_its_clock_be_read_after_all(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.nodes.fails = True
    camera = rig.open()
    rig.picture(camera, 0.030)
    made_ns, frame = rig.picture(camera, 0.5)
    assert frame.captured_at_ns - made_ns < 40 * MS
    assert caplog.text.count("its clock cannot be read") == 1


def test_a_latch_of_another_clock_than_the_pictures_is_not_used() -> None:
    rig = Rig()
    camera = rig.open()
    rig.nodes.ahead_ns = 0  # pictures are stamped by a clock that is far behind
    made_ns, frame = rig.picture(camera, 0.030)
    assert frame.captured_at_ns >= made_ns
    made_ns, frame = rig.picture(camera, 0.5)
    assert frame.captured_at_ns - made_ns < 40 * MS


def test_a_clock_that_is_none_does_not_starve_the_line(caplog: pytest.LogCaptureFixture) -> None:
    """One that runs at an eighth of the speed would make each picture look older and older."""
    rig = Rig(command="Other")
    camera = rig.open()
    for _ in range(40 * 10):
        rig.clock.advance(0.1)
        rig.device.arrive(AHEAD_NS + rig.clock.now_ns() // 8)
        frame = camera.grab(0.0)
    assert rig.clock.now_ns() - frame.captured_at_ns < 10 * MS
    assert caplog.text.count("of no use") == 1


def test_a_triggered_camera_without_a_clock_is_taken_at_its_word() -> None:
    """Each of its pictures was asked for: they are told apart by their number, not by their pace."""
    rig = Rig(trigger_source="line1", command="Other")
    camera = rig.open()
    for gap_s in (0.1,) * 20 + (3.0,) + (0.001,) * 20:
        made_ns, frame = rig.picture(camera, gap_s, has_clock=False)
        assert frame.captured_at_ns == made_ns + round(gap_s * 1e9)
    assert camera.time_source == "arrival"


def test_a_free_running_camera_without_a_clock_gives_no_backlog() -> None:
    rig = Rig(command="Other")
    camera = rig.open()
    for _ in range(20):
        rig.picture(camera, 0.1, has_clock=False)
    rig.clock.advance(2.0)
    rig.device.arrive(0)
    with pytest.raises(FrameDoubtful):
        camera.grab(0.0)
    for _ in range(19):
        rig.device.arrive(0)
    with pytest.raises(CameraTimeout):
        camera.grab(0.05)
    _, frame = rig.picture(camera, 0.05, has_clock=False)
    assert frame.captured_at_ns == rig.clock.now_ns()


def test_a_wall_clock_that_is_set_makes_no_picture_old(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = {"wall": 1_000 * S, "own": 10 * S}
    monkeypatch.setattr("edgead.runtime.cameras.aravis.time.time_ns", lambda: walls["wall"])
    monkeypatch.setattr("edgead.runtime.cameras.aravis.time.monotonic_ns", lambda: walls["own"])
    since = Since()
    arrived_ns = walls["wall"]
    walls["wall"] += 20 * MS
    walls["own"] += 20 * MS
    assert since.wall_ns(arrived_ns) == 20 * MS
    walls["wall"] += 3600 * S
    assert since.wall_ns(arrived_ns) == 0
    assert since.wall_ns(walls["wall"] - 5 * MS) == 5 * MS


# USB cameras: no device exists here, so a stand-in for OpenCV's capture with the V4L2 backend


class V4l2:
    """A USB camera as OpenCV shows it: the driver stamps each buffer as its first byte comes; they may wait for long."""

    def __init__(self, clock: FakeClock, ahead_ns: int | None = 0) -> None:
        self._clock, self._ahead_ns = clock, ahead_ns
        self._waiting: deque[int] = deque()
        self._stamp_ns = 0
        self._changed = threading.Condition()
        self._unplugged = False

    def frame(self) -> None:
        """The driver has one now."""
        with self._changed:
            self._waiting.append(self._clock.now_ns())
            self._changed.notify_all()

    def unplug(self) -> None:
        with self._changed:
            self._unplugged = True
            self._changed.notify_all()

    def read(self) -> tuple[bool, Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._unplugged, 60)
            if not self._waiting:
                return False, None
            self._stamp_ns = self._waiting.popleft()
        return True, np.zeros((2, 2, 3), np.uint8)

    def get(self, _: int) -> float:
        return 0.0 if self._ahead_ns is None else (self._stamp_ns + self._ahead_ns) / MS

    def getBackendName(self) -> str:
        return "V4L2"

    def isOpened(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing to release."""


class UsbCamera(OpenCvCamera):
    """With that stand-in."""

    def __init__(self, capture: V4l2, clock: FakeClock) -> None:
        self._stand_in = capture
        super().__init__("usb:0", clock=clock)

    def _open(self, address: str) -> Any:
        return self._stand_in


@pytest.mark.parametrize("ahead_ns", [0, None], ids=["stamped", "not stamped"])
def test_a_usb_camera_that_was_not_read_for_long_gives_no_old_picture_as_new(ahead_ns: int | None) -> None:
    clock = FakeClock(5 * S)
    capture = V4l2(clock, ahead_ns)
    capture.frame()
    camera = UsbCamera(capture, clock)
    frame = camera.grab(60.0)
    for _ in range(20):
        clock.advance(0.04)
        capture.frame()
        frame = camera.grab(60.0)
        assert frame.age_ns == 0
    with camera._slot._condition:  # the reader is held up as by SIGSTOP: it cannot go on, but the driver fills its buffers
        clock.advance(0.04)
        capture.frame()
        until(lambda: not capture._waiting)
        for _ in range(4):
            clock.advance(0.04)
            capture.frame()
        made_ns = clock.now_ns()
        clock.advance(2.0)
    until(lambda: camera._delivered == 26)
    if ahead_ns == 0:
        frame = camera.grab(0.0)
        assert (frame.captured_at_ns, frame.age_ns) == (made_ns, 2 * S)
    else:
        assert camera.grab(0.0).captured_at_ns < made_ns  # what came before the reader was held up
        with pytest.raises(FrameDoubtful):
            camera.grab(0.0)
    assert camera.time_source == ("driver" if ahead_ns == 0 else "arrival")
    capture.unplug()
    camera.close()


class Panic(BaseException):
    """What a native extension dies of."""


def test_a_reader_that_dies_of_whatever_is_a_lost_camera_and_told() -> None:
    clock = FakeClock(5 * S)
    capture = V4l2(clock)
    capture.frame()
    with Crew("line").own() as crew:
        camera = UsbCamera(capture, clock)
        camera.grab(60.0)
        capture.read = lambda: (_ for _ in ()).throw(Panic("index out of bounds"))  # type: ignore[method-assign]
        capture.frame()
        with pytest.raises(CameraLost, match="Panic"):
            for _ in range(3):
                camera.grab(60.0)
        assert "Panic" in crew.faults()["camera reader"]
        camera.close()
    assert not crew.faults()


def stamped(stamps: Any, clock: list[int], times: Callable[[int], tuple[int, int]], count: int) -> list[int | None]:
    """What `count` pictures are stamped with; `times` gives each one's source time and arrival."""
    found = []
    for number in range(count):
        clock[0], arrived_ns = times(number)
        found.append(stamps.stamp(arrived_ns))
    return found


def test_the_drivers_time_is_taken_as_it_is_when_it_is_our_clock() -> None:
    source = [0]
    stamps = Driver(lambda: source[0])
    assert stamped(stamps, source, lambda n: (S + n * 40 * MS, S + n * 40 * MS + 25 * MS), 3) == [
        S,
        S + 40 * MS,
        S + 80 * MS,
    ]
    assert stamped(stamps, source, lambda _: (2 * S, 4 * S), 1) == [2 * S]
    assert stamped(stamps, source, lambda _: (6 * S, 5 * S), 1) == [5 * S]  # never in the future


def test_a_driver_with_a_clock_of_its_own_is_mapped_by_the_smallest_delay() -> None:
    source = [0]
    stamps = Driver(lambda: source[0])
    found = stamped(stamps, source, lambda n: (9_000 * S + n * 40 * MS, S + n * 40 * MS), 30)
    assert found[-1] == S + 29 * 40 * MS
    late = stamped(stamps, source, lambda _: (9_000 * S + 1200 * MS, 2 * S + 1200 * MS), 1)
    assert late == [pytest.approx(S + 1200 * MS, abs=2 * MS)]


def test_a_stream_that_stops_telling_the_time_is_judged_by_its_pace() -> None:
    source: list[int | None] = [None]
    stamps = Sender(lambda: source[0])
    assert stamps.time_source == "sender"
    assert [stamps.stamp(S + n * 40 * MS) is not None for n in (0, 1, 20, 21)].count(True) < 4
    assert stamps.time_source == "arrival"


@pytest.mark.parametrize("speed", [0.0, 1 / 90])
def test_a_stream_whose_time_stands_still_or_creeps_is_judged_by_its_pace(speed: float, caplog: pytest.LogCaptureFixture) -> None:
    source = [0]
    stamps = Sender(lambda: source[0])
    found = stamped(stamps, source, lambda n: (round(n * 40 * MS * speed), S + n * 40 * MS), 100)
    assert found[-1] == S + 99 * 40 * MS
    assert stamps.time_source == "arrival"
    assert caplog.text.count("of no use") == 1


def test_a_stall_right_after_opening_does_not_make_a_clock_look_like_none() -> None:
    source = [0]
    stamps = Sender(lambda: source[0])
    stamped(stamps, source, lambda n: (n * 40 * MS, S + (n * 40 * MS if n < 2 or n > 50 else 2000 * MS + n)), 100)
    assert stamps.time_source == "sender"


class Told:
    """A capture that tells only its position and FFmpeg's own number."""

    def __init__(self, position_ms: float, number: float) -> None:
        self._position_ms, self._number = position_ms, number

    def get(self, prop: int) -> float:
        return self._position_ms if prop == cv2.CAP_PROP_POS_MSEC else self._number

    def getBackendName(self) -> str:
        return "FFMPEG"


@pytest.mark.parametrize(
    ("width", "height", "rate", "threads"),
    [(1920, 1080, 25, 1), (1920, 1080, 60, 1), (3840, 2160, 25, 2), (3840, 2160, 60, 4), (1920, 1080, 90_000, 1), (0, 0, 0, 1)],
)
def test_a_stream_is_decoded_by_few_threads_since_each_more_makes_it_a_picture_late(
    width: int, height: int, rate: float, threads: int
) -> None:
    assert decoders(width * height * rate) == min(threads, os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("address", "number", "source"),
    [
        ("rtsp://h/line", 3.0, "sender"),
        ("RTSPS://h/line", 3.0, "sender"),
        ("rtsp://h/line", -9.2e18, "arrival"),
        ("http://h/video.mjpg", 3.0, "arrival"),
        ("gst:rtspsrc", 3.0, "arrival"),
        ("usb:0", 3.0, "arrival"),
    ],
)
def test_what_the_stamps_of_a_source_mean(address: str, number: float, source: str) -> None:
    stamps = stamps_of(Told(1000.0, number), address)
    stamps.stamp(5 * S)
    assert stamps.time_source == source
