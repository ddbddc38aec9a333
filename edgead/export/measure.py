"""Frames for parity, the trained model's answers on them, and what an engine makes of the same frames."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgead import layout
from edgead.bundle import Threshold
from edgead.calibration.judging.defects import draw_defects
from edgead.calibration.judging.deviation import auroc
from edgead.errors import BadInput
from edgead.golden import CAMERA_FOLDER, MOST_CAMERA, camera_pngs
from edgead.models.detector import Detector
from edgead.parity import Answers, ParityReport, compare
from edgead.preprocess import PreprocessRecipe, frame_digest, list_images, read_image, to_bgr8
from edgead.survey import Survey
from edgead.thresholds.choose import CLEAR, threshold_from_good
from edgead.trained import HELD_OUT, ModelCard
from edgead.types import Image

FEWEST_LEFT = 3
"""Scores of good pictures from which one can be left out to see what threshold the others give."""

NEAREST = 15
"""Frames by which a threshold is carried from the trained model to an engine."""

DRAWN = 48
"""Defects drawn when there are no real ones: every kind at every strength four times."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames at model size: `held_out` good ones (they set the thresholds), labelled test ones `good` and `defect`, and, when
    nobody has a real defect, `drawn`: defects drawn onto the held-out ones. `sources` are files of the first of them all as the
    camera gave them, None where there is none; `labels` says in lines what was taken for good and for defects."""

    held_out: tuple[Image, ...]
    good: tuple[Image, ...]
    defect: tuple[Image, ...]
    drawn: tuple[Image, ...] = ()
    sources: tuple[Path | None, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Image, ...]:
        return (*self.held_out, *self.good, *self.defect, *self.drawn)

    def held_out_scores(self, answers: Answers) -> npt.NDArray[np.float32]:
        """The part of the answers on `all` that belongs to `held_out`."""
        return answers.scores[: len(self.held_out)]

    def auroc(self, answers: Answers) -> float | None:
        """Image AUROC on the labelled frames of `all`; None without both kinds."""
        first, second = len(self.held_out), len(self.held_out) + len(self.good)
        return auroc(answers.scores[first:second], answers.scores[second : second + len(self.defect)])

    def judged(self) -> tuple[range, range]:
        """Which of `all` are good and which are defects for the guard: labelled ones, or held-out ones against drawn ones."""
        held, labelled = len(self.held_out), len(self.held_out) + len(self.good)
        if self.good and self.defect:
            return range(held, labelled), range(labelled, labelled + len(self.defect))
        return range(labelled), range(labelled, len(self.all))

    def kinds(self) -> list[str]:
        """Of each frame of `all`: ``"good"``, ``"defect"`` or ``"drawn defect"``."""
        good = len(self.held_out) + len(self.good)
        return ["good"] * good + ["defect"] * len(self.defect) + ["drawn defect"] * len(self.drawn)


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """How thresholds come about in an export.

    Attributes:
        trained: the trained model's.
        max_false_reject: each engine gets its own by this rate; None: all take `trained`, which somebody set by hand.
        held_out: the first so many scores are of good frames held out; without `crossfit`, an engine's choose its threshold.
        reference: the trained model's scores of all frames.
        crossfit: the scores of all good pictures that `trained` was chosen from, those of training by models that have not seen
            them; empty when there are none. No engine can give such scores: its threshold lies where it says what the trained
            model says at `trained` (:func:`carried`).
    """

    trained: Threshold
    max_false_reject: float | None
    held_out: int
    reference: npt.NDArray[np.float32]
    crossfit: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(
        cls, card: ModelCard, reference: npt.NDArray[np.float32], held_out: int, max_false_reject: float | None
    ) -> ThresholdRule:
        """From the trained model's folder, its scores of all frames, the held-out ones first, and the rate that the user asks for
        (None: keep what training chose)."""
        known = card.crossfit
        how = known.how if known else ""
        crossfit = np.array(known.scores if known and how else (), np.float64)
        automatic = threshold_from_good(crossfit if how else reference[:held_out], max_false_reject, crossfit=how)
        assert automatic.chosen is not None
        rate = automatic.chosen.max_false_reject
        if max_false_reject is not None:
            return cls(automatic, rate, held_out, reference, crossfit)
        stored = Threshold(card.threshold.value, card.threshold.method)
        near = 1e-6 + 2 * CLEAR * float(np.ptp(crossfit)) if how else 1e-6  # those of before the last bit was left clear, too
        if np.isclose(stored.value, automatic.value, rtol=1e-4, atol=near):
            return cls(automatic, rate, held_out, reference, crossfit)
        return cls(stored, None, held_out, reference)

    def own(self, scores: npt.NDArray[np.float32]) -> Threshold:
        """An engine's threshold, from its scores on all frames."""
        if self.max_false_reject is None:
            return self.trained
        if not len(self.crossfit):
            return threshold_from_good(scores[: self.held_out], self.max_false_reject)
        value = carried(self.trained.value, self.reference, scores)
        return replace(self.trained, value=value, method=f"{self.trained.method}; where this engine says the same")

    def without_largest(self) -> float | None:
        """The trained model's threshold without the good picture of the largest score; None: somebody set it, or too few are
        left."""
        chosen = self.trained.chosen
        scores = self.crossfit if len(self.crossfit) else self.reference[: self.held_out].astype(np.float64)
        if self.max_false_reject is None or chosen is None or len(scores) <= FEWEST_LEFT:
            return None
        rest = np.delete(scores, int(np.argmax(scores)))
        return threshold_from_good(rest, self.max_false_reject, crossfit=chosen.crossfit).value


def carried(value: float, reference: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> float:
    """What an engine says where the trained model says `value`: by the median difference of the `NEAREST` frames whose trained
    scores are nearest to it.

    Args:
        reference, scores: the trained model's and the engine's, of the same frames.
    """
    nearest = np.argsort(np.abs(reference.astype(np.float64) - value), kind="stable")[:NEAREST]
    off = float(np.median(scores[nearest].astype(np.float64) - reference[nearest]))
    return float(np.float32(value + off))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine answered: its own `threshold`, `parity` against the trained model and `auroc` (None without labels)."""

    threshold: Threshold
    parity: ParityReport
    auroc: float | None

    @classmethod
    def of(cls, answers: Answers, frames: Frames, reference: Answers, rule: ThresholdRule) -> Measured:
        """From the engine's answers on ``frames.all`` and the trained model's."""
        own = rule.own(answers.scores)
        return cls(own, compare(reference, answers, rule.trained.value, own.value), frames.auroc(answers))


def read_frames(
    model_dir: Path,
    recipe: PreprocessRecipe,
    labelled: Path | None,
    per_class: int,
    draw: bool = False,
    seed: int = 0,
    trained_on: frozenset[str] = frozenset(),
) -> Frames:
    """Held-out good frames of a trained model's folder and, when there are any, labelled ones.

    Args:
        labelled: a folder in MVTec layout (with ``test/good`` and ``test/DEFECT``...), or its ``test`` folder itself.
        per_class: at most so many held-out, good and defective frames each, drawn by `seed`.
        draw: draw defects onto held-out frames when there are no labelled ones.
        trained_on: digests of frames that the model was trained on: defects among them say nothing of new ones.

    Raises:
        BadInput: fewer than two held-out frames, an unreadable picture (all are named), or `labelled` is not in that layout.
    """
    rng = np.random.default_rng(seed)
    held_out = _some(list_images(model_dir / HELD_OUT), per_class, rng)
    size = (recipe.height, recipe.width, 3)
    images = tuple(read_image(file) for file in held_out)
    wrong = [file for file, image in zip(held_out, images, strict=True) if image.shape != size]
    if wrong or len(images) < 2:
        what = f"{wrong[0]} is not at model size" if wrong else f"{model_dir / HELD_OUT} holds fewer than 2 pictures"
        raise BadInput(what, hint="train the model again")
    labels = None if labelled is None else layout.labelled(labelled)
    found = [] if labels is None else labels.files
    survey = Survey()
    good, defects = ([f.file for f in found if (f.kind == "good") is good] for good in (True, False))
    new = _new(defects, recipe, trained_on) if trained_on else defects
    files = [_some(some, per_class, rng) for some in (good, new)]
    used = [[(file, image) for file in some if (image := survey.use(file, recipe)) is not None] for some in files]
    survey.refuse_bad("labelled pictures")
    files, chosen = [[file for file, _ in some] for some in used], [tuple(image for _, image in some) for some in used]
    drawn = [] if chosen[1] or not draw else draw_defects(images, min(DRAWN, per_class), seed)
    kept = (model_dir / CAMERA_FOLDER / file.name for file in held_out)
    sources = (*(file if file.is_file() else None for file in kept), *files[0], *files[1])
    told: tuple[str, ...] = ()
    if labels is not None:
        if len(new) < len(defects):
            labels.skipped["defects that the model was trained on"] += len(defects) - len(new)
        told = (labels.told(), *(f"left out: {line}" for line in layout.skipped_lines(labels.skipped)), *survey.lost())
    return Frames(images, chosen[0], chosen[1], tuple(defect.image for defect in drawn), sources, told)


def _new(files: list[Path], recipe: PreprocessRecipe, trained_on: Container[str]) -> list[Path]:
    """Those that the model was not trained on; what cannot be read is found later."""
    looked = Survey()
    return [f for f in files if (image := looked.use(f, recipe)) is None or frame_digest(image) not in trained_on]


def trained_answers(detector: Detector, images: Sequence[Image], report: Callable[[float], None]) -> Answers:
    """What the trained model says on frames at model size, one at a time as on the line."""
    scores: list[float] = []
    maps: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode():
        for i, image in enumerate(images):
            anomaly_map, score = detector(torch.from_numpy(np.ascontiguousarray(image))[None])
            scores.append(float(score[0]))
            maps.append(anomaly_map[0].numpy())
            report((i + 1) / len(images))
    return Answers(np.array(scores, np.float32), np.stack(maps))


def told_of(images: Sequence[Image], report: Callable[[float], None]) -> Iterator[Image]:
    """The images, telling the share of them that is done."""
    for i, image in enumerate(images):
        yield image
        report((i + 1) / len(images))


def pick_golden(frames: Frames, reference: Answers, count: int) -> list[int]:
    """Indices into ``frames.all``: half of them good ones held out and half defects (drawn ones without real ones, all good
    without either), evenly spread over their scores, so that easy and hard ones are there."""
    first_defect = len(frames.held_out) + len(frames.good)
    good = sorted(range(len(frames.held_out)), key=lambda i: float(reference.scores[i]))
    defect = sorted(range(first_defect, len(frames.all)), key=lambda i: float(reference.scores[i]))
    of_defect = _spread(defect, count // 2)
    return _spread(good, count - len(of_defect)) + of_defect


def golden_camera(frames: Frames, golden: list[int], recipe: PreprocessRecipe) -> tuple[list[int], dict[int, bytes]]:
    """Which golden frames are stored as the camera gave them, too.

    Returns:
        The golden frames, with good ones added that the trained model's folder has so when none of `golden` is; and, by their
        place among them, PNG files: the oddest first, good ones and defects in turn.
    """

    def there(index: int) -> bool:
        return index < len(frames.sources) and frames.sources[index] is not None

    if not any(map(there, golden)):
        golden = golden + [i for i in range(len(frames.held_out)) if there(i)][:MOST_CAMERA]
    kinds = frames.kinds()
    good, defect = ([i for i in reversed(golden) if there(i) and (kinds[i] == "good") is ok] for ok in (True, False))
    turns = [i for pair in zip_longest(good, defect) for i in pair if i is not None]
    pngs = camera_pngs({golden.index(i): frames.sources[i] for i in turns}, bits=recipe.bits)  # type: ignore[misc]
    return golden, {place: png for place, png in pngs.items() if _is_made_of(frames.all[golden[place]], png, recipe)}


def _is_made_of(image: Image, png: bytes, recipe: PreprocessRecipe) -> bool:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return picture is not None and np.array_equal(recipe.apply(to_bgr8(picture, recipe.bits)), image)


def _some(files: list[Path], limit: int, rng: np.random.Generator) -> list[Path]:
    if len(files) <= limit:
        return files
    return [files[i] for i in np.sort(rng.choice(len(files), limit, replace=False))]


def _spread(items: list[int], count: int) -> list[int]:
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]
