"""The picture with the heat map: good parts look calm, defects are coloured and outlined where they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgead.errors import BadInput, PartNotFound
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.records.overlay import COLOURS, HeatScale, draw_overlay
from edgead.types import AnomalyMap, Frame, Image, Inspection, StageTimes, Verdict
from tests.test_alignment import recipe as aligned
from tests.turned import draw_turned

GREY: Image = np.full((300, 600, 3), 120, np.uint8)
SCALE = HeatScale(calm=1.0, level=2.0)


def inspection(anomaly_map: AnomalyMap | None, verdict: Verdict = Verdict.NG, picture: Image = GREY) -> Inspection:
    cause = "late" if verdict is Verdict.UNKNOWN else ""
    frame = Frame(picture, "fake", 0, 0)
    return Inspection(1, verdict, cause, 2.5, 2.0, anomaly_map, StageTimes(), frame)


def spot(row: int, column: int) -> AnomalyMap:
    anomaly_map = np.ones((10, 10), np.float32)
    anomaly_map[row, column] = 4.0
    return anomaly_map


def below_banner(drawn: Image, picture: Image = GREY) -> Image:
    return drawn[-picture.shape[0] :]


def test_a_good_part_looks_like_itself_under_its_banner() -> None:
    drawn = draw_overlay(inspection(np.full((10, 10), 1.4, np.float32), Verdict.OK), SCALE)
    assert (below_banner(drawn) == GREY).all()
    assert tuple(drawn[2, 2]) == COLOURS[Verdict.OK]


def test_a_defect_is_coloured_and_outlined_where_it_is() -> None:
    drawn = below_banner(draw_overlay(inspection(spot(5, 2)), SCALE))
    changed = (drawn != 120).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed[165, 150]  # the middle of map cell 5, 2
    assert rows.min() >= 120 and rows.max() <= 210
    assert columns.min() >= 90 and columns.max() <= 210
    assert (drawn == 255).all(axis=2).any()  # the outline
    blue, _, red = (int(v) for v in drawn[165, 150])
    assert red > blue


def test_the_map_lies_on_the_region_of_interest() -> None:
    drawn = below_banner(draw_overlay(inspection(spot(5, 2)), SCALE, PreprocessRecipe(16, 16, (300, 100, 200, 100))))
    changed = (drawn != 120).any(axis=2)
    assert changed[155, 350]
    assert not changed[:100].any() and not changed[:, :300].any()


def test_the_map_of_a_letterbox_lies_on_the_picture_without_its_bars() -> None:
    """A square input of a picture twice as wide as high: the picture's middle is map row 5, its left quarter map column 2.5."""
    drawn = below_banner(draw_overlay(inspection(spot(5, 2)), SCALE, PreprocessRecipe(100, 100, aspect="letterbox")))
    changed = (drawn != 120).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed[180, 150]  # row 5.5 of 10 of a window of 600 x 600 px that begins 150 px above the picture
    assert rows.min() >= 100
    assert columns.max() <= 240
    in_the_bar = below_banner(draw_overlay(inspection(spot(1, 2)), SCALE, PreprocessRecipe(100, 100, aspect="letterbox")))
    assert (in_the_bar[20:] == 120).all()


def test_the_map_of_a_crop_lies_on_the_middle_with_a_frame_around_it() -> None:
    drawn = below_banner(draw_overlay(inspection(spot(5, 2)), SCALE, PreprocessRecipe(100, 100, aspect="crop")))
    changed = (drawn != 120).any(axis=2)
    assert changed[165, 150 + 75]  # the middle 300 x 300 px
    assert not changed[:, :150].any() and not changed[:, 450:].any()
    assert changed[:, 150].all()


def test_without_a_map_only_the_banner_tells() -> None:
    drawn = draw_overlay(inspection(None, Verdict.UNKNOWN), SCALE)
    assert (below_banner(drawn) == GREY).all()
    assert tuple(drawn[2, 2]) == COLOURS[Verdict.UNKNOWN]


def test_small_pictures_grow_until_the_banner_can_be_read() -> None:
    drawn = draw_overlay(inspection(spot(5, 5), picture=np.zeros((50, 60, 3), np.uint8)), SCALE)
    assert drawn.shape[1] == 480
    assert drawn.shape[0] > 400


def test_holes_in_the_map_are_not_coloured_and_the_picture_is_not_touched() -> None:
    anomaly_map = np.full((10, 10), np.nan, np.float32)
    assert (below_banner(draw_overlay(inspection(anomaly_map), SCALE)) == GREY).all()
    draw_overlay(inspection(spot(5, 5)), SCALE)
    assert (GREY == 120).all()


def test_a_threshold_at_or_below_the_calm_level_still_draws() -> None:
    drawn = draw_overlay(inspection(spot(5, 5)), HeatScale(calm=3.0, level=2.0))
    assert drawn.dtype == np.uint8


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(BadInput):
        HeatScale(float("nan"), 1.0)
    with pytest.raises(BadInput, match="no picture"):
        draw_overlay(Inspection(1, Verdict.UNKNOWN, "camera_lost", 0.0, 2.0, None, StageTimes(), None), SCALE)


@pytest.mark.parametrize("angle", [0.0, 40.0, 90.0, -155.0])
def test_a_defect_of_a_turned_part_is_coloured_where_it_is_in_the_cameras_picture(angle: float) -> None:
    """The map's hot cell is made of the model's own view of the gash: drawn back, the heat lies on the gash."""
    recipe, at = aligned(), (130.0, 80.0)
    picture, good = draw_turned(3, at, angle, defect=True), draw_turned(3, at, angle)
    seen = np.abs(recipe.apply(picture).astype(int) - recipe.apply(good)).max(2)
    heat = np.where(seen > 60, 4.0, 1.0).astype(np.float32)
    drawn, plain = (draw_overlay(inspection(one, picture=picture), SCALE, recipe)[-360:] for one in (heat, None))
    hot = (drawn != plain).any(2)[1::2, 1::2]  # small pictures are shown at twice their size
    gash = np.abs(picture.astype(int) - good).max(2) > 60
    near = cv2.dilate(gash.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert gash.sum() > 50
    assert (hot & gash).sum() > 0.9 * gash.sum()
    assert (hot & ~near).sum() == 0
    assert (drawn != np.repeat(np.repeat(picture, 2, 0), 2, 1)).any()


def test_where_no_part_is_found_the_picture_is_shown_as_it_is() -> None:
    picture = draw_turned(1, None)
    with pytest.raises(PartNotFound):
        aligned().locate(picture)
    drawn = draw_overlay(inspection(None, Verdict.UNKNOWN, picture), SCALE, aligned())
    plain = draw_overlay(inspection(None, Verdict.UNKNOWN, picture), SCALE)
    assert (drawn == plain).all()
