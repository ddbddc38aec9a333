"""How good are bundles on a folder of pictures, labelled or not, and on which pictures do they differ? Needs no torch."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.decision import tells_no_map
from edgead.errors import BadInput
from edgead.jobs.pages import html_table
from edgead.jobs.progress import Progress, Ticking, silent
from edgead.jobs.score import Judge
from edgead.layout import LabelledFile, is_bad, is_good, labelled, pictures_below
from edgead.preprocess import frame_digest, read_image
from edgead.thresholds.operating import Counted
from edgead.types import AnomalyMap, Image, Inspection, Verdict

COLUMNS = {
    **dict.fromkeys(("bundle", "engine", "file", "kind", "verdict", "cause"), "TEXT"),
    **dict.fromkeys(("score", "level", "total_ms"), "REAL"),
}
"""Of the table of pictures: names and SQL types."""

MAX_PIXELS = 8_000_000
"""PRO looks at every k-th pixel of each row and column, with the smallest k that keeps to so many."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a bundle says of a picture.

    Attributes:
        bundle: its folder.
        engine: that answered.
        file: the picture.
        kind: "good", or the defect's name; null without labels.
        verdict, cause, score: of it; null for no finite score.
        level: the largest threshold at which it is NG; null when it was not answered.
        total_ms: from the picture in memory to the verdict.
    """

    bundle: str
    engine: str
    file: str
    kind: str | None
    verdict: str
    cause: str
    score: float | None
    level: float | None
    total_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How good a bundle is on these pictures.

    Attributes:
        bundle: its folder.
        engine: that answered.
        sha256: of the bundle.
        rule: what decides, in words.
        verdicts: how many pictures are OK, NG and UNKNOWN.
        good, defects: the same of good pictures and of defects; empty without labels.
        trained_on: pictures left out, because the model was trained on them.
        auroc, ap: of the statistic that the rule compares, good pictures against defects: area under the ROC curve, and average
            precision; null without both.
        pro: per-region overlap up to 30 % false positive pixels; null without masks.
        false_rejects: good pictures that are NG, and what that says of the rate (95 %); null without good ones.
        misses: defects that are OK, likewise.
        p50_ms, p95_ms: from the picture in memory to the verdict.
    """

    bundle: str
    engine: str
    sha256: str
    rule: str
    verdicts: dict[str, int]
    good: dict[str, int]
    defects: dict[str, int]
    trained_on: int
    auroc: float | None
    ap: float | None
    pro: float | None
    false_rejects: Counted | None
    misses: Counted | None
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Bundles on the same pictures.

    Attributes:
        folder: of the pictures.
        pictures: how many there are.
        labels: how they were taken: which folders are good, which are defects; "" without labels.
        bundles: a row each.
        differ: pictures on which the verdicts of the bundles differ.
        answers: of each bundle, in the order of `bundles`, on each picture, in the same order.
    """

    folder: str
    pictures: int
    labels: str
    bundles: tuple[Figures, ...]
    differ: tuple[str, ...]
    answers: tuple[tuple[Picture, ...], ...]

    def _repr_html_(self) -> str:
        """For notebooks."""
        return html_table(*table(self))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Bundles on the same pictures.

    Attributes:
        folder: of the pictures.
        pictures: how many there are.
        labels: how they were taken; "" without labels.
        bundles: a row each.
        differ: pictures on which the verdicts of the bundles differ.
    """

    folder: str
    pictures: int
    labels: str
    bundles: tuple[Figures, ...]
    differ: tuple[str, ...]

    @classmethod
    def of(cls, found: Evaluation) -> Evaluated:
        return cls(found.folder, found.pictures, found.labels, found.bundles, found.differ)


Seen = Callable[[int, int, Image, Inspection, Judge], None]
"""Told each answer: the bundle's place, the picture's, the camera's picture, what was said, and by whom."""


def evaluate(
    bundles: Sequence[Path],
    folder: Path,
    *,
    engine: str | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    seen: Seen = lambda bundle, picture, image, found, judge: None,
) -> Evaluation:
    """Judge all pictures below a folder by each bundle.

    Args:
        bundles: their folders.
        folder: in MVTec layout, with one folder for each kind, or of pictures without labels.
        engine: one of each bundle's engines; None: its default.
        threads: CPU threads of one inference.
        progress: told the stage.
        seen: told each answer.

    Raises:
        BadInput: no pictures, the same bundle twice, or a mask that cannot be used.
        BundleError, MissingExtra, EngineError: a bundle or its engine does not open here.
    """
    if len({path.resolve() for path in bundles}) < len(bundles):
        raise BadInput("a bundle is given twice", hint="name each of them once; --engine chooses another engine for all")
    files, labels = pictures_of(folder)
    tick = Ticking(progress, "judging pictures", len(files) * len(bundles))
    found = []
    for place, path in enumerate(bundles):
        with Judge.open(path, engine, threads=threads) as judge:
            found.append(_judged(judge, files, labels != "", tick, partial(seen, place)))
    answers = tuple(pictures for _, pictures in found)
    differ = [
        str(item.file)
        for item, said in zip(files, zip(*answers, strict=True), strict=True)
        if len({one.verdict for one in said}) > 1
    ]
    return Evaluation(str(folder), len(files), labels, tuple(figures for figures, _ in found), tuple(differ), answers)


def pictures_of(folder: Path) -> tuple[list[LabelledFile], str]:
    """The pictures below a folder with their labels, and how these were taken: "" where no folder is named as good or defect.

    Raises:
        BadInput: there are no pictures.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of pictures")
    inside = folder / "test" if (folder / "test").is_dir() else folder
    if inside != folder or any(one.is_dir() and (is_good(one.name) or is_bad(one.name)) for one in inside.iterdir()):
        labels = labelled(folder)
        return labels.files, labels.told()
    return [LabelledFile(file, "", None) for file in pictures_below(folder).files], ""


def _judged(
    judge: Judge,
    files: Sequence[LabelledFile],
    labels: bool,
    tick: Callable[[], None],
    seen: Callable[[int, Image, Inspection, Judge], None],
) -> tuple[Figures, tuple[Picture, ...]]:
    recipe, known_ones = judge.bundle.manifest.preprocess, judge.bundle.trained_on()
    regions = _Regions(len(files) * recipe.width * recipe.height)
    pictures: list[Picture] = []
    statistics: list[float] = []
    known: set[int] = set()
    for i, item in enumerate(files):
        found, image = judge.ask(partial(read_image, item.file, recipe.bits), str(item.file))
        if image is not None:
            seen(i, image, found, judge)
            if known_ones and not found.cause and frame_digest(recipe.apply(image)) in known_ones:
                known.add(i)
            elif labels:
                regions.add(judge, item, found)
        reading = judge.reading(found)
        statistics.append(math.nan if reading is None else reading[0])
        score, level = (value if value is not None and math.isfinite(value) else None for value in (found.score, statistics[-1]))
        told = str(judge.bundle.path), judge.record.name, str(item.file), item.kind if labels else None
        pictures.append(Picture(*told, found.verdict.value, found.cause, score, level, round(found.times.total_ms, 3)))
        tick()
    return _figures(judge, pictures, np.asarray(statistics), known, regions.pro()), tuple(pictures)


class _Regions:
    """Maps and masks of labelled pictures, as far as there are masks."""

    def __init__(self, pixels: int) -> None:
        self._stride = max(1, math.ceil(math.sqrt(pixels / MAX_PIXELS)))
        self._masks: list[npt.NDArray[np.bool_]] = []
        self._maps: list[AnomalyMap] = []

    def add(self, judge: Judge, item: LabelledFile, found: Inspection) -> None:
        from edgead.decision import enlarged
        from edgead.training.dataset import load_labelled

        said = found.anomaly_map
        if said is None or tells_no_map(said.shape) or (item.kind != "good" and item.mask is None):
            return
        for one in load_labelled([item], judge.bundle.manifest.preprocess):
            if one.mask is not None:
                step = slice(None, None, self._stride)
                self._masks.append(one.mask[step, step])
                self._maps.append(enlarged(said, one.mask.shape)[step, step].copy())

    def pro(self) -> float | None:
        from edgead.training.metrics import pro

        if not any(bool(mask.any()) for mask in self._masks):
            return None
        return _finite(pro(self._masks, self._maps))


def _figures(
    judge: Judge, pictures: Sequence[Picture], statistics: npt.NDArray[np.float64], known: set[int], pro: float | None
) -> Figures:
    counted = [one for i, one in enumerate(pictures) if i not in known]
    values = np.asarray([value for i, value in enumerate(statistics) if i not in known])
    good = Counter(one.verdict for one in counted if one.kind == "good")
    bad = Counter(one.verdict for one in counted if one.kind not in (None, "good"))
    truth = np.asarray([one.kind not in (None, "good") for one in counted], bool)
    answered = np.isfinite(values)
    ranked = bool(good and bad)
    times = [one.total_ms for one in counted] or [math.nan]
    return Figures(
        str(judge.bundle.path),
        judge.record.name,
        judge.bundle.digest,
        judge.rule.describe(),
        dict(Counter(one.verdict for one in counted).most_common()),
        dict(good.most_common()),
        dict(bad.most_common()),
        len(known),
        _finite(auroc(truth[answered], values[answered])) if ranked else None,
        _finite(average_precision(truth[answered], values[answered])) if ranked else None,
        pro,
        Counted.of(good["NG"], good.total()) if good else None,
        Counted.of(bad["OK"], bad.total()) if bad else None,
        float(np.percentile(times, 50)),
        float(np.percentile(times, 95)),
    )


def auroc(truth: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    """Area under the ROC curve, ties counted half; NaN when only one class is there."""
    bad, good = values[truth], np.sort(values[~truth])
    if not len(bad) or not len(good):
        return math.nan
    below, up_to = np.searchsorted(good, bad, side="left"), np.searchsorted(good, bad, side="right")
    return float((below + up_to).sum() / 2 / (len(bad) * len(good)))


def average_precision(truth: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    """Mean precision over the defects, from the largest value on, equal values at once; NaN without a defect."""
    if not truth.any():
        return math.nan
    order = np.argsort(-values, kind="stable")
    ordered, hits = values[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each group of equal values
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def rows(found: Evaluation) -> list[dict[str, Any]]:
    """A row a picture and bundle, for a table."""
    return [dataclasses.asdict(one) for pictures in found.answers for one in pictures]


def table(found: Evaluation) -> tuple[Sequence[str], list[list[str]]]:
    """Titles and a row a bundle; "-" for what cannot be measured."""
    titles = ("bundle", "AUROC", "AP", "PRO", "good NG", "good UNKNOWN", "missed", "defects UNKNOWN", "p50 ms")
    return titles, [list(_cells(found, i)) for i in range(len(found.bundles))]


def _cells(found: Evaluation, place: int) -> Iterator[str]:
    one = found.bundles[place]
    yield f"{Path(one.bundle).name} {one.engine}"
    for figure in (one.auroc, one.ap, one.pro):
        yield "-" if figure is None else f"{figure:.4f}"
    for counted, verdicts in ((one.false_rejects, one.good), (one.misses, one.defects)):
        if counted is None:
            yield from ("-", "-")
            continue
        yield f"{counted.events} of {counted.n} ({100 * counted.low:.2g} to {100 * counted.high:.2g} %)"
        yield str(verdicts.get("UNKNOWN", 0))
    yield f"{one.p50_ms:.1f}"


def wrong(one: Picture) -> str:
    """ "missed", "false reject", or ""."""
    if one.kind is None:
        return ""
    if one.kind == "good":
        return "false reject" if one.verdict == Verdict.NG.value else ""
    return "missed" if one.verdict == Verdict.OK.value else ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
