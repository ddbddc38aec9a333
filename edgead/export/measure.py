"""Frames for parity, the trained model's answers on them, and what an engine makes of the same frames."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgead.bundle import Threshold
from edgead.calibration.thresholds import threshold_from_good
from edgead.errors import BadInput
from edgead.models.detector import Detector
from edgead.parity import Answers, ParityReport, ask, compare
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.types import Engine, Image

ROUNDS = 20
"""Interleaved inferences per engine when the fastest is sought."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames at model size: `held_out` good ones (they set the thresholds), labelled test ones `good` and `defect`."""

    held_out: tuple[Image, ...]
    good: tuple[Image, ...]
    defect: tuple[Image, ...]

    @property
    def all(self) -> tuple[Image, ...]:
        return (*self.held_out, *self.good, *self.defect)

    def held_out_scores(self, answers: Answers) -> npt.NDArray[np.float32]:
        """The part of the answers on `all` that belongs to `held_out`."""
        return answers.scores[: len(self.held_out)]

    def auroc(self, answers: Answers) -> float | None:
        """Image AUROC on the labelled frames of `all`; None without both kinds."""
        first, second = len(self.held_out), len(self.held_out) + len(self.good)
        return auroc(answers.scores[first:second], answers.scores[second:])


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine answered: its own `threshold`, `parity` against the trained model and `auroc` (None without labels)."""

    threshold: Threshold
    parity: ParityReport
    auroc: float | None


def read_frames(model_dir: Path, recipe: PreprocessRecipe, labelled: Path | None, per_class: int, seed: int = 0) -> Frames:
    """Held-out good frames of a trained model's folder and, when there are any, labelled ones.

    Args:
        labelled: a folder in MVTec layout (with ``test/good`` and ``test/DEFECT``...), or its ``test`` folder itself.
        per_class: at most so many held-out, good and defective frames each, drawn by `seed`.

    Raises:
        BadInput: fewer than two held-out frames, an unreadable picture, or `labelled` is not in that layout.
    """
    rng = np.random.default_rng(seed)
    held_out = _some(list_images(model_dir / "heldout"), per_class, rng)
    size = (recipe.height, recipe.width, 3)
    images = tuple(read_image(file) for file in held_out)
    wrong = [file for file, image in zip(held_out, images, strict=True) if image.shape != size]
    if wrong or len(images) < 2:
        what = f"{wrong[0]} is not at model size" if wrong else f"{model_dir / 'heldout'} holds fewer than 2 pictures"
        raise BadInput(what, hint="train the model again")
    if labelled is None:
        return Frames(images, (), ())
    good, defect = _labelled_files(labelled)
    chosen = [tuple(recipe.apply(read_image(f)) for f in _some(files, per_class, rng)) for files in (good, defect)]
    return Frames(images, chosen[0], chosen[1])


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


def reference_threshold(info: Mapping[str, Any], scores: npt.NDArray[np.float32]) -> tuple[Threshold, bool]:
    """The trained model's threshold, and whether it is the one that its held-out good scores give (then every engine gets its own
    by the same rule; one that somebody set by hand is kept as it is)."""
    stored = Threshold(float(info["threshold"]["value"]), str(info["threshold"]["method"]))
    automatic = threshold_from_good(scores)
    return stored, bool(np.isclose(stored.value, automatic.value, rtol=1e-4, atol=1e-6))


def measure_engine(
    engine: Engine, frames: Frames, reference: Answers, threshold: Threshold, automatic: bool, report: Callable[[float], None]
) -> Measured:
    """Ask the engine about every frame and compare it with the trained model.

    Args:
        reference: the trained model's answers on ``frames.all``.
        threshold, automatic: see :func:`reference_threshold`.
    """
    images = frames.all

    def told() -> Any:
        for i, image in enumerate(images):
            yield image
            report((i + 1) / len(images))

    answers = ask(engine, told())
    own = threshold_from_good(frames.held_out_scores(answers)) if automatic else threshold
    return Measured(own, compare(reference, answers, threshold.value, own.value), frames.auroc(answers))


def latencies(engines: Mapping[str, Engine], image: Image) -> dict[str, float]:
    """Median milliseconds of one inference per engine, the engines taking turns so that the machine's moods hit all alike."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.infer(image)
            times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}


def pick_golden(frames: Frames, reference: Answers, count: int) -> list[int]:
    """Indices into ``frames.all``: half of them good ones held out and half defects (all good without labels), evenly spread over
    their scores, so that easy and hard ones are there."""
    first_defect = len(frames.held_out) + len(frames.good)
    good = sorted(range(len(frames.held_out)), key=lambda i: float(reference.scores[i]))
    defect = sorted(range(first_defect, len(frames.all)), key=lambda i: float(reference.scores[i]))
    of_defect = _spread(defect, count // 2)
    return _spread(good, count - len(of_defect)) + of_defect


def auroc(good: npt.NDArray[np.float32], defect: npt.NDArray[np.float32]) -> float | None:
    """Probability that a defect scores higher than a good part, ties count half; None when one kind is missing."""
    if not len(good) or not len(defect):
        return None
    ordered = np.sort(good)
    below = np.searchsorted(ordered, defect, "left") + np.searchsorted(ordered, defect, "right")
    return float(below.mean() / (2 * len(good)))


def _labelled_files(folder: Path) -> tuple[list[Path], list[Path]]:
    test = folder / "test" if (folder / "test").is_dir() else folder
    kinds = sorted(p for p in test.iterdir() if p.is_dir()) if test.is_dir() else []
    if not kinds:
        raise BadInput(f"{folder} holds no labelled pictures", hint="expected test/good and test/DEFECT_KIND, as in MVTec AD")
    good = [file for kind in kinds if kind.name == "good" for file in list_images(kind)]
    return good, [file for kind in kinds if kind.name != "good" for file in list_images(kind)]


def _some(files: list[Path], limit: int, rng: np.random.Generator) -> list[Path]:
    if len(files) <= limit:
        return files
    return [files[i] for i in np.sort(rng.choice(len(files), limit, replace=False))]


def _spread(items: list[int], count: int) -> list[int]:
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / max(1, count - 1))] for i in range(count)]
