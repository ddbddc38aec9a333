"""Parts that move and turn: found where they lie, brought to where the reference has them, and never guessed."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.alignment import KINDS, Alignment, Placement, template_of
from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.errors import BadInput, BundleError, EdgeadError, PartNotFound
from edgead.manifest import Manifest
from edgead.preprocess import PreprocessRecipe
from tests.turned import SIZE, anywhere, draw_turned
from tests.vouched import write_vouched

REGION = (81, 62, 78, 56)
"""Of the part as it is drawn unmoved, with some belt around it."""


def alignment(by: str = "template", **changes: Any) -> Alignment:
    template, size = template_of(draw_turned(0), REGION, 1.0)
    return dataclasses.replace(Alignment(by, REGION, SIZE, template, size, 0.6), **changes)


def recipe(by: str = "template", **changes: Any) -> PreprocessRecipe:
    return PreprocessRecipe(78, 56, REGION, align=alignment(by, **changes))


def away(angle: float, other: float) -> float:
    return abs((angle - other + 180) % 360 - 180)


@pytest.mark.parametrize("by", KINDS)
def test_a_part_is_found_wherever_it_lies_and_however_it_is_turned(by: str) -> None:
    found, rng = alignment(by), np.random.default_rng(3)
    for seed in range(12):
        (x, y), angle = anywhere(rng)
        at = found.locate(draw_turned(seed, (x, y), angle, defect=seed % 2 == 1))
        assert math.hypot(at.x - x - 0.5, at.y - y) < 1.2, (at, x, y)  # the region's middle is half a pixel off the part's
        assert away(at.angle, angle) < 1.5
        assert at.score > found.limit


@pytest.mark.parametrize("by", KINDS)
def test_what_the_model_sees_of_a_turned_part_is_what_it_sees_of_a_straight_one(by: str) -> None:
    straight = recipe(by).apply(draw_turned(1)).astype(int)
    for seed, angle in enumerate((-170.0, -90.0, -33.3, 12.0, 45.0, 90.0, 180.0)):
        turned = recipe(by).apply(draw_turned(10 + seed, (100.3, 80.8), angle)).astype(int)
        assert np.abs(turned - straight).mean() < 6, angle  # noise alone is 4
        assert np.percentile(np.abs(turned - straight), 99) < 40, angle


@pytest.mark.parametrize("by", KINDS)
@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (draw_turned(1, None), "not found"),
        (draw_turned(1, (60, 60), 20.0, second=(180, 130)), "more than one part"),
        (draw_turned(1, (20, 90), 40.0), "not found|outside"),
        (np.zeros((180, 240, 3), np.uint8), "not found"),
        (np.full((180, 240, 3), 255, np.uint8), "not found"),
        (np.full((180, 240, 3), 97, np.uint8), "not found"),
        (np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8), "not found"),
        (np.full((1, 1, 3), 9, np.uint8), "not found"),
        (draw_turned(2)[:, :2], "not found|outside"),
    ],
    ids=["none", "two", "partly outside", "black", "white", "grey", "noise", "one pixel", "two columns"],
)
def test_where_there_is_not_one_whole_part_none_is_guessed(by: str, picture: np.ndarray[Any, Any], why: str) -> None:
    with pytest.raises(PartNotFound, match=why):
        recipe(by).apply(picture)


@pytest.mark.parametrize("by", KINDS)
def test_less_light_and_more_contrast_move_nothing(by: str) -> None:
    picture = draw_turned(5, (120, 80), 70.0)
    usual = alignment(by).locate(picture)
    for factor, offset in ((0.75, 0), (1.2, 5)):
        lit = np.clip(picture * factor + offset, 0, 255).astype(np.uint8)
        other = alignment(by).locate(lit)
        assert math.hypot(other.x - usual.x, other.y - usual.y) < 0.5
        assert away(other.angle, usual.angle) < 0.7


def test_turns_and_shifts_beyond_what_parts_do_are_not_looked_for() -> None:
    bounded = alignment(angle=10.0, shift=20, limit=0.8)
    at = bounded.locate(draw_turned(1, (130.0, 95.0), 7.0))
    assert away(at.angle, 7.0) < 0.5
    for picture in (draw_turned(1, (130.0, 95.0), 60.0), draw_turned(1, (60.0, 60.0), 0.0)):
        with pytest.raises(PartNotFound):
            bounded.locate(picture)
    straight = alignment(angle=0.0)
    assert straight.locate(draw_turned(1, (60.0, 60.0))).angle == 0.0


def test_a_region_and_what_it_shows_move_with_the_part() -> None:
    """A region of interest around the large hole only: it is seen wherever the part lies, and a defect elsewhere is not."""
    hole = PreprocessRecipe(24, 24, (87, 69, 24, 24), align=alignment())
    straight = hole.apply(draw_turned(1)).astype(int)
    for angle in (-120.0, 0.0, 33.0):
        seen = hole.apply(draw_turned(4, (140.0, 100.0), angle, defect=True)).astype(int)
        assert np.abs(seen - straight).mean() < 6
    whole = recipe()
    spoilt = np.abs(whole.apply(draw_turned(4, (140.0, 100.0), 33.0, defect=True)).astype(int) - whole.apply(draw_turned(1)))
    assert (spoilt > 60).sum() > 100


def test_a_mask_goes_where_its_picture_goes() -> None:
    aligned, picture = recipe(), draw_turned(6, (150.0, 70.0), 77.0, defect=True)
    good = draw_turned(6, (150.0, 70.0), 77.0)
    mask = np.where(np.abs(picture.astype(int) - good).max(2, keepdims=True) > 40, np.uint8(255), np.uint8(0)).repeat(3, 2)
    placement = aligned.locate(picture)
    seen, spoilt = aligned.apply(picture, placement=placement), aligned.apply(mask, placement=placement)
    red = (seen[:, :, 2].astype(int) - seen[:, :, 0]) > 40
    both = red & (spoilt[:, :, 0] > 127)
    assert red.sum() > 50
    assert both.sum() > 0.8 * red.sum()


def test_the_same_picture_gives_the_same_bytes_with_or_without_a_buffer_and_from_json() -> None:
    one = recipe()
    other = PreprocessRecipe.from_json(json.loads(json.dumps(one.to_json())))
    assert other == one
    picture, out = draw_turned(8, (90.0, 110.0), -50.0), np.empty((56, 78, 3), np.uint8)
    assert other.apply(picture, out) is out
    assert (one.apply(picture) == out).all()
    assert (one.apply(picture, placement=one.locate(picture)) == out).all()


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 239), st.floats(0, 179), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500), st.floats(-40, 200)
)
def test_the_way_to_the_camera_and_back_ends_where_it_began(
    x: float, y: float, angle: float, px: float, py: float, left: float
) -> None:
    matrix = alignment().to_camera(Placement(x, y, angle, 1.0), left, -left)
    there = matrix[:, :2] @ [px, py] + matrix[:, 2]
    back = np.linalg.solve(matrix[:, :2], there - matrix[:, 2])
    assert np.allclose(back, [px, py], atol=1e-6)
    centre = np.subtract(alignment().centre, [left, -left])
    assert np.allclose(matrix[:, :2] @ centre + matrix[:, 2], [x, y], atol=1e-6)  # the region's middle goes to the placement
    assert math.isclose(float(np.linalg.det(matrix[:, :2])), 1.0, rel_tol=1e-9)  # neither larger nor mirrored


def test_a_little_outside_is_filled_and_more_is_refused() -> None:
    edge = recipe()
    near = draw_turned(1, (38.6, 89.5))  # the region's left side is a pixel outside
    assert edge.apply(near).shape == (56, 78, 3)
    with pytest.raises(PartNotFound, match="outside"):
        edge.apply(draw_turned(1, (33.0, 89.5)))
    wide = dataclasses.replace(edge, roi=(60, 40, 120, 100))  # looks at more than the part: that must be in the picture, too
    with pytest.raises(PartNotFound, match="what the model looks at"):
        wide.apply(draw_turned(1, (45.0, 89.5)))


def test_a_picture_too_large_to_be_searched_in_time_is_refused() -> None:
    with pytest.raises(BadInput, match="too large to be searched"):
        alignment().locate(np.zeros((4000, 6000, 3), np.uint8))
    with pytest.raises(BadInput, match="too large to be searched"):
        recipe(shift=50).apply(np.zeros((33_000, 200, 3), np.uint8))  # OpenCV turns no such picture
    with pytest.raises(BadInput, match="does not hold the place"):
        alignment(shift=5).locate(np.zeros((20, 20, 3), np.uint8))


def test_a_region_of_interest_outside_of_the_reference_is_refused() -> None:
    with pytest.raises(BadInput, match="does not lie in the reference picture of 240 x 180 px"):
        PreprocessRecipe(64, 64, (200, 100, 60, 60), align=alignment())


TEMPLATE = alignment().template
HOSTILE: list[dict[str, Any]] = [
    {"by": "magic"},
    {"by": None},
    {"template": "not base64!"},
    {"template": ""},
    {"template": TEMPLATE[:-8]},
    {"template": base64.b64encode(bytes(78 * 56)).decode()},  # nothing to see
    {"template": "A" * 30_000},
    {"size": [0, 56]},
    {"size": [160, 160]},
    {"size": [78, 1 << 40]},
    {"size": [56, 78]},
    {"region": [81, 62, 78]},
    {"region": [-1, 62, 78, 56]},
    {"region": [81, 62, 1 << 20, 56]},
    {"region": [200, 62, 78, 56]},
    {"region": [81.5, 62, 78, 56]},
    {"frame": [0, 0]},
    {"frame": [40_000, 200]},
    {"frame": [20_000, 20_000], "region": [0, 0, 19_500, 14_000]},  # what is cut out would be a gigabyte
    {"limit": 0.0},
    {"limit": -3},
    {"limit": "high"},
    {"limit": 2},
    {"angle": -1},
    {"angle": 1e9},
    {"angle": True},
    {"shift": 0},
    {"shift": -5},
    {"shift": "far"},
    {"unknown": 1},
]


@pytest.mark.parametrize("spoilt", HOSTILE, ids=lambda spoilt: json.dumps(spoilt)[:40])
def test_damaged_or_hostile_alignment_is_refused_in_one_line(
    spoilt: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_vouched(tmp_path / "part.edgead")
    manifest = target / "manifest.json"
    data = json.loads(manifest.read_text())
    data["schema"] = 3
    data["preprocess"] = {**recipe().to_json(), "align": {**alignment().to_json(), **spoilt}, "width": 16, "height": 16}
    manifest.write_text(json.dumps(data))
    with pytest.raises(BundleError) as caught:
        Bundle.open(target)
    assert "preprocess" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert main(["inspect", str(target)]) == 3
    assert capsys.readouterr().err
    with pytest.raises(BadInput):
        PreprocessRecipe.from_json(data["preprocess"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_garbled_alignment_is_refused_or_serves(data: st.DataObject) -> None:
    whole = alignment().to_json()
    key = data.draw(st.sampled_from(sorted(whole)))
    whole[key] = data.draw(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([]), st.just({}))
    )
    try:
        found = Alignment.from_json(whole)
    except EdgeadError as error:
        assert "\n" not in str(error)
        return
    try:
        found.locate(draw_turned(1))
    except EdgeadError as error:
        assert "\n" not in str(error)


def test_only_bundles_that_align_or_keep_proportions_or_depth_say_that_they_need_the_newer_schema(tmp_path: Path) -> None:
    plain = Bundle.open(write_vouched(tmp_path / "part.edgead")).manifest
    said = {}
    for name, changes in {
        "plain": {},
        "align": {"align": alignment(), "roi": None},
        "aspect": {"aspect": "crop"},
        "bits": {"bits": 12},
    }.items():
        text = dataclasses.replace(plain, preprocess=dataclasses.replace(plain.preprocess, **changes)).to_text()
        said[name] = json.loads(text)["schema"]
        assert Manifest.parse(text.encode()).preprocess == dataclasses.replace(plain.preprocess, **changes)
    assert said == {"plain": 2, "align": 3, "aspect": 3, "bits": 3}
    assert "align" not in json.loads(plain.to_text())["preprocess"]  # an older edgead would refuse a key that it does not know


def test_a_camera_picture_made_for_measuring_time_holds_the_part() -> None:
    aligned = recipe()
    seen = aligned.apply(draw_turned(1))
    for size in (SIZE, (640, 480), (200, 160)):
        again = aligned.apply(aligned.as_camera(seen, *size))
        assert np.abs(again.astype(int) - seen).mean() < 4
