"""What a model is worth, in plain words: is it better than brightness alone, does it find defects at its threshold, and what next.

The figures come from labelled pictures, or, where there are none, from drawn defects (:mod:`edgead.calibration.defects`). Those do
not tell how well real defects are found, but a model that hardly sees a plain scratch or stain will hardly see them either.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgead.calibration.findings import Finding

FEWEST = 4
"""Labelled defects; fewer say too little."""

GUESSING = 0.7
"""Image AUROC below which scores hardly tell defects from good parts (0.5 is guessing)."""

TELLS = 0.85
"""From here on they do, and it is the threshold that is wrong when few defects are caught."""

CAUGHT, CAUGHT_DRAWN = 0.5, 0.25
"""Share of defects at or above the threshold, below which the model is told to be of little use. Of drawn defects a third is faint
on purpose, so less is asked for."""

REJECTED = 0.2
"""Share of labelled good pictures that are NG."""

ODD = 0.2
"""So much larger a share of defects caught, had one held-out picture not been there, is told."""

_MODEL = (
    "try: pictures where the defect is visible at the model's size (a larger --size, --tiles, --roi on the part, even light), more good "
    "pictures, or another family; look at the oddest good pictures first (docs/judging.md)"
)
_THRESHOLD = (
    "the scores tell them apart, the threshold does not: look at the good pictures that set it, then choose it anew: "
    "edgead threshold BUNDLE --good DIR --defects DIR"
)


def judge(figures: Mapping[str, float]) -> list[Finding]:
    """What must be said about a model with these figures; empty when it is fine or nothing is known.

    Args:
        figures: any of ``test_good``, ``test_defects``, ``image_auroc``, ``brightness_auroc``, ``caught``, ``rejected`` (labelled
            pictures, shares from 0 to 1), ``drawn_count``, ``drawn_auroc``, ``drawn_caught`` (drawn defects), and ``caught_without``,
            ``drawn_caught_without`` (without the good picture of the largest score).
    """
    labelled = figures.get("test_defects", 0) >= FEWEST
    found = []
    if labelled:
        found += [*_against_brightness(figures), *_separation(figures["image_auroc"], "the labelled defects")] if (
            "image_auroc" in figures
        ) else []
        found += _caught(figures, "caught", figures["test_defects"], "labelled", CAUGHT, figures.get("image_auroc"))
        if figures.get("test_good", 0) >= FEWEST and (rejected := figures.get("rejected", 0.0)) > REJECTED:
            message = (
                f"the model rejects {rejected:.0%} of the {figures['test_good']:.0f} labelled good pictures; try: train on more good "
                "pictures that show all ordinary variation (light, position, batches)"
            )
            found.append(Finding("warning", "rejects-good", "", message))
    elif figures.get("drawn_count", 0) >= FEWEST:
        auroc = figures.get("drawn_auroc")
        found += _separation(auroc, "drawn defects") if auroc is not None else []
        found += _caught(figures, "drawn_caught", figures["drawn_count"], "drawn", CAUGHT_DRAWN, auroc)
    return found


def _against_brightness(figures: Mapping[str, float]) -> list[Finding]:
    own, bright = figures["image_auroc"], figures.get("brightness_auroc", 0.0)
    if own > bright or bright < GUESSING:
        return []
    message = (
        f"the mean brightness of a picture tells the labelled defects from good parts better (AUROC {bright:.2f}) than the model "
        f"({own:.2f}): it has learned nothing of use, or the defects were taken in another light; {_MODEL}"
    )
    return [Finding("warning", "worse-than-brightness", "", message)]


def _separation(auroc: float, what: str) -> list[Finding]:
    if auroc >= GUESSING:
        return []
    message = f"the model hardly tells {what} from good parts: AUROC {auroc:.2f}, where guessing gives 0.50; {_MODEL}"
    return [Finding("warning", "hardly-tells", "", message)]


def _caught(figures: Mapping[str, float], name: str, count: float, kind: str, least: float, auroc: float | None) -> list[Finding]:
    caught = figures.get(name)
    if caught is None:
        return []
    without = figures.get(f"{name}_without", caught)
    found = []
    if without - caught >= ODD:
        message = (
            f"one held-out good picture sets the threshold: without it {without:.0%} of the {kind} defects would be caught, with it "
            f"{caught:.0%}; look at it: if it is a defect, take it away and train again"
        )
        found.append(Finding("warning", "one-picture", "", message))
    if caught < least:
        message = f"the model catches {caught:.0%} of the {count:.0f} {kind} defects at its threshold and misses {1 - caught:.0%}"
        hint = _THRESHOLD if auroc is not None and auroc >= TELLS else _MODEL
        found.append(Finding("warning", "catches-few", "", f"{message}; {hint}"))
    return found
