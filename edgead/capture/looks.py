"""How good a picture is to learn from, and how it differs from those that are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.types import Image

Small = npt.NDArray[np.float32]
"""h x w, grey levels: means over cells of the picture."""

MIDDLE_PX = 2048
"""Sharpness and light are measured in the middle of the picture, within a square of so many pixels."""
CELLS = 64
"""Cells of a small picture, along each side, at most; each is the mean of 64 pixels or more, so that noise is nearly gone."""
COPY_LEVELS = 4.0
"""Two pictures are near-copies where no cell differs by so many of 255 grey levels."""

WHITE, BLACK = 250, 5
MOST_WHITE, DARK = 0.02, 25.0
BLURRED = 0.5
MOVES = 8.0
"""Grey levels by which the cells differ, on average, from the picture before."""

FEW = 10
SAME_LIGHT, SAME_PLACE = 0.02, 0.01
SHORT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is like.

    Attributes:
        sharpness: variance of its Laplacian; larger is sharper, of one and the same scene.
        white: share of its pixels that are white, or nearly: nothing is seen there.
        level: mean grey level, 0 to 255.
        motion: mean difference to the picture before, in grey levels; None for the first.
    """

    sharpness: float
    white: float
    level: float
    motion: float | None

    @classmethod
    def of(cls, image: Image, small: Small, before: Small | None) -> Look:
        """Args: a camera's picture, :func:`small_of` it, and of the one before."""
        height, width = image.shape[:2]
        top, left = max(0, (height - MIDDLE_PX) // 2), max(0, (width - MIDDLE_PX) // 2)
        grey = cv2.cvtColor(image[top : top + MIDDLE_PX, left : left + MIDDLE_PX], cv2.COLOR_BGR2GRAY)
        moved = None if before is None or before.shape != small.shape else float(np.abs(small - before).mean())
        return cls(float(cv2.Laplacian(grey, cv2.CV_32F).var()), float((grey >= WHITE).mean()), float(grey.mean()), moved)

    def focus(self, best: float) -> float:
        """Its sharpness as a share of the best one seen, 0 to 1."""
        return min(1.0, self.sharpness / best) if best > 0 else 1.0

    def hints(self, best: float) -> dict[str, str]:
        """What to mend before such a picture is taken, by a word for it; `best`: the largest sharpness so far."""
        found = {}
        if self.focus(best) < BLURRED:
            found["blurred"] = f"blurred: {100 * self.focus(best):.0f} % of the sharpest; focus, or does it move?"
        if self.white > MOST_WHITE:
            found["white"] = f"{100 * self.white:.0f} % is white: less exposure or light"
        elif self.level < DARK:
            found["dark"] = f"dark: mean level {self.level:.0f} of 255; more exposure or light"
        if self.motion is not None and self.motion > MOVES:
            found["moving"] = f"it moves: {self.motion:.0f} grey levels from picture to picture"
        return found


def small_of(image: Image) -> Small:
    """A small grey picture, to compare by."""
    height, width = image.shape[:2]
    side = max(1, min(CELLS, math.isqrt(height * width // CELLS)))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (min(side, width), min(side, height)), interpolation=cv2.INTER_AREA), np.float32)


def copy_among(small: Small, others: Sequence[Small]) -> int | None:
    """The place of the first picture that this one is a near-copy of; None: it is of none."""
    for place, other in enumerate(others):
        if other.shape == small.shape and float(np.abs(small - other).max()) < COPY_LEVELS:
            return place
    return None


def missing(smalls: Sequence[Small], span_s: float) -> tuple[str, ...]:
    """What the pictures do not show yet, as far as they tell.

    Args:
        smalls: of all pictures.
        span_s: seconds from the first to the last one.
    """
    if len(smalls) < FEW:
        return ()
    found = []
    levels = np.array([float(small.mean()) for small in smalls])
    light = _spread(levels) / max(1.0, float(np.median(levels)))
    if light < SAME_LIGHT:
        found.append(
            f"the light is the same in all (within {100 * light:.1f} %): some with the lamp cold and warm, by day and night"
        )
    if (place := _places(smalls)) < SAME_PLACE:
        found.append(
            f"parts lie in the same place in all (within {100 * place:.1f} % of the picture): where they may move, move some"
        )
    if span_s < SHORT_S:
        found.append(f"all were taken within {max(1, round(span_s / 60))} min: over hours they show how camera and light drift")
    return tuple(found)


def _places(smalls: Sequence[Small]) -> float:
    """How far what is seen moves, as a share of the picture."""
    first = smalls[0]
    window = cv2.createHanningWindow((first.shape[1], first.shape[0]), cv2.CV_32F) if min(first.shape) > 1 else None
    same = [small for small in smalls if small.shape == first.shape]
    moves = [cv2.phaseCorrelate(first.copy(), small.copy(), window)[0] for small in same]  # OpenCV writes the window into both
    across, along = (np.array([move[axis] for move in moves]) for axis in (0, 1))
    return float(max(_spread(across) / first.shape[1], _spread(along) / first.shape[0]))


def _spread(values: npt.NDArray[np.float64]) -> float:
    """Between the fifth and the ninety-fifth of a hundred."""
    low, high = np.percentile(values, (5, 95))
    return float(high - low)
