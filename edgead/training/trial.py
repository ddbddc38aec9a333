"""Several trained models are asked about the same pictures, which none of them has seen (edgead/calibration/judging/rivals.py).

Good ones are those that the trainings held out. Defects are drawn onto these at the camera's own resolution, so that models with
inputs of different sizes see the same ones; real ones are asked about where somebody has such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.calibration.judging.rivals import Said
from edgead.models.detector import Detector
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import load_labelled
from edgead.training.evaluate import answers
from edgead.training.sizing import inspected, with_defect

GOOD, DRAWN, REAL = 40, 48, 100
"""Pictures at most: held out, with a defect drawn (every kind at every strength four times), and of each label of real ones."""

Entry = tuple[Path, str, Path | None]
"""File, "good" or kind of defect, mask; as :func:`edgead.layout.labelled` has them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which pictures models are asked about.

    Attributes:
        good: files that were held out.
        labelled: real pictures with labels; empty without.
        seed: of what is drawn.
    """

    good: tuple[Path, ...]
    labelled: tuple[Entry, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, good: Sequence[Path], labelled: Sequence[Entry] = (), seed: int = 0) -> Asked:
        """At most `GOOD` and `REAL` of them, drawn by the seed."""
        rng = np.random.default_rng([seed, 2])
        sides = [[entry for entry in labelled if (entry[1] == "good") is is_good] for is_good in (True, False)]
        some = tuple(entry for side in sides for entry in (side[i] for i in sorted(rng.permutation(len(side))[:REAL])))
        return cls(tuple(good[i] for i in sorted(rng.permutation(len(good))[:GOOD])), some, seed)


def ask(detector: Detector, recipe: PreprocessRecipe, asked: Asked, progress: Progress = silent) -> Said:
    """What a model says of all pictures.

    Args:
        recipe: the model's.
        progress: told the stage "judging".

    Raises:
        BadInput: a picture cannot be used.
    """
    good, drawn, total = [], [], len(asked.good) + len(asked.labelled)
    whole = recipe.of_inputs
    for place, file in enumerate(asked.good):
        raw = recipe.read(file)
        image = inspected(recipe, raw, recipe.inspected(raw.shape[1], raw.shape[0])[2:])
        good.append(answers(detector, whole.apply(image))[0])
        for number in range(place, DRAWN, len(asked.good)):
            spoilt, _ = with_defect(image, number, np.random.default_rng([asked.seed, number]))
            drawn.append(answers(detector, whole.apply(spoilt))[0])
        progress("judging", (place + 1) / total)
    real: list[tuple[bool, float]] = []
    for item in load_labelled(asked.labelled, recipe):
        real.append((item.defect, answers(detector, item.image)[0]))
        progress("judging", (len(asked.good) + len(real)) / total)
    labelled = ([score for defect, score in real if defect is wanted] for wanted in (False, True))
    return Said(*(np.array(side, np.float32) for side in (good, drawn, *labelled)))
