"""What a picture is told to be: sharp, white, dark, moving, a near-copy; and what a set of them does not show."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.capture.looks import Look, copy_among, missing, small_of
from edgead.types import Image
from tests.bundles import part

SIDE = 256


def picture(seed: int = 0, *, shift: int = 0, light: float = 1.0) -> Image:
    moved = np.roll(part(seed, SIDE), shift, axis=1)
    return np.clip(moved * light, 0, 255).astype(np.uint8)


def noisy(image: Image, seed: int) -> Image:
    """Taken once more, by a sensor of 3 grey levels of noise."""
    return np.clip(image + np.random.default_rng(seed).normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def look(image: Image, before: Image | None = None) -> Look:
    return Look.of(image, small_of(image), None if before is None else small_of(before))


def test_a_blurred_picture_is_less_sharp_than_the_best_and_told() -> None:
    sharp, blurred = look(picture()), look(cv2.GaussianBlur(picture(), (0, 0), 4))
    assert sharp.hints(sharp.sharpness) == {}
    assert blurred.focus(sharp.sharpness) < 0.5
    assert "focus" in blurred.hints(sharp.sharpness)["blurred"]


def test_white_and_dark_pictures_are_told() -> None:
    assert "less exposure" in look(picture(light=4.0)).hints(0.0)["white"]
    assert "more exposure" in look(picture(light=0.1)).hints(0.0)["dark"]


def test_what_moves_is_told_and_noise_is_not() -> None:
    still, moved = look(noisy(picture(), 1), noisy(picture(), 2)), look(picture(shift=60), picture())
    assert still.motion is not None and "moving" not in still.hints(still.sharpness)
    assert "moving" in moved.hints(moved.sharpness)
    assert look(picture()).motion is None


def test_the_same_view_is_a_near_copy_another_part_a_scratch_and_a_shift_are_none() -> None:
    there = [small_of(noisy(picture(seed), seed)) for seed in (5, 6)]
    assert copy_among(small_of(noisy(picture(6), 99)), there) == 1
    assert copy_among(small_of(noisy(picture(6), 99)) + 1.5, there) == 1  # a lamp that flickers
    scratched = picture(6)
    cv2.line(scratched, (100, 100), (116, 104), (0, 0, 0), 2)
    for other in (picture(7), picture(6, shift=3), scratched, picture(6, light=1.1)):
        assert copy_among(small_of(other), there) is None
    assert copy_among(small_of(cv2.resize(picture(6), (64, 64))), there) is None  # of another size


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 3), (64, 64), (3000, 20)])
def test_pictures_of_any_size_can_be_compared(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    small = small_of(image)
    assert copy_among(small_of(noisy(image, 1)) if image.size > 1000 else small, [small]) == 0
    assert Look.of(image, small, small).motion == 0.0
    assert len(missing([small] * 12, 0.0)) == 3


def test_what_all_pictures_have_in_common_is_still_missing() -> None:
    alike = [small_of(noisy(picture(), seed)) for seed in range(12)]
    before = [small.copy() for small in alike]
    told = " ".join(missing(alike, 120.0))
    assert "light is the same" in told and "same place" in told and "within 2 min" in told
    assert all(np.array_equal(one, other) for one, other in zip(alike, before, strict=True))  # asking changes nothing
    various = [small_of(picture(seed, shift=5 * seed - 30, light=0.9 + 0.02 * seed)) for seed in range(12)]
    assert missing(various, 7200.0) == ()
    assert missing(alike[:5], 0.0) == ()  # too few to say
