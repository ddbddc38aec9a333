"""What `edgead train` tells of the model that it made, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgead.calibration.findings import Finding
from edgead.cli._sizing import over, told
from edgead.families import find
from edgead.families.contract import PAPER
from edgead.layout import is_bad, listed, skipped_lines
from edgead.manifest import Sizing, Threshold
from edgead.thresholds.choose import FEW

if TYPE_CHECKING:
    from edgead.jobs.train import Trained
    from edgead.training.dataset import GoodImages
    from edgead.training.fit import TrainRequest, TrainResult
    from edgead.training.oddest import Oddest
    from edgead.training.tiles import Tiling


@dataclass(frozen=True, slots=True)
class Picture:
    """One of the oddest good pictures.

    Attributes:
        file: below the folder of good pictures.
        times: so many times as far from the others as usual.
        odd: unlike all others.
        heldout: it was held out; else it was trained on.
        score: of the model.
    """

    file: str
    times: float
    odd: bool
    heldout: bool
    score: float


@dataclass(frozen=True, slots=True)
class Model:
    """The model that was trained; model.json in its folder holds more.

    Attributes:
        out: its folder.
        family: of it.
        method: which published method of the family it is.
        preset: how that was trained.
        width, height: of its input in pixels.
        trained_on, heldout: good pictures.
        defects: pictures of defects that it was trained on, too.
        threshold: its first one.
        metrics: figures on labelled pictures, or on drawn defects without such, by name.
        findings: what must be said of it.
        oddest: the oddest good pictures.
        sizing: how the input size was chosen; null where it was given.
        kept: where the model that was there is now; null: none was.
        elapsed_s: seconds.
    """

    out: Path
    family: str
    method: str
    preset: str
    width: int
    height: int
    trained_on: int
    heldout: int
    threshold: Threshold
    metrics: Mapping[str, float]
    findings: tuple[Finding, ...]
    oddest: tuple[Picture, ...]
    sizing: Sizing | None
    kept: Path | None
    elapsed_s: float
    defects: int = 0

    @classmethod
    def of(cls, made: Trained) -> Model:
        """What is told of it."""
        request, result = made.request, made.result
        images, recipe = result.images, result.images.recipe
        odd = tuple(
            Picture(str(one.file.relative_to(images.folder)), one.times, one.odd, one.heldout, one.score) for one in result.oddest
        )
        sizing = None if result.size is None else cast(Sizing, result.size.to_json())
        return cls(
            request.out, request.family, request.method or request.family, request.preset, recipe.width, recipe.height,
            len(images.train), len(images.heldout), result.threshold,
            result.metrics, tuple(result.findings), odd, sizing, made.kept, result.elapsed_s,
            0 if result.defects is None else len(result.defects.files),
        )  # fmt: skip


def _told_of_tiles(tiling: Tiling, figures: dict[str, float]) -> str:
    told = f"{figures['tiles']:.0f} of {tiling.width} x {tiling.height} px, overlapping by {tiling.shared} px or more"
    if "tiles_run_good" not in figures:
        return told
    found = f"{figures['drawn_found']:.0f} of {figures['drawn']:.0f} drawn defects"
    return f"{told}; {figures['tiles_run_good']:.0%} of them run on good pictures, none lost of {found} that the tiles find"


def summary(made: Trained) -> str:
    """What came out, as lines."""
    request, result = made.request, made.result
    images, figures = result.images, result.metrics
    recipe = images.recipe
    how = "" if recipe.aspect == "stretch" else f", proportions kept ({recipe.aspect})"
    rows = [
        ("model", f"{request.method or request.family}, {recipe.width} x {recipe.height} px{how}"),
        *_of_preset(request),
        ("read", f"{images.folder}: {images.found.told()}"),
        *(("", line) for line in images.survey.lines()),
        *(("left out", line) for line in _left_out(images)),
        ("good images", f"{len(images.train)} trained on, {len(images.heldout)} held out"),
    ]
    if result.defects is not None:
        rows += [("defects" if i == 0 else "", line) for i, line in enumerate(result.defects.lines())]
    sizing = None if result.size is None else result.size.to_json()
    if sizing is not None:
        rows += [("input size" if i == 0 else "", line) for i, line in enumerate(told(sizing))]
    if images.aligned is not None:
        rows += [("aligned" if i == 0 else "", line) for i, line in enumerate(images.aligned.lines())]
        rows.append(("", f"picture of it: {request.out / 'aligned.png'}"))
    if request.tiling is not None:
        rows.append(("tiles", _told_of_tiles(request.tiling, figures)))
    rows += [*_of_threshold(result), *_of_labels(result)]
    if result.oddest:
        rows += [("oddest pictures" if i == 0 else "", _odd(one, result)) for i, one in enumerate(result.oddest)]
    named = [f"the folder {images.folder.name} is called as one of defects: is it one of good pictures?"]
    named = named if is_bad(images.folder.name) else []
    slow = [line for line in (over(sizing),) if line] if sizing is not None else []
    bad = [] if result.defects is None else result.defects.warnings()
    rows += [("warning", line) for line in (*named, *bad, *slow, *images.survey.warnings(recipe), *map(str, result.findings))]
    rows += [
        ("took", f"{result.elapsed_s:.1f} s"),
        ("trained model", str(request.out)),
        ("next", f"edgead export {request.out}"),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


def _of_preset(request: TrainRequest) -> list[tuple[str, str]]:
    """What is worth knowing of how it was trained."""
    preset = find(request.family).preset(request.method or request.family)
    if request.preset == PAPER:
        return [("", f"with sizes and schedule of {preset.source}")]
    return [("", f"lite: {preset.gave_up}; --preset {PAPER} has it")] if preset.gave_up and preset.paper else []


def _left_out(images: GoodImages) -> list[str]:
    lines = skipped_lines(images.found.skipped)
    if images.left_out:
        lines.append(
            f"{len(images.left_out)} as asked for ({listed(str(f.relative_to(images.folder)) for f in images.left_out)})"
        )
    if images.duplicates:
        names = listed(file.name for file in images.duplicates)
        lines.append(f"{len(images.duplicates)} exact copies of others ({names})")
    return lines


def _of_threshold(result: TrainResult) -> list[tuple[str, str]]:
    """The threshold, the pictures that set it, and those that it rejects."""
    images, scored = result.images, result.scored
    rows = [("threshold", f"{result.threshold.value:.6g} ({result.threshold.method})")]
    order, names = scored.order(), [str(file.relative_to(images.folder)) for file in scored.files]
    over = int((scored.scores >= result.threshold.value).sum())
    setter = int(order[min(over, len(order) - 1)])
    by = f"set by {names[setter]} ({scored.scores[setter]:.6g})"
    if (without := scored.without([setter])) is not None:
        by += f"; without it the threshold would be {without:.6g}"
    if over:
        by += f"; {over} NG: {listed(f'{names[i]} ({scored.scores[i]:.6g})' for i in order[:over])}"
    rows.append(("", by))
    if odd := scored.odd():
        told = f"{listed(names[i] for i in odd)}: {'a score' if len(odd) == 1 else 'scores'} that chance does not explain"
        if (without := scored.without(odd)) is not None:
            told += f"; without {'it' if len(odd) == 1 else 'them'} the threshold would be {without:.6g}"
        rows.append(("odd pictures", f"{told}; no good parts? take them away: --leave-out {names[odd[0]]}"))
    if scored.why and result.threshold.chosen is not None:
        rows.append(("", f"from the held-out pictures alone: {scored.why}"))
    if len(scored.scores) < FEW:
        rows.append(("", f"rough: from {len(scored.scores)} pictures; give {FEW} or more, or check it on real defects"))
    return rows


def _of_labels(result: TrainResult) -> list[tuple[str, str]]:
    """What labelled pictures, or drawn defects without such, say of the model."""
    figures, rows = result.metrics, []
    if result.labels is not None:
        rows.append(("labelled", result.labels.told()))
        rows += [("left out", line) for line in skipped_lines(result.labels.skipped)]
    if known := figures.get("test_trained_on"):
        rows.append(("left out", f"{known:.0f} of them that the model was trained on, which say nothing of new parts"))
    if "image_auroc" in figures:
        counts = f"{figures['test_good']:.0f} good, {figures['test_defects']:.0f} defective test images"
        rows.append(
            ("image AUROC", f"{figures['image_auroc']:.4f} ({counts}; brightness alone {figures['brightness_auroc']:.4f})")
        )
    if "caught" in figures:
        rejected = f", {figures['rejected']:.1%} of good rejected" if "rejected" in figures else ""
        rows.append(("at the threshold", f"{figures['caught']:.1%} of defects caught{rejected}"))
    if "pro" in figures:
        rows.append(("pixel AUROC, PRO", f"{figures['pixel_auroc']:.4f}, {figures['pro']:.4f}"))
    if "drawn_caught" in figures:
        told = f"{figures['drawn_caught']:.0%} of {figures['drawn_count']:.0f} caught, AUROC {figures['drawn_auroc']:.4f}"
        rows.append(("drawn defects", f"{told} (no labelled ones; a third of them faint)"))
    return rows


def _odd(one: Oddest, result: TrainResult) -> str:
    where = "held out" if one.heldout else "trained on"
    mark = ": unlike all others, is it a defect?" if one.odd else ""
    name = one.file.relative_to(result.images.folder)
    if one.odd and one.without is not None:
        mark += f"; without it the threshold would be {one.without:.4g}"
    return f"{name}: {one.times:.2f} times as far from the others as usual, score {one.score:.4g}, {where}{mark}"
