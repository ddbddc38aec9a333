"""The input size that small defects need and the time allows, for whoever does not give one (docs/which-model.md, decision 27).

Sizes in the pictures' proportions are tried, from small to large, as long as the engine is likely to keep the time budget, and
one more, which tells what a larger budget would bring. At each one a quick model is fitted on some of the training pictures
and asked about others, as they are and with defects drawn onto them *before* they are shrunk, at the camera's own resolution: a
scratch of two pixels is gone where four pixels become one. Neither held-out nor labelled pictures are looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgead.calibration.judging.defects import KINDS, STRENGTHS, draw_defect, foreground
from edgead.calibration.judging.deviation import auroc, auroc_error, paired_error
from edgead.errors import BadInput
from edgead.families import QUICK, find
from edgead.families.contract import FitData
from edgead.families.sizes import USUAL_PX, SizeRule
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe, same_aspect
from edgead.training.evaluate import answers
from edgead.types import Image

BUDGET_MS = 30.0
"""Camera picture to verdict, where nobody gives a budget."""

LADDER = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Sides tried, px; other proportions are as large in area. What lies beyond is for ``--size`` and ``--tiles``."""

ENLARGED = 1.5
"""Pictures are not enlarged by more."""

WINDOW_PX = 256
"""Defects are drawn as for a picture of this side, in the camera's pixels: scratches from one pixel, stains from some 16."""

BANK, GOOD, DRAWN = 24, 16, 36
"""Pictures at each size: to fit the quick model on, to ask it about, and those with a defect."""

GAIN = 0.01
"""Of AUROC on drawn defects: a larger size that gains less is not taken."""

_AREA_ROOM = 1.1
"""Of other proportions a size may be a little larger in area without enlarging."""

FEWEST = 8
"""With fewer training pictures no size is tried."""

QUICK_ROWS, QUICK_PATCHES = 512, 20_000

RUNS, ENOUGH_MS = 10, 500.0


Timer = Callable[[Callable[[], object]], float]
"""Milliseconds of one call on one thread."""


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of one call on one thread, the least of `RUNS` (of three, when they take long), so that other programs
    change it little (docs/which-model.md)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[float] = []
    try:
        call()
        while len(taken) < RUNS and (len(taken) < 3 or sum(taken) < ENOUGH_MS):
            began = time.thread_time()
            call()
            taken.append((time.thread_time() - began) * 1e3)
    finally:
        torch.set_num_threads(threads)
    return min(taken)


@dataclass(frozen=True, slots=True)
class Sizing:
    """How the input size is chosen.

    Attributes:
        budget_ms: camera picture to verdict on this machine; None: `BUDGET_MS`, and nothing below the usual size.
        timer: ms of one call.
    """

    budget_ms: float | None = None
    timer: Timer = cpu_ms

    def __post_init__(self) -> None:
        if self.budget_ms is not None and not (0 < self.budget_ms < math.inf):
            raise BadInput(f"a budget of {self.budget_ms:g} ms is not usable", hint="give milliseconds above 0, such as 30")


@dataclass(frozen=True, slots=True)
class Tried:
    """One size.

    Attributes:
        width, height: px.
        ms: predicted, camera picture to verdict.
        rows: that the model keeps of what it has seen; None where its family does not, or its options say how many.
        fits: keeps the budget.
        auroc, error: of the quick model on drawn defects, and one standard error; None where it was not asked.
        change, change_error: from the chosen size's, and one standard error of that (the same pictures).
    """

    width: int
    height: int
    ms: float
    rows: int | None
    fits: bool
    auroc: float | None = None
    error: float | None = None
    change: float | None = None
    change_error: float | None = None

    def __str__(self) -> str:
        return f"{self.width} x {self.height} px"

    @property
    def area(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class SizeChoice:
    """What was chosen, and by what.

    Attributes:
        chosen: of `tried`.
        tried: from small to large.
        why: in words.
        budget_ms: that was kept, or could not be.
        given: the user gave it.
        pictures: width, height of the pictures, or of the inspected part, px.
        share: of a picture that the drawn defect of middle size covers; None when none was drawn.
        counts: pictures fitted on, asked about, and with a defect drawn.
        took_s: seconds.
    """

    chosen: Tried
    tried: tuple[Tried, ...]
    why: str
    budget_ms: float
    given: bool
    pictures: tuple[int, int]
    share: float | None
    counts: tuple[int, int, int]
    took_s: float

    def to_json(self) -> dict[str, Any]:
        tried = [{**asdict(one), "chosen": one is self.chosen} for one in self.tried]
        return dict(_rounded({name: value for name, value in asdict(self).items() if name != "chosen"} | {"tried": tried}))


@dataclass(frozen=True, slots=True)
class Subject:
    """What a size is chosen for.

    Attributes:
        rule: of the family as it will be fitted.
        recipe: as settled; its size does not matter.
        pictures: width, height of most pictures, or of the inspected part of them, px.
        square: the input is a square whatever they are (their proportions differ, or what hangs over is cut off).
        files: good pictures that may be looked at: those trained on.
        seed: of what is drawn.
        most: side of a square as large as the largest size that is tried, px; 0: as the pictures allow.
    """

    rule: SizeRule
    recipe: PreprocessRecipe
    pictures: tuple[int, int]
    square: bool
    files: Sequence[Path]
    seed: int = 0
    most: int = 0


def choose_size(asked: Sizing, subject: Subject, progress: Progress = silent) -> SizeChoice:
    """The input size for a family.

    Seed, pictures and options repeat every figure but the times, which are measured; they decide only what keeps the budget.

    Args:
        progress: told the stage "input size".
    """
    began = time.monotonic()
    budget_ms = BUDGET_MS if asked.budget_ms is None else asked.budget_ms
    tried = timed(asked, subject, budget_ms)
    scores: dict[int, Scores] = {}
    share, counts = None, (0, 0, 0)
    if len(tried) > 1 and len(subject.files) >= FEWEST:
        quick = Quick(subject, [(one.width, one.height) for one in tried])
        share, counts = quick.share, quick.counts
        for i in range(len(tried)):
            scores[i] = quick.scores(i)
            progress("input size", (i + 1) / len(tried))
    place, why = best(tried, scores, subject.pictures) if scores else _largest(tried, subject)
    found = tuple(_judged(one, scores.get(i), scores.get(place)) for i, one in enumerate(tried))
    took_s = time.monotonic() - began
    return SizeChoice(
        found[place], found, why, budget_ms, asked.budget_ms is not None, subject.pictures, share, counts, took_s
    )  # fmt: skip


Scores = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Of good pictures and of those with a defect, in the same order at every size."""


def ladder(
    pictures: tuple[int, int], square: bool, multiple: int, least: int, smaller: bool = False, most: int = 0
) -> list[tuple[int, int]]:
    """Width and height of the sizes that are worth a try, from small to large.

    Args:
        pictures: width, height, px.
        square: whatever the pictures are.
        multiple, least: what the network takes for a side.
        smaller: than the usual size, too.
        most: as :attr:`Subject.most`; then it is the usual size.
    """
    native = math.sqrt(math.prod(pictures))
    usual = most or USUAL_PX
    top = most or max(USUAL_PX, ENLARGED * native)
    floor = max((side for side in LADDER if side <= min(native, usual)), default=LADDER[0])
    ratio = 1.0 if square else min(4.0, max(0.25, pictures[0] / pictures[1]))
    found: list[tuple[int, int]] = []
    for side in LADDER:
        if side > top or (side < floor and not smaller):
            continue
        size = shaped(side, ratio, multiple, least)
        if size not in found:
            found.append(size)
    return found


def shaped(side: int, ratio: float, multiple: int, least: int) -> tuple[int, int]:
    """Width and height of these proportions (width / height), about as large as a square of this side: of those that keep them
    the one nearest in area, else the nearest in proportions."""
    side = max(side, math.ceil(least * math.sqrt(max(ratio, 1 / ratio))))
    ideal = side * math.sqrt(ratio) / multiple

    def off(size: tuple[int, int]) -> tuple[float, float]:
        bent = abs(math.log(size[0] / (size[1] * ratio)))
        return (0.0 if same_aspect(size, (ratio, 1.0)) else bent, abs(math.log(size[0] * size[1] / side**2)))

    widths = {max(least, multiple * n) for n in range(math.floor(ideal * 0.88), math.ceil(ideal * 1.12) + 1)}
    return min(((w, max(least, multiple * round(w / ratio / multiple))) for w in sorted(widths)), key=off)


def timed(asked: Sizing, subject: Subject, budget_ms: float) -> list[Tried]:
    """The sizes that are likely to keep the budget, from the usual one up, and the next one. Where that one is over the budget:
    the largest below it that keeps it when a budget was given, else the usual one all the same."""
    raw = subject.recipe.read(subject.files[0])
    sides = subject.rule.sides()
    usual = ladder(subject.pictures, subject.square, *sides, most=subject.most)
    found: list[Tried] = []
    for size in usual:
        found.append(_timed(asked, subject, raw, size, budget_ms))
        if not found[-1].fits and (len(found) > 1 or asked.budget_ms is not None):
            break
    smaller = [size for size in ladder(subject.pictures, subject.square, *sides, True, subject.most) if size not in usual]
    while asked.budget_ms is not None and smaller and not found[0].fits:
        found.insert(0, _timed(asked, subject, raw, smaller.pop(), budget_ms))
    return found


def _timed(asked: Sizing, subject: Subject, raw: Image, size: tuple[int, int], budget_ms: float) -> Tried:
    """One size, with the largest bank that keeps the budget, or the smallest one."""
    width, height = size
    recipe = replace(subject.recipe, width=width, height=height)
    resize_ms = asked.timer(lambda: recipe.apply(raw))
    picture = torch.from_numpy(recipe.apply(raw))[None]
    rule, area = subject.rule, width * height
    factor, ms, rows = rule.engine.factor(), math.inf, None
    for rows in rule.banks(area, len(subject.files)):
        detector = rule.unfitted((height, width), rows)
        with torch.no_grad():
            ms = resize_ms + factor * asked.timer(partial(detector, picture))
        if ms <= budget_ms:
            break
    return Tried(width, height, ms, rows if rule.chosen(rows, area) else None, ms <= budget_ms)


class Quick:
    """A quick model at every size, on the same pictures and the same drawn defects.

    Attributes:
        share: of a picture that the drawn defect of middle size covers.
        counts: pictures fitted on, asked about, and with a defect.
    """

    def __init__(self, subject: Subject, sizes: Sequence[tuple[int, int]]) -> None:
        quick = {"coreset": QUICK_ROWS, "max_rows": QUICK_PATCHES, **subject.rule.quick()}
        self._fit = find(QUICK).bound(quick)
        self._seed = subject.seed
        whole = subject.recipe.of_inputs
        self._recipes = [replace(whole, width=width, height=height) for width, height in sizes]
        order = np.random.default_rng([subject.seed, 1]).permutation(len(subject.files))
        asked = min(GOOD, len(order) * 2 // 5)
        self._bank = [self._inputs(self._inspected(subject, i)) for i in order[asked : asked + BANK]]
        self._good: list[list[Image]] = []
        self._drawn: list[list[Image]] = []
        shares = []
        for place, i in enumerate(order[:asked]):
            image = self._inspected(subject, i)
            self._good.append(self._inputs(image))
            for number in range(place, DRAWN, asked):
                spoilt, share = with_defect(image, number, np.random.default_rng([subject.seed, number]))
                self._drawn.append(self._inputs(spoilt))
                shares.append(share)
        self.share = float(np.median(shares))
        self.counts = (len(self._bank), len(self._good), len(self._drawn))

    @staticmethod
    def _inspected(subject: Subject, place: int) -> Image:
        return inspected(subject.recipe, subject.recipe.read(subject.files[place]), subject.pictures)

    def _inputs(self, image: Image) -> list[Image]:
        return [recipe.apply(image) for recipe in self._recipes]

    def scores(self, place: int) -> Scores:
        """At one of the sizes."""
        size = (self._recipes[place].height, self._recipes[place].width)
        detector = self._fit(FitData([inputs[place] for inputs in self._bank], size, self._seed))
        good, drawn = (
            np.array([answers(detector, inputs[place])[0] for inputs in side], np.float32) for side in (self._good, self._drawn)
        )
        return good, drawn


def inspected(recipe: PreprocessRecipe, raw: Image, pictures: tuple[int, int]) -> Image:
    """The inspected part of a camera's picture, at its resolution.

    Args:
        pictures: width and height of that part, px.
    """
    if recipe.roi is None and recipe.align is None:
        return raw
    return replace(recipe, width=pictures[0], height=pictures[1], aspect="stretch").apply(raw)


def with_defect(image: Image, number: int, rng: np.random.Generator) -> tuple[Image, float]:
    """A picture with a small defect on the part, kind and strength by `number`, and the share of it that the defect covers."""
    spoilt = image.copy()
    height, width = image.shape[:2]
    factor = max(1.0, max(height, width) / USUAL_PX)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    rows, columns = np.nonzero(foreground(small))
    i = int(rng.integers(len(rows)))
    high, wide = min(WINDOW_PX, height), min(WINDOW_PX, width)
    top = min(max(0, round(rows[i] * factor) - high // 2), height - high)
    left = min(max(0, round(columns[i] * factor) - wide // 2), width - wide)
    kind, strength = list(KINDS)[number % len(KINDS)], STRENGTHS[number // len(KINDS) % len(STRENGTHS)]
    drawn = draw_defect(np.ascontiguousarray(image[top : top + high, left : left + wide]), kind, strength, rng)
    spoilt[top : top + high, left : left + wide] = drawn.image
    return spoilt, float(drawn.mask.sum()) / (width * height)


def best(tried: Sequence[Tried], scores: Mapping[int, Scores], pictures: tuple[int, int]) -> tuple[int, str]:
    """Which size to take, and why.

    Of those that keep the budget and do not enlarge the pictures the one that tells most drawn defects from good pictures (a
    smaller one that loses less than `GAIN` goes before it); one that enlarges them only when it gains more than that and than one
    standard error: there are no more pixels to see in it, only more patches."""
    usable = [i for i, one in enumerate(tried) if one.fits]
    if not usable:
        return 0, "no size keeps the budget: the smallest"
    values = {i: auroc(*scores[i]) or 0.0 for i in usable}
    own = [i for i in usable if tried[i].area <= _AREA_ROOM * math.prod(pictures)] or usable[:1]
    most = max(values[i] for i in own)
    place = next(i for i in own if values[i] > most - GAIN)
    for i in usable:
        if i > own[-1] and values[i] - values[place] - 1e-9 > max(
            GAIN, paired_error(scores[i], scores[place])
        ):  # more, not as much
            place = i
    if len(usable) == 1:
        return place, "the only one in the budget"
    if place > own[-1]:
        return place, "enlarged: it finds more of the small defects drawn"
    if place != usable[-1]:
        return place, "larger ones in the budget find no more of the small defects drawn"
    if place == len(tried) - 1:
        return place, "the largest that suits these pictures"
    return place, "the largest in the budget, and it finds most of the small defects drawn"


def _largest(tried: Sequence[Tried], subject: Subject) -> tuple[int, str]:
    """Without a look at defects: the largest size in the budget that does not enlarge the pictures."""
    area = _AREA_ROOM * math.prod(subject.pictures)
    usable = [i for i, one in enumerate(tried) if one.fits and (i == 0 or one.area <= area)]
    if not usable:
        return 0, "no size keeps the budget: the smallest"
    if len(tried) == 1:
        return 0, "the only size that suits these pictures"
    few = f"{len(subject.files)} pictures are too few to try sizes on (from {FEWEST} on)"
    return usable[-1], f"{few}: the largest in the budget that does not enlarge them"


def _judged(one: Tried, own: Scores | None, chosen: Scores | None) -> Tried:
    if own is None or chosen is None:
        return one
    value, other = auroc(*own), auroc(*chosen)
    assert value is not None and other is not None
    return replace(
        one, auroc=value, error=auroc_error(*own), change=value - other, change_error=paired_error(own, chosen)
    )  # fmt: skip


def _rounded(value: Any) -> Any:
    """Figures as they are kept."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value
