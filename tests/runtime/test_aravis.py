"""A real GigE Vision camera (Aravis's fake one, in its own process): settings, lost packets, triggers, hangs, unplugging."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost, CameraTimeout, UnreadableFrame
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras import open_camera
from edgead.runtime.cameras.aravis import discover
from edgead.runtime.cameras.settings import CameraSettings
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.testing import FakeEngine
from edgead.types import Camera, Frame
from tests.servers import GigeCamera, aravis_is_missing
from tests.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True, scope="module")
def needs_aravis() -> None:
    if reason := aravis_is_missing():
        pytest.skip(reason)


@pytest.fixture
def gige(request: pytest.FixtureRequest) -> Iterator[GigeCamera]:
    server = GigeCamera(getattr(request, "param", 0.0))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def camera_of(gige: GigeCamera) -> Iterator[Callable[[str], Camera]]:
    """Opens the camera with a query of settings."""
    opened: list[Camera] = []

    def open_with(query: str) -> Camera:
        opened.append(open_camera(f"{gige.address}?{query}"))
        return opened[-1]

    yield open_with
    for camera in opened:
        camera.close()


def whole(frame: Frame) -> bool:
    """The fake camera's picture is a ramp along the diagonal: a hole in it would break the ramp."""
    height, width = frame.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    ramp = (int(frame.image[0, 0, 0]) + x + y) % 255
    return bool((frame.image == ramp[:, :, None]).all())


def test_settings_are_taken_and_read_back(camera_of: Callable[[str], Camera]) -> None:
    query = "exposure_us=2000&roi=16,8,128,64&pixel_format=Mono16&frame_rate_hz=40&packet_size=1000&trigger_source=free"
    camera = camera_of(query + "&TestRegister=5")
    assert camera.grab(5.0).image.shape == (64, 128, 3)
    got = camera.settings  # type: ignore[attr-defined]
    assert (got.exposure_us, got.roi, got.pixel_format, got.packet_size) == (2000.0, (16, 8, 128, 64), "mono16", 1000)
    assert got.frame_rate_hz == pytest.approx(40, rel=0.01)
    assert dict(got.features) == {"TestRegister": "5"}


@pytest.mark.parametrize("pixel_format", ["bayerrg8", "bayergr8", "bayergb8", "bayerbg8", "rgb8"])
def test_colour_formats_arrive_as_bgr(camera_of: Callable[[str], Camera], pixel_format: str) -> None:
    assert camera_of(f"roi=0,0,64,32&pixel_format={pixel_format}").grab(5.0).image.shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("gain_db=3", "has no gain_db"),
        ("Nope=3", "has no feature Nope"),
        ("exposure_us=1e12", "ExposureTimeAbs cannot be 1e"),
        ("pixel_format=mono12", "PixelFormat cannot be mono12"),
        ("pixel_format=coord3d", "cannot be converted"),
        ("roi=0,0,4000,10", "Width cannot be 4000"),
        ("trigger_source=line7", "TriggerSource cannot be line7"),
    ],
)
def test_what_the_camera_cannot_do_is_one_clear_line(camera_of: Callable[[str], Camera], query: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        camera_of(query)
    assert caught.value.hint


@pytest.mark.parametrize("gige", [3.0], indirect=True)
def test_frames_with_lost_packets_are_counted_and_never_returned(camera_of: Callable[[str], Camera]) -> None:
    camera = camera_of("trigger_source=free")
    frames = [camera.grab(5.0) for _ in range(15)]
    counters = camera.counters()  # type: ignore[attr-defined]
    assert all(whole(frame) for frame in frames)
    assert counters["incomplete"] > 0
    assert counters["packets_missing"] >= counters["incomplete"]
    assert frames[-1].frame_id >= 14 + counters["incomplete"] - 1  # they are gaps; the last one may be younger than the frame


@pytest.mark.parametrize("gige", [100.0], indirect=True)
def test_a_triggered_frame_with_lost_packets_is_told_because_a_part_belongs_to_it(camera_of: Callable[[str], Camera]) -> None:
    camera = camera_of("trigger_source=software")
    camera.software_trigger()  # type: ignore[attr-defined]
    with pytest.raises(UnreadableFrame, match="packets missing"):
        camera.grab(5.0)


@pytest.mark.parametrize("gige", [300.0], indirect=True)
def test_a_free_running_camera_of_which_nothing_arrives_whole_times_out_and_says_why(
    camera_of: Callable[[str], Camera],
) -> None:
    with pytest.raises(CameraTimeout, match="had packets missing"):
        camera_of("trigger_source=free").grab(0.5)


def test_each_software_trigger_gives_one_frame(camera_of: Callable[[str], Camera]) -> None:
    camera = camera_of("trigger_source=software&roi=0,0,64,48")
    with pytest.raises(CameraTimeout):
        camera.grab(0.1)
    for expected in range(3):
        asked_ns = time.monotonic_ns()
        camera.software_trigger()  # type: ignore[attr-defined]
        frame = camera.grab(5.0)
        assert frame.frame_id == expected
        assert frame.captured_at_ns > asked_ns
    with pytest.raises(CameraTimeout):
        camera.grab(0.1)


def test_only_a_software_triggered_camera_can_be_asked(camera_of: Callable[[str], Camera]) -> None:
    assert not hasattr(camera_of("trigger_source=line0"), "software_trigger")


def test_frames_that_waited_tell_their_true_age(camera_of: Callable[[str], Camera]) -> None:
    camera = camera_of("roi=0,0,64,48&frame_rate_hz=25")
    camera.grab(5.0)
    time.sleep(1.0)  # Aravis holds eight frames, 0.3 s of them
    late, fresh = camera.grab(5.0), camera.grab(5.0)
    now_ns = time.monotonic_ns()
    assert now_ns - late.captured_at_ns > 300_000_000
    assert now_ns - fresh.captured_at_ns < 300_000_000
    assert fresh.frame_id > late.frame_id + 5


WATCH = """
from edgead.runtime.cameras import open_camera
camera = open_camera({address!r})
while True:
    frame = camera.grab(60.0)
    print(frame.frame_id, frame.captured_at_ns, flush=True)
"""


def test_frames_that_waited_in_the_kernel_while_the_station_stood_still_are_as_old_as_they_are(gige: GigeCamera) -> None:
    """SIGSTOP of the whole process: nobody here could stamp them as they came, only the camera's own clock tells."""
    code = WATCH.format(address=f"{gige.address}?roi=0,0,64,48&frame_rate_hz=25")
    station = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert station.stdout is not None
    seen: list[tuple[int, int]] = []

    def read(count: int) -> None:
        assert station.stdout is not None
        seen.extend((int(number), int(ns)) for number, ns in (station.stdout.readline().split() for _ in range(count)))

    try:
        read(30)
        station.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        station.send_signal(signal.SIGCONT)
        read(60)
    finally:
        station.kill()
        station.wait()
        station.stdout.close()
    first_id, first_ns = seen[20]
    wrong_s = [(ns - first_ns) / 1e9 - (number - first_id) / 25 for number, ns in seen[20:]]
    assert max(wrong_s) < 0.5, "the n-th picture is made n times 40 ms later, whenever it arrives"


def test_it_is_found_by_its_serial_number_and_an_unknown_one_says_what_is_there(gige: GigeCamera) -> None:
    assert [camera.address for camera in discover()] == [f"gige:{gige.serial}"]
    camera = open_camera(f"gige:{gige.serial}")
    camera.close()
    with pytest.raises(CameraLost) as caught:
        open_camera("gige:OTHER")
    assert gige.serial in caught.value.hint


def test_a_camera_that_another_program_controls_does_not_open(gige: GigeCamera) -> None:
    hold = (
        f"from edgead.runtime.cameras import open_camera; c = open_camera('{gige.address}'); print('held', flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(CameraLost, match="another program controls"):
            open_camera(gige.address)
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()


def test_an_address_where_nothing_answers_is_one_clear_line() -> None:
    with pytest.raises(CameraLost, match=r"camera 127\.0\.0\.1 does not open: Can't connect") as caught:
        open_camera("gige:127.0.0.1")
    assert caught.value.hint


def test_settings_given_twice_are_refused(gige: GigeCamera) -> None:
    with pytest.raises(BadInput, match="exposure_us is given twice"):
        open_camera(f"{gige.address}?exposure_us=100", settings=CameraSettings(exposure_us=200.0))


def test_a_camera_that_hangs_is_unplugged_and_comes_back(gige: GigeCamera) -> None:
    address = f"{gige.address}?roi=0,0,64,64"
    recipe, engine = PreprocessRecipe(64, 64), FakeEngine([0.0])
    with Station(
        open_camera(address), engine, recipe, 1.0, StationSettings(frame_timeout_ms=300), reopen=lambda: open_camera(address)
    ) as station:
        thread = threading.Thread(target=station.run, name="line")
        thread.start()
        stats = station.stats
        until(lambda: stats.verdicts["OK"] >= 5, what="verdicts")
        gige.pause()
        until(lambda: stats.causes["camera_timeout"] >= 1, what="a timeout while the camera hangs")
        gige.resume()
        inspected = stats.inspected
        until(lambda: stats.inspected > inspected + 3, what="verdicts after the hang")
        gige.kill()
        gige.start()  # power came back: it knows nothing of us any more
        until(lambda: stats.causes["camera_lost"] >= 1, what="the loss")
        inspected = stats.inspected
        until(lambda: stats.reconnects >= 1 and stats.inspected > inspected, what="verdicts after replugging")
        station.stop()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert stats.causes["camera_lost"] == 1
