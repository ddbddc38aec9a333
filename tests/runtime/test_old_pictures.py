"""Network cameras whose network stalls and then delivers what it held up; each picture carries the time at which it was made."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from edgead.errors import CameraLost, CameraTimeout, FrameDoubtful
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras import open_camera
from edgead.runtime.cameras.opencv import OpenCvCamera
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.triggers import SoftwareTrigger
from edgead.testing import FakeEngine
from edgead.types import Camera, Frame, Inspection, Verdict
from tests.servers import StampedMjpeg, StampedRtsp, pixel_clock, rtsp_is_missing
from tests.servers.relay import StallingRelay
from tests.waiting import until

OLD_S = 0.7
"""A picture is old that was made so long before it is said to be. Every stall here is two or three times as long; a busy machine,
which takes its time between making a picture and sending it, is far below."""


@pytest.fixture(scope="module", params=["rtsp", "mjpeg"])
def peer(request: pytest.FixtureRequest) -> Iterator[StampedRtsp | StampedMjpeg]:
    if request.param == "rtsp" and (reason := rtsp_is_missing()):
        pytest.skip(reason)
    server = StampedRtsp() if request.param == "rtsp" else StampedMjpeg()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def relay(peer: StampedRtsp | StampedMjpeg) -> Iterator[StallingRelay]:
    with StallingRelay(peer.port) as relay:
        yield relay


@pytest.fixture
def address(peer: StampedRtsp | StampedMjpeg, relay: StallingRelay) -> str:
    return f"{'rtsp' if isinstance(peer, StampedRtsp) else 'http'}://127.0.0.1:{relay.port}{peer.path}"


def older_by(frame: Frame) -> float:
    """Seconds from when the picture was made, by its own pixels, to its time stamp."""
    half, block = pixel_clock.BLOCK // 2, pixel_clock.BLOCK
    levels = [float(frame.image[5:35, i * block + half - 4 : i * block + half + 4].mean()) for i in range(pixel_clock.BITS)]
    return pixel_clock.seconds_before(pixel_clock.read(levels), frame.captured_at_ns)


class Watch:
    """Grabs from a camera all the time, as a station does, and keeps how wrong each time stamp was, by its moment."""

    def __init__(self, camera: Camera) -> None:
        self.seen: list[tuple[float, float]] = []
        self.doubts = 0
        self._camera, self._closing = camera, False
        self._thread = threading.Thread(target=self._run, name="test-watch")
        self._thread.start()

    def since(self, moment: float) -> list[float]:
        return [wrong for at, wrong in self.seen if at > moment]

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._camera.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                frame = self._camera.grab(0.2)
            except CameraTimeout:
                continue
            except FrameDoubtful:
                self.doubts += 1
                continue
            self.seen.append((time.monotonic(), older_by(frame)))


@pytest.fixture
def watch(address: str) -> Iterator[Watch]:
    watch = Watch(open_camera(address))
    yield watch
    watch.close()


def stall(relay: StallingRelay, seconds: float) -> float:
    """The network holds everything for a while; returns when it went on."""
    relay.hold()
    time.sleep(seconds)
    relay.go_on()
    return time.monotonic()


def test_the_first_pictures_of_a_stream_are_not_old_ones(watch: Watch) -> None:
    until(lambda: len(watch.seen) >= 10)
    assert max(wrong for _, wrong in watch.seen) < OLD_S


def test_a_stall_while_the_stream_is_opened(relay: StallingRelay, address: str) -> None:
    timer = threading.Timer(0.05, stall, (relay, 2.0))
    timer.start()
    watch = Watch(open_camera(address))
    timer.join()
    until(lambda: len(watch.seen) >= 10)
    watch.close()
    assert max(wrong for _, wrong in watch.seen) < OLD_S


def test_the_decoder_keeps_no_pictures_back(address: str) -> None:
    """Each further thread of FFmpeg would make every picture one picture late, and nobody could know."""
    with contextlib.closing(open_camera(address)) as camera:
        assert isinstance(camera, OpenCvCamera)
        assert camera._capture.get(cv2.CAP_PROP_N_THREADS) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_held_up_is_not_stamped_as_new(relay: StallingRelay, watch: Watch, times: int) -> None:
    until(lambda: len(watch.seen) >= 30)
    for _ in range(times):
        gone_on = stall(relay, 2.0)
        time.sleep(0.05)
    until(lambda: len(watch.since(gone_on + 0.5)) >= 10, what="fresh pictures after the stall")
    assert max(wrong for _, wrong in watch.seen) < OLD_S


@pytest.mark.parametrize("peer", ["mjpeg"], indirect=True)  # pictures of a video differ in size
def test_what_comes_in_slowly_after_a_stall_is_not_stamped_as_new(peer: StampedMjpeg, relay: StallingRelay, watch: Watch) -> None:
    until(lambda: len(watch.seen) >= 50)
    relay.bytes_per_s = 2 * peer.rate * peer.size
    gone_on = stall(relay, 2.0)
    until(lambda: len(watch.since(gone_on + 0.5)) >= 10, what="fresh pictures after the stall")
    assert max(wrong for _, wrong in watch.seen) < OLD_S


@pytest.mark.parametrize("peer", ["rtsp"], indirect=True)  # without a clock nobody knows
def test_a_stream_that_lags_behind_for_good_is_lost(peer: StampedRtsp | StampedMjpeg, relay: StallingRelay, address: str) -> None:
    with contextlib.closing(open_camera(address)) as camera:
        before = relay.passed
        time.sleep(2.0)
        relay.bytes_per_s = (relay.passed - before) / 4  # half of what a second of video has
        stall(relay, 2.5)
        with pytest.raises(CameraLost, match="behind"):
            for _ in range(300):
                try:
                    assert older_by(camera.grab(0.1)) < OLD_S
                except CameraTimeout:
                    continue


def test_no_part_is_ok_by_a_picture_from_before_its_trigger(relay: StallingRelay, address: str) -> None:
    triggers = SoftwareTrigger()
    told: list[Inspection] = []
    settings = StationSettings(budget_ms=500)
    station = Station(open_camera(address), FakeEngine([0.0]), PreprocessRecipe(64, 64), 1.0, settings, triggers=triggers)
    station.on_inspection(told.append, capacity=10_000)
    thread = threading.Thread(target=station.run, name="line")
    thread.start()

    def parts_for(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            triggers.fire()
            time.sleep(0.02)

    def good() -> int:
        return sum(inspection.verdict is Verdict.OK for inspection in told)

    parts_for(1.0)
    for _ in range(5):
        relay.hold()
        parts_for(1.5)
        relay.go_on()
        before = good()
        parts_for(0.7)
        until(lambda: good() > before or bool(triggers.fire() and time.sleep(0.02)), what="parts that are OK again")  # noqa: B023
    triggers.end()
    thread.join()
    station.close()
    assert len(told) == station.stats.triggers
    causes = {inspection.cause.partition(":")[0] for inspection in told if inspection.verdict is Verdict.UNKNOWN}
    assert causes <= {"late", "camera_timeout", "frame_doubtful"}
    for inspection in told:
        if inspection.verdict is Verdict.OK:
            assert inspection.frame is not None and inspection.trigger is not None
            made_ns = inspection.frame.captured_at_ns - round(older_by(inspection.frame) * 1e9)
            assert (inspection.trigger.at_ns - made_ns) / 1e9 < OLD_S
