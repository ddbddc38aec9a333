"""The whole training as one call: read, split, fit, threshold, evaluate, write the trained model's folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead import __version__
from edgead.bundle import Threshold
from edgead.calibration.findings import Finding
from edgead.calibration.judging.worth import judge
from edgead.errors import BadInput
from edgead.families import find
from edgead.families.contract import LITE, Fit, FitData
from edgead.families.options import to_json
from edgead.layout import Labels, find_good, labelled
from edgead.manifest import TRAINED, Arguments, Origin
from edgead.models.detector import Detector
from edgead.models.learning.curve import Curve
from edgead.models.learning.progress import Progress, silent
from edgead.models.learning.steps import Checkpoint
from edgead.preprocess import PreprocessRecipe, frame_digest
from edgead.survey import Survey
from edgead.trained import CALIBRATION_FRAMES, CURVES, ModelCard, Pictures, encode_png, new_model, write_model
from edgead.training.alignment import AlignAsked, alignment_sheet
from edgead.training.crossfit import CrossFit, Scored, cross_fit
from edgead.training.dataset import GoodImages, Settle, load_good
from edgead.training.defects import DefectImages, load_defects
from edgead.training.evaluate import evaluate, evaluate_drawn, good_scores, light_of
from edgead.training.oddest import Oddest, find_oddest
from edgead.training.sizing import SizeChoice, Sizing, Subject, choose_size
from edgead.training.tiles import Tiling, fit_shrunk, fit_tiled, join
from edgead.types import Image

ALIGNED = "aligned.png"
"""In a trained model's folder: what was aligned, for people."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train, on what, and where to.

    Attributes:
        family: of :data:`edgead.families.FAMILIES`, or of another package.
        good_dir: folder of good images or MVTec root.
        out: folder of the trained model; an older model there is replaced at the very end.
        recipe: from camera picture to model input.
        options: values for the family's options; what is not given keeps its default.
        name: of the part or recipe; empty takes the name of the folder of images.
        heldout: share of good images for threshold and parity.
        seed: of split and fit.
        tiling: fit on tiles of the pictures (see :class:`edgead.training.tiles.Tiling`); None fits on whole pictures.
        crossfit: the threshold comes from all good pictures (:mod:`edgead.training.crossfit`); False: from the held-out ones.
        leave_out: good pictures that are none, by their paths below the folder.
        settle: changes the recipe by what the pictures are like (see :func:`edgead.training.dataset.load_good`); None takes it as
            it is.
        sizing: chooses the model's input size (:mod:`edgead.training.sizing`), not with `tiling`; None takes the recipe's.
        align: learn how the part is found, and shift and turn it to its place; None takes pictures as they are.
        device: torch device that trains.
        defects: folders of pictures of defects, for families that learn from such too.
        method: which method of the family it is (:meth:`edgead.families.contract.Family.preset`); "": the family's own.
        preset: how that was trained (`LITE`, `PAPER`); its values are among `options`.
        checkpoint: file that the training goes on from; it is removed when the model is written. None keeps nothing.
    """

    family: str
    good_dir: Path
    out: Path
    recipe: PreprocessRecipe = PreprocessRecipe(256, 256)  # noqa: RUF009 - frozen
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    name: str = ""
    heldout: float = 0.15
    seed: int = 0
    tiling: Tiling | None = None
    settle: Settle | None = None
    sizing: Sizing | None = None
    crossfit: bool = True
    leave_out: tuple[str, ...] = ()
    align: AlignAsked | None = None
    device: str = "cpu"
    defects: tuple[Path, ...] = ()
    method: str = ""
    preset: str = LITE
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came out.

    Attributes:
        detector, images, threshold: the model, what it was made of, and its first threshold.
        metrics: figures on labelled images, or on drawn defects without such.
        elapsed_s: seconds.
        findings: what must be said about the model (:func:`edgead.calibration.judging.worth.judge`).
        oddest: the oddest good pictures.
        scored: good pictures and the scores that the threshold comes from.
        labels: what was taken for good and for defects; None without labelled images.
        size: how the input size was chosen; None where it was given.
        defects: pictures of defects that took part; None: there were none.
        curves: how the losses went, of each training in steps; empty: there was none.
    """

    detector: Detector
    images: GoodImages
    threshold: Threshold
    metrics: dict[str, float]
    elapsed_s: float
    findings: list[Finding]
    oddest: list[Oddest]
    scored: Scored
    labels: Labels | None
    size: SizeChoice | None = None
    defects: DefectImages | None = None
    curves: Sequence[Curve] = ()


def train(request: TrainRequest, progress: Progress = silent) -> TrainResult:
    """Train a model and write its folder. Nothing is left at `request.out` when it fails or is interrupted; an older model stays.

    Raises:
        BadInput: unusable images, options or target.
        StorageError: the folder cannot be written.
    """
    began = time.monotonic()
    recipe = request.recipe
    find(request.family).check_defects(bool(request.defects))
    find(request.family).bound(request.options)  # refuses what it does not know before anything is read
    sizing = _sizing(request)
    if request.tiling is not None:
        request.tiling.grid((recipe.height, recipe.width))  # refuses what does not fit before anything is read
    with new_model(request.out) as work:
        images = _loaded(request, progress)
        root = find_good(request.good_dir)[1]
        labels = None if root is None else _readable(root, images.recipe)
        defects, size = _defects(request, images, progress), None
        if sizing is not None:
            read_at = images.recipe
            request, size, images = _sized(request, sizing, images, progress)
            defects = defects if images.recipe == read_at else _defects(request, images, progress)
        checkpoint = _checkpoint(request, images, defects)
        size_px = (request.recipe.height, request.recipe.width)
        curves: list[Curve] = []
        data = FitData(
            images.train, size_px, request.seed, request.device, progress, checkpoint=checkpoint,
            defects=() if defects is None else defects.defects, curves=curves,
        )  # fmt: skip
        began_fit = time.monotonic()
        detector, figures = _fit(request, find(request.family).bound(request.options), data, images.heldout)
        scores = good_scores(detector, images.heldout)
        found = _cross_fit(request, detector, data, images.heldout, time.monotonic() - began_fit)
        scored = Scored.of(images.heldout_files, scores, images.train_files, found)
        threshold = scored.threshold()
        without = scored.without(scored.order()[:1].tolist())
        metrics = _measured(request, detector, images, scored.scores, (threshold.value, without), root, data, progress) | figures
        metrics |= light_of([*images.train, *images.heldout])
        sides = ((images.train_files, images.train), (images.heldout_files, images.heldout))
        train, held = (list(zip(files, frames, strict=True)) for files, frames in sides)
        oddest = find_oddest(detector, train, held, request.seed, progress, scored)
        findings = judge(metrics)
        if images.recipe.align is not None:
            lost = [file for file, _ in images.survey.not_found]
            (work / ALIGNED).write_bytes(encode_png(alignment_sheet([*lost, *images.train_files], images.recipe)))
        card = _card(
            request, detector, images, threshold, size, defects, metrics=_finite(metrics),
            labelled_root=None if root is None else str(root), findings=tuple(findings),
            oddest=tuple(one.told(images.folder) for one in oddest), crossfit=scored.told(images.folder),
        )  # fmt: skip
        if curves:
            (work / CURVES).write_text(json.dumps({"curves": [curve.to_json() for curve in curves]}) + "\n", "utf-8")
        calibration = _spread(images.train, CALIBRATION_FRAMES, request.seed)
        odd, trained_on = [one.image for one in oddest], [*images.train, *(defect.image for defect in data.defects)]
        write_model(work, detector, card, Pictures(images.heldout, calibration, odd, images.heldout_files, trained_on))
    if checkpoint is not None:
        checkpoint.remove()
    elapsed_s = time.monotonic() - began
    return TrainResult(detector, images, threshold, metrics, elapsed_s, findings, oddest, scored, labels, size, defects, curves)


def _checkpoint(request: TrainRequest, images: GoodImages, defects: DefectImages | None) -> Checkpoint | None:
    """The file to go on from, known to be of this training. Raises BadInput."""
    if request.checkpoint is None:
        return None
    told = [request.family, to_json(request.options), request.recipe.to_json(), request.seed, request.heldout, images.digest]
    told += [] if defects is None else [one.digest for one in defects.told]
    checkpoint = Checkpoint(request.checkpoint, hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest())
    checkpoint.read("")  # refuses what is of another training before anything is trained
    return checkpoint


def _loaded(request: TrainRequest, progress: Progress) -> GoodImages:
    """The good pictures at the request's size."""
    asked = request
    return load_good(
        asked.good_dir, asked.recipe, asked.heldout, asked.seed, progress, asked.settle, asked.leave_out, asked.align
    )  # fmt: skip


def _defects(request: TrainRequest, images: GoodImages, progress: Progress) -> DefectImages | None:
    """The pictures of defects, as the good ones were read."""
    if not request.defects:
        return None
    good = {frame_digest(image) for image in (*images.train, *images.heldout)}
    return load_defects(request.defects, images.recipe, good, request.tiling is not None, progress)


def _sizing(request: TrainRequest) -> Sizing | None:
    """How the size is chosen; None takes the recipe's. Raises BadInput: a budget for it, and a family that has no rule."""
    family = find(request.family)
    if request.sizing is None:
        return None
    if request.sizing.budget_ms is None:
        return request.sizing if family.sizes and family.load(family.sizes).always else None
    if not family.sizes:
        raise BadInput(
            f"--budget-ms chooses the input size, and {family.preset(request.method or family.name).title} has no rule for that",
            hint="leave it out; --size gives the input size",
        )
    return request.sizing


def _sized(
    request: TrainRequest, sizing: Sizing, images: GoodImages, progress: Progress
) -> tuple[TrainRequest, SizeChoice, GoodImages]:
    """The request with the input size that suits the pictures, how it was chosen, and the pictures at that size."""
    recipe, rule = images.recipe, find(request.family).size_rule(request.options)
    usual = images.survey.sizes.most_common(1)[0][0]
    pictures = recipe.inspected(*usual)[2:]
    square = (pictures == usual and images.survey.usual is None) or recipe.aspect == "crop"
    own = 0 if rule.grows else max(request.recipe.width, request.recipe.height)
    choice = choose_size(sizing, Subject(rule, recipe, pictures, square, images.train_files, request.seed, own), progress)
    chosen = choice.chosen
    recipe = dataclasses.replace(request.recipe, width=chosen.width, height=chosen.height)
    request = dataclasses.replace(request, recipe=recipe, options={**request.options, **rule.chosen(chosen.rows, chosen.area)})
    if (chosen.width, chosen.height) != (images.recipe.width, images.recipe.height):
        images = _loaded(request, progress)
    return request, choice, images


def _readable(root: Path, recipe: PreprocessRecipe) -> Labels:
    """The labelled pictures, all of which can be used: that is known before the training, not after it. Raises BadInput."""
    labels, survey = labelled(root), Survey()
    for item in labels.files:
        survey.use(item.file, recipe)
    survey.refuse_bad("labelled pictures")
    if survey.not_found:
        first = survey.not_found[0][0].name
        labels.skipped[f"in which the part is not found: UNKNOWN on the line, e.g. {first}"] += len(survey.not_found)
    return labels


def _measured(
    request: TrainRequest,
    detector: Detector,
    images: GoodImages,
    scores: npt.NDArray[np.float64],
    thresholds: tuple[float, float | None],
    root: Path | None,
    data: FitData,
    progress: Progress,
) -> dict[str, float]:
    """Figures on labelled images that the model was not trained on, or on drawn defects where there is no labelled one."""
    threshold, without = thresholds
    found: dict[str, float] = {}
    if root is not None:
        known = {frame_digest(defect.image) for defect in data.defects}
        found = evaluate(detector, root, images.recipe, images.train, threshold, progress, without, known)
    if not found.get("test_defects"):
        found |= evaluate_drawn(detector, images.heldout, scores, threshold, without, request.seed, progress)
    return found


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """NaN: there was nothing to measure."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _fit(request: TrainRequest, fit: Fit, data: FitData, heldout: Sequence[Image]) -> tuple[Detector, dict[str, float]]:
    """The detector that was asked for, and what is worth knowing of its tiles."""
    tiling = request.tiling
    if tiling is None:
        return fit(data), {}
    coarse = None if tiling.coarse is None else fit_shrunk(fit, data, tiling.coarse)
    tiled = fit_tiled(fit, data, tiling)
    figures = {"tiles": float(len(tiled.grid))}
    if coarse is None:
        return tiled, figures
    detector, facts = join(tiled, coarse, heldout, data.seed, data.report)
    told = {"tiles_run_good": facts.run_share, "drawn_found": float(facts.found), "drawn": float(facts.drawn)}
    return detector, figures | told


def _cross_fit(request: TrainRequest, detector: Detector, data: FitData, heldout: Sequence[Image], fit_s: float) -> CrossFit:
    if not request.crossfit:
        return CrossFit("", why="asked for")
    fit, share = find(request.family).fold_fit(request.options, detector)
    return cross_fit(detector, lambda part: _fit(request, fit, part, heldout)[0], data, share * fit_s)


def _card(
    request: TrainRequest,
    detector: Detector,
    images: GoodImages,
    threshold: Threshold,
    size: SizeChoice | None,
    defects: DefectImages | None,
    **told: Any,
) -> ModelCard:
    """`told` are the fields of the card that this does not know."""
    arguments = Arguments(
        heldout=request.heldout,
        seed=request.seed,
        crossfit=None if request.crossfit else False,
        leave_out=request.leave_out or None,
        method=request.method or None,
        preset=None if request.preset == LITE else request.preset,
        tiling=None if request.tiling is None else dataclasses.asdict(request.tiling),
        defects=None if defects is None else defects.told,
        rest={**({} if request.device == "cpu" else {"device": request.device}), **to_json(request.options)},
    )
    origin = Origin(
        tool=TRAINED,
        version=__version__,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        package=find(request.family).package or None,
        arguments=arguments,
        sizing=None if size is None else size.to_json(),
        data=images.told(),
    )
    name = request.name or _default_name(images.folder)
    return ModelCard.of(detector, name=name, preprocess=images.recipe, threshold=threshold, origin=origin, **told)


def _default_name(good: Path) -> str:
    """`screws` for screws/train/good, screws/good and screws."""
    names = [part for part in good.parts if part not in ("train", "good", "/")]
    return names[-1] if names else "part"


def _spread(images: Sequence[Image], count: int, seed: int) -> list[Image]:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
    return [images[i] for i in chosen]
