"""Taking pictures: how many, which, what is left when something breaks, and going on later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgead.capture.session as session_module
from edgead.capture.session import Session, State, Wanted
from edgead.errors import BadInput, CameraLost, CameraTimeout, EdgeadError, EndOfStream, StorageError
from edgead.preprocess import read_image
from edgead.testing import FakeCamera, FakeClock
from edgead.types import Camera, Frame, Image
from tests.bundles import part

LIVE = "sim:fps=10,defect_rate=0,width=128,height=128"


def session(folder: Path, camera: str = LIVE, **options: object) -> Session:
    return Session(Wanted(camera, folder, **options), clock=FakeClock())  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, pictures: list[Image]) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i:03}.png"), picture)
    return folder


class Scripted(FakeCamera):
    """A camera that runs by itself and gives these pictures and faults, one a second; then nothing."""

    def __init__(self, script: list[Image | Exception], clock: FakeClock) -> None:
        super().__init__(script, clock=clock, live=True)
        self._time = clock

    def grab(self, timeout_s: float) -> Frame:
        self._time.advance(1.0)
        try:
            return super().grab(timeout_s)
        except EndOfStream:
            raise CameraTimeout(f"no picture within {timeout_s:g} s") from None


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Image | Exception]]:
    """What the camera of the session gives, in place of a real one."""
    script: list[Image | Exception] = []

    def opened(address: str, *, clock: FakeClock) -> Camera:
        return Scripted(script, clock)

    monkeypatch.setattr(session_module, "open_camera", opened)
    yield script


def test_so_many_are_taken_one_each_second_without_loss(tmp_path: Path) -> None:
    clock = FakeClock()
    began_ns = clock.now_ns()
    found = Session(Wanted(LIVE, tmp_path / "new/good", 5), clock=clock).run()
    assert (found.saved, found.there, found.ended) == (5, 5, "enough")
    assert 4.0 <= (clock.now_ns() - began_ns) / 1e9 <= 5.0
    assert names(tmp_path / "new/good") == [f"{i:04}.png" for i in range(5)]
    assert read_image(tmp_path / "new/good/0000.png").shape == (128, 128, 3)


def test_each_picture_of_a_recording_is_taken_as_it_is_near_copies_are_not(tmp_path: Path) -> None:
    pictures = [part(0, 96), part(1, 96), part(0, 96), part(2, 96), part(2, 96)]
    source = write(tmp_path / "source", pictures)
    (source / "broken.png").write_bytes(b"no picture")
    found = session(tmp_path / "good", str(source)).run()
    assert (found.saved, found.copies, found.unreadable, found.ended) == (3, 2, 1, "end")
    for saved, original in zip(names(tmp_path / "good"), (0, 1, 3), strict=True):
        assert np.array_equal(read_image(tmp_path / "good" / saved), pictures[original])
    assert session(tmp_path / "all", str(source), copies=True).run().saved == 5


def test_it_goes_on_where_it_was_and_knows_what_is_there(tmp_path: Path) -> None:
    source = write(tmp_path / "source", [part(seed, 96) for seed in range(6)])
    good = write(tmp_path / "good", [part(0, 96)])
    (good / "000.png").rename(good / "0041.png")
    (good / "mine.jpg").write_bytes(cv2.imencode(".jpg", part(50, 96))[1].tobytes())
    (good / "notes.txt").write_text("mine", "utf-8")
    found = session(good, str(source), count=4).run()
    assert (found.saved, found.there, found.copies) == (2, 4, 1)
    assert names(good) == ["0041.png", "0042.png", "0043.png", "mine.jpg", "notes.txt"]
    again = session(good, str(source), count=4).run()
    assert (again.saved, again.ended) == (0, "enough")


def test_a_camera_that_vanishes_leaves_what_was_saved(tmp_path: Path, scripted: list[Image | Exception]) -> None:
    scripted += [part(0, 96), part(1, 96), CameraLost("camera x is gone", hint="check the cable")]
    with pytest.raises(CameraLost, match=r"camera x is gone; 2 were saved, 2 are in .*good") as caught:
        session(tmp_path / "good", every_ms=1).run()
    assert (caught.value.exit_code, caught.value.hint) == (6, "check the cable")
    assert names(tmp_path / "good") == ["0000.png", "0001.png"]


def test_a_camera_that_gives_nothing_is_told_after_a_while(tmp_path: Path, scripted: list[Image | Exception]) -> None:
    scripted.append(part(0, 96))
    clock = FakeClock()
    began_ns = clock.now_ns()
    with pytest.raises(CameraTimeout, match="gave no picture for 10 s; 1 were saved"):
        Session(Wanted("x", tmp_path / "good"), clock=clock).run()
    assert (clock.now_ns() - began_ns) / 1e9 == pytest.approx(12, abs=1)


def test_by_hand_only_what_was_asked_for_is_taken(tmp_path: Path) -> None:
    seen: list[State] = []

    def tell(state: State) -> None:
        seen.append(state)
        if state.picture in (3, 7):
            taking.take()
        if state.picture == 10:
            taking.stop()

    taking = Session(Wanted(LIVE, tmp_path / "good", by_hand=True), clock=FakeClock(), tell=tell)
    found = taking.run()
    assert (found.saved, found.ended) == (2, "stopped")
    assert next(state.picture for state in seen if state.last == "0000.png saved") == 4
    assert taking.picture is not None and taking.picture.shape == (128, 128, 3)


def test_hints_are_counted_for_what_was_saved(tmp_path: Path) -> None:
    white = np.full((96, 96, 3), 255, np.uint8)
    source = write(tmp_path / "source", [part(0, 96), white])
    found = session(tmp_path / "good", str(source)).run()
    assert found.hints == {"blurred": 1, "white": 1}


def test_a_disk_that_fills_leaves_whole_pictures_only(
    tmp_path: Path, scripted: list[Image | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted += [part(seed, 96) for seed in range(5)]
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 4:  # of the folder too
            raise OSError(28, "No space left on device")
        real(handle)

    taking = session(tmp_path / "good", every_ms=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        taking.run()
    assert names(tmp_path / "good") == ["0000.png", "0001.png"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"by_hand": True, "every_ms": 5.0}, "no pause"),
        ({"camera": "sim", "by_hand": True}, "no pace"),
        ({"camera": "sim", "every_ms": 5.0}, "no pace"),
        ({"camera": "nothing"}, "is not a camera"),
        ({"camera": "99"}, "does not open"),
    ],
)
def test_what_cannot_be_taken_so_is_one_line(tmp_path: Path, options: dict[str, object], told: str) -> None:
    with pytest.raises(EdgeadError, match=told) as caught:
        session(tmp_path / "good", **{"camera": LIVE, **options}).run()  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_folder_that_is_none_or_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(BadInput, match="is not a folder"):
        session(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot write"):
        session(Path("/proc/sys/good"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/0000.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match="not a readable picture"):
        session(tmp_path / "bad")
