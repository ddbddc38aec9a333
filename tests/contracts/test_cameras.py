"""What every camera promises, run against each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput, CameraError, CameraLost, CameraTimeout, EndOfStream, UnreadableFrame
from edgead.runtime.cameras import open_camera
from edgead.runtime.cameras.settings import CameraSettings
from edgead.testing import FakeCamera, FakeClock
from edgead.types import Camera, Frame, Image
from tests.servers import GigeCamera, RtspServer, aravis_is_missing, pylon_is_missing, rtsp_is_missing

FRAMES = 5
FINITE = ("fake", "folder", "paced", "pattern", "video", "video-realtime", "simulated")
LIVE = ("rtsp", "gige", "basler", "hot")
KINDS = (*FINITE, *LIVE)

Opener = Callable[[], Camera]


def pictures(count: int = FRAMES, size: tuple[int, int] = (48, 64)) -> list[Image]:
    return [np.full((*size, 3), 20 * i + 10, np.uint8) for i in range(count)]


def write_video(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for picture in pictures():
        writer.write(picture)
    writer.release()
    return path


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures()):
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def rtsp() -> Iterator[RtspServer]:
    if reason := rtsp_is_missing():
        pytest.skip(reason)
    server = RtspServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def gige() -> Iterator[GigeCamera]:
    if reason := aravis_is_missing():
        pytest.skip(reason)
    server = GigeCamera()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the camera kind that the test is parametrised with."""
    kind: str = request.param
    if kind == "rtsp":
        server: RtspServer = request.getfixturevalue("rtsp")
        return lambda: open_camera(server.url)
    if kind == "gige":
        fake: GigeCamera = request.getfixturevalue("gige")
        return lambda: open_camera(f"{fake.address}?roi=0,0,64,48&frame_rate_hz=50")
    if kind == "basler":
        if reason := pylon_is_missing():
            pytest.skip(reason)
        return lambda: open_camera("basler:0815-0000?roi=0,0,64,48")
    if kind == "hot":
        hot = write_folder(tmp_path / "hot")
        return lambda: open_camera(f"hot:{hot}?after=delete")
    if kind == "fake":
        return lambda: FakeCamera(pictures())
    addresses: dict[str, Callable[[], str]] = {
        "folder": lambda: str(write_folder(tmp_path / "pictures")),
        "paced": lambda: f"folder:{write_folder(tmp_path / 'pictures')}?fps=20",
        "pattern": lambda: str(write_folder(tmp_path / "pictures") / "*.png"),
        "video": lambda: str(write_video(tmp_path / "video.avi")),
        "video-realtime": lambda: str(write_video(tmp_path / "video.avi")),
        "simulated": lambda: f"sim:parts={FRAMES},width=64,height=64",
    }
    address = addresses[kind]()
    return lambda: open_camera(address, clock=FakeClock(), realtime=kind == "video-realtime")


@pytest.fixture
def camera(opener: Opener) -> Iterator[Camera]:
    opened = opener()
    yield opened
    opened.close()


def drain(camera: Camera) -> list[Frame]:
    frames = []
    with pytest.raises(EndOfStream):
        while len(frames) < 1000:
            frames.append(camera.grab(1.0))
    return frames


@pytest.mark.parametrize("opener", KINDS, indirect=True)
def test_frames_are_read_only_bgr_pictures_with_ids_and_monotonic_times(camera: Camera) -> None:
    frames = [camera.grab(5.0) for _ in range(FRAMES)]
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3 and frame.image.shape[2] == 3
        assert frame.image.flags.c_contiguous
        assert not frame.image.flags.writeable
        assert frame.camera
        assert frame.trigger_id is None
    ids = [frame.frame_id for frame in frames]
    assert ids == sorted(set(ids))
    times = [frame.captured_at_ns for frame in frames]
    assert times == sorted(times)


@pytest.mark.parametrize("opener", KINDS, indirect=True)
def test_every_camera_says_what_its_time_stamps_are_made_from(camera: Camera, request: pytest.FixtureRequest) -> None:
    frame = camera.grab(5.0)
    kind = request.node.callspec.params["opener"]
    known = {"rtsp": "sender", "gige": "sensor", "basler": "arrival", "hot": "arrival"}  # pylon's emulated camera has no clock
    assert camera.time_source == known.get(kind, "reading")  # type: ignore[attr-defined]
    assert frame.age_ns >= 0


@pytest.mark.parametrize("opener", FINITE, indirect=True)
def test_a_recording_delivers_everything_and_then_ends_for_good(camera: Camera) -> None:
    frames = drain(camera)
    assert [frame.frame_id for frame in frames] == list(range(FRAMES))
    with pytest.raises(EndOfStream):
        camera.grab(1.0)


@pytest.mark.parametrize("opener", KINDS, indirect=True)
def test_closing_twice_is_fine_and_then_nothing_comes(opener: Opener) -> None:
    camera = opener()
    camera.grab(5.0)
    camera.close()
    camera.close()
    with pytest.raises(CameraError):
        for _ in range(3):  # what already was in the slot may still come
            camera.grab(0.1)


@pytest.mark.parametrize("opener", KINDS, indirect=True)
def test_it_can_be_opened_again(opener: Opener) -> None:
    for _ in range(2):
        camera = opener()
        assert camera.grab(5.0).frame_id >= 0
        camera.close()


@pytest.mark.parametrize("opener", LIVE, indirect=True)
def test_a_live_camera_is_live_and_a_silent_one_would_time_out(camera: Camera) -> None:
    assert getattr(camera, "live", False)
    with pytest.raises(CameraTimeout):
        for _ in range(20):  # what already arrived may still come, one frame a call
            camera.grab(0.0)


@pytest.mark.parametrize("opener", ("gige", "basler"), indirect=True)
def test_counters_say_what_became_of_the_frames(opener: Opener) -> None:
    camera = opener()
    for _ in range(3):
        camera.grab(5.0)
    counters = camera.counters()  # type: ignore[attr-defined]
    camera.close()
    assert (counters["frames"], counters["incomplete"]) == (3, 0)
    assert all(isinstance(value, int) and value >= 0 for value in counters.values())


def test_a_folder_is_played_in_the_order_of_names_and_says_which_file(tmp_path: Path) -> None:
    frames = drain(open_camera(str(write_folder(tmp_path / "pictures"))))
    assert [Path(frame.source).name for frame in frames] == [f"{i}.png" for i in range(FRAMES)]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 30, 50, 70, 90]


def test_one_picture_is_a_camera_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures")
    assert len(drain(open_camera(str(folder / "3.png")))) == 1


def test_an_unreadable_picture_costs_itself_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures")
    (folder / "1.png").write_bytes(b"not a picture")
    (folder / "2.png").write_bytes(b"")
    camera = open_camera(str(folder))
    assert camera.grab(1.0).frame_id == 0
    for name in ("1.png", "2.png"):
        with pytest.raises(UnreadableFrame, match=name):
            camera.grab(1.0)
    assert [frame.frame_id for frame in drain(camera)] == [3, 4]


def test_a_video_names_each_frame_and_keeps_their_order(tmp_path: Path) -> None:
    camera = open_camera(str(write_video(tmp_path / "video.avi")))
    frames = drain(camera)
    camera.close()
    assert frames[3].source.endswith("video.avi#3")
    levels = [int(frame.image.mean()) for frame in frames]
    assert levels == sorted(levels)


def test_a_video_in_real_time_skips_what_is_over_and_waits_for_what_is_due(tmp_path: Path) -> None:
    clock = FakeClock()
    camera = open_camera(str(write_video(tmp_path / "video.avi")), clock=clock, realtime=True)
    assert camera.grab(1.0).frame_id == 0
    clock.advance(0.125)  # 25 frames a second: number 3 began at 0.12 s
    assert camera.grab(1.0).frame_id == 3
    with pytest.raises(CameraTimeout):
        camera.grab(0.01)
    assert camera.grab(1.0).frame_id == 4
    with pytest.raises(EndOfStream):
        camera.grab(1.0)
    camera.close()


def test_a_real_video(shared_data: Path) -> None:
    camera = open_camera(str(shared_data / "data/videos/bottle-detection.mp4"))
    frame = [camera.grab(1.0) for _ in range(3)][-1]
    camera.close()
    assert (frame.frame_id, frame.image.shape) == (2, (360, 640, 3))


@pytest.mark.parametrize(
    "address",
    [
        "nothing",
        "no/such/video.mp4",
        "no/such/*.png",
        "sim:fps=fast",
        "sim:colour=1",
        "ftp://a/b",
        "gst:",
        "usb:0?exposure=2000",
        "gige:1.2.3.4?exposure_us=long",
        "basler:1?roi=1,2,3",
        "folder:",
        "folder:nothing?fps=5",
        "folder:.?speed=5",
        "folder:.?fps=fast",
        "hot:",
        "hot:.?after=eat",
        "hot:.?settle_ms=-1",
        "hot:.?settle_ms=nan",
    ],
)
def test_an_address_that_means_nothing_is_bad_input(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_camera(address)
    assert caught.value.hint


def test_an_empty_folder_and_a_text_file_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not a video")
    for name in ("empty", "notes.txt"):
        with pytest.raises(BadInput, match=name):
            open_camera(str(tmp_path / name))


def test_only_devices_take_settings(tmp_path: Path) -> None:
    for address in (str(write_folder(tmp_path / "pictures")), "rtsp://127.0.0.1:9/line", "sim"):
        with pytest.raises(BadInput, match="takes no settings"):
            open_camera(address, settings=CameraSettings(exposure_us=1000.0))


@pytest.mark.parametrize(
    "address", ["63", "usb:63", "/dev/video63", "/dev/v4l/by-id/none", "rtsp://operator:s3cret@127.0.0.1:9/line?token=s3cret"]
)
def test_a_camera_that_does_not_open_is_lost_and_tells_no_secret(address: str) -> None:
    with pytest.raises(CameraLost, match="does not open") as caught:
        open_camera(address)
    assert caught.value.exit_code == 6
    assert caught.value.hint
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
