"""One frame, one verdict: never OK by accident."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from edgead.budget import LatencyBudget
from edgead.decision import PixelRule, Rule, enlarged
from edgead.errors import BadInput, EngineError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.inspector import Inspector
from edgead.runtime.plc.signals import Cause
from edgead.testing import FakeClock, FakeEngine
from edgead.types import Frame, Inspection, Verdict
from tests.test_alignment import alignment
from tests.turned import draw_turned

RECIPE = PreprocessRecipe(64, 64)
PICTURE = np.zeros((48, 80, 3), np.uint8)


def inspect(
    engine: FakeEngine,
    *,
    threshold: Rule | float = 2.0,
    budget_ms: float | None = None,
    clock: FakeClock | None = None,
    waited_s: float = 0.0,
    recipe: PreprocessRecipe = RECIPE,
) -> Inspection:
    clock = clock or FakeClock()
    frame = Frame(PICTURE, "fake", 0, clock.now_ns())
    clock.advance(waited_s)
    return Inspector(engine, recipe, threshold, LatencyBudget(budget_ms), clock).inspect(1, frame)


@pytest.mark.parametrize(
    ("score", "verdict"), [(1.999, Verdict.OK), (2.0, Verdict.NG), (2.001, Verdict.NG), (-5.0, Verdict.OK), (1e30, Verdict.NG)]
)
def test_scores_at_and_above_the_threshold_are_ng(score: float, verdict: Verdict) -> None:
    found = inspect(FakeEngine([score]))
    assert (found.verdict, found.cause, found.score, found.threshold) == (verdict, "", score, 2.0)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_unknown(score: float) -> None:
    found = inspect(FakeEngine([score]))
    assert (found.verdict, found.cause) == (Verdict.UNKNOWN, "score_not_finite")


def test_a_hole_in_the_map_is_unknown_even_when_the_score_looks_good() -> None:
    class Holed(FakeEngine):
        def infer(self, image: np.ndarray) -> tuple[float, np.ndarray]:  # type: ignore[type-arg, override]
            return 0.5, np.array([[0.5, math.nan]], np.float32)

    found = inspect(Holed([0.5]))
    assert (found.verdict, found.cause) == (Verdict.UNKNOWN, "map_not_finite")


def test_a_rule_by_area_decides_on_the_map_and_shows_its_pixel_threshold() -> None:
    rule = Rule(2.0, None, PixelRule(4.0, min_area_px=2), "area")  # the fake's map has one pixel as high as the score
    found = inspect(FakeEngine([5.0]), threshold=rule)
    assert (found.verdict, found.score, found.threshold) == (Verdict.OK, 5.0, 4.0)
    assert inspect(FakeEngine([9.0]), threshold=rule).verdict is Verdict.NG  # half of it is everywhere


def test_a_score_in_the_band_is_unknown_unsure() -> None:
    found = inspect(FakeEngine([1.5]), threshold=Rule(2.0, (1.0, 2.0)))
    assert (found.verdict, found.cause) == (Verdict.UNKNOWN, "unsure")


def test_a_rule_that_could_never_say_ng_is_refused() -> None:
    with pytest.raises(BadInput, match="no part would ever be NG"):
        inspect(FakeEngine([0.0]), threshold=Rule(2.0, None, PixelRule(4.0, min_area_px=65), "area"))


@pytest.mark.parametrize(
    "error", [EngineError("device\n  removed"), RuntimeError("device removed"), ValueError("device removed")]
)
def test_whatever_an_engine_raises_is_unknown_with_its_words(error: Exception) -> None:
    found = inspect(FakeEngine([error]))
    assert (found.verdict, found.cause) == (Verdict.UNKNOWN, "engine_error: device removed")
    assert math.isnan(found.score)
    assert found.anomaly_map is None


def test_a_picture_that_the_recipe_cannot_use_is_unknown() -> None:
    found = inspect(FakeEngine([0.0]), recipe=PreprocessRecipe(64, 64, roi=(0, 0, 500, 10)))
    assert found.verdict is Verdict.UNKNOWN
    assert found.cause.startswith("bad_frame: region of interest")


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (draw_turned(1, None), "not found"),
        (draw_turned(1, (60, 60), second=(180, 130)), "more than one"),
        (draw_turned(1, (239, 90)), "outside|not found"),
        (np.zeros((180, 240, 3), np.uint8), "not found"),
    ],
    ids=["none", "two", "half of it", "black"],
)
@pytest.mark.promise("Parts that move and turn** are found in the picture and brought to their place")
def test_a_part_that_is_not_found_is_unknown_and_nothing_is_inferred(picture: np.ndarray, why: str) -> None:  # type: ignore[type-arg]
    engine, clock = FakeEngine([0.0]), FakeClock()
    inspector = Inspector(engine, PreprocessRecipe(64, 64, align=alignment()), 2.0, LatencyBudget(None), clock)
    found = inspector.inspect(1, Frame(picture, "fake", 0, clock.now_ns()))
    assert found.verdict is Verdict.UNKNOWN
    assert re.fullmatch(f"part_not_found: .*({why}).*", found.cause)
    assert (engine.calls, Cause.of(found.cause)) == (0, Cause.PART_NOT_FOUND)
    assert found.times.resize_ms == 0.0  # FakeClock: no stage was forgotten
    after = inspector.inspect(2, Frame(draw_turned(1, (60, 60), 33.0), "fake", 1, clock.now_ns()))
    assert (after.verdict, engine.calls) == (Verdict.OK, 1)


def test_late_is_unknown_and_keeps_its_score() -> None:
    clock = FakeClock()
    found = inspect(FakeEngine([0.0], clock=clock, takes_s=0.06), budget_ms=100, clock=clock, waited_s=0.05)
    assert (found.verdict, found.cause, found.score) == (Verdict.UNKNOWN, "late", 0.0)


def test_a_frame_that_is_late_already_is_not_inferred() -> None:
    clock = FakeClock()
    engine = FakeEngine([0.0], clock=clock)
    found = inspect(engine, budget_ms=100, clock=clock, waited_s=0.2)
    assert (found.verdict, found.cause, engine.calls) == (Verdict.UNKNOWN, "late", 0)


def test_exactly_in_time_is_in_time() -> None:
    clock = FakeClock()
    found = inspect(FakeEngine([0.0], clock=clock, takes_s=0.1), budget_ms=100, clock=clock)
    assert found.verdict is Verdict.OK


def test_times_are_told_by_stage() -> None:
    clock = FakeClock()
    times = inspect(FakeEngine([0.0], clock=clock, takes_s=0.03), clock=clock, waited_s=0.02).times
    assert (times.wait_ms, times.inference_ms, times.total_ms) == (20.0, 30.0, 50.0)
    assert (times.resize_ms, times.decision_ms) == (0.0, 0.0)


def test_a_map_at_the_networks_resolution_stays_small_and_areas_mean_the_same() -> None:
    engine = FakeEngine([8.0], map_size=(8, 8))  # one cell of 8, the others 4; on 64 x 64 it is a hill
    assert (found := inspect(engine).anomaly_map) is not None
    assert found.shape == (8, 8)
    for area, verdict in ((30, Verdict.NG), (60, Verdict.OK)):
        rule = Rule(2.0, None, PixelRule(6.0, min_area_px=area, grid=(64, 64)), "area")
        assert inspect(engine, threshold=rule).verdict is verdict
        large = FakeEngine([8.0], map_size=(64, 64))
        large.infer = lambda _: (8.0, enlarged(engine.infer(np.zeros((64, 64, 3), np.uint8))[1], (64, 64)))  # type: ignore[method-assign]
        assert inspect(large, threshold=rule).verdict is verdict


def test_an_engine_that_tells_only_a_score_has_no_map_and_no_areas() -> None:
    found = inspect(FakeEngine([3.0], map_size=(1, 1)))
    assert (found.verdict, found.score, found.anomaly_map) == (Verdict.NG, 3.0, None)
    with pytest.raises(BadInput, match="tells only a score"):
        inspect(FakeEngine([3.0], map_size=(1, 1)), threshold=Rule(2.0, None, PixelRule(4.0), "area"))


def test_a_picture_never_gets_the_answer_of_the_one_before_it() -> None:
    """One buffer is used for all of them."""
    engine, clock = FakeEngine(lambda image: float(image.mean())), FakeClock()
    inspector = Inspector(engine, RECIPE, 100.0, LatencyBudget(None), clock)
    grey = [np.full((48, 80, 3), level, np.uint8) for level in (200, 50)]
    broken = [np.zeros((48, 80), np.uint8), np.zeros((48, 80, 3), np.float32), np.zeros((0, 80, 3), np.uint8)]
    found = [inspector.inspect(i, Frame(picture, "fake", i, clock.now_ns())) for i, picture in enumerate([*grey, *broken])]
    assert [one.score for one in found[:2]] == [200.0, 50.0]
    for one in found[2:]:
        assert one.verdict is Verdict.UNKNOWN
        assert one.cause.startswith("bad_frame")


@pytest.mark.parametrize("threshold", [math.nan, math.inf])
def test_a_threshold_that_is_not_finite_is_refused(threshold: float) -> None:
    with pytest.raises(BadInput, match="threshold"):
        inspect(FakeEngine([0.0]), threshold=threshold)


def test_a_recipe_of_another_size_than_the_engine_is_refused() -> None:
    with pytest.raises(BadInput, match="32 x 48"):
        inspect(FakeEngine([0.0]), recipe=PreprocessRecipe(32, 48))
