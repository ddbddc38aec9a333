"""One recipe from a camera picture to the model's input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image, to_bgr8

SIDES = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(16, 80), st.integers(16, 80), st.sampled_from(["area", "linear"]), st.integers(0, 255))
def test_any_picture_becomes_the_models_size_and_an_even_grey_stays_even(
    height: int, width: int, model_h: int, model_w: int, resize: str, grey: int
) -> None:
    out = PreprocessRecipe(model_w, model_h, resize=resize).apply(np.full((height, width, 3), grey, np.uint8))
    assert (out.shape, out.dtype) == ((model_h, model_w, 3), np.uint8)
    assert out.flags.c_contiguous
    assert (out == grey).all()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60), st.integers(1, 60))
def test_a_region_is_cut_or_refused_never_clipped(x: int, y: int, w: int, h: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    recipe = PreprocessRecipe(16, 16, roi=(x, y, w, h))
    if x + w <= 64 and y + h <= 48:
        assert np.array_equal(recipe.apply(image), PreprocessRecipe(16, 16).apply(image[y : y + h, x : x + w]))
    else:
        with pytest.raises(BadInput, match="does not fit a picture of 64 x 48 px"):
            recipe.apply(image)


@given(st.builds(PreprocessRecipe, st.integers(16, 99), st.integers(16, 99), st.none() | st.just((0, 1, 2, 3))))
def test_a_recipe_survives_json(recipe: PreprocessRecipe) -> None:
    assert PreprocessRecipe.from_json(recipe.to_json()) == recipe


def test_area_averages_and_linear_does_not() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    assert np.ptp(PreprocessRecipe(16, 16, resize="area").apply(stripes)) == 0
    assert PreprocessRecipe(16, 16, resize="linear").apply(stripes).max() == 0


@pytest.mark.parametrize(
    "values", [{"width": 8}, {"height": 9000}, {"resize": "cubic"}, {"roi": (-1, 0, 5, 5)}, {"roi": (0, 0, 0, 5)}]
)
def test_a_recipe_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        PreprocessRecipe(**{"width": 32, "height": 32, **values})


def test_grey_alpha_and_16_bit_pictures_are_accepted_by_rule(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(to_bgr8(grey), np.repeat(grey[:, :, None], 3, 2))
    assert np.array_equal(to_bgr8(grey.astype(np.uint16) * 256 + 255)[..., 0], grey)
    with_alpha = np.dstack([grey, grey + 1, grey + 2, grey + 3])
    assert np.array_equal(to_bgr8(with_alpha), with_alpha[..., :3])
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 256)
    assert np.array_equal(read_image(tmp_path / "deep.png")[..., 1], grey)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_other_pictures_are_refused(image: np.ndarray[Any, Any]) -> None:
    with pytest.raises(BadInput, match="not supported"):
        to_bgr8(image)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (("empty.png", "not a readable picture"), ("text.png", "not a readable"), ("none.png", "cannot read")):
        with pytest.raises(BadInput, match=reason) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)


def test_only_pictures_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "c.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(BadInput, match="is not a folder"):
        list_images(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no pictures"):
        list_images(tmp_path / "empty")
