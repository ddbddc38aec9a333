"""Pictures of parts that are not OK, on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import MissingExtra, OutputError, StorageError
from edgead.preprocess import read_image
from edgead.runtime.overlay import HeatScale
from edgead.runtime.pictures import PictureFolder, Window
from edgead.types import Frame, Inspection, StageTimes, Verdict

SCALE = HeatScale(0.0, 1.0)


def inspection(verdict: Verdict, part_id: int = 1) -> Inspection:
    picture = np.random.default_rng(part_id).integers(0, 256, (48, 64, 3), np.uint8)
    frame = Frame(picture, "fake", 0, 0)
    return Inspection(part_id, verdict, "", 2.0, 1.0, np.ones((4, 4), np.float32), StageTimes(), frame)


def test_ng_and_unknown_parts_are_saved_with_overlay_and_the_very_picture(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "new" / "pictures", SCALE)
    for part_id, verdict in enumerate((Verdict.OK, Verdict.NG, Verdict.UNKNOWN), start=1):
        folder.save(inspection(verdict, part_id))
    files = sorted((tmp_path / "new" / "pictures").iterdir())
    assert [f.name.split("_", 1)[1] for f in files] == [
        "000002_NG.jpg",
        "000002_NG.png",
        "000003_UNKNOWN.jpg",
        "000003_UNKNOWN.png",
    ]
    assert folder.saved == 2
    original = inspection(Verdict.NG, 2).frame
    assert original is not None
    assert (read_image(files[1]) == original.image).all()
    assert read_image(files[0]).shape[1] >= 480


def test_a_part_without_a_picture_saves_nothing(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path, SCALE)
    folder.save(Inspection(1, Verdict.UNKNOWN, "camera_lost", float("nan"), 1.0, None, StageTimes(), None))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_costs_pictures_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "pictures"
    folder = PictureFolder(target, SCALE)
    target.rmdir()
    with caplog.at_level(logging.ERROR):
        for part_id in (1, 2):
            folder.save(inspection(Verdict.NG, part_id))
    assert (folder.saved, folder.lost, len(caplog.records)) == (0, 2, 1)


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        PictureFolder(tmp_path / "file" / "pictures", SCALE)


@pytest.mark.skipif(bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")), reason="there is a screen")
def test_a_window_without_a_screen_says_what_to_do() -> None:
    with pytest.raises((MissingExtra, OutputError)) as caught:
        Window("title", SCALE)
    assert "--save-ng" in caught.value.hint
