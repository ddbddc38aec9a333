"""Where engines are made, for an export and for a search: a trained model, the pictures that it is judged on, what it answers on
them, and how an engine of it is built, opened and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.calibration.findings import Finding
from edgead.calibration.int8.calibrate import CalibrationReport, calibrate
from edgead.calibration.int8.observe import Ranges, observe
from edgead.calibration.int8.targets import Target, target_for
from edgead.calibration.judging.deviation import Yardstick
from edgead.calibration.judging.worth import figures_of, judge, odd_pictures
from edgead.calibration.pictures.screening import Reference
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines import open_file
from edgead.errors import BadInput, EngineError
from edgead.export.builds import BUILDS
from edgead.export.measure import ThresholdRule, read_frames, told_of, trained_answers
from edgead.export.options import ExportOptions, Job
from edgead.families.rewriting import plan_for, rewrite
from edgead.manifest import IMPORTED
from edgead.models.detector import Detector
from edgead.models.rewrites import Applied, Material, Setting
from edgead.parity import Answers, ask
from edgead.registry import resolve
from edgead.trained import CALIBRATION, load_model, trained_on_by
from edgead.types import Engine

Report = Callable[[str, float], None]
"""Told the stage and the share of it that is done, 0 to 1."""


class Kitchen:
    """A trained model as it was read; :meth:`ask` adds what it answers.

    Args:
        model_dir: written by ``edgead train`` or ``import``.
        per_class: at most so many frames of each kind.
        lossy: engines may answer otherwise than the model: defects are drawn where there are no labelled ones.
        int8: pictures for INT8 must be there; else they are read only where rewrites profit from them.

    Attributes:
        detector, card, recipe: of its folder.
        frames: pictures that it was not trained on.
        rewriting: whether rewrites are applied by default or as asked.
        calibration: pictures for INT8; None where there are none, or none is asked for.
        reference, rule, yardstick: its answers on all frames, how thresholds come about, and what engines are measured with.

    Raises:
        BadInput: no trained model, or unusable pictures.
    """

    def __init__(
        self, model_dir: Path, options: ExportOptions, per_class: int, report: Report, *, lossy: bool, int8: bool
    ) -> None:
        self.model_dir, self.options, self.report = model_dir, options, report
        self.detector: Detector
        self.detector, self.card = load_model(model_dir)
        if options.tool == "nncf" and self.detector.two_graphs:
            raise BadInput("NNCF does not quantise coarse-to-fine engines", hint="leave --calibration-tool away")
        self.recipe = self.card.preprocess
        known = self.card.labelled_root
        labelled = options.labelled or (Path(known) if known and (Path(known) / "test").is_dir() else None)
        self.rewriting = bool(plan_for(self.detector.family, options.rewrites, options.left_out))
        arguments = self.card.origin.arguments
        trained_on = trained_on_by(model_dir) if arguments is not None and arguments.defects else frozenset()
        self.frames = read_frames(model_dir, self.recipe, labelled, per_class, draw=lossy, trained_on=trained_on)
        self.calibration: CalibrationSet | None = None
        own, folder = options.calibration, options.calibration or model_dir / CALIBRATION
        if int8 or (self.rewriting and folder.is_dir()):
            recipe = self.recipe if own else self.recipe.of_inputs  # what training set aside went through the recipe already
            self.calibration = CalibrationSet.from_folder(folder, recipe, options.calibration_count)

    def told(self, stage: str) -> Callable[[float], None]:
        """What is told the share of the stage that is done."""
        return lambda done: self.report(stage, done)

    def ask(self) -> None:
        """Ask the trained model. Raises BadInput when it gives every picture the same score."""
        images = self.frames.all
        self.reference = trained_answers(self.detector, images, self.told("trained model"))
        if not np.ptp(self.reference.scores) > 0.0:
            imported = self.card.origin.tool == IMPORTED
            hint = "import another output (--score, --map), or train it again" if imported else "train it again"
            raise BadInput("the trained model gives every picture the same score", hint=hint)
        held_out = len(self.frames.held_out)
        self.rule = ThresholdRule.of(self.card, self.reference.scores, held_out, self.options.max_false_reject)
        own, drawn = (lambda s: self.rule.own(s).value), bool(self.frames.drawn)
        self.yardstick = Yardstick(images, self.reference, self.rule.trained.value, own, *self.frames.judged(), drawn)

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

    def rewritten(self, settings: Mapping[str, Setting] | None = None) -> tuple[Detector, tuple[Applied, ...]]:
        """The detector with the rewrites of the options and these, and which they were."""
        plan = plan_for(self.detector.family, {**self.options.rewrites, **(settings or {})}, self.options.left_out)
        if not plan:
            return self.detector, ()
        pictures = self.calibration.images if self.calibration else self.frames.held_out  # an import without pictures for INT8
        return rewrite(self.detector, plan, Material.of(pictures))

    # INT8

    def target(self, backend: str) -> Target:
        """How a backend takes INT8."""
        o = self.options
        return target_for(backend, weight_bits=o.weight_bits, method=o.observer, tool=o.tool)

    def ranges(self, graph: Path, known: Reference | None, *, allow_unsafe: bool) -> Ranges:
        """What the float graph's tensors hold on the calibration pictures. Raises BadInput."""
        return observe(
            graph, self._pictures(), reference=known, allow_unsafe=allow_unsafe, report=self.told("calibration"),
            threads=self.options.threads,
        )  # fmt: skip

    def quantize(
        self, graph: Path, output: Path, target: Target, keep_float: tuple[str, ...], ranges: Ranges
    ) -> CalibrationReport:
        """Write the INT8 graph of a float one."""
        return calibrate(
            graph, self._pictures(), target, keep_float, output=output, ranges=ranges, report=self.told("INT8"),
            threads=self.options.threads,
        )  # fmt: skip

    def _pictures(self) -> CalibrationSet:
        if self.calibration is None:
            raise BadInput("INT8 needs good pictures, and the model has none", hint="give --calibration DIR, or --precision fp32")
        return self.calibration

    # engines

    def built(self, job: Job, graph: Path, folder: Path) -> Path:
        """Build the engine of a graph into a folder."""
        return BUILDS[job].make(graph, folder, self.options.tensorrt)

    def opened(self, job: Job, file: Path, threads: int | None) -> Engine:
        """A built engine."""
        return open_file(file, lambda part: resolve("engine", job[0])(part, threads=threads))

    def answered(self, engine: Engine, stage: str) -> Answers:
        """What it says on all frames."""
        return ask(engine, told_of(self.frames.all, self.told(stage)))

    def refuse_not_finite(self, name: str, figures: Sequence[float] | npt.NDArray[np.float32]) -> None:
        """Raises EngineError when figures of an engine are no numbers."""
        if not np.isfinite(figures).all():
            raise EngineError(f"{name} gives values that are not finite", hint="please report it")
