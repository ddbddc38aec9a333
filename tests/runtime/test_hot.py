"""A hot folder and a folder at a pace: each picture file is a part, once, whole, and the folder may go and come back."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost, CameraTimeout, EndOfStream, UnreadableFrame
from edgead.runtime.cameras import check_address, open_camera
from edgead.runtime.cameras.folder import FolderCamera
from edgead.runtime.cameras.hot import UNREADABLE_S, HotFolder
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.testing import FakeClock, FakeEngine
from edgead.types import Camera, Inspection
from tests.runtime._line import RECIPE, brightness, words
from tests.waiting import until

SIZE = (64, 64, 3)


def content(level: int, suffix: str = ".png") -> bytes:
    rng = np.random.default_rng(level)
    picture = np.clip(rng.normal(level, 3, SIZE), 0, 255).astype(np.uint8)
    return cv2.imencode(suffix, picture[:, :, :1] if suffix == ".pgm" else picture)[1].tobytes()


def names(camera: Camera, timeout_s: float = 1.0) -> list[str]:
    """Of all pictures that come."""
    found: list[str] = []
    while True:
        try:
            found.append(Path(camera.grab(timeout_s).source).name)
        except CameraTimeout:
            return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_new_files_are_parts_each_once_in_the_order_in_which_they_come(folder: Path) -> None:
    (folder / "before.png").write_bytes(content(5))
    camera = HotFolder(str(folder), clock=FakeClock())
    assert names(camera) == []  # nobody knows whether it was taken before
    for i, name in enumerate(("z.png", "a.jpg", "m.bmp")):
        (folder / name).write_bytes(content(10, Path(name).suffix))
        os.utime(folder / name, ns=(i, i))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(content(10))
    (folder / "below").mkdir()
    assert sorted(names(camera)) == ["a.jpg", "m.bmp", "z.png"]
    assert names(camera) == []
    (folder / "z.png").write_bytes(content(90))  # another picture of the same name
    assert names(camera) == ["z.png"]


@pytest.mark.parametrize("after", ["delete", "move"])
def test_what_was_taken_is_cleared_away_and_what_was_there_at_the_start_is_a_part(folder: Path, after: str) -> None:
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(content(10))
    (folder / "done").mkdir()
    (folder / "done/1.png").write_bytes(b"of yesterday")
    clock = FakeClock()
    camera = HotFolder(str(folder), clock=clock, after=after)
    opened_ns = clock.now_ns()
    clock.advance(5.0)
    frame = camera.grab(1.0)
    assert (Path(frame.source).name, frame.captured_at_ns, frame.age_ns) == ("1.png", opened_ns, 5_000_000_000)
    assert (folder / "1.png").exists()  # whoever asked may still fail
    assert names(camera) == ["2.png"]
    assert not list(folder.glob("*.png"))
    kept = {path.name for path in (folder / "done").iterdir()}
    assert kept == ({"1.png"} if after == "delete" else {"1.png", "1-1.png", "2.png"})
    assert (folder / "done/1.png").read_bytes() == b"of yesterday"


def test_a_picture_that_takes_the_place_of_an_old_one_is_new(folder: Path) -> None:
    (folder / "part.png").write_bytes(content(10))
    clock = FakeClock()
    camera = HotFolder(str(folder), clock=clock)
    clock.advance(3600.0)
    (folder / "part.png").write_bytes(content(90))
    frame = camera.grab(1.0)
    assert (frame.captured_at_ns, frame.age_ns) == (clock.now_ns(), 0), "else it would be called too old to be judged"


def test_the_last_one_comes_again_when_nobody_asked_for_more(folder: Path) -> None:
    (folder / "1.png").write_bytes(content(10))
    camera = HotFolder(str(folder), clock=FakeClock(), after="delete")
    camera.grab(1.0)
    camera.close()
    assert (folder / "1.png").exists()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".pgm", ".tif", ".webp"])
def test_a_file_that_is_being_written_is_not_read_before_it_is_whole(folder: Path, suffix: str) -> None:
    camera = HotFolder(str(folder), clock=FakeClock())
    whole, file = content(70, suffix), folder / f"part{suffix}"
    for share in (0.0, 0.3, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        assert names(camera, 0.6) == []  # also when the writer stands still for longer than a file settles
    file.write_bytes(whole)
    frame = camera.grab(1.0)
    assert frame.image.mean() == pytest.approx(70, abs=3)


def test_a_file_that_was_made_large_at_once_is_given_when_it_has_settled(folder: Path) -> None:
    """A copy that reserves its room first: BMP has no checksum."""
    clock = FakeClock()
    camera = HotFolder(str(folder), clock=clock, settle_ms=200)
    whole, file = content(70, ".bmp"), folder / "part.bmp"
    for i, share in enumerate((0.1, 0.5, 0.9)):
        size = int(len(whole) * share)
        file.write_bytes(whole[:size] + bytes(len(whole) - size))
        os.utime(file, ns=(i, i))
        assert names(camera, 0.15) == []
    file.write_bytes(whole)
    assert camera.grab(1.0).image.mean() == pytest.approx(70, abs=3)


def test_moved_linked_and_renamed_files_are_new(folder: Path, tmp_path: Path) -> None:
    camera = HotFolder(str(folder), clock=FakeClock())
    (tmp_path / "moved.png").write_bytes(content(10))
    os.replace(tmp_path / "moved.png", folder / "moved.png")
    (folder / "part.png.tmp").write_bytes(content(20))
    (folder / "part.png.tmp").rename(folder / "part.png")
    (tmp_path / "elsewhere.png").write_bytes(content(30))
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "loose.png").symlink_to(tmp_path / "nowhere.png")
    assert sorted(names(camera)) == ["link.png", "moved.png", "part.png"]


def test_a_file_that_will_never_be_a_picture_is_told_once_and_cleared_away(folder: Path) -> None:
    clock = FakeClock()
    camera = HotFolder(str(folder), clock=clock, after="delete")
    (folder / "1.png").write_bytes(b"no picture")
    (folder / "2.png").write_bytes(content(10))
    assert Path(camera.grab(1.0).source).name == "2.png"  # which waits for nobody
    with pytest.raises(UnreadableFrame, match=r"1\.png"):
        camera.grab(2 * UNREADABLE_S)
    assert names(camera) == []
    assert not list(folder.iterdir())


def test_a_folder_that_goes_is_a_lost_camera_and_brings_no_picture_twice_when_it_is_back(folder: Path, tmp_path: Path) -> None:
    camera = HotFolder(str(folder), clock=FakeClock())
    (folder / "1.png").write_bytes(content(10))
    assert names(camera) == ["1.png"]
    folder.rename(tmp_path / "away")
    with pytest.raises(CameraLost, match="is not there") as caught:
        camera.grab(1.0)
    assert caught.value.exit_code == 6 and "mount" in caught.value.hint
    camera.close()
    with pytest.raises(CameraLost, match="is not there"):
        HotFolder(str(folder), clock=FakeClock())
    (tmp_path / "away/2.png").write_bytes(content(20))  # written by others while nobody saw it
    (tmp_path / "away").rename(folder)
    assert names(HotFolder(str(folder), clock=FakeClock())) == ["2.png"]


def test_an_empty_mount_point_in_between_brings_nothing_twice_either(folder: Path, tmp_path: Path) -> None:
    camera = HotFolder(str(folder), clock=FakeClock())
    (folder / "1.png").write_bytes(content(10))
    assert names(camera) == ["1.png"]
    folder.rename(tmp_path / "away")
    folder.mkdir()
    assert names(camera) == []
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert names(camera) == []


def test_what_cannot_be_a_hot_folder(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(BadInput, match="is not a folder"):
        HotFolder(str(folder / "file"))
    with pytest.raises(BadInput, match="does not know after=eat"):
        HotFolder(str(folder), after="eat")


@contextmanager
def running(camera: Camera, **options: object) -> Iterator[tuple[Station, list[Inspection]]]:
    """A station on this camera, without triggers, in real time."""
    seen: list[Inspection] = []
    station = Station(camera, FakeEngine(brightness), RECIPE, 100.0, StationSettings(frame_timeout_ms=100.0), **options)  # type: ignore[arg-type]
    station.on_inspection(seen.append, capacity=1)
    thread = threading.Thread(target=station.run, name="line")
    thread.start()
    try:
        yield station, seen
    finally:
        station.stop()
        thread.join()
        station.close()


def test_a_station_judges_every_file_of_a_burst_and_no_silence(folder: Path) -> None:
    with running(HotFolder(str(folder))) as (_, seen):
        for i in range(40):
            (folder / f"{i:02}.png").write_bytes(content(200 if i % 4 == 0 else 20))
        until(lambda: len(seen) >= 40)
    assert len(seen) == 40  # and none for the time in which nothing came
    assert {Path(one.frame.source).name for one in seen if one.frame is not None} == {f"{i:02}.png" for i in range(40)}
    assert {words(one) for one in seen} == {"OK", "NG"}
    assert sum(words(one) == "NG" for one in seen) == 10


def test_a_station_waits_for_a_folder_that_went(folder: Path) -> None:
    with running(HotFolder(str(folder)), reopen=lambda: HotFolder(str(folder))) as (station, seen):
        (folder / "1.png").write_bytes(content(20))
        until(lambda: len(seen) == 1)
        shutil.rmtree(folder)
        until(lambda: len(seen) == 2)
        until(lambda: station.health().state == "faulted")
        folder.mkdir()
        until(lambda: station.health().state == "ready")
        (folder / "2.png").write_bytes(content(200))
        until(lambda: len(seen) == 3)
    assert [words(one) for one in seen] == ["OK", "UNKNOWN camera_lost", "NG"]


def test_a_folder_at_a_pace_is_live_and_loses_nothing_itself(folder: Path) -> None:
    for i in range(3):
        (folder / f"{i}.png").write_bytes(content(10))
    clock = FakeClock()
    camera = open_camera(f"folder:{folder}?fps=4", clock=clock)
    start_ns = clock.now_ns()
    with pytest.raises(CameraTimeout):
        camera.grab(1.0)
        camera.grab(0.1)
    stamps = [(camera.grab(1.0).captured_at_ns - start_ns) / 1e9 for _ in range(2)]
    assert stamps == [0.25, 0.5]
    with pytest.raises(EndOfStream):
        camera.grab(1.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_a_pace_that_cannot_be_is_refused(folder: Path, fps: float) -> None:
    (folder / "1.png").write_bytes(content(10))
    with pytest.raises(BadInput, match="cannot be played at fps"):
        FolderCamera(str(folder), fps=fps)


def test_a_folder_with_a_question_mark_in_its_name_is_one(tmp_path: Path) -> None:
    (tmp_path / "what?fps=1").mkdir()
    (tmp_path / "what?fps=1/1.png").write_bytes(content(10))
    assert Path(open_camera(f"folder:{tmp_path}/what?fps=1").grab(1.0).source).name == "1.png"


def test_an_address_is_checked_without_a_device(folder: Path) -> None:
    (folder / "1.png").write_bytes(content(10))
    live = ("0", "usb:7", "rtsp://nowhere/x", "basler:1", "sim:fps=5", f"folder:{folder}?fps=5", f"hot:{folder}", "hot:/nowhere")
    assert [check_address(one) for one in live] == [True] * len(live)
    assert [check_address(one) for one in ("sim", str(folder), f"{folder}/*.png", f"folder:{folder}")] == [False] * 4
    for wrong in ("nothing", "no/such.mp4", "usb:0?exposure=1", str(folder / "none")):
        with pytest.raises(BadInput):
            check_address(wrong)
