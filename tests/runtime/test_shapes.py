"""Pictures of another shape than in training are told once; a folder camera reads them at the recipe's depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import UnreadableFrame
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras import gives_files, open_camera
from edgead.runtime.loop.shapes import NOTICE, ShapeWatch
from edgead.runtime.records.overlay import HeatScale
from edgead.types import Frame, Inspection, StageTimes, Verdict

RECIPE = PreprocessRecipe(64, 64, pictures=(640, 480))


def seen(width: int, height: int, engine: str = "a") -> Inspection:
    frame = Frame(np.zeros((height, width, 3), np.uint8), "camera", 0, 0)
    return Inspection(1, Verdict.OK, "", 0.0, 1.0, None, StageTimes(), frame, engine=engine)


def test_another_shape_is_told_once_and_taken_back() -> None:
    told: list[tuple[str, str]] = []
    watch = ShapeWatch({"a": (HeatScale(0.0, 1.0), RECIPE)}, lambda name, text: told.append((name, text)))
    for _ in range(3):
        watch.see(seen(640, 480))
    for _ in range(3):
        watch.see(seen(640, 360))
    watch.see(seen(640, 360, engine="of another product"))
    watch.see(Inspection(2, Verdict.UNKNOWN, "camera_lost", 0.0, 1.0, None, StageTimes(), None, engine="a"))
    watch.see(seen(640, 480))
    assert [text[:33] for _, text in told] == ["", "a picture of 640 x 360 px, the mo", ""]
    assert {name for name, _ in told} == {NOTICE}


def test_a_folder_of_deep_pictures_is_read_at_the_recipes_depth(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 20), 4000, np.uint16))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((20, 20), 5000, np.uint16))
    camera = open_camera(str(tmp_path), bits=12)
    assert (camera.grab(1.0).image == 4000 >> 4).all()
    with pytest.raises(UnreadableFrame, match="a value of 5000 in a picture of 12 bits"):
        camera.grab(1.0)
    assert (open_camera(str(tmp_path)).grab(1.0).image == 4000 >> 8).all()


@pytest.mark.parametrize(("address", "told"), [("pictures/", True), ("0", True), ("gige:10.0.0.7", False), ("sim:fps=5", False)])
def test_genicam_says_its_depth_itself(address: str, told: bool) -> None:
    assert gives_files(address) is told
