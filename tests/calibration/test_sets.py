"""Calibration sets: what they hold, what is odd about them, and what is refused in plain words."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.calibration.pictures.screening import FEWEST, WANTED, Reference, screen
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.runtime.cameras.conveyor import draw_part
from edgead.types import Image
from tests.calibration.graphs import SIZE, surface, surfaces


def codes(*args: object, **kwargs: object) -> list[str]:
    return [finding.code for finding in screen(*args, **kwargs)]  # type: ignore[arg-type]


def test_the_same_pictures_give_the_same_digest_whatever_they_are_called() -> None:
    first = CalibrationSet.of(surfaces(2), ["a", "b"])
    assert first.digest == CalibrationSet.of(surfaces(2)).digest
    assert first.digest != CalibrationSet.of(surfaces(2)[::-1]).digest
    assert [image.shape for image in first] == [image.shape for image in first] == [(SIZE, SIZE, 3)] * 2  # again and again


def test_copies_count_once_and_are_named() -> None:
    pictures = CalibrationSet.of([*surfaces(40), surface(3)], [f"{i}.png" for i in range(41)])
    assert (len(pictures), pictures.duplicates) == (40, (("40.png", "3.png"),))
    assert pictures.digest == CalibrationSet.of(surfaces(40)).digest
    (finding,) = screen(pictures)
    assert (finding.severity, finding.code) == ("warning", "duplicates") and "40.png = 3.png" in str(finding)


def test_nothing_is_odd_about_enough_good_pictures() -> None:
    assert codes(CalibrationSet.of(surfaces(WANTED))) == []


def test_too_few_are_refused_and_few_are_warned_about() -> None:
    with pytest.raises(BadInput, match=r"3 different calibration pictures are too few: about 1 part in 4 .* wanted: 32") as told:
        screen(CalibrationSet.of(surfaces(3)))
    assert "--calibration" in told.value.hint
    assert codes(CalibrationSet.of(surfaces(3)), allow_unsafe=True) == ["few-pictures"]
    (finding,) = screen(CalibrationSet.of(surfaces(FEWEST)))
    assert (finding.severity, finding.code) == ("warning", "few-pictures")


def test_one_picture_again_and_again_is_refused() -> None:
    with pytest.raises(BadInput, match="all 20 calibration pictures are the same one"):
        CalibrationSet.of([surface(0)] * 20)
    with pytest.raises(BadInput, match="there are none"):
        CalibrationSet.of([])


def test_footage_of_one_part_is_warned_about() -> None:
    rng = np.random.default_rng(0)
    parts = [cv2.resize(surface(seed), (256, 256), interpolation=cv2.INTER_NEAREST) for seed in [0] * 30 + list(range(1, 11))]
    footage = [np.clip(part + rng.normal(0, 3, part.shape), 0, 255).astype(np.uint8) for part in parts]
    finding = screen(CalibrationSet.of(footage))[0]
    assert finding.code == "near-duplicates"
    assert "29 of 40" in str(finding) and "they count as 11" in str(finding)


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (surface(99, light=0.6), "bright"),
        (np.full((SIZE, SIZE, 3), 121, np.uint8), "sharpness|contrast"),
        (surface(99)[:, :, ::-1] // np.array([1, 1, 2], np.uint8), "red less green"),
    ],
)
def test_another_light_is_named_with_how_far_it_is(odd: Image, word: str) -> None:
    names = [*(f"{i}.png" for i in range(40)), "odd.png"]
    found = screen(CalibrationSet.of([*surfaces(40), odd], names))
    assert [(f.code, f.where) for f in found] == [("odd-picture", "odd.png")]
    assert any(part in str(found[0]) for part in word.split("|")) and "usual" in str(found[0])


def test_a_defect_that_slipped_in_shows_in_its_score() -> None:
    rng = np.random.default_rng(0)
    scores = rng.gumbel(10, 1, 40).astype(np.float32)
    pictures = CalibrationSet.of(surfaces(40), [f"{i}.png" for i in range(40)])
    scores[7] = 30.0
    (finding,) = screen(pictures, scores)
    assert (finding.severity, finding.code, finding.where) == ("warning", "odd-score", "7.png")
    assert "scores it 30" in str(finding) and "defect" in str(finding)
    scores[7] = -30.0  # nothing is less suspicious than a low score
    assert screen(pictures, scores) == []


def test_honest_scores_seldom_alarm() -> None:
    pictures = CalibrationSet.of(surfaces(WANTED))
    rng = np.random.default_rng(0)
    draws = [rng.normal(5, 1, WANTED), rng.gumbel(5, 1, WANTED), rng.exponential(1, WANTED)]
    alarms = sum(
        bool(screen(pictures, d)) for _ in range(30) for d in [rng.permutation(x) + rng.normal(0, 1, WANTED) for x in draws]
    )
    assert alarms <= 9  # of 90; a false word in five to ten of a hundred is the price of seeing single defects


def test_another_product_is_refused_by_its_looks_or_by_its_scores() -> None:
    known = Reference(surfaces(20, 500), np.random.default_rng(0).normal(5, 1, 20).astype(np.float32))
    same = np.random.default_rng(1).normal(5, 1, 40).astype(np.float32)
    assert codes(CalibrationSet.of(surfaces(40)), same, known) == []
    dark = CalibrationSet.of([surface(i, light=0.5) for i in range(40)])
    with pytest.raises(BadInput, match="40 of 40 calibration pictures look unlike the good pictures of training"):
        screen(dark, reference=known)
    with pytest.raises(BadInput, match="38 of 40 calibration pictures have scores that no good picture"):
        screen(CalibrationSet.of(surfaces(40)), np.where(np.arange(40) < 2, 5, 60).astype(np.float32), known)
    assert "other-product" in codes(dark, reference=known, allow_unsafe=True)


def test_another_size_or_depth_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="picture b is 16 x 16 px, a is 32 x 32 px"):
        CalibrationSet.of([surface(0), surface(1)[:16, :16]], ["a", "b"])
    with pytest.raises(BadInput, match="picture a is uint16"):
        CalibrationSet.of([surface(0).astype(np.uint16)], ["a"])  # type: ignore[list-item]


def test_a_folder_is_used_evenly_and_faults_name_the_file(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), surface(i))
    chosen = CalibrationSet.from_folder(tmp_path, PreprocessRecipe(16, 16), 4)
    assert (chosen.names, chosen.images[0].shape) == (("00.png", "03.png", "06.png", "09.png"), (16, 16, 3))
    with pytest.raises(BadInput, match=r"00\.png: region of interest .* does not fit"):
        CalibrationSet.from_folder(tmp_path, PreprocessRecipe(16, 16, roi=(0, 0, 64, 64)), 4)
    (tmp_path / "00.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"00\.png is not a readable picture"):
        CalibrationSet.from_folder(tmp_path, PreprocessRecipe(16, 16), 4)


def test_parts_on_the_conveyor_raise_no_alarm() -> None:
    rng = np.random.default_rng(3)
    assert codes(CalibrationSet.of([draw_part(rng, size=(128, 128))[0] for _ in range(WANTED)])) == []


@pytest.mark.parametrize("name", ["casting", "magnetic_tile"])
def test_real_good_pictures_raise_no_alarm(name: str, shared_data: Path) -> None:
    recipe = PreprocessRecipe(128, 128)
    files = list_images(shared_data / "data" / name / "train/good")[::12][:40]
    good = [recipe.apply(read_image(file)) for file in files]
    assert codes(CalibrationSet.of(good)) == []
    if name == "magnetic_tile":  # its good pictures are as dark as they come
        return
    black = CalibrationSet.of([*good, good[0] // 20], [*(f.name for f in files), "lamp_off.png"])
    assert [f.where for f in screen(black)] == ["lamp_off.png"]
