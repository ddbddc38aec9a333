"""What is told of a set of pictures, and what is warned of."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe
from edgead.survey import NAMED, Survey, exif_turn, settle
from edgead.words import LONGEST

RECIPE = PreprocessRecipe(64, 64)


def survey_of(folder: Path, recipe: PreprocessRecipe = RECIPE) -> Survey:
    survey = Survey()
    for file in sorted(folder.iterdir()):
        survey.use(file, recipe)
    return survey


def write(file: Path, width: int = 80, height: int = 80, value: int = 200, kind: type = np.uint8, channels: int = 3) -> None:
    shape = (height, width) if channels == 1 else (height, width, channels)
    cv2.imwrite(str(file), np.full(shape, value, kind))


def turned(file: Path, orientation: int) -> None:
    """A JPEG with an EXIF turn."""
    data = bytes(cv2.imencode(".jpg", np.full((80, 80, 3), 90, np.uint8))[1])
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    file.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])


def test_a_plain_set_is_one_line_without_a_warning(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.png")
    survey = survey_of(tmp_path)
    assert survey.lines() == ["3 pictures: 80 x 80 px, colour of 8 bits"]
    assert survey.warnings(RECIPE) == []
    assert survey.usual == (80, 80)


def test_mixed_sizes_depths_and_channels_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 100, 80)
    write(tmp_path / "b.png", 80, 160, channels=1)
    write(tmp_path / "c.png", 80, 80, 40000, np.uint16, 1)
    write(tmp_path / "d.png", 80, 80, channels=4)
    (line,) = survey_of(tmp_path).lines()
    assert "4 pictures: 3 sizes from 80 x 80 px to 80 x 160 px, proportions (width / height) from 0.50 to 1.25" in line
    for part in ("1 colour of 8 bits", "1 grey of 8 bits", "1 grey of 16 bits", "1 colour with alpha of 8 bits"):
        assert part in line


def test_mixed_proportions_get_a_letterbox_and_equal_ones_stay(tmp_path: Path) -> None:
    for name, sizes in (("mixed", [(80, 80), (80, 120)]), ("alike", [(120, 80), (240, 160)])):
        (tmp_path / name).mkdir()
        for i, size in enumerate(sizes):
            write(tmp_path / name / f"{i}.png", *size)
    mixed, alike = (survey_of(tmp_path / name) for name in ("mixed", "alike"))
    assert settle(RECIPE, mixed, None, None).aspect == "letterbox"
    assert settle(RECIPE, mixed, None, None).pictures is None
    assert settle(RECIPE, mixed, "stretch", None).aspect == "stretch"
    assert settle(RECIPE, alike, None, None) == PreprocessRecipe(64, 64, pictures=(120, 80))
    assert "squeezed in width by up to 1.5" in alike.warnings(RECIPE)[0]
    assert "cuts off up to 33% of a picture" in alike.warnings(PreprocessRecipe(64, 64, aspect="crop"))[0]
    assert alike.warnings(PreprocessRecipe(64, 64, aspect="letterbox")) == []


@pytest.mark.parametrize(("largest", "bits"), [(1023, 10), (700, 10), (4095, 12), (1024, 12), (16000, 14), (65535, 16), (200, 8)])
def test_the_depth_is_found_from_the_largest_value(largest: int, bits: int, tmp_path: Path) -> None:
    write(tmp_path / "a.png", value=largest // 2, kind=np.uint16, channels=1)
    write(tmp_path / "b.png", value=largest, kind=np.uint16, channels=1)
    survey = survey_of(tmp_path)
    recipe = settle(RECIPE, survey, None, None)
    assert recipe.bits == bits
    told = [line for line in survey.warnings(recipe) if f"taken as {bits} bits" in line]
    assert bool(told) == (bits < 16)
    assert settle(RECIPE, survey, None, 14).bits == 14


def test_pictures_that_use_a_fraction_of_their_range_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.png", value=14)
    assert "brighter than 14 of 255" in survey_of(tmp_path).warnings(RECIPE)[0]


def test_tiny_pictures_are_told_with_the_smallest(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 4, 4)
    write(tmp_path / "b.png")
    assert "1 of 2 pictures are less than half as large" in survey_of(tmp_path).warnings(RECIPE)[0]
    assert "4 x 4 px (a.png)" in survey_of(tmp_path).warnings(RECIPE)[0]


def test_exif_turns_are_counted_and_told(tmp_path: Path) -> None:
    for i, orientation in enumerate((1, 6, 8)):
        turned(tmp_path / f"{i}.jpg", orientation)
    survey = survey_of(tmp_path)
    assert [file.name for file in survey.turned] == ["1.jpg", "2.jpg"]
    assert "2 with an EXIF turn" in survey.lines()[0]
    assert "2 of 3 pictures carry an EXIF turn (e.g. 1.jpg), which is ignored" in survey.warnings(RECIPE)[0]


@pytest.mark.parametrize("data", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"MM\0*", b"II*\0" + bytes(60)])
def test_broken_exif_is_no_turn(data: bytes) -> None:
    assert exif_turn(np.frombuffer(data, np.uint8)) == 1


def test_all_bad_files_are_named_in_one_run_on_one_screen(tmp_path: Path) -> None:
    write(tmp_path / "fine.png")
    for i in range(NAMED + 4):
        (tmp_path / f"cut{i:02d}.png").write_bytes(b"not a picture")
    cv2.imwrite(str(tmp_path / "a_float.tif"), np.ones((20, 20), np.float32))
    with pytest.raises(BadInput) as caught:
        survey_of(tmp_path).refuse_bad()
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{NAMED + 5} pictures cannot be used, in {tmp_path}:"
    assert lines[1].startswith("  a_float.tif: ")
    assert lines[2].startswith("  cut00.png is not")
    assert lines[-1] == "  and 5 more: " + ", ".join(f"cut{i:02d}.png" for i in range(NAMED - 1, NAMED + 4))
    assert len(lines) == NAMED + 2


def test_hundreds_of_bad_files_stay_on_a_screen_and_a_line_break_in_a_name_stays_in_its_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").write_bytes(b"")
    for i in range(300):
        (tmp_path / f"cut{i:03d}.png").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        survey_of(tmp_path).refuse_bad()
    lines = str(caught.value).splitlines()
    assert len(lines) == NAMED + 2
    assert lines[-1].endswith("cut044.png and 255 more")
    assert len(str(caught.value)) < LONGEST


@pytest.mark.parametrize("spoil", ["cut", "bytes", "profile"])
def test_decoders_write_nothing_to_the_terminal(spoil: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libpng and OpenCV print on their own; a wrong colour profile is no fault of the picture."""
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    data = cv2.imencode(".png", picture)[1].tobytes()
    chunk = b"iCCP" + b"x\0\0" + zlib.compress(b"no profile")
    profile = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    spoilt = {
        "cut": data[: len(data) // 2],
        "bytes": data[:9000] + b"\xff" * 40 + data[9040:],
        "profile": data[:33] + profile + data[33:],
    }
    (tmp_path / "a.png").write_bytes(spoilt[spoil])
    survey = Survey()
    image = survey.read(tmp_path / "a.png", RECIPE)
    assert capfd.readouterr() == ("", "")
    assert [file.name for file, _ in survey.bad] == ([] if spoil == "profile" else ["a.png"])
    assert spoil != "profile" or np.array_equal(image, picture)


def test_a_cut_off_tiff_or_a_monster_header_is_a_bad_file_not_a_crash(tmp_path: Path) -> None:
    png = bytearray(cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1].tobytes())
    png[16:24] = struct.pack(">II", 2_000_000, 2_000_000)  # width and height
    (tmp_path / "monster.png").write_bytes(png)
    survey = survey_of(tmp_path)
    assert "monster.png" in str(survey.bad[0][1])
