"""The simulated camera keeps the camera contract and tells the truth about its parts."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost, CameraTimeout, EndOfStream
from edgead.registry import resolve
from edgead.runtime.cameras.conveyor import DEFECTS
from edgead.runtime.cameras.simulated import SimulatedCamera
from edgead.testing import FakeClock

SMALL = {"width": 64, "height": 64}


def test_it_is_found_by_name() -> None:
    assert resolve("camera", "simulated") is SimulatedCamera


def test_frames_are_read_only_counted_and_stamped() -> None:
    clock = FakeClock()
    camera = SimulatedCamera(parts=2, clock=clock, **SMALL)
    frames = [camera.grab(1.0), camera.grab(1.0)]
    assert [frame.frame_id for frame in frames] == [0, 1]
    assert frames[0].captured_at_ns == clock.now_ns()
    assert frames[0].image.shape == (64, 64, 3)
    with pytest.raises(ValueError, match="read-only"):
        frames[0].image[0, 0] = 0


def test_the_belt_is_empty_after_its_parts() -> None:
    camera = SimulatedCamera(parts=1, **SMALL)
    camera.grab(1.0)
    with pytest.raises(EndOfStream):
        camera.grab(1.0)


def test_the_same_seed_shows_the_same_parts_whatever_the_speed() -> None:
    def parts(fps: float) -> list[np.ndarray]:
        camera = SimulatedCamera(seed=7, fps=fps, clock=FakeClock(), **SMALL)
        return [camera.grab(1.0).image for _ in range(3)]

    assert all(np.array_equal(a, b) for a, b in zip(parts(0), parts(10), strict=True))


def test_source_tells_the_truth() -> None:
    always = SimulatedCamera(defect_rate=1.0, **SMALL)
    never = SimulatedCamera(defect_rate=0.0, **SMALL)
    assert {always.grab(1.0).source for _ in range(20)} <= set(DEFECTS)
    assert {never.grab(1.0).source for _ in range(3)} == {"good"}


def test_it_is_paced_by_the_clock() -> None:
    clock = FakeClock()
    camera = SimulatedCamera(fps=4, clock=clock, **SMALL)
    times = [camera.grab(1.0).captured_at_ns for _ in range(3)]
    assert np.diff(times).tolist() == [250_000_000] * 2


def test_a_part_that_comes_too_late_is_a_timeout_and_comes_after_all() -> None:
    clock = FakeClock()
    camera = SimulatedCamera(fps=1, clock=clock, **SMALL)
    camera.grab(0.1)
    with pytest.raises(CameraTimeout):
        camera.grab(0.6)
    assert camera.grab(0.6).frame_id == 1


def test_a_closed_camera_is_lost() -> None:
    camera = SimulatedCamera(**SMALL)
    camera.close()
    camera.close()
    with pytest.raises(CameraLost):
        camera.grab(1.0)


@pytest.mark.parametrize(
    ("option", "value"), [("defect_rate", 1.5), ("fps", -1), ("width", 8), ("drift", 2.0), ("fps", float("nan"))]
)
def test_values_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(BadInput, match=option):
        SimulatedCamera(**{option: value})
