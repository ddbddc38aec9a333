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
from edgead.preprocess import FILL, RESIZE_RULES, PreprocessRecipe, list_images, read_image, to_bgr8
from edgead.types import Image

SIDES = st.integers(1, 90)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(16, 80), st.integers(16, 80), st.sampled_from(["box", "area", "linear"]), st.integers(0, 255))
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


def test_recipes_written_before_box_give_the_same_pictures() -> None:
    old = {"width": 32, "height": 24, "roi": [3, 2, 150, 101], "resize": "area"}  # as in a manifest of before
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    expected = cv2.resize(image[2:103, 3:153], (32, 24), interpolation=cv2.INTER_AREA)
    assert np.array_equal(PreprocessRecipe.from_json(old).apply(image), expected)


def by_the_book(image: Image, width: int, height: int) -> Image:
    """The rule "box" as :func:`edgead.preprocess.box_steps` says it, in whole numbers but for its last step."""
    steps = [
        max((k for k in range(14) if wanted << k <= side), default=0)
        for side, wanted in ((image.shape[0], height), (image.shape[1], width))
    ]
    spare_y, spare_x = image.shape[0] % 2 ** steps[0], image.shape[1] % 2 ** steps[1]
    high, wide = image.shape[0] - spare_y, image.shape[1] - spare_x
    cells = image[spare_y // 2 :, spare_x // 2 :][:high, :wide].astype(int)
    for k in range(max(steps)):
        if k < min(steps):
            cells = (cells[::2, ::2] + cells[1::2, ::2] + cells[::2, 1::2] + cells[1::2, 1::2] + 2) >> 2
        elif k < steps[1]:
            cells = (cells[:, ::2] + cells[:, 1::2] + 1) >> 1
        else:
            cells = (cells[::2] + cells[1::2] + 1) >> 1
    return np.asarray(cv2.resize(cells.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(16, 40), st.integers(16, 40), st.booleans())
def test_box_is_what_its_description_says_on_views_too(height: int, width: int, model_h: int, model_w: int, view: bool) -> None:
    whole = np.random.default_rng(height * 301 + width).integers(0, 256, (height + 3, width + 5, 3)).astype(np.uint8)
    image = whole[1 : 1 + height, 2 : 2 + width] if view else np.ascontiguousarray(whole[:height, :width])
    out = PreprocessRecipe(model_w, model_h, resize="box").apply(image)
    assert np.array_equal(out, by_the_book(image, model_w, model_h))


def test_box_does_not_alias_where_linear_does() -> None:
    stripes = np.zeros((270, 480, 3), np.uint8)
    stripes[:, ::4] = 255
    for size in (64, 100, 120):
        exact = PreprocessRecipe(size, 60, resize="area").apply(stripes).astype(int)
        box, linear = (np.abs(PreprocessRecipe(size, 60, resize=r).apply(stripes) - exact).mean() for r in ("box", "linear"))
        assert box < 0.3 * linear


@given(
    st.sampled_from(RESIZE_RULES),
    st.none() | st.just((3, 2, 50, 41)),
    st.none() | st.just((40, 0)),
    st.sampled_from([32, 48, 97]),
)
def test_a_given_buffer_gets_the_same_picture(
    resize: str, roi: tuple[int, int, int, int] | None, crop_from: tuple[int, int] | None, side: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    recipe = PreprocessRecipe(32, 32, roi if side > 60 else None, resize, crop_from)
    out = np.empty((32, 32, 3), np.uint8)
    assert recipe.apply(image, out) is out
    assert np.array_equal(out, recipe.apply(image))
    out[:] = 0
    assert np.array_equal(image, np.random.default_rng(0).integers(0, 256, (side, side, 3)))


def test_a_buffer_or_picture_of_another_kind_is_refused() -> None:
    recipe, image = PreprocessRecipe(32, 32), np.zeros((64, 64, 3), np.uint8)
    for out in (np.empty((32, 31, 3), np.uint8), np.empty((32, 32, 3), np.float32), np.empty((32, 64, 3), np.uint8)[:, ::2]):
        with pytest.raises(BadInput, match="cannot hold a 32 x 32 px input"):
            recipe.apply(image, out)
    for wrong in (image[..., 0], image[..., :2], image.astype(np.float32)):
        with pytest.raises(BadInput, match="is not H x W x 3 uint8"):
            recipe.apply(wrong)


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


def marked(width: int, height: int, x: int, y: int) -> Image:
    """A picture as grey as the bars, with a white spot around a place."""
    image = np.full((height, width, 3), FILL, np.uint8)
    reach = max(2, min(width, height) // 40)
    image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 255
    return image


@settings(max_examples=60, deadline=None)
@given(
    st.integers(40, 300), st.integers(40, 300), st.sampled_from(["letterbox", "crop"]), st.floats(0.3, 0.7), st.floats(0.3, 0.7)
)
def test_what_keeps_proportions_tells_where_in_the_picture_it_looked(
    width: int, height: int, aspect: str, right: float, down: float
) -> None:
    """A spot in the model's input lies where `window` says that the input lies, in the camera's picture."""
    recipe = PreprocessRecipe(96, 64, aspect=aspect)
    left, top, wide, high = recipe.window(width, height)
    spot = round(left + (0.5 + 0.4 * (right - 0.5)) * wide), round(top + (0.5 + 0.4 * (down - 0.5)) * high)
    out = recipe.apply(marked(width, height, *spot))
    assert out.shape == (64, 96, 3)
    if not (6 <= spot[0] < width - 6 and 6 <= spot[1] < height - 6):
        return  # in the bars, or cut by the edge
    light = out[:, :, 0].astype(float) - FILL
    row, column = (light.sum(axis) @ np.arange(size) / light.sum() for axis, size in ((1, 64), (0, 96)))
    seen = left + (column + 0.5) * wide / 96, top + (row + 0.5) * high / 64
    assert seen == pytest.approx((spot[0] + 0.5, spot[1] + 0.5), abs=2.5 * max(wide / 96, high / 64))
    assert wide / high == pytest.approx(96 / 64, rel=0.06)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(16, 80), st.integers(16, 80), st.sampled_from(["letterbox", "crop"]))
def test_any_picture_fits_with_its_proportions_kept(height: int, width: int, model_h: int, model_w: int, aspect: str) -> None:
    recipe = PreprocessRecipe(model_w, model_h, aspect=aspect)
    out = recipe.apply(np.full((height, width, 3), FILL, np.uint8))
    assert out.shape == (model_h, model_w, 3)
    assert (out == FILL).all()
    buffer = np.zeros((model_h, model_w, 3), np.uint8)
    assert np.array_equal(recipe.apply(np.full((height, width, 3), FILL, np.uint8), buffer), buffer)


def test_a_letterbox_shows_all_and_a_crop_the_middle() -> None:
    image = np.full((100, 300, 3), 50, np.uint8)
    image[:, :20] = 250  # at the left end
    boxed, cut = (PreprocessRecipe(90, 90, aspect=aspect).apply(image) for aspect in ("letterbox", "crop"))
    assert (boxed[:30] == FILL).all()
    assert (boxed[60:] == FILL).all()
    assert (boxed[30:60, :5] == 250).all()
    assert (cut == 50).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_deep_pictures_keep_their_light(bits: int, tmp_path: Path) -> None:
    """256 levels of light in the camera's own depth are 256 levels; at the full range of 16 bits a handful would be left."""
    levels = np.tile(np.arange(256, dtype=np.uint16), (4, 1))
    cv2.imwrite(str(tmp_path / "deep.png"), levels << (bits - 8))
    read = PreprocessRecipe(32, 32, bits=bits).read(tmp_path / "deep.png")
    assert np.array_equal(read[0, :, 0], np.arange(256))


def test_a_value_beyond_the_depth_is_refused_with_the_file_not_clipped(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((20, 20), 5000, np.uint16))
    with pytest.raises(BadInput, match=r"bright\.png: a value of 5000 in a picture of 12 bits"):
        read_image(tmp_path / "bright.png", 12)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_refusal_of_the_kind_names_the_file(kind: type, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "odd.tif"), np.ones((20, 20), kind))
    with pytest.raises(BadInput, match=r"odd\.tif.*not supported"):
        read_image(tmp_path / "odd.tif")


def test_recipes_of_before_are_written_as_before() -> None:
    """Digests of training pictures are made over this text: it must not change for models that are there."""
    old = {"width": 32, "height": 24, "roi": None, "resize": "box", "crop_from": None}
    assert PreprocessRecipe.from_json(old).to_json() == old
    new = PreprocessRecipe(32, 24, aspect="crop", bits=12, pictures=(640, 480))
    assert PreprocessRecipe.from_json(new.to_json()) == new


def test_a_picture_of_another_shape_is_told() -> None:
    recipe = PreprocessRecipe(64, 64, pictures=(640, 480))
    assert recipe.strange(640, 480) == recipe.strange(1280, 960) == ""
    assert "1280 x 720 px, the model was trained on 640 x 480 px" in recipe.strange(1280, 720)
    assert "region of interest" in PreprocessRecipe(64, 64, (0, 0, 64, 64), pictures=(640, 480)).strange(1280, 960)
    assert PreprocessRecipe(64, 64).strange(5, 500) == ""


@pytest.mark.parametrize("wrong", [{"aspect": "squash"}, {"bits": 7}, {"bits": 17}, {"aspect": "crop", "crop_from": (64, 64)}])
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        PreprocessRecipe(32, 32, **wrong)
