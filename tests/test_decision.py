"""Score and map in, verdict out: by score, by area, with an UNKNOWN band and regions."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgead.decision import PixelRule, Region, Rule, enlarged
from edgead.errors import BadInput
from edgead.typed import read
from edgead.types import AnomalyMap, Verdict

LEVELS = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]  # few, so that ties and hits on the threshold are common
SHARES = st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
REGIONS = st.builds(
    lambda points, include, own: Region(tuple(points), include, own if include else None),
    st.lists(st.tuples(SHARES, SHARES), min_size=3, max_size=5),
    st.booleans(),
    st.none() | st.sampled_from(LEVELS),
)
PIXELS = st.builds(PixelRule, st.sampled_from(LEVELS), st.integers(1, 9), st.lists(REGIONS, max_size=3).map(tuple))
MAPS = arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from(LEVELS))
EMPTY = np.zeros((8, 8), np.float32)


def spots(*pixels: tuple[int, int], value: float = 5.0, size: int = 8) -> AnomalyMap:
    """A calm map with some hot pixels (row, column)."""
    drawn = np.zeros((size, size), np.float32)
    for row, column in pixels:
        drawn[row, column] = value
    return drawn


def pieces(hot: npt.NDArray[np.bool_]) -> list[int]:
    """Areas of the connected pieces, by walking from neighbour to neighbour."""
    left = {(int(r), int(c)) for r, c in np.argwhere(hot)}
    areas = []
    while left:
        todo, area = [left.pop()], 0
        while todo:
            row, column = todo.pop()
            area += 1
            for step in itertools.product((-1, 0, 1), repeat=2):
                neighbour = (row + step[0], column + step[1])
                if neighbour in left:
                    left.remove(neighbour)
                    todo.append(neighbour)
        areas.append(area)
    return areas


@given(st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_by_score_ng_is_at_and_above_the_threshold(score: float, threshold: float) -> None:
    assert Rule(threshold).decide(score, EMPTY) == (Verdict.NG if score >= threshold else Verdict.OK, "")
    assert Rule(threshold).decide(score, None) == Rule(threshold).decide(score, EMPTY)


@given(st.lists(st.sampled_from(LEVELS), min_size=3, max_size=3).map(sorted), st.sampled_from(LEVELS))
def test_in_the_band_it_is_unsure_and_never_ok(ends: list[float], score: float) -> None:
    low, threshold, high = ends
    if low == high:
        return
    verdict, cause = Rule(threshold, (low, high)).decide(score, None)
    expected = Verdict.NG if score >= high else Verdict.OK if score < low else Verdict.UNKNOWN
    assert (verdict, cause) == (expected, "unsure" if expected is Verdict.UNKNOWN else "")


@settings(deadline=None, max_examples=200)
@given(PIXELS, MAPS)
def test_by_area_it_is_the_largest_connected_piece_that_counts(pixel: PixelRule, drawn: AnomalyMap) -> None:
    hot = looked_at(pixel, drawn, pixel.threshold)
    expected = max(pieces(hot), default=0)
    assert pixel.largest_area(drawn) == expected
    verdict = Verdict.NG if expected >= pixel.min_area_px else Verdict.OK
    assert Rule(0.0, None, pixel, "area").decide(9.0, drawn) == (verdict, "")


@settings(deadline=None, max_examples=200)
@given(PIXELS, MAPS)
def test_the_statistic_is_exactly_the_largest_threshold_that_is_ng(pixel: PixelRule, drawn: AnomalyMap) -> None:
    rule = Rule(0.0, None, pixel, "area")
    statistic = rule.statistic(9.0, drawn)
    for level in [*LEVELS, -2.5, 0.1, 3.5]:
        assert (rule.with_level(level).decide(0.0, drawn)[0] is Verdict.NG) == (statistic >= level)


def looked_at(pixel: PixelRule, drawn: AnomalyMap, threshold: float) -> npt.NDArray[np.bool_]:
    """Hot pixels by the words of the documentation, pixel by pixel, with winding through a ray to the right."""
    height, width = drawn.shape
    hot = np.zeros(drawn.shape, np.bool_)
    for row, column in np.ndindex(drawn.shape):
        x, y = (column + 0.5) / width, (row + 0.5) / height
        inside = [region for region in pixel.regions if crossings(region.points, x, y) % 2]
        plain = [region for region in pixel.regions if region.include and region.threshold is None]
        own = [region.threshold for region in inside if region.include and region.threshold is not None]
        if any(not region.include for region in inside) or not (own or not plain or any(r in plain for r in inside)):
            continue
        hot[row, column] = drawn[row, column] >= (min(own) if own else threshold)
    return hot


def crossings(points: tuple[tuple[float, float], ...], x: float, y: float) -> int:
    count = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)):
            count += 1
    return count


@given(PIXELS, MAPS)
def test_the_order_of_regions_does_not_matter(pixel: PixelRule, drawn: AnomalyMap) -> None:
    turned = dataclasses.replace(pixel, regions=pixel.regions[::-1])
    assert turned.largest_area(drawn) == pixel.largest_area(drawn)


@settings(deadline=None, max_examples=100)
@given(PIXELS, MAPS)
def test_on_its_grid_a_small_map_is_judged_as_the_same_map_enlarged(pixel: PixelRule, drawn: AnomalyMap) -> None:
    grid = (3 * drawn.shape[0], 4 * drawn.shape[1])
    small, large = Rule(0.0, None, dataclasses.replace(pixel, grid=grid), "area"), Rule(0.0, None, pixel, "area")
    wide = enlarged(drawn, grid)
    assert small.statistic(0.0, drawn) == large.statistic(0.0, wide)
    for level in (*LEVELS, float(wide.max())):
        at = small.with_level(level), large.with_level(level)
        assert at[0].decide(0.0, drawn) == at[1].decide(0.0, wide) == at[0].decide(0.0, wide)
    assert small.pixel is not None
    assert small.pixel.largest_area(drawn) == pixel.largest_area(wide)


@given(PIXELS, st.none() | st.just((64, 48)))
def test_a_pixel_rule_is_read_as_it_was_written(pixel: PixelRule, grid: tuple[int, int] | None) -> None:
    pixel = dataclasses.replace(pixel, grid=grid)
    assert read(PixelRule, json.loads(json.dumps(dataclasses.asdict(pixel)))) == pixel


def test_diagonal_neighbours_are_connected_and_others_are_not() -> None:
    rule = Rule(0.0, None, PixelRule(4.0, 3), "area")
    assert rule.decide(0.0, spots((1, 1), (2, 2), (3, 3)))[0] is Verdict.NG
    assert rule.decide(0.0, spots((1, 1), (2, 2), (4, 4)))[0] is Verdict.OK


def test_a_band_by_area_is_one_of_pixel_thresholds() -> None:
    rule = Rule(0.0, (3.0, 4.0), PixelRule(4.0, 2), "area")
    pair = ((1, 1), (1, 2))
    verdicts = [rule.decide(0.0, spots(*pair, value=value)) for value in (2.9, 3.0, 3.9, 4.0)]
    assert verdicts == [(Verdict.OK, ""), (Verdict.UNKNOWN, "unsure"), (Verdict.UNKNOWN, "unsure"), (Verdict.NG, "")]


def test_excluded_pixels_do_not_count_and_included_ones_alone_do() -> None:
    left, right = Region.rectangle(0, 0, 0.5, 1), Region.rectangle(0.5, 0, 0.5, 1)
    defect = spots((3, 6))
    without_right = PixelRule(4.0, 1, (dataclasses.replace(right, include=False),))
    assert [p.reached(defect) for p in (PixelRule(4.0), without_right, PixelRule(4.0, 1, (left,)))] == [True, False, False]
    assert PixelRule(4.0, 1, (right,)).reached(defect)
    assert without_right.inspected((8, 8)) == PixelRule(4.0, 1, (left,)).inspected((8, 8)) == 0.5


def test_a_region_with_a_threshold_of_its_own_restricts_nothing() -> None:
    touchy = Region.rectangle(0, 0, 0.5, 0.5, threshold=1.0)
    rule = PixelRule(4.0, 1, (touchy,))
    assert rule.reached(spots((1, 1), value=1.0))
    assert not rule.reached(spots((6, 6), value=1.0))
    assert rule.reached(spots((6, 6), value=4.0))
    assert rule.inspected((8, 8)) == 1.0
    assert rule.statistic(spots((1, 1), value=1.0)) == math.inf  # NG whatever the rule's threshold


def test_neighbouring_rectangles_share_no_pixel_and_leave_none_out() -> None:
    for height, width in [(7, 9), (10, 10), (3, 64)]:
        columns = [Region.rectangle(i / 5, 0, 1 / 5, 1) for i in range(5)]
        assert sum(PixelRule(0.0, 1, (one,)).inspected((height, width)) for one in columns) == pytest.approx(1.0)


@pytest.mark.promise("OK, NG or UNKNOWN(cause). Late, broken or not finite is UNKNOWN, never OK.")
def test_what_is_not_finite_is_unknown() -> None:
    area = Rule(0.0, None, PixelRule(4.0), "area")
    assert Rule(0.0).decide(math.nan, EMPTY) == area.decide(math.inf, EMPTY) == (Verdict.UNKNOWN, "score_not_finite")
    holed = spots((1, 1), value=math.nan)
    assert Rule(9.0).decide(0.0, holed) == area.decide(0.0, holed) == (Verdict.UNKNOWN, "map_not_finite")
    assert area.decide(0.0, None) == (Verdict.UNKNOWN, "no_map")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rule(math.nan), "threshold of nan"),
        (lambda: Rule(1.0, by="size"), "'size'"),
        (lambda: Rule(1.0, by="area"), "needs a pixel rule"),
        (lambda: Rule(1.0, pixel=PixelRule(1.0)), "takes none"),
        (lambda: Rule(1.0, (2.0, 3.0)), "does not hold the threshold"),
        (lambda: Rule(1.0, (1.0, 1.0)), "does not hold the threshold"),
        (lambda: Rule(1.0, (math.nan, 3.0)), "does not hold the threshold"),
        (lambda: PixelRule(math.inf), "pixel threshold of inf"),
        (lambda: PixelRule(1e39), "pixel threshold of 1e\\+39"),  # not a float32
        (lambda: PixelRule(1.0, 0), "minimal area of 0"),
        (lambda: PixelRule(1.0, 2.5), "minimal area of 2.5"),  # type: ignore[arg-type]
        (lambda: Region(((0, 0), (1, 1))), "at least 3 corners"),
        (lambda: Region(((0, 0), (1, 1), (2, 0))), "from 0 to 1"),
        (lambda: Region(((0, 0), (1, 1), (math.nan, 0))), "from 0 to 1"),
        (lambda: Region.rectangle(0.5, 0, 0.6, 1), "does not lie in the picture"),
        (lambda: Region.rectangle(0.5, 0, 0, 1), "does not lie in the picture"),
        (lambda: Region.rectangle(0, 0, 1, 1, include=False, threshold=1.0), "excluded"),
        (lambda: Region.rectangle(0, 0, 1, 1, threshold=math.nan), "own threshold"),
    ],
)
def test_rules_that_make_no_sense_are_refused(make: object, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_rule_that_could_never_say_ng_is_refused_for_the_map_it_meets() -> None:
    small = Rule(1.0, None, PixelRule(1.0, 5, (Region.rectangle(0, 0, 0.25, 0.25),)), "area")
    small.check((16, 16))  # 16 map pixels
    with pytest.raises(BadInput, match="at most 4 connected ones of 8 x 8"):
        small.check((8, 8))
    islands = tuple(Region.rectangle(x, 0, 0.25, 0.5) for x in (0.0, 0.5))
    with pytest.raises(BadInput, match="at most 8 connected"):
        Rule(1.0, None, PixelRule(1.0, 9, islands), "area").check((8, 8))


def test_the_room_for_a_piece_is_that_of_the_grid() -> None:
    rule = Rule(1.0, None, PixelRule(1.0, 100, grid=(16, 16)), "area")
    rule.check((8, 8))
    with pytest.raises(BadInput, match="no part would ever be NG"):
        Rule(1.0, None, PixelRule(1.0, 100), "area").check((8, 8))
    with pytest.raises(BadInput, match="tells only a score"):
        rule.check((1, 1))


def test_rules_say_what_they_do() -> None:
    assert Rule(2.5).describe() == "NG at score 2.5 and above"
    assert Rule(2.5, (2.0, 3.0)).describe() == "NG at score 3 and above, UNKNOWN from 2"
    pixel = PixelRule(1.5, 12, (Region.rectangle(0, 0, 1, 0.5),))
    assert Rule(9.0, None, pixel, "area").describe() == "NG when 12 connected map pixels reach 1.5 (1 region)"
    assert Rule(9.0, None, PixelRule(1.5), "area").describe() == "NG when one map pixel reaches 1.5"
    assert Rule(9.0, None, pixel, "area").level == 1.5
