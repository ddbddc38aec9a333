"""Real pictures that get darker, blurred or shifted are told apart from products that change; honest ones give no alarm."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import Golden
from edgead.decision import PixelRule, Rule
from edgead.errors import BadInput
from edgead.parity import Answers
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.runtime.products.drift import PICTURES, SCORES, STEADY, DriftWatch, Look, TrainedLight, Usual
from edgead.testing import FakeClock
from edgead.training.evaluate import light_of
from edgead.types import Frame, Image, Inspection, StageTimes, Verdict

RECIPE = PreprocessRecipe(256, 256)
LEVEL = 10.0  # the threshold; golden frames score 1, 2 and 3 when they are good
SETS = ("casting/train/good", "magnetic_tile/train/good")


@lru_cache
def pictures(folder: Path) -> tuple[Image, ...]:
    return tuple(RECIPE.apply(read_image(path)) for path in list_images(folder)[:120])


def shuffled(folder: Path, seed: int = 0) -> list[Image]:
    found = list(pictures(folder))
    random.Random(seed).shuffle(found)
    return found


def usual(images: Sequence[Image], rule: Rule | float = LEVEL, light: TrainedLight | None = None) -> Usual:
    scores = np.array([1, 2, 3, 1, 3, 20, 30, 40][: len(images)], np.float32)
    golden = Golden(tuple(images), Answers(scores, np.zeros((len(images), 8, 8), np.float32)))
    return Usual(golden, RECIPE, rule, trained_threshold=LEVEL, light=light)


class Watched:
    """A watch and what it says."""

    def __init__(self, known: Usual, **options: float) -> None:
        self.notices: dict[str, str] = {}
        self.changes: list[str] = []
        self.watch = DriftWatch({"engine": known}, self._told, clock=FakeClock(), **{"every_s": 0.0, "max_ng": 0.3, **options})

    def see(self, images: Iterable[Image], score: float = 2.0) -> dict[str, str]:
        for i, image in enumerate(images):
            verdict = Verdict.NG if score >= LEVEL else Verdict.OK
            self.watch.see(
                Inspection(i, verdict, "", score, LEVEL, None, StageTimes(), Frame(image, "", i, 0), engine="engine"),
            )
        return dict(self.notices)

    def _told(self, kind: str, text: str) -> None:
        self.changes.append(kind)
        self.notices.pop(kind, None)
        if text:
            self.notices[kind] = text


def darker(image: Image) -> Image:
    return (image * 0.5).astype(np.uint8)


def blurred(image: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2.5), np.uint8)


def hazy(image: Image) -> Image:
    return (image * 0.4 + image.mean() * 0.6).astype(np.uint8)


@pytest.mark.parametrize("folder", SETS)
@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [(darker, "light", "% darker"), (blurred, "focus", "Look at the lens"), (hazy, "contrast", "% lower")],
)
def test_what_happened_to_the_camera_is_told_and_nothing_else(
    shared_data: Path, folder: str, fault: Callable[[Image], Image], kind: str, says: str
) -> None:
    images = shuffled(shared_data / "data" / folder)
    watched = Watched(usual(images[:8]))
    assert watched.see(images[8:40]) == {}
    told = watched.see(map(fault, images[40:80]))
    assert list(told) == [kind] and says in told[kind]
    assert watched.see(images[80:120]) == {}, "and it is over"
    assert watched.changes == [kind, kind]


@pytest.mark.parametrize("folder", SETS)
def test_honest_pictures_give_no_alarm(shared_data: Path, folder: str) -> None:
    for seed in range(6):
        images = shuffled(shared_data / "data" / folder, seed)
        watched = Watched(usual(images[:8]))
        watched.see(images[8:])
        assert watched.changes == []


def lit(images: Iterable[Image], factor: float) -> list[Image]:
    return [np.clip(np.rint(image.astype(np.float32) * factor), 0, 255).astype(np.uint8) for image in images]


@pytest.mark.parametrize(("factor", "says"), [(0.8, "darker"), (0.85, "darker"), (1.2, "brighter")])
def test_a_small_shift_of_all_pictures_is_told_by_the_light_of_training(shared_data: Path, factor: float, says: str) -> None:
    images = shuffled(shared_data / "data" / SETS[0])
    light = TrainedLight.of(light_of(images[:60]))
    assert light is not None and light.pictures == 60
    watched = Watched(usual(images[:8], light=light))
    assert watched.see(images[60:]) == {}
    told = watched.see(lit(images[:60] * 2, factor))
    assert list(told) == ["light"]
    assert f"% {says} than the reference" in told["light"]


def test_honest_pictures_that_differ_much_are_no_shift_of_light(shared_data: Path) -> None:
    for seed in range(4):
        for folder in SETS:
            images = shuffled(shared_data / "data" / folder, seed)
            watched = Watched(usual(images[:8], light=TrainedLight.of(light_of(images[:40]))))
            watched.see(images[40:] * 2)
            assert watched.changes == []
    assert STEADY[0] == PICTURES


@pytest.mark.parametrize("value", [None, True, "100", 0.0, -3.0, 1e300])
@pytest.mark.parametrize("name", ["light", "light_spread", "light_pictures"])
def test_bundles_that_know_no_light_of_training_are_watched_as_before(name: str, value: object) -> None:
    figures: dict[str, object] = {"light": 100.0, "light_spread": 0.05, "light_pictures": 80.0}
    assert TrainedLight.of(figures) == TrainedLight(100.0, 0.05, 80)
    assert TrainedLight.of(figures | {name: value}) is None


def line_of(image: Image, count: int, right: int = 0, down: int = 0) -> list[Image]:
    """The same part again and again in its fixture: a pixel of play, and the sensor's noise."""
    rng = np.random.default_rng(right)
    moved = [np.roll(image, (down + int(rng.integers(-1, 2)), right + int(rng.integers(-1, 2))), (0, 1)) for _ in range(count)]
    return [np.clip(one + rng.normal(0, 3, one.shape), 0, 255).astype(np.uint8) for one in moved]


def test_a_camera_that_was_knocked_is_told_with_direction(shared_data: Path) -> None:
    part = pictures(shared_data / "data" / SETS[0])[0]
    known = usual(line_of(part, 8))
    assert known.knows_place
    watched = Watched(known)
    assert watched.see(line_of(part, PICTURES)) == {}
    told = watched.see(line_of(part, PICTURES, right=26, down=-18))
    assert list(told) == ["position"]
    assert re.match("parts are (9|10)% of the picture right and [67]% above where the reference has them", told["position"])


def test_texture_without_a_place_is_not_taken_for_one(shared_data: Path) -> None:
    assert not usual(shuffled(shared_data / "data" / SETS[1])[:8]).knows_place


def plain(count: int) -> list[Image]:
    return [np.full((256, 256, 3), 100, np.uint8)] * count


def test_scores_that_rise_are_told_before_there_are_rejects() -> None:
    watched = Watched(usual(plain(8)))
    assert watched.see(plain(SCORES)) == {}
    told = watched.see(plain(SCORES), score=8.0)
    assert list(told) == ["product"]
    assert "scores rise" in told["product"] and "Look at the product, not at the camera" in told["product"]
    assert watched.see(plain(SCORES)) == {}


@pytest.mark.promise("tell camera faults from product defects")
def test_rejects_are_blamed_on_the_product_or_on_the_camera() -> None:
    told = Watched(usual(plain(8))).see(plain(SCORES), score=20.0)
    assert "20 of the last 20 parts are NG" in told["product"] and "Look at the product" in told["product"]

    dark = Watched(usual(plain(8)))
    dark.see(map(darker, plain(PICTURES)))
    told = dark.see(map(darker, plain(SCORES)), score=20.0)
    assert list(told) == ["light", "product"]
    assert "the pictures have changed (light). Look at the camera first" in told["product"]


def test_a_usual_share_of_rejects_is_no_news() -> None:
    watched = Watched(usual(plain(8)), max_ng=0.5)
    for _ in range(SCORES):
        watched.see(plain(1), score=20.0)
        watched.see(plain(2))
    assert watched.changes == []


def test_by_area_scores_decide_nothing_and_are_not_watched() -> None:
    by_area = Rule(0.0, None, PixelRule(5.0, 3), "area")
    assert Watched(usual(plain(8), by_area)).see(plain(SCORES), score=8.0) == {}


def test_pictures_are_measured_only_so_often_and_other_engines_not_at_all() -> None:
    seen: list[Image] = []

    class Counting(Usual):
        def shift(self, image: Image) -> tuple[float, float] | None:
            seen.append(image)
            return None

    golden = Golden(tuple(plain(2)), Answers(np.ones(2, np.float32), np.zeros((2, 8, 8), np.float32)))
    clock = FakeClock()
    watch = DriftWatch(
        {"engine": Counting(golden, RECIPE, LEVEL, LEVEL)}, lambda kind, text: None, every_s=0.5, max_ng=0.3, clock=clock
    )
    for i in range(PICTURES + 10):
        for engine in ("engine", "another", ""):
            frame = Frame(plain(1)[0], "", i, 0)
            watch.see(Inspection(i, Verdict.OK, "", 1.0, LEVEL, None, StageTimes(), frame, engine=engine))
        clock.advance(0.1)
    assert len(seen) == PICTURES + 2, "the first ones all, then two a second"


def test_another_product_begins_anew() -> None:
    watched = Watched(usual(plain(8)))
    assert list(watched.see(map(darker, plain(PICTURES)))) == ["light"]
    watched.watch._usual = {"engine": usual(plain(8)), "other": usual(list(map(darker, plain(8))))}
    watched.watch.see(Inspection(1, Verdict.OK, "", 1.0, LEVEL, None, StageTimes(), None, engine="other"))
    assert watched.notices == {}


def test_a_look_does_not_depend_on_gain() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(20, 120, (64, 64, 3)).astype(np.uint8)
    one, two = Look.of(image), Look.of(image * 2)
    assert two.light == pytest.approx(2 * one.light, rel=0.02)
    assert two.contrast == pytest.approx(one.contrast, rel=0.02)
    assert two.focus == pytest.approx(one.focus, rel=0.02)


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share of NG"):
        DriftWatch({}, lambda kind, text: None, every_s=0.0, max_ng=share)
