"""What a model would say of the good pictures that it was trained on, had it not seen them: so all of them set the threshold.

Models that remember pictures (a bank of patches), *leave-one-out*: a picture is scored with what is remembered of it taken away
(:class:`edgead.models.detector.Memory`). The trained model remembers that too, so it finds every part as near or nearer: what it
says of a new part is never more than any of these reduced ones says (but for a re-weighting). That errs towards few false
rejects. It costs two looks at each picture.

Everything else, *folds*: the family is trained again without one fold of the pictures at a time, which that model then scores
(Stone 1974). It costs a training for each fold, so there are fewer folds where a training takes long, and none where it takes too
long; then the threshold comes from the held-out pictures alone.

What thresholds from such scores promise: docs/thresholds.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.bundle import Threshold
from edgead.families.contract import Fit, FitData
from edgead.models.detector import Detector, Memory, networks
from edgead.models.learning.progress import Progress, silent
from edgead.thresholds.choose import odd_places, threshold_from_good
from edgead.trained import CrossFitted
from edgead.training.evaluate import answers
from edgead.types import Image

LEAVE_ONE_OUT = "leave-one-out"

FOLDS, FEWEST_FOLDS = 5, 2
FEW = 20
"""Of so few pictures each is a fold of its own: five folds of 15 take away all three that look alike, and what is left of the
model scores them as defects."""

FOLDS_S = 600.0
"""Seconds that the folds may take, by how long the model itself took to train."""

FEWEST_LEFT = 3
"""Scores; of fewer none can be left out to see what the others say."""

MOST = 400
"""Of more pictures so many, drawn at random, are scored: enough for a threshold at 1 % that four pictures must agree on."""


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Scores of training pictures by models that have not seen them.

    Attributes:
        how: ``"leave-one-out"``, ``"5 folds"``; "" when there is none.
        indices: which of the training pictures were scored.
        scores: of them, float64, raw model units.
        why: why there is none, in words; "" when there is one.
    """

    how: str
    indices: tuple[int, ...] = ()
    scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    why: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """What the threshold comes from: good pictures, each with the score of a model that has not seen it.

    Attributes:
        files: of the pictures; the held-out ones first.
        scores: of them, float64, raw model units.
        heldout: so many of them were held out.
        how: of the others, see :class:`CrossFit`; "" when there are none.
        why: why there are none, in words.
    """

    files: tuple[Path, ...]
    scores: npt.NDArray[np.float64]
    heldout: int
    how: str
    why: str = ""

    @classmethod
    def of(cls, files: Sequence[Path], scores: npt.NDArray[np.float64], train_files: Sequence[Path], found: CrossFit) -> Scored:
        """From the held-out pictures and their scores, and those of training."""
        fitted = tuple(train_files[i] for i in found.indices)
        return cls((*files, *fitted), np.concatenate([scores, found.scores]), len(files), found.how, found.why)

    def threshold(self) -> Threshold:
        """The first threshold of the trained model."""
        return threshold_from_good(self.scores, tool="edgead train", crossfit=self.how)

    def without(self, away: Sequence[int]) -> float | None:
        """What the threshold would be without these pictures; None when too few are left."""
        if len(self.scores) - len(away) < FEWEST_LEFT:
            return None
        return threshold_from_good(np.delete(self.scores, list(away)), crossfit=self.how).value

    def order(self) -> npt.NDArray[np.int64]:
        """Places of the pictures, the largest score first."""
        return np.argsort(-self.scores, kind="stable")

    def odd(self) -> list[int]:
        """Places of those whose score chance does not explain, the largest first."""
        return odd_places(self.scores)

    def told(self, folder: Path) -> CrossFitted:
        """For the trained model's card."""
        names = tuple(file.relative_to(folder).as_posix() for file in self.files)
        odd = tuple(names[i] for i in self.odd())
        return CrossFitted(self.how, self.heldout, tuple(map(float, self.scores)), names, odd, self.why)


def cross_fit(detector: Detector, fit: Fit, data: FitData, fit_s: float) -> CrossFit:
    """Scores of the pictures that `detector` was trained on, as if it had not seen the one that it is asked about.

    Args:
        detector: trained on `data`.
        fit: what trains the model of a fold.
        data: its seed is that of the folds, and of which pictures are scored; it is told the stage "leave-one-out" or "folds".
        fit_s: how long `fit` takes, about; see `FOLDS_S`.
    """
    rng, images = np.random.default_rng(data.seed), data.images
    memories = [memory for network in networks(detector) if (memory := network.memory()) is not None]
    if len(memories) == len(networks(detector)):
        chosen = sorted(int(i) for i in rng.permutation(len(images))[:MOST])
        found = leave_one_out(detector, memories, [images[i] for i in chosen], data.report)
        seen = np.flatnonzero(np.isfinite(found))
        return CrossFit(LEAVE_ONE_OUT, tuple(chosen[i] for i in seen), found[seen])
    folds = min(len(images) if len(images) <= FEW else FOLDS, int(FOLDS_S / max(fit_s, 1e-3)))
    if folds < FEWEST_FOLDS:
        return CrossFit("", why=f"{FEWEST_FOLDS} folds of about {fit_s:.0f} s each would take more than {FOLDS_S:.0f} s")
    place = np.empty(len(images), np.int64)
    place[rng.permutation(len(images))] = np.arange(len(images)) % folds
    scores = np.empty(len(images))
    for k in range(folds):
        others = [image for image, at in zip(images, place, strict=True) if at != k]
        without = fit(replace(data, images=others, progress=_share(data.progress, k, folds), checkpoint=None, curves=None))
        for i in np.flatnonzero(place == k).tolist():
            scores[i] = answers(without, images[i])[0]
    data.report("folds", 1.0)
    return CrossFit(f"{folds} folds", tuple(range(len(images))), scores)


def leave_one_out(
    detector: Detector, memories: Sequence[Memory], images: Sequence[Image], progress: Progress = silent
) -> npt.NDArray[np.float64]:
    """The score of each picture without what the `memories` (of parts of `detector`) remember of it, float64 N; NaN where that
    would leave nothing."""
    for i, image in enumerate(images):
        for memory in memories:
            memory.look_at(i)
        answers(detector, image)
        progress(LEAVE_ONE_OUT, 0.5 * (i + 1) / len(images))
    for memory in memories:
        memory.close()
    scores = np.full(len(images), np.nan)
    for i, image in enumerate(images):
        if all(memory.left_without(i) for memory in memories):
            with ExitStack() as away:
                for memory in memories:
                    away.enter_context(memory.without(i))
                scores[i] = answers(detector, image)[0]
        progress(LEAVE_ONE_OUT, 0.5 + 0.5 * (i + 1) / len(images))
    return scores


def _share(progress: Progress, k: int, folds: int) -> Progress:
    """Tells the share of all folds that is done, whatever stages the training of fold k tells."""

    def told(stage: str, done: float) -> None:
        progress("folds", k / folds)

    return told
