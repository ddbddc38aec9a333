"""What an export is of: a trained model, the pictures that it is judged on, and what it answers on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgead.calibration.findings import Finding
from edgead.calibration.judging.deviation import Yardstick
from edgead.calibration.judging.worth import figures_of, judge, odd_pictures
from edgead.calibration.pictures.screening import Reference
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput
from edgead.export.builds import BUILDS
from edgead.export.measure import ThresholdRule, read_frames, trained_answers
from edgead.export.options import ExportOptions, Job
from edgead.families.rewriting import plan_for, rewrite
from edgead.manifest import IMPORTED
from edgead.models.detector import Detector
from edgead.models.rewrites import Applied, Material
from edgead.trained import CALIBRATION, load_model

Told = Callable[[str], Callable[[float], None]]
"""Stage -> what is told the share of it that is done."""


class Subject:
    """A trained model as it was read; :meth:`ask` and :meth:`rewrite` add what it answers.

    Attributes:
        detector: the model; after :meth:`rewrite` what engines are made of.
        card, recipe: of its folder.
        frames: pictures that it was not trained on.
        calibration: pictures for INT8, None where none is asked for.
        reference, rule, yardstick: its answers on all frames, how thresholds come about, and what engines are measured with.
        exact: what FP32 engines must answer, within rounding: the reference, but for lossy rewrites.
        applied: rewrites.
        asked: the last five but one are there.

    Raises:
        BadInput: no trained model, or unusable pictures.
    """

    def __init__(self, model_dir: Path, options: ExportOptions, jobs: Sequence[Job]) -> None:
        self.model_dir, self.options = model_dir, options
        self.detector: Detector
        self.detector, self.card = load_model(model_dir)
        if options.tool == "nncf" and self.detector.two_graphs:
            raise BadInput("NNCF does not quantise coarse-to-fine engines", hint="leave --calibration-tool away")
        self.plan = plan_for(self.detector.family, options.rewrites, options.left_out)
        self.applied: tuple[Applied, ...] = ()
        self.recipe = self.card.preprocess
        lossy = bool(options.rewrites) or any(precision != "fp32" for _, precision in jobs)
        self.frames = read_frames(model_dir, self.recipe, self._labelled_root(), options.frames_per_class, draw=lossy)
        self.calibration: CalibrationSet | None = None
        folder = options.calibration or model_dir / CALIBRATION
        if any(BUILDS[job].graph == "int8" for job in jobs) or (self.plan and folder.is_dir()):
            own = options.calibration  # goes through the whole recipe; what training set aside already went through it
            recipe = self.recipe if own else self.recipe.of_inputs
            self.calibration = CalibrationSet.from_folder(folder, recipe, options.calibration_count)
        self.asked = False

    def ask(self, told: Told) -> None:
        """Ask the trained model. Raises BadInput when it gives every picture the same score."""
        images = self.frames.all
        self.reference = self.exact = trained_answers(self.detector, images, told("trained model"))
        if not np.ptp(self.reference.scores) > 0.0:
            imported = self.card.origin.tool == IMPORTED
            hint = "import another output (--score, --map), or train it again" if imported else "train it again"
            raise BadInput("the trained model gives every picture the same score", hint=hint)
        held_out = len(self.frames.held_out)
        self.rule = ThresholdRule.of(self.card, self.reference.scores, held_out, self.options.max_false_reject)
        own, drawn = (lambda s: self.rule.own(s).value), bool(self.frames.drawn)
        self.yardstick = Yardstick(images, self.reference, self.rule.trained.value, own, *self.frames.judged(), drawn)
        self.asked = True

    def findings(self) -> list[Finding]:
        """What must be said of the trained model: by the frames here, or, where no defect is among them, as training said it;
        nothing where there are no pictures of the product."""
        if not self.card.origin.has_pictures:
            return []
        figures = figures_of(
            self.frames.all, self.reference.scores, len(self.frames.held_out), len(self.frames.good), self.rule.trained.value,
            self.rule.without_largest(), bool(self.frames.drawn),
        )  # fmt: skip
        found = judge(figures) if figures else [*self.card.findings]
        return found + odd_pictures(self.card.crossfit.odd if self.card.crossfit else ())

    def rewrite(self, told: Told) -> None:
        """Change the detector as planned."""
        if not self.plan:
            return
        told("rewrites")(0.0)
        pictures = self.calibration.images if self.calibration else self.frames.held_out  # an import without pictures for INT8
        self.detector, self.applied = rewrite(self.detector, self.plan, Material.of(pictures))
        if any(done.kept and not done.exact for done in self.applied):
            self.exact = trained_answers(self.detector, self.frames.all, told("rewritten model"))
        told("rewrites")(1.0)

    @property
    def lossy(self) -> bool:
        """Whether rewrites have changed the answers by more than rounding."""
        return self.exact is not self.reference

    def known(self) -> Reference:
        """What calibration pictures are compared with."""
        return Reference(self.frames.held_out, self.frames.held_out_scores(self.exact))

    def _labelled_root(self) -> Path | None:
        if self.options.labelled is not None:
            return self.options.labelled
        known = self.card.labelled_root
        return Path(known) if known and (Path(known) / "test").is_dir() else None
