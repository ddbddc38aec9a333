"""What golden frames tell without an engine: does the recipe still make of a camera's picture what it made at export, and can the
rule that decides call a defect NG at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.bundle import Bundle, EngineRecord, Golden
from edgead.decision import Rule, tells_no_map
from edgead.errors import BadInput, BundleError, ParityFailed
from edgead.parity import Answers
from edgead.types import Image, Verdict

LEVELS = 2
"""Grey levels by which a value may differ: another CPU or OpenCV rounds a resize differently."""
SHARE = 0.001
"""Share of the values that may differ by more."""
FAR = 10.0
"""A threshold so many times the golden answers' range above the highest of them was not chosen from any answers of this model."""


def recipe_input(bundle: Bundle, golden: Golden, index: int) -> Image:
    """What the recipe makes here of a golden frame as the camera gave it.

    Args:
        index: of `bundle.manifest.golden_camera`.

    Raises:
        BundleError: the picture cannot be read.
        ParityFailed: it is not what the recipe made of it at export: region of interest or resize are not those of the model.
    """
    picture, wanted, recipe = bundle.camera_golden(index), golden.images[index], bundle.manifest.preprocess
    hint = "its recipe was changed, or OpenCV resizes otherwise here: copy or export the bundle again"
    try:
        made = recipe.apply(picture)
    except BadInput as error:
        raise ParityFailed(
            f"the recipe of {bundle.path} does not fit its own golden camera picture: {error}", hint=hint
        ) from error
    away = np.abs(made.astype(np.int16) - wanted)
    share = float((away > LEVELS).mean())
    if share > SHARE:
        raise ParityFailed(
            f"the recipe of {bundle.path} does not make of golden camera picture {index} what it made at export: "
            f"{100 * share:.2g} % of the values are off by more than {LEVELS} grey levels, up to {away.max()}",
            hint=hint,
        )
    return made


def recipe_inputs(bundle: Bundle, golden: Golden, only: Sequence[int] | None = None) -> tuple[Image, ...]:
    """The golden frames, those that are there as the camera gave them made anew by the recipe. Raises as `recipe_input`.

    Args:
        only: make these of `golden_camera` only; None: all.
    """
    images = list(golden.images)
    for index in bundle.manifest.golden_camera if only is None else only:
        images[index] = recipe_input(bundle, golden, index)
    return tuple(images)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which golden defects a rule catches.

    Attributes:
        defects: golden frames that show defects.
        caught: of them those that are not OK by the rule.
        before: of them those that are not OK by the thresholds of the export, the trained model's or the engine's.
        level, limit: the threshold that decides, and the highest that answers of this model could have given reason for.
    """

    defects: int
    caught: int
    before: int
    level: float
    limit: float

    @property
    def fault(self) -> str:
        """Why the rule must not decide; "" when it may."""
        if self.caught:
            return ""
        if self.before:
            return (
                f"none of the {self.defects} golden defects is NG at {self.level:.6g}, by the export's threshold {self.before} "
                "are: every defect would be OK"
            )
        if self.level > self.limit:
            return f"a threshold of {self.level:.6g} lies far beyond all golden answers (reason ends at {self.limit:.4g})"
        return ""

    @property
    def warning(self) -> str:
        """What is to be told of a rule that may decide; "" when nothing is."""
        if self.fault or self.caught or not self.defects:
            return ""
        return (
            f"none of the {self.defects} golden defects is NG at {self.level:.6g}, nor was at export: this model may find "
            "nothing (more or better pictures, or a lower threshold)"
        )


def reach(
    bundle: Bundle, record: EngineRecord, golden: Golden, answers: Answers | None = None, rule: Rule | None = None
) -> Reach:
    """Judge golden defects by a rule.

    Args:
        record: the engine's; its threshold decides.
        answers: the engine's own on the golden frames; None: the trained model's stored ones.
        rule: decides in the place of the engine's own.

    Raises:
        BundleError: the manifest does not state the trained model's threshold.
    """
    if (stated := bundle.manifest.measured.threshold) is None:
        raise BundleError(f"{bundle.path} does not state the trained model's threshold", hint="export it again")
    trained, told = Rule(stated.value), answers or golden.reference
    rule = rule or record.threshold.rule
    defects = golden.defects(trained.threshold)

    def caught(by: Rule, told: Answers) -> set[int]:
        maps = not tells_no_map(told.maps.shape[1:])
        return {i for i in defects if by.decide(float(told.scores[i]), told.maps[i] if maps else None)[0] is not Verdict.OK}

    before = caught(trained, golden.reference) | caught(record.at_export.rule, told)
    values = golden.reference.scores if rule.pixel is None else golden.reference.maps
    highest = float(max(values.max(), told.scores.max() if rule.pixel is None else -np.inf))
    scale = max(abs(highest), float(np.ptp(golden.reference.maps)), float(np.ptp(golden.reference.scores)))
    return Reach(len(defects), len(caught(rule, told)), len(before), rule.level, highest + FAR * scale)
