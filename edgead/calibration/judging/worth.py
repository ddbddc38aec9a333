"""What a model is worth, in plain words: is it better than brightness alone, does it find defects at its threshold, what next.

The figures come from labelled pictures, or, where there are none, from drawn defects
(:mod:`edgead.calibration.judging.defects`). Those
do not tell how well real defects are found, but a model that hardly sees a plain scratch or stain will hardly see them either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgead.calibration.findings import Finding
from edgead.calibration.judging.deviation import auroc
from edgead.layout import listed
from edgead.types import Image
from edgead.words import one_line

FEWEST = 4
"""Labelled defects; fewer say too little."""

GUESSING = 0.7
"""Image AUROC below which scores hardly tell defects from good parts (0.5 is guessing)."""

TELLS = 0.85
"""From here on they do, and it is the threshold that is wrong when few defects are caught."""

CAUGHT, CAUGHT_DRAWN = 0.5, 0.25
"""Share of defects at or above the threshold, below which the model is told to be of little use. Of drawn defects a third is
faint on purpose, so less is asked for."""

REJECTED = 0.2
"""Share of labelled good pictures that are NG."""

ODD = 0.2
"""So much larger a share of defects caught, had one good picture not been there, is told."""

_MODEL = (
    "try: pictures where the defect is visible at the model's size (a larger --size, --tiles, --roi on the part, even light), "
    "more good pictures, or another family; look at the oddest good pictures first (edgead docs judging)"
)
_THRESHOLD = (
    "the scores tell them apart, the threshold does not: look at the good pictures that set it, then choose it anew: "
    "edgead threshold BUNDLE --good DIR --defects DIR"
)


def figures_of(
    images: Sequence[Image],
    scores: npt.NDArray[np.float32],
    held_out: int,
    good: int,
    threshold: float,
    without: float | None,
    drawn: bool,
) -> dict[str, float]:
    """The figures that :func:`judge` takes, from a model's scores.

    Args:
        images: H x W x 3 uint8 BGR: `held_out` good ones, `good` labelled good ones, then defects.
        scores: of them.
        threshold, without: raw model units; `without` is what the threshold would be without the largest held-out score.
        drawn: the defects are drawn ones, to be compared with the held-out good ones.
    """
    first, last = (0, held_out) if drawn else (held_out, held_out + good)
    defects = scores[held_out + good :]
    if not len(defects):
        return {}
    prefix = "drawn_" if drawn else ""
    count = "drawn_count" if drawn else "test_defects"
    found = {count: float(len(defects)), f"{prefix}caught": float(np.mean(defects >= threshold))}
    if without is not None:
        found[f"{prefix}caught_without"] = float(np.mean(defects >= without))
    if (own := auroc(scores[first:last], defects)) is not None:
        found["drawn_auroc" if drawn else "image_auroc"] = own
    if not drawn and good:
        means = np.array([float(image[::8, ::8].mean()) for image in images], np.float32)
        away = np.abs(means - np.median(means[:held_out]))
        sides = [auroc(values[first:last], values[held_out + good :]) or 0.0 for values in (means, -means, away)]
        found |= {
            "test_good": float(good), "rejected": float(np.mean(scores[first:last] >= threshold)), "brightness_auroc": max(sides)
        }  # fmt: skip
    return found


def judge(figures: Mapping[str, float]) -> list[Finding]:
    """What must be said about a model with these figures; empty when it is fine or nothing is known.

    Args:
        figures: any of ``test_good``, ``test_defects``, ``image_auroc``, ``brightness_auroc``, ``caught``, ``rejected`` (labelled
            pictures, shares from 0 to 1), ``drawn_count``, ``drawn_auroc``, ``drawn_caught`` (drawn defects), and
            ``caught_without``, ``drawn_caught_without`` (without the good picture of the largest score).
    """
    labelled = figures.get("test_defects", 0) >= FEWEST
    found = []
    if labelled:
        if "image_auroc" in figures:
            found += [*_against_brightness(figures), *_separation(figures["image_auroc"], "the labelled defects")]
        found += _caught(figures, "caught", figures["test_defects"], "labelled", CAUGHT, figures.get("image_auroc"))
        if figures.get("test_good", 0) >= FEWEST and (rejected := figures.get("rejected", 0.0)) > REJECTED:
            message = (
                f"the model rejects {rejected:.0%} of the {figures['test_good']:.0f} labelled good pictures; try: train on more "
                "good pictures that show all ordinary variation (light, position, batches)"
            )
            found.append(Finding("warning", "rejects-good", "", message))
    elif figures.get("drawn_count", 0) >= FEWEST:
        own = figures.get("drawn_auroc")
        found += _separation(own, "drawn defects") if own is not None else []
        found += _caught(figures, "drawn_caught", figures["drawn_count"], "drawn", CAUGHT_DRAWN, own)
    return found


def odd_pictures(names: Sequence[object]) -> list[Finding]:
    """What must be said of good pictures whose cross-fitted scores chance does not explain; nothing without any."""
    if not names:
        return []
    told = listed(one_line(str(name)) for name in names)
    have = "a good picture of training has a score" if len(names) == 1 else f"{len(names)} good pictures of training have scores"
    message = (
        f"{have} that chance does not explain: {told}; look at it, and if it is no good part, train again with --leave-out NAME"
    )
    return [Finding("warning", "odd-pictures", "", message)]


def _against_brightness(figures: Mapping[str, float]) -> list[Finding]:
    own, bright = figures["image_auroc"], figures.get("brightness_auroc", 0.0)
    if own > bright or bright < GUESSING or own == 1.0:
        return []
    how = "better" if bright > own else "no worse"
    message = (
        f"the mean brightness of a picture tells the labelled defects from good parts {how} (AUROC {bright:.2f}) than the model "
        f"({own:.2f}): it has learned nothing of use, or the defects were taken in another light; {_MODEL}"
    )
    return [Finding("warning", "worse-than-brightness", "", message)]


def _separation(own: float, what: str) -> list[Finding]:
    if own >= GUESSING:
        return []
    message = f"the model hardly tells {what} from good parts: AUROC {own:.2f}, where guessing gives 0.50; {_MODEL}"
    return [Finding("warning", "hardly-tells", "", message)]


def _caught(figures: Mapping[str, float], name: str, count: float, kind: str, least: float, tells: float | None) -> list[Finding]:
    caught = figures.get(name)
    if caught is None:
        return []
    without = figures.get(f"{name}_without", caught)
    found = []
    if without - caught >= ODD:
        message = (
            f"one good picture sets the threshold: without it {without:.0%} of the {kind} defects would be caught, "
            f"with it {caught:.0%}; look at it: if it is a defect, take it away and train again"
        )
        found.append(Finding("warning", "one-picture", "", message))
    if caught < least:
        message = f"the model catches {caught:.0%} of the {count:.0f} {kind} defects at its threshold and misses {1 - caught:.0%}"
        hint = _THRESHOLD if tells is not None and tells >= TELLS else _MODEL
        found.append(Finding("warning", "catches-few", "", f"{message}; {hint}"))
    return found
