"""The oddest good pictures: those whose patches are farthest from the patches of all others.

A model cannot tell: it has learned the pictures that it was trained on by heart. So each picture is looked at as if it had been
left out: the distance of each of its patches to the nearest patch of the other pictures, in the features that the model is made
of, and of those the mean of the largest `WORST` share. A defect among the good pictures is odd in this sense, and so is a rare
good part; people have to look. Measured: docs/judging.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.models.detector import Detector, networks
from edgead.models.learning.progress import Progress, silent
from edgead.models.rows import to_pixels
from edgead.thresholds.chance import limit_above
from edgead.trained import OddPicture
from edgead.training.crossfit import Scored
from edgead.training.evaluate import answers
from edgead.types import Image

GRID = 16
"""Patches are averaged to so many in a row at most: fine enough for a picture's oddness, and cheap."""

OTHERS = 24
"""Each picture is compared with so many others, drawn at random."""

MOST = 500
"""Of more pictures so many, drawn at random, are looked at."""

WORST = 0.02
SHOWN = 5
"""The oddest pictures are always named, so many at least, and at most `SHOWN_AT_MOST`."""

SHOWN_AT_MOST = 8


@dataclass(frozen=True, slots=True)
class Oddest:
    """One of the oddest good pictures.

    Attributes:
        file: its file.
        image: at model size.
        times: how much farther it is from the others than a picture usually is.
        odd: whether that, or its score, is beyond what chance explains.
        heldout: whether it was held out; else the model was trained on it.
        score: that the threshold was chosen by, raw units: of a model that has not seen it; else the trained model's.
        without: what the threshold would be without this picture; None when that is not known.
    """

    file: Path
    image: Image
    times: float
    odd: bool
    heldout: bool
    score: float
    without: float | None = None

    def told(self, folder: Path) -> OddPicture:
        """For the trained model's card."""
        file, score = self.file.relative_to(folder).as_posix(), self.score if math.isfinite(self.score) else None
        return OddPicture(file, self.times, self.odd, self.heldout, score, self.without)


def find_oddest(
    detector: Detector,
    train: Sequence[tuple[Path, Image]],
    heldout: Sequence[tuple[Path, Image]],
    seed: int = 0,
    progress: Progress = silent,
    scored: Scored | None = None,
) -> list[Oddest]:
    """The oddest of all good pictures, the oddest first; fewer than `SHOWN` only when there are fewer pictures.

    Args:
        detector: fitted; its frozen features are used.
        train, heldout: file and frame at model size of each.
        seed: of what is drawn.
        progress: told the stage "odd pictures".
        scored: what the threshold comes from; the picture of the largest score and those whose score is odd are there in any
            case, at the end.
    """
    rng = np.random.default_rng(seed)
    everything = [*((f, i, False) for f, i in train), *((f, i, True) for f, i in heldout)]
    place = {} if scored is None else {file: i for i, file in enumerate(scored.files)}
    odd_scores = set() if scored is None else {scored.files[i] for i in scored.odd()[:SHOWN]}
    also = odd_scores if scored is None else odd_scores | {scored.files[int(scored.order()[0])]}
    needed = [i for i, one in enumerate(everything) if one[0] in also]
    chosen = sorted({*(int(i) for i in rng.permutation(len(everything))[:MOST]), *needed})
    cells = []
    for done, i in enumerate(chosen):
        cells.append(_cells(detector, everything[i][1]))
        progress("odd pictures", 0.7 * (done + 1) / len(chosen))
    far = _distances(cells, rng)
    progress("odd pictures", 1.0)
    usual, limit = max(float(np.median(far)), 1e-12), limit_above(far)
    found: list[Oddest] = []
    for rank, k in enumerate(np.argsort(-far, kind="stable")):
        file, image, held = everything[chosen[k]]
        odd = bool(far[k] > limit)
        if file in also or rank < SHOWN or (odd and rank < SHOWN_AT_MOST):
            score, without = answers(detector, image)[0] if file not in place else math.nan, None
            if scored is not None and file in place:
                score, without = float(scored.scores[place[file]]), scored.without([place[file]])
            found.append(Oddest(file, image, float(far[k]) / usual, odd or file in odd_scores, held, score, without))
    return found


@torch.no_grad()
def _cells(detector: Detector, image: Image) -> Tensor:
    """float32 cells x C: what a picture's patches are to the network that the model is made of (a tiled one's, for a tile)."""
    base = networks(detector)[0]
    if image.shape[:2] != base.image_size:
        size = (base.image_size[1], base.image_size[0])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = base.seen(to_pixels([image]))
    step = max(1, math.ceil(max(found.shape[-2:]) / GRID))
    return F.avg_pool2d(found, step, ceil_mode=True)[0].flatten(1).T.contiguous()


def _distances(cells: Sequence[Tensor], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of each picture: the mean of the largest distances of its cells to the nearest cell of the others; float64 N."""
    found = []
    for i, own in enumerate(cells):
        others = [k for k in rng.permutation(len(cells))[: OTHERS + 1] if k != i][:OTHERS]
        nearest = torch.cdist(own, torch.cat([cells[k] for k in others])).min(1).values
        found.append(float(nearest.topk(max(1, round(WORST * len(nearest)))).values.mean()))
    return np.array(found)
