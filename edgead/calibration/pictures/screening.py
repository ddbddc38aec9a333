"""Are these pictures what they should be: enough, different from each other, good parts of this product in its usual light?

Nothing here knows what a defect looks like. A picture is odd when a number that describes it, or the float model's score of it,
lies farther from the others' than chance explains. The tail beyond the median is taken as exponential, its scale being the
median excess over the median divided by ln 2 (a few odd pictures do not move it; widened by 1 + 2 / sqrt(n), since of few
pictures it is not known well), and the limit is where at most :data:`edgead.thresholds.chance.CHANCE` of honest sets have a
picture, by Bonferroni over all
pictures, numbers and sides. Scores are looked at upwards only: a low score is no fault.

How few are too few: a good picture not in the set exceeds the largest of n with probability 1 / (n + 1), whatever the
distribution, so of 3 pictures' ranges every fourth part sticks out, of 8 every ninth, of 32 every 33rd.

Measured on honest sets and planted pictures: docs/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.calibration.findings import Finding, errors
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput
from edgead.thresholds.chance import FEWEST_TO_COMPARE, limits
from edgead.types import Image

FEWEST, WANTED = 8, 32
"""Fewer pictures are refused; fewer than `WANTED` are warned about."""

ALIKE = 1.5
"""Two pictures show the same when their 64 x 64 grey thumbnails, less their means, differ by fewer grey levels (RMS). Twins
with 2 % more light and a noise of 3 levels: 0.7 to 1.4. Different parts of five sets, one in a fixed pose: 1.9 at least."""

MANY = 0.25
"""Share of near copies that is warned about."""

FOREIGN = 0.5
"""Share of pictures beyond the reference's limits from which on the set shows something else."""

ABOVE_ALL = 0.8
"""The same for scores above every one of the reference's. By chance: one set in 1,430 of 8 against 8 pictures."""

_NAMED = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reference:
    """Good pictures at model size that are known to be right, e.g. those held out from training, and the float model's `scores`
    of them (float, N; empty when they are not known)."""

    images: Sequence[Image]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Trait:
    """A number that describes a picture, and the smallest distance from the median that is worth a word, in its unit."""

    name: str
    least: float
    unit: str = " grey levels"


_TRAITS = (
    _Trait("brightness", 12),
    _Trait("darkest 2 %", 12),
    _Trait("brightest 2 %", 12),
    _Trait("blue less green", 12),
    _Trait("red less green", 12),
    _Trait("contrast", 0.3, " (log)"),
    _Trait("sharpness", 0.3, " (log)"),
)


def screen(
    calibration: CalibrationSet,
    scores: npt.NDArray[np.float32] | None = None,
    reference: Reference | None = None,
    allow_unsafe: bool = False,
) -> list[Finding]:
    """Everything odd about a calibration set.

    Args:
        scores: float, N, the float model's scores of the pictures; None looks at the pictures only.
        reference: good pictures to compare with; None compares the pictures with each other only.
        allow_unsafe: return errors (too few pictures, another product) instead of raising.

    Raises:
        BadInput: with the first error.
    """
    found = [*_count(calibration), *_alike(calibration), *_odd(calibration, reference)]
    if scores is not None:
        found += _odd_scores(calibration, scores, reference)
    return refuse(found, allow_unsafe)


def refuse(findings: list[Finding], allow_unsafe: bool = False) -> list[Finding]:
    """The findings, if none of them is an error.

    Raises:
        BadInput: with the first error, unless `allow_unsafe`.
    """
    if not allow_unsafe and (bad := errors(findings)):
        raise BadInput(str(bad[0]), hint=_HINTS.get(bad[0].code, ""))
    return findings


_HINTS = {
    "few-pictures": f"give {WANTED} or more different good pictures (--calibration DIR)",
    "other-product": "give good pictures of the product that the model was trained on, in its usual light (--calibration DIR)",
}


def _count(calibration: CalibrationSet) -> list[Finding]:
    found = []
    n = len(calibration)
    if n < WANTED:
        share = f"about 1 part in {n + 1} will exceed the ranges they give; wanted: {WANTED} or more"
        severity = "error" if n < FEWEST else "warning"
        what = "too few" if n < FEWEST else "few"
        found.append(Finding(severity, "few-pictures", "", f"{n} different calibration pictures are {what}: {share}"))
    if calibration.duplicates:
        first, kept = calibration.duplicates[0]
        message = f"{len(calibration.duplicates)} calibration pictures were there twice and count once, e.g. {first} = {kept}"
        found.append(Finding("warning", "duplicates", "", message))
    return found


def _alike(calibration: CalibrationSet) -> list[Finding]:
    rows = np.stack([_thumbnail(image) for image in calibration])
    squares = np.square(rows).mean(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * (rows @ rows.T) / rows.shape[1], 0.0))
    first_twin = [
        int(np.argmax(distance[i, :i] < ALIKE)) if i and (distance[i, :i] < ALIKE).any() else -1 for i in range(len(rows))
    ]
    twins = [i for i, twin in enumerate(first_twin) if twin >= 0]
    if len(twins) < MANY * len(rows):
        return []
    i = twins[0]
    pair = f"{calibration.names[i]} and {calibration.names[first_twin[i]]}"
    message = f"{len(twins)} of {len(rows)} calibration pictures show almost the same as another one, e.g. {pair}"
    return [Finding("warning", "near-duplicates", "", f"{message}; they count as {len(rows) - len(twins)}")]


def _odd(calibration: CalibrationSet, reference: Reference | None) -> list[Finding]:
    """Pictures whose light, colour, contrast or sharpness is unlike the others'."""
    values = np.stack([_traits(image) for image in calibration])
    known = np.stack([_traits(image) for image in reference.images]) if reference and len(reference.images) else values[:0]
    low, high, foreign = _usual(values, known, np.array([trait.least for trait in _TRAITS]))
    if foreign:
        return [_foreign(foreign, len(values), "look unlike the good pictures of training: another product, or another light")]
    found = []
    for i in np.flatnonzero(((values < low) | (values > high)).any(1)):
        k = int(np.argmax((values[i] < low) | (values[i] > high)))
        usual = f"usual {np.median(values[:, k]):.3g} ({low[k]:.3g} to {high[k]:.3g})"
        message = f"unlike the others: {_TRAITS[k].name} {values[i, k]:.3g}{_TRAITS[k].unit}, {usual}"
        found.append(Finding("warning", "odd-picture", calibration.names[i], message))
    return _few(found, len(values))


def _odd_scores(calibration: CalibrationSet, scores: npt.NDArray[np.float32], reference: Reference | None) -> list[Finding]:
    """Pictures that the float model finds far more anomalous than the others."""
    values = np.asarray(scores, np.float64)[:, None]
    known = np.asarray(reference.scores if reference else [], np.float64)[:, None]
    _, high, foreign = _usual(values, known, np.zeros(1), upwards=True)
    if foreign:
        return [_foreign(foreign, len(values), "have scores that no good picture of training has: another product, or defects")]
    usual, limit = float(np.median(values)), float(high[0])
    found = []
    for i in np.flatnonzero(values[:, 0] > limit):
        message = f"the model scores it {values[i, 0]:.4g}, usual {usual:.4g}, up to {limit:.4g} by chance: is it a defect?"
        found.append(Finding("warning", "odd-score", calibration.names[i], message))
    return _few(found, len(values))


def _usual(values: Floats, known: Floats, least: Floats, upwards: bool = False) -> tuple[Floats, Floats, int]:
    """Where chance ends below and above for each column of `values` (N x K), `known` pictures counting as well; and how many of
    `values` lie outside of what `known` alone allows, 0 when they are too few to say that the set shows something else."""
    looks = values.size * (1 if upwards else 2)
    if len(known) >= FEWEST_TO_COMPARE:
        low, high = limits(known, least, looks)
        outside = int(((values > high).any(1) | ((values < low).any(1) & (not upwards))).sum())
        above = int((values > known.max(0)).any(1).sum()) if upwards else 0
        if outside >= FOREIGN * len(values) or (above >= ABOVE_ALL * len(values) and len(values) >= FEWEST_TO_COMPARE):
            return low, high, max(outside, above)
    both = np.concatenate([values, known])
    if len(both) < FEWEST_TO_COMPARE:
        return np.full(len(least), -np.inf), np.full(len(least), np.inf), 0
    return (*limits(both, least, looks), 0)


def _foreign(count: int, total: int, meaning: str) -> Finding:
    return Finding("error", "other-product", "", f"{count} of {total} calibration pictures {meaning}")


def _few(found: list[Finding], total: int) -> list[Finding]:
    """The findings; of many, the first ones and how many more."""
    if len(found) <= _NAMED:
        return found
    rest = f"{len(found) - _NAMED} more of {total} calibration pictures are as odd"
    return [*found[:_NAMED], Finding("warning", found[0].code, "", rest)]


def _traits(image: Image) -> Floats:
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    dark, bright = np.percentile(grey, (2, 98))
    blue, green, red = image.reshape(-1, 3).mean(0)
    detail = float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())
    spread, sharp = math.log(float(grey.std()) + 1.0), math.log(detail + 1.0)
    return np.array([grey.mean(), dark, bright, blue - green, red - green, spread, sharp], np.float64)


def _thumbnail(image: Image) -> npt.NDArray[np.float32]:
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(grey - grey.mean(), np.float32).ravel()
