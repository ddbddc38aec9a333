"""The input size that training chooses, on tiny made pictures; time is what a detector would have to multiply."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from edgead.errors import BadInput
from edgead.families import find
from edgead.families.efficientad.sizes import EfficientAdSizes
from edgead.families.patchcore import sizes as patchcore_sizes
from edgead.families.patchcore.options import MIN_ROWS
from edgead.families.patchcore.sizes import PatchCoreSizes
from edgead.families.simplenet.sizes import SimpleNetSizes
from edgead.families.sizes import Engine
from edgead.preprocess import PreprocessRecipe
from edgead.training import sizing
from edgead.training.alignment import AlignAsked
from edgead.training.fit import TrainRequest, train
from edgead.training.sizing import Sizing, Subject, Tried, best, choose_size, ladder, timed
from edgead.types import Image
from tests.training._parts import draw_part
from tests.turned import write_turned


def work_ms(call: Callable[[], object]) -> float:
    """A millisecond for every 100 million multiplications: the same on every machine."""
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops() / 2e8


def woven(seed: int, px: int) -> Image:
    """A fabric of threads 6 px wide, under a little noise: nothing of it is left at a quarter of its size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:px, :px] + rng.uniform(0, 12, (2, 1, 1))
    grey = 120 + 35 * np.sin(2 * np.pi * x / 12) * np.sign(np.sin(2 * np.pi * y / 12)) + rng.normal(0, 5, (px, px))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def write_woven(folder: Path, count: int, px: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03d}.png"), woven(i, px))
    return folder


@pytest.fixture
def quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at a quarter of its size, and a sixteenth of the time: 64 px are usual, defects are drawn as for 64 px."""
    monkeypatch.setattr(sizing, "USUAL_PX", 64)
    monkeypatch.setattr(patchcore_sizes, "USUAL_PX", 64)
    monkeypatch.setattr(sizing, "WINDOW_PX", 64)
    monkeypatch.setattr(sizing, "LADDER", (32, 48, 64, 96, 128, 192, 256))
    monkeypatch.setattr(patchcore_sizes, "FEW_ROWS", 256)
    monkeypatch.setattr(sizing, "DRAWN", 24)
    for rule in (PatchCoreSizes, SimpleNetSizes, EfficientAdSizes):
        monkeypatch.setattr(rule, "engine", Engine(1.0, 1.0, 0.0))


def subject(folder: Path, pictures: tuple[int, int], family: str = "patchcore", **changes: Any) -> Subject:
    made = Subject(find(family).size_rule({}), PreprocessRecipe(256, 256), pictures, False, sorted(folder.glob("*.png")))
    return dataclasses.replace(made, **changes)


def tried(*sides: int, budget_ms: float = math.inf) -> list[Tried]:
    """Sizes that take 1 ms for every 64 x 64 px."""
    return [Tried(side, side, side**2 / 4096, None, side**2 / 4096 <= budget_ms) for side in sides]


def found(*shares: float) -> dict[int, sizing.Scores]:
    """For each size, scores by which so large a share of the defects is above every good picture, and the others below."""
    good = np.linspace(1, 2, 20, dtype=np.float32)
    return {i: (good, np.where(np.arange(100) < 100 * share, 3.0, 0.0).astype(np.float32)) for i, share in enumerate(shares)}


def test_large_pictures_may_grow_to_a_megapixel_and_small_ones_are_hardly_enlarged() -> None:
    assert ladder((1024, 1024), False, 16, 32) == [(side, side) for side in (256, 384, 512, 768, 1024)]
    assert ladder((300, 300), False, 16, 32) == [(256, 256), (384, 384)]
    assert ladder((64, 64), False, 16, 32)[0] == (64, 64)
    assert ladder((4000, 4000), False, 16, 32)[-1] == (1024, 1024)
    assert ladder((300, 300), False, 16, 32, smaller=True)[0] == (64, 64)


@pytest.mark.parametrize("pictures", [(600, 789), (1920, 1080), (640, 480), (2448, 2048), (1200, 200)])
@pytest.mark.parametrize(("multiple", "least"), [(16, 32), (14, 28), (32, 128)])
def test_the_pictures_proportions_are_kept_and_the_network_can_take_the_size(
    pictures: tuple[int, int], multiple: int, least: int
) -> None:
    ratio = min(4.0, pictures[0] / pictures[1])
    for width, height in ladder(pictures, False, multiple, least, smaller=True):
        assert abs(math.log(width / height / ratio)) < (0.2 if multiple == 32 or width * height < 128**2 else 0.05)
        assert width % multiple == height % multiple == 0
        assert min(width, height) >= least
    assert all(width == height for width, height in ladder(pictures, True, multiple, least))


def test_the_size_that_finds_most_in_the_budget_is_taken() -> None:
    sizes = tried(256, 384, 512, 768, budget_ms=70)
    assert best(sizes, found(0.6, 0.7, 0.9, 0.95), (1024, 1024))[0] == 2
    assert best(sizes, found(0.9, 0.9, 0.9, 0.95), (1024, 1024))[0] == 0  # a larger one must gain something
    assert best(sizes, found(0.6, 0.9, 0.8, 0.95), (1024, 1024))[0] == 1


def test_pictures_are_enlarged_only_for_a_gain_that_is_no_chance() -> None:
    sizes = tried(256, 384)
    assert best(sizes, found(0.90, 0.91), (300, 300))[0] == 0
    assert best(sizes, found(0.80, 0.95), (300, 300))[0] == 1


def test_no_size_in_the_budget_takes_the_smallest_and_says_so() -> None:
    place, why = best(tried(256, 384, budget_ms=1), found(0.6, 0.9), (1024, 1024))
    assert place == 0
    assert "no size keeps the budget" in why


@pytest.mark.usefixtures("quarter")
def test_sizes_are_timed_until_one_is_over_the_budget(tmp_path: Path) -> None:
    asked = subject(write_woven(tmp_path / "good", 2, 128), (128, 128))
    sizes = timed(Sizing(0.7, work_ms), asked, 0.7)
    assert [(one.width, one.fits) for one in sizes] == [(64, True), (96, True), (128, False)]
    none = timed(Sizing(0.001, work_ms), asked, 0.001)
    assert [one.width for one in none] == [32, 48, 64]  # a budget that is given may make the input smaller than usual
    assert not any(one.fits for one in none)
    between = timed(Sizing(0.2, work_ms), asked, 0.2)
    assert [(one.width, one.fits) for one in between] == [(48, True), (64, False)]
    assert [one.width for one in timed(Sizing(None, work_ms), asked, 0.001)] == [64, 96]


@pytest.mark.usefixtures("quarter")
def test_a_large_input_gets_no_larger_bank_unless_it_was_asked_for(tmp_path: Path) -> None:
    asked = subject(write_woven(tmp_path / "good", 2, 128), (128, 128))
    asked = dataclasses.replace(asked, files=list(asked.files) * 100)
    generous = timed(Sizing(1e9, work_ms), asked, 1e9)
    assert {one.rows for one in generous if one.width > 64} == {MIN_ROWS}
    own = dataclasses.replace(asked, rule=find("patchcore").size_rule({"coreset": 0.01}))
    assert {one.rows for one in timed(Sizing(1e9, work_ms), own, 1e9)} == {None}
    for side in (64, 128):  # the bank is cut down rather than a smaller input taken
        tight_ms = next(one.ms for one in generous if one.width == side) * 0.7
        tight = next(one for one in timed(Sizing(tight_ms, work_ms), asked, tight_ms) if one.width == side)
        assert tight.fits
        assert tight.rows == 256


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize("family", ["simplenet", "efficientad"])
def test_every_family_is_timed_as_itself(tmp_path: Path, family: str) -> None:
    asked = subject(write_woven(tmp_path / "good", 1, 128), (128, 128), family)
    sizes = timed(Sizing(None, work_ms), asked, 1e9)
    assert [one.ms for one in sizes] == sorted(one.ms for one in sizes)
    assert len(sizes) > 1
    assert {one.rows for one in sizes} == {None}


@pytest.mark.usefixtures("quarter")
def test_fine_defects_on_large_pictures_are_not_shrunk_away(tmp_path: Path) -> None:
    folder = write_woven(tmp_path / "good", 24, 256)
    request = TrainRequest(
        "patchcore", folder, tmp_path / "out", sizing=Sizing(1.5, work_ms),
        settle=lambda recipe, survey: dataclasses.replace(recipe, pictures=survey.usual),
    )  # fmt: skip
    result = train(request)
    assert result.size is not None
    chosen = result.size.chosen.width
    assert result.detector.image_size == (chosen, chosen)
    assert chosen in (96, 128)
    assert [(one.width, one.fits) for one in result.size.tried] == [(64, True), (96, True), (128, True), (192, False)]
    larger = result.size.tried[-1]  # what it would bring, and that it costs too much
    assert larger.auroc is not None and larger.change is not None and larger.change_error is not None
    origin = json.loads((tmp_path / "out" / "model.json").read_text("utf-8"))["origin"]
    assert [one["width"] for one in origin["sizing"]["tried"] if one["chosen"]] == [chosen]
    assert origin["arguments"]["coreset"] == result.size.chosen.rows
    assert len(result.images.train) + len(result.images.heldout) == 24


@pytest.mark.usefixtures("quarter")
def test_small_pictures_stay_small_and_the_same_seed_chooses_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), draw_part(i, px=72))
    asked = subject(folder, (72, 72))
    one, again = (choose_size(Sizing(30.0, work_ms), asked) for _ in range(2))
    assert one.chosen.width == 64
    assert [size.width for size in one.tried] == [64, 96]
    assert dataclasses.replace(one, took_s=0.0) == dataclasses.replace(again, took_s=0.0)
    assert one.counts == (8, 4, 24)


@pytest.mark.usefixtures("quarter")
def test_too_few_pictures_to_try_sizes_on_take_the_largest_in_the_budget(tmp_path: Path) -> None:
    asked = subject(write_woven(tmp_path / "good", 4, 128), (128, 128))
    choice = choose_size(Sizing(0.7, work_ms), asked)
    assert choice.chosen.width == 96
    assert "4 pictures are too few" in choice.why
    assert choice.share is None


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_milliseconds(budget_ms: float) -> None:
    with pytest.raises(BadInput, match="is not usable"):
        Sizing(budget_ms)


def test_defects_are_small_at_the_cameras_resolution() -> None:
    image = woven(3, 768)
    for number in range(12):
        spoilt, share = sizing.with_defect(image, number, np.random.default_rng(number))
        rows, columns = np.nonzero((spoilt != image).any(2))
        assert 0 < share < 0.05
        assert max(np.ptp(rows), np.ptp(columns)) < sizing.WINDOW_PX


@pytest.mark.usefixtures("quarter")
def test_only_the_region_counts(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        around = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)  # another one each time: nothing can be told in it
        around[64:136, 32:104] = draw_part(i, px=72)
        cv2.imwrite(str(folder / f"{i}.png"), around)
    recipe = PreprocessRecipe(256, 256, roi=(32, 64, 72, 72))
    choice = choose_size(Sizing(30.0, work_ms), subject(folder, (72, 72), recipe=recipe))
    assert [one.width for one in choice.tried] == [64, 96]
    assert choice.chosen.auroc is not None and choice.chosen.auroc > 0.8


@pytest.mark.usefixtures("quarter")
def test_defects_are_drawn_onto_the_part_that_was_found_and_turned_back(tmp_path: Path) -> None:
    folder = write_turned(tmp_path / "good", 14)
    request = TrainRequest(
        "patchcore", folder, tmp_path / "out", PreprocessRecipe(64, 64), sizing=Sizing(30.0, work_ms),
        align=AlignAsked("template"), settle=lambda recipe, survey: dataclasses.replace(recipe, pictures=survey.usual),
    )  # fmt: skip
    result = train(request)
    recipe = result.images.recipe
    assert result.size is not None and recipe.align is not None and recipe.pictures is not None
    assert result.size.pictures == recipe.inspected(*recipe.pictures)[2:]  # of the part's frame, not of the camera's picture
    assert result.detector.image_size == (result.size.chosen.height, result.size.chosen.width) == (recipe.height, recipe.width)
    assert result.size.chosen.auroc is not None
