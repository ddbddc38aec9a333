"""Basler's own emulated cameras: replayed pictures, failed buffers, triggers, removal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost, CameraTimeout, MissingExtra, UnreadableFrame
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras import open_camera
from edgead.runtime.cameras.basler import discover
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.triggers import IntervalTrigger
from edgead.testing import FakeEngine
from edgead.types import Verdict
from tests.servers import pylon_is_missing

SERIAL = "0815-0000"
SMALL = "roi=0,0,64,48"


@pytest.fixture(autouse=True, scope="module")
def needs_pylon() -> None:
    if reason := pylon_is_missing():
        pytest.skip(reason)


@pytest.fixture
def camera_of() -> Iterator[Callable[[str], Any]]:
    """Opens the first emulated camera with a query of settings."""
    opened: list[Any] = []

    def open_with(query: str) -> Any:
        opened.append(open_camera(f"basler:{SERIAL}?{query}"))
        return opened[-1]

    yield open_with
    for camera in opened:
        camera.close()


def emulate(camera: Any, command: str, **features: int) -> None:
    """Tell the emulated camera to misbehave."""
    for name, value in features.items():
        camera._device.nodes.set(name, value)
    camera._device.nodes.execute(command)


def test_it_is_found_by_its_serial_number() -> None:
    assert f"basler:{SERIAL}" in [camera.address for camera in discover()]
    with pytest.raises(CameraLost, match="no Basler camera 'none'") as caught:
        open_camera("basler:none")
    assert SERIAL in caught.value.hint


def test_settings_are_taken_and_read_back(camera_of: Callable[[str], Any]) -> None:
    query = "exposure_us=2000&gain_db=3&frame_rate_hz=40&roi=16,8,128,64&pixel_format=mono12&packet_size=9000&trigger_source=free"
    camera = camera_of(query + "&ReverseX=true&GevSCPD=7")
    assert camera.grab(5.0).image.shape == (64, 128, 3)
    got = camera.settings
    assert (got.exposure_us, got.frame_rate_hz, got.roi, got.packet_size) == (2000.0, 40.0, (16, 8, 128, 64), 9000)
    assert got.gain_db == pytest.approx(3.0, abs=0.1)
    assert (got.pixel_format, got.trigger_source) == ("mono12", "free")
    assert dict(got.features) == {"ReverseX": "True", "GevSCPD": "7"}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("Nope=3", "has no feature Nope"),
        ("exposure_us=1e12", "ExposureTime cannot be 1e"),
        ("exposure_us=2000.37", "asked to be 2000.37, but the camera has 2000.0"),
        ("pixel_format=mono14", "PixelFormat cannot be mono14"),
        ("pixel_format=rgb16packed", "cannot be converted"),
        ("roi=0,0,9000,10", "Width cannot be 9000"),
        ("trigger_source=line9", "TriggerSource cannot be line9"),
        ("GainRaw=high", "'high' is not a number"),
        ("ReverseX=perhaps", "ReverseX cannot be perhaps"),
    ],
)
def test_what_the_camera_cannot_do_is_one_clear_line(camera_of: Callable[[str], Any], query: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        camera_of(query)
    assert caught.value.hint


def test_pictures_of_a_folder_are_replayed_as_they_are(camera_of: Callable[[str], Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 64), np.uint8) for _ in range(3)]
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    replay = f"TestImageSelector=Off&ImageFilename={tmp_path}&ImageFileMode=On"
    camera = camera_of(f"{SMALL}&trigger_source=software&{replay}")
    for picture in pictures:
        camera.software_trigger()
        assert np.array_equal(camera.grab(5.0).image, np.repeat(picture[:, :, None], 3, axis=2))


def test_failed_buffers_of_a_free_running_camera_are_counted_and_leave_gaps(camera_of: Callable[[str], Any]) -> None:
    camera = camera_of(f"{SMALL}&frame_rate_hz=50&trigger_source=free")
    before = camera.grab(5.0).frame_id
    emulate(camera, "ForceFailedBuffer", ForceFailedBufferCount=3)
    ids = [camera.grab(5.0).frame_id for _ in range(5)]
    counters = camera.counters()
    assert counters["incomplete"] == 3
    assert ids[-1] - before == 5 + 3 + counters["missed"]


def test_a_failed_buffer_of_a_triggered_camera_is_told_and_leaves_no_gap(camera_of: Callable[[str], Any]) -> None:
    camera = camera_of(f"{SMALL}&trigger_source=software")
    emulate(camera, "ForceFailedBuffer", ForceFailedBufferCount=1)
    camera.software_trigger()
    with pytest.raises(UnreadableFrame, match="incompletely grabbed"):
        camera.grab(5.0)
    camera.software_trigger()
    assert camera.grab(5.0).frame_id == 0
    assert camera.counters()["incomplete"] == 1


def test_each_software_trigger_gives_one_frame_in_order(camera_of: Callable[[str], Any]) -> None:
    camera = camera_of(f"{SMALL}&trigger_source=software")
    with pytest.raises(CameraTimeout):
        camera.grab(0.05)
    asked_ns = time.monotonic_ns()
    camera.software_trigger()
    frame = camera.grab(5.0)
    assert (frame.frame_id, frame.captured_at_ns > asked_ns) == (0, True)
    with pytest.raises(CameraTimeout):
        camera.grab(0.05)


def test_every_trigger_of_a_station_gets_its_picture() -> None:
    address = f"basler:{SERIAL}?{SMALL}&trigger_source=software"
    triggers = IntervalTrigger(0.05, count=20)  # 20 parts a second
    recipe, engine = PreprocessRecipe(64, 64), FakeEngine([0.0])
    with Station(open_camera(address), engine, recipe, 1.0, StationSettings(budget_ms=2000.0), triggers=triggers) as station:
        station.run()
        assert dict(station.stats.verdicts) == {Verdict.OK: 20}
        assert station.stats.triggers == 20


def test_a_program_that_forgets_to_close_its_camera_ends_properly() -> None:
    program = f"from edgead.runtime.cameras import open_camera; c = open_camera('basler:{SERIAL}?{SMALL}'); c.grab(5.0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_removed_camera_is_lost_and_can_be_opened_again(camera_of: Callable[[str], Any]) -> None:
    camera = camera_of(f"{SMALL}&trigger_source=software")
    emulate(camera, "FirePnPCallback")
    for _ in range(2):
        with pytest.raises(CameraLost, match="is gone"):
            camera.grab(5.0)
    with pytest.raises(CameraLost):
        camera.software_trigger()
    camera.close()
    again = camera_of(SMALL)
    assert again.grab(5.0).image.shape == (48, 64, 3)


def test_without_pypylon_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypylon.pylon", None)
    with pytest.raises(MissingExtra) as caught:
        open_camera(f"basler:{SERIAL}")
    assert caught.value.hint == "pip install 'edgead[basler]'"
