"""Pictures of parts on disk: whole, under their quota, and the important ones stay."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import BadInput, MissingExtra, OutputError, StorageError
from edgead.preprocess import read_image
from edgead.runtime.records.overlay import HeatScale
from edgead.runtime.records.pictures import PictureFolder, Window
from edgead.runtime.records.quota import ORDER, Shelf
from edgead.runtime.records.wallclock import WallClock
from edgead.testing import FakeClock
from edgead.types import Verdict
from tests.runtime.disks import fill, remount
from tests.runtime.parts import START, inspection

SCALE = HeatScale(0.0, 1.0)


def parts(folder: Path) -> list[str]:
    """Part and verdict of the camera's pictures, by name."""
    return sorted(f.stem.split("_", 1)[1] for f in folder.glob("*.png"))


def test_ng_and_unknown_parts_are_saved_with_overlay_and_the_very_picture(tmp_path: Path) -> None:
    told: list[tuple[int, str, str]] = []
    target = tmp_path / "new" / "pictures"
    folder = PictureFolder(target, SCALE, on_saved=lambda i, picture, overlay: told.append((i, picture.name, overlay.name)))
    for part_id, verdict in enumerate((Verdict.OK, Verdict.NG, Verdict.UNKNOWN), start=1):
        folder.save(inspection(part_id, verdict))
    files = sorted(target.iterdir())
    assert [f.name.split("_", 1)[1] for f in files] == [
        "000002_NG.jpg",
        "000002_NG.png",
        "000003_UNKNOWN.jpg",
        "000003_UNKNOWN.png",
    ]
    assert folder.saved == 2
    assert told == [(2, files[1].name, files[0].name), (3, files[3].name, files[2].name)]
    assert folder.total_bytes == sum(f.stat().st_size for f in files)
    original = inspection(2).frame
    assert original is not None
    assert (read_image(files[1]) == original.image).all()
    assert read_image(files[0]).shape[1] >= 480


def test_a_part_without_a_picture_saves_nothing(tmp_path: Path) -> None:
    PictureFolder(tmp_path, SCALE).save(inspection(1, Verdict.UNKNOWN, "camera_lost", frame=False))
    assert list(tmp_path.iterdir()) == []


def test_samples_of_ok_parts(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path, SCALE, ok_every=3)
    for part_id in range(1, 8):
        folder.save(inspection(part_id))
    assert parts(tmp_path) == ["000003_OK", "000006_OK"]


def test_a_storm_of_unknown_evicts_ok_and_itself_but_no_ng(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PictureFolder(tmp_path / "probe", SCALE, ok_every=1).save(inspection(1))
    size = sum(f.stat().st_size for f in (tmp_path / "probe").iterdir()) * 1.05
    target = tmp_path / "pictures"
    folder = PictureFolder(target, SCALE, max_mb=4 * size / 1e6, ok_every=1)
    script = [Verdict.NG, Verdict.OK, Verdict.NG, Verdict.OK] + [Verdict.UNKNOWN] * 6
    for part_id, verdict in enumerate(script, start=1):
        folder.save(inspection(part_id, verdict))
    assert parts(target) == ["000001_NG", "000003_NG", "000009_UNKNOWN", "000010_UNKNOWN"]
    for part_id in (11, 12, 13):
        folder.save(inspection(part_id, Verdict.NG))
    assert parts(target) == ["000003_NG", "000011_NG", "000012_NG", "000013_NG"]
    assert folder.lost == 0
    for part_id in (14, 15):
        folder.save(inspection(part_id, Verdict.UNKNOWN))
    assert parts(target) == ["000003_NG", "000011_NG", "000012_NG", "000013_NG"]
    assert folder.lost == 2
    messages = [r.getMessage() for r in caplog.records]
    assert messages == [
        f"UNKNOWN pictures are being lost, verdicts go on: {target}: the quota is full of pictures that matter more"
    ]


STEPS = st.lists(st.tuples(st.sampled_from(ORDER), st.integers(0, 400), st.booleans()), max_size=60)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, limit=st.integers(1, 1000))
@pytest.mark.promise("pictures are kept under byte and age quotas")
def test_no_sequence_of_parts_and_restarts_breaks_the_quota_or_costs_a_better_picture(
    steps: Sequence[tuple[Verdict, int, bool]], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "notes.txt").write_text("x" * 50)
        (folder / "holiday.jpg").write_text("x" * 50)
        shelf = Shelf(folder, limit, 0)
        for part_id, (verdict, size, restart) in enumerate(steps):
            if restart:
                shelf = Shelf(folder, limit, 0)
            before = {v: shelf.count(v) for v in ORDER}
            stem = f"20261122T060000.000Z_{part_id:06d}_{verdict.value}"
            if not shelf.admit(verdict, size):
                (folder / f"{stem}.jpg").write_bytes(bytes(size // 2))
                (folder / f"{stem}.png").write_bytes(bytes(size - size // 2))
                shelf.add(stem, size)
            else:
                assert before == {v: shelf.count(v) for v in ORDER}  # refused: nothing was removed in vain
            for better in ORDER[ORDER.index(verdict) + 1 :]:
                assert shelf.count(better) == before[better]
            ours = [f.stat().st_size for f in folder.glob("2026*")]
            assert sum(ours) == shelf.total_bytes <= limit
        assert (folder / "notes.txt").exists() and (folder / "holiday.jpg").exists()


def test_a_crash_leaves_no_halves_and_a_lower_quota_holds_from_the_start(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path, SCALE)
    for part_id in (1, 2, 3):
        folder.save(inspection(part_id, Verdict.NG))
    size = folder.total_bytes / 3
    (tmp_path / ".20261122T060000.000Z_000004_NG.png.tmp").write_bytes(b"half")
    (tmp_path / ".something.tmp").write_bytes(b"of somebody else")
    folder = PictureFolder(tmp_path, SCALE, max_mb=2.1 * size / 1e6)
    assert parts(tmp_path) == ["000002_NG", "000003_NG"]
    assert [f.name for f in tmp_path.glob(".*")] == [".something.tmp"]


def test_old_pictures_go_even_when_no_new_ones_come_and_a_jumping_date_removes_none(tmp_path: Path) -> None:
    clock, date = FakeClock(), [START]
    folder = PictureFolder(tmp_path, SCALE, max_days=10, wall=WallClock(clock, lambda: date[0]))
    folder.save(inspection(1, Verdict.NG))
    date[0] = START + timedelta(days=4000)
    folder.save(inspection(2))
    assert parts(tmp_path) == ["000001_NG"]
    date[0] = START + timedelta(days=11)
    clock.advance(11 * 86400)
    folder.save(inspection(3))
    assert list(tmp_path.iterdir()) == []
    assert folder.total_bytes == 0


def test_a_full_disk_costs_pictures_is_told_once_and_passes(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = PictureFolder(small_disk, SCALE, min_free_mb=0)
    filler = fill(small_disk)
    for part_id in (1, 2):
        folder.save(inspection(part_id, Verdict.NG))
    assert [f.name for f in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    folder.save(inspection(3, Verdict.NG))
    assert parts(small_disk) == ["000003_NG"]
    assert (folder.saved, folder.lost) == (1, 2)
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 2 and "being lost" in told[0] and "saved again" in told[1] and "2 were lost" in told[1]


def test_the_reserve_of_the_disk_is_kept_and_costs_no_ng_picture(small_disk: Path) -> None:
    folder = PictureFolder(small_disk, SCALE, min_free_mb=0.5, ok_every=1)
    folder.save(inspection(1, Verdict.NG))
    for part_id in range(2, 40):
        folder.save(inspection(part_id))
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_bsize >= 500_000
    assert "000001_NG" in parts(small_disk) and "000039_OK" in parts(small_disk)
    fill(small_disk)
    folder.save(inspection(40, Verdict.NG))
    assert "000001_NG" in parts(small_disk)  # somebody else fills the disk: what is there stays
    assert folder.lost == 1


def test_a_station_starts_with_a_read_only_disk_and_saves_once_it_may(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    remount(small_disk, "ro")
    folder = PictureFolder(small_disk / "new", SCALE, min_free_mb=0)
    folder.save(inspection(1, Verdict.NG))
    assert folder.lost == 1
    remount(small_disk, "rw")
    folder.save(inspection(2, Verdict.NG))
    assert parts(small_disk / "new") == ["000002_NG"]
    assert "cannot be saved yet" in caplog.records[0].getMessage()


def test_a_folder_that_vanishes_costs_pictures_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "pictures"
    folder = PictureFolder(target, SCALE)
    target.rmdir()
    with caplog.at_level(logging.ERROR):
        for part_id in (1, 2):
            folder.save(inspection(part_id, Verdict.NG))
    assert (folder.saved, folder.lost, len(caplog.records)) == (0, 2, 1)


def test_what_makes_no_sense_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        PictureFolder(tmp_path / "file" / "pictures", SCALE)
    with pytest.raises(BadInput):
        PictureFolder(tmp_path, SCALE, max_mb=0)


@pytest.mark.skipif(bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")), reason="there is a screen")
def test_a_window_without_a_screen_says_what_to_do() -> None:
    with pytest.raises((MissingExtra, OutputError)) as caught:
        Window("title", SCALE)
    assert "--save-ng" in caught.value.hint
