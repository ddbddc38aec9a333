"""From a trained model's folder to a bundle: ONNX, INT8, built engines, and the proof that each answers as the model did."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgead import machine
from edgead.bundle import TRAINED_ON, Bundle, EngineRecord, Manifest, new_bundle, write_golden, write_manifest
from edgead.calibration.calibrate import CalibrationReport, calibrate
from edgead.calibration.deviation import Deviation, Limits, Yardstick
from edgead.calibration.findings import Finding
from edgead.calibration.guard import Candidate, GuardFailed, GuardOptions, GuardReport, guard
from edgead.calibration.half import to_half
from edgead.calibration.judging import figures_of, judge
from edgead.calibration.observe import Ranges, observe
from edgead.calibration.screening import Reference, screen
from edgead.calibration.sets import CalibrationSet
from edgead.calibration.targets import QuantizeOptions, Target, target_for
from edgead.calibration.thresholds import threshold_from_good
from edgead.engines import choice, open_file
from edgead.engines.coarse import CoarseToFineEngine
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.timing import fastest, in_bursts
from edgead.errors import BadInput, EdgeadError, EngineError, MissingExtra, ParityFailed
from edgead.export.builds import BACKENDS, BUILDS, PRECISIONS, facts, installed_backends
from edgead.export.carry import carry_over
from edgead.export.coarse import BACKENDS as COARSE_BACKENDS
from edgead.export.coarse import TwoGraphs
from edgead.export.graph import write_onnx
from edgead.export.measure import Measured, ThresholdRule, golden_camera, pick_golden, read_frames, told_of, trained_answers
from edgead.export.report import EngineRow, ReportData, check_report, oddest_of, write_failure, write_report
from edgead.export.tensorrt import BuildOptions, check_options
from edgead.golden import MAX_MAP_BYTES
from edgead.models.coarse import CoarseToFine
from edgead.models.detector import Detector, load_detector
from edgead.models.graph import IrDetector
from edgead.models.rewrites import Applied, Material, Setting, plan_for, rewrite
from edgead.optional import require
from edgead.parity import Answers, ask, compare
from edgead.preprocess import PreprocessRecipe
from edgead.registry import resolve
from edgead.types import Engine, TensorSpec

FP32_LIMIT = 1e-4
"""Largest error of an FP32 engine on score and map, relative to the range of the maps of the model that it was made of."""

FEWEST_LEFT = 3
"""Held-out scores from which one can be left out to see what threshold the others give."""

GRAPH_FILES = {"float": "model.onnx", "half": "model.fp16.onnx", "int8": "model.int8.onnx"}

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to build and what to accept.

    Attributes:
        backends: of `BACKENDS`; None takes those that are installed.
        precisions: of `PRECISIONS`; a backend is built in those that it has.
        weight_bits: of INT8, 7 or 8; None lets each target decide.
        observer: how INT8 activation ranges are chosen, ``"minmax"``, ``"mse"`` or ``"percentile"``.
        tool: ``"edgead"`` or ``"nncf"`` makes the INT8 graph.
        calibration: folder of good pictures for INT8; None takes those that training set aside.
        calibration_count: at most so many of them are used.
        allow_unsafe: go on with calibration pictures that look wrong (too few, odd ones); findings stay in the bundle.
        labelled: MVTec-style folder with labelled test pictures; None takes the one known from training, if it is still there.
        frames_per_class: at most so many frames of each kind (held out, good, defect) are compared.
        golden_count: frames stored in the bundle for `edgead verify`.
        limits: what is tolerated of an INT8 or FP16 engine.
        guard: how long the guard may look for layers to blame.
        rewrites: those asked for (:mod:`edgead.models.rewrites`) with their settings; what is on by default needs no mention.
        left_out: rewrites not to apply.
        keep_float: nodes of the float graph that INT8 leaves in float from the start.
        search: what a search for these options found, for the manifest.
        max_false_reject: choose thresholds by this share of good parts; None keeps what training chose.
        report: also write what was measured to this .html or .md file, even when the export fails over it.
        tensorrt: how TensorRT builds; other backends take no notice.
        threads: CPU threads; None takes all cores.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("fp32", "int8")
    weight_bits: int | None = None
    observer: str = "minmax"
    tool: str = "edgead"
    calibration: Path | None = None
    calibration_count: int = 64
    allow_unsafe: bool = False
    labelled: Path | None = None
    frames_per_class: int = 100
    golden_count: int = 8
    limits: Limits = field(default_factory=Limits)
    guard: GuardOptions = field(default_factory=GuardOptions)
    rewrites: Mapping[str, Setting] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    max_false_reject: float | None = None
    report: Path | None = None
    tensorrt: BuildOptions = field(default_factory=BuildOptions)
    threads: int | None = None

    def __post_init__(self) -> None:
        for given, known in ((self.backends, tuple(BACKENDS)), (self.precisions, PRECISIONS)):
            unknown = sorted(set(given or ()) - set(known))
            if unknown or given == ():
                raise BadInput(f"cannot export for {', '.join(unknown) or 'nothing'}", hint=f"choose from {', '.join(known)}")
        if min(self.calibration_count, self.golden_count) < 1 or self.frames_per_class < 2:
            raise BadInput("a count of frames is too small", hint="at least 1 golden and calibration frame, 2 frames per class")
        if self.max_false_reject is not None and not 0.0 < self.max_false_reject < 1.0:
            raise BadInput(f"a false reject share of {self.max_false_reject} is not usable", hint="give a number between 0 and 1")
        QuantizeOptions(self.weight_bits or 7, self.observer, tool=self.tool)

    def jobs(self, backends: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """(backend, precision) of every engine to build, precision by precision.

        Raises:
            BadInput: no backend has one of the precisions.
        """
        found = tuple((b, p) for p in self.precisions for b in backends if (b, p) in BUILDS)
        for missing in set(self.precisions) - {precision for _, precision in found}:
            has = sorted({precision for backend, precision in BUILDS if backend in backends})
            raise BadInput(f"{', '.join(backends)} cannot be built in {missing}", hint=f"choose from {', '.join(has)}")
        return found


def export_bundle(
    model_dir: Path,
    target: Path,
    options: ExportOptions | None = None,
    report: Report = lambda stage, fraction: None,
    check: Callable[[Path], None] = lambda work: None,
) -> Bundle:
    """Export, build, measure, and only if every engine answers as the trained model did, write the bundle.

    Args:
        model_dir: written by ``edgead train``.
        target: the new bundle's folder; an old bundle there is replaced at the very end.
        report: told the stage and the share of it that is done, 0 to 1.
        check: looks at the finished bundle before it takes its place; what it raises leaves none.

    Raises:
        BadInput: no trained model, unusable pictures, `target` is something else.
        MissingExtra: a backend that was asked for, or matplotlib for a report, is not installed.
        ParityFailed: an engine does not answer as the model did; no bundle is left, an old one stays.
        StorageError: the disk is full or not writable; likewise.
    """
    options = options or ExportOptions()
    backends = options.backends or installed_backends()
    if not backends:
        raise MissingExtra("no inference backend is installed", hint="pip install 'edgead[openvino]'")
    for name in backends:
        BACKENDS[name].need(f"Building the {name} engine")
    jobs = options.jobs(backends)
    for backend, precision in jobs:
        check_options(backend, precision, options.tensorrt)
    if options.tool == "nncf":
        require("nncf", extra="nncf", why="Quantising with NNCF")
    if options.report is not None:
        check_report(options.report)
    with new_bundle(target) as work:
        export = _Export(model_dir, work, options, jobs, report)
        try:
            export.run()
        except EdgeadError as error:
            if isinstance(error, GuardFailed):
                export.guarded.append(error.report)
            export.tell(failure=str(error))
            raise
        check(work)
        carry_over(target, work, options.max_false_reject is not None)
    export.tell(str(target))
    return Bundle.open(target)


class _Export:
    """One run, filling the folder `work`."""

    def __init__(
        self, model_dir: Path, work: Path, options: ExportOptions, jobs: tuple[tuple[str, str], ...], report: Report
    ) -> None:
        self.work, self.options, self.jobs, self.report = work, options, jobs, report
        self.model_dir = model_dir
        detector, self.info = load_detector(model_dir, to_export=True)
        self.detector: Detector = detector
        if options.tool == "nncf" and isinstance(detector, CoarseToFine):
            raise BadInput("NNCF does not quantise coarse-to-fine engines", hint="leave --calibration-tool away")
        self.plan = plan_for(detector.family, options.rewrites, options.left_out)
        self.applied: tuple[Applied, ...] = ()
        self.recipe = PreprocessRecipe.from_json(self.info["preprocess"])
        lossy = bool(options.rewrites) or any(precision != "fp32" for _, precision in jobs)
        self.frames = read_frames(model_dir, self.recipe, self._labelled_root(), options.frames_per_class, draw=lossy)
        self.calibration: CalibrationSet | None = None
        folder = options.calibration or model_dir / "calibration"
        if any(BUILDS[job].graph == "int8" for job in jobs) or (self.plan and folder.is_dir()):
            own = options.calibration  # goes through the whole recipe; what training set aside already went through it
            recipe = self.recipe if own else self.recipe.of_inputs
            self.calibration = CalibrationSet.from_folder(folder, recipe, options.calibration_count)
        self.two: TwoGraphs | None = None
        self.asked = False  # the trained model: reference, rule and yardstick are there
        self.findings: list[Finding] = []
        self.files: dict[tuple[str, str], Path] = {}
        self.measured: dict[tuple[str, str], Measured] = {}
        self.here = {job for job in jobs if BACKENDS[job[0]].runs_here(options.tensorrt)}
        self.deviations: dict[str, Deviation] = {}
        self.calibrated: list[CalibrationReport] = []
        self.guarded: list[GuardReport] = []
        self.speed: dict[str, float] = {}
        self.choice: dict[str, Any] = {}
        self.default = _name(self.jobs[0])

    def run(self) -> None:
        images = self.frames.all
        self.reference = trained_answers(self.detector, images, self._told("trained model"))
        if not np.ptp(self.reference.scores) > 0.0:
            raise BadInput("the trained model gives every picture the same score", hint="train it again")
        held_out = self.frames.held_out_scores(self.reference)
        self.rule = ThresholdRule.of(self.info, held_out, self.options.max_false_reject)
        good, defect = self.frames.judged()
        self.yardstick = Yardstick(
            images,
            self.reference,
            self.rule.trained.value,
            lambda s: self.rule.own(s).value,
            good,
            defect,
            bool(self.frames.drawn),
        )
        self.asked = True
        self.findings = self._judged()
        self._rewrite()
        graphs = self._graphs()
        for job in self.jobs:
            if BUILDS[job].graph != "int8":
                self._build(job, graphs[BUILDS[job].graph])
        self._int8(graphs.get("float"))
        self._write(*self._latency())

    def _judged(self) -> list[Finding]:
        """What must be said of the trained model: by the frames here, or, where no defect is among them, as training said it;
        nothing where there are no pictures of the product."""
        if not self.info["origin"].get("data"):
            return []
        held_out = self.frames.held_out_scores(self.reference)
        without = None
        if self.rule.max_false_reject is not None and len(held_out) > FEWEST_LEFT:
            rest = np.delete(held_out, int(np.argmax(held_out)))
            without = threshold_from_good(rest, self.rule.max_false_reject).value
        figures = figures_of(
            self.frames.all, self.reference.scores, len(held_out), len(self.frames.good), self.rule.trained.value, without,
            bool(self.frames.drawn),
        )  # fmt: skip
        return judge(figures) if figures else [Finding(**told) for told in self.info.get("findings", ())]

    def _rewrite(self) -> None:
        """Change the detector as planned; what the FP32 engines must answer, within rounding, is what it answers then."""
        self.exact = self.reference
        if not self.plan:
            return
        self.report("rewrites", 0.0)
        pictures = self.calibration.images if self.calibration else self.frames.held_out  # an import without pictures for INT8
        self.detector, self.applied = rewrite(self.detector, self.plan, Material.of(pictures))
        if any(done.kept and not done.exact for done in self.applied):
            self.exact = trained_answers(self.detector, self.frames.all, self._told("rewritten model"))
        self.report("rewrites", 1.0)

    def _labelled_root(self) -> Path | None:
        if self.options.labelled is not None:
            return self.options.labelled
        known = self.info.get("labelled_root")
        return Path(known) if known and (Path(known) / "test").is_dir() else None

    def _told(self, stage: str) -> Callable[[float], None]:
        return lambda done: self.report(stage, done)

    def _graphs(self) -> dict[str, Path]:
        """Float and half precision graphs."""
        if isinstance(self.detector, IrDetector):  # imported: there is no ONNX of it
            if self.jobs != (("openvino", "fp32"),):
                raise BadInput("an OpenVINO IR runs as it is", hint="give --backend openvino --precision fp32")
            target = self.work / "openvino/fp32.xml"
            target.parent.mkdir()
            self.detector.write(target)
            return {"float": target}
        graphs = {"float": self.work / GRAPH_FILES["float"]}
        self.report("ONNX", 0.0)
        write_onnx(self.detector, graphs["float"])
        if any(BUILDS[job].graph == "half" for job in self.jobs):
            graphs["half"] = self.work / GRAPH_FILES["half"]
            to_half(graphs["float"], graphs["half"], self.calibration)
        self.report("ONNX", 1.0)
        return graphs

    def _build(self, job: tuple[str, str], graph: Path) -> None:
        """Build one engine that is not INT8, and judge it; one that does not run here is judged by its graph, run literally."""
        two = self._two_graphs(job)
        self.files[job] = (
            two.build(job, self.options.tensorrt) if two else BUILDS[job].make(graph, self.work, self.options.tensorrt)
        )
        self._judge(job, graph)

    def _two_graphs(self, job: tuple[str, str]) -> TwoGraphs | None:
        """The graphs of a coarse-to-fine engine; None: this engine is made of one."""
        if job[0] not in COARSE_BACKENDS or not isinstance(self.detector, CoarseToFine):
            return None
        if self.two is None:
            self.two = TwoGraphs.write(self.detector, self.work)
        return self.two

    def _judge(self, job: tuple[str, str], graph: Path) -> None:
        """Measure an engine; refuse it when it is over the limits."""
        name = _name(job)
        if job in self.here:
            engine = self._open(job, self.files[job])
        else:
            engine = OnnxRuntimeEngine(graph, threads=self.options.threads, literal=True)
        try:
            answers = ask(engine, told_of(self.frames.all, self._told(name)))
        finally:
            engine.close()
        self.measured[job] = measured = Measured.of(answers, self.frames, self.reference, self.rule)
        self.deviations[name] = self.yardstick.measure(answers)
        lossy = self.exact is not self.reference
        parity = compare(self.exact, answers, self.rule.trained.value) if lossy else measured.parity
        errors = [parity.score_error, parity.map_error]
        if not np.isfinite(errors).all():
            raise EngineError(f"{name} gives values that are not finite", hint="please report it")
        worst = max(errors)
        if job[1] == "fp32" and worst > FP32_LIMIT:
            whose = "rewritten" if lossy else "trained"
            raise ParityFailed(
                f"{name} is off by {worst:.2g} of the {whose} model's map range (allowed {FP32_LIMIT:g}); no bundle written",
                hint="please report it with the versions that edgead doctor shows",
            )
        judged = lossy or job[1] != "fp32"
        if broken := self.options.limits.broken(self.deviations[name], self.yardstick.pairs) if judged else ():
            hint = "give milder --rewrite settings, or none" if job[1] == "fp32" else "try --precision fp32"
            raise ParityFailed(f"{name}: {', '.join(broken)}; no bundle written", hint=hint)

    def _open(self, job: tuple[str, str], file: Path) -> Engine:
        return open_file(file, lambda part: resolve("engine", job[0])(part, threads=self.options.threads))

    def _int8(self, float_graph: Path | None) -> None:
        """Calibrate once for each kind of target, and let the guard build and judge its engines."""
        groups: dict[QuantizeOptions, list[tuple[str, str]]] = {}
        targets: dict[QuantizeOptions, Target] = {}
        for job in self.jobs:
            if BUILDS[job].graph == "int8":
                o = self.options
                target = target_for(job[0], weight_bits=o.weight_bits, method=o.observer, tool=o.tool)
                if self._int8_tiles(job, target):
                    continue
                groups.setdefault(target.options, []).append(job)
                targets.setdefault(target.options, target)
        if not groups or float_graph is None or self.calibration is None:
            return
        ranges = self._observe(float_graph, self.calibration)
        for options, jobs in groups.items():
            graph = self.work / GRAPH_FILES["int8"]
            if graph.exists():  # another target's
                graph = graph.with_name(f"model.int8.w{options.weight_bits}.onnx")
            if options.tool == "nncf":
                graph = self.work / "openvino/int8.xml"
                graph.parent.mkdir(exist_ok=True)
            self.calibrated.append(
                calibrate(
                    float_graph, self.calibration, targets[options], self.options.keep_float, output=graph, ranges=ranges,
                    report=self._told("INT8"), threads=self.options.threads,
                )
            )  # fmt: skip
            self._guard(float_graph, graph, jobs)

    def _int8_tiles(self, job: tuple[str, str], target: Target) -> bool:
        """Build and judge an INT8 engine of two graphs, if it is one (:mod:`edgead.export.coarse`)."""
        two = self._two_graphs(job)
        if two is None or self.calibration is None:
            return False
        known = Reference(self.frames.held_out, self.frames.held_out_scores(self.exact))
        screen(self.calibration, reference=known, allow_unsafe=self.options.allow_unsafe)
        self.calibrated.append(two.quantize(self.calibration, target, self.options.threads))
        self.files[job] = two.build(job, self.options.tensorrt, target.options.weight_bits)
        self._judge(job, self.work / GRAPH_FILES["float"])
        return True

    def _observe(self, float_graph: Path, calibration: CalibrationSet) -> Ranges:
        known = Reference(self.frames.held_out, self.frames.held_out_scores(self.exact))
        return observe(
            float_graph, calibration, reference=known, allow_unsafe=self.options.allow_unsafe,
            report=self._told("calibration"), threads=self.options.threads,
        )  # fmt: skip

    def _guard(self, float_graph: Path, graph: Path, jobs: Sequence[tuple[str, str]]) -> None:
        asked = self.options.report is not None
        options = replace(self.options.guard, always_blame=self.options.guard.always_blame or asked, threads=self.options.threads)
        candidates = [self._candidate(job) for job in jobs]
        told = guard(float_graph, graph, candidates, self.yardstick, self.options.limits, options, self.report)
        self.guarded.append(told)
        for job in jobs:
            name = _name(job)
            self.measured[job] = Measured.of(told.answers[name], self.frames, self.reference, self.rule)
            self.deviations[name] = told.deviations[name]

    def _candidate(self, job: tuple[str, str]) -> Candidate:
        def build(graph: Path) -> Path:
            file = BUILDS[job].make(graph, graph.parent, self.options.tensorrt)
            if graph.is_relative_to(self.work):  # what the guard tries lies elsewhere; what it accepts, it moves here
                self.files[job] = file
            return file

        opens = (lambda file: self._open(job, file)) if job in self.here else None
        return Candidate(_name(job), build, opens)

    def _latency(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Time all engines that run here; the graph's inputs and outputs."""
        self.report("latency", 0.0)
        with ExitStack() as stack:
            engines: dict[str, Engine] = {}
            for job in self.jobs:
                if job in self.here:
                    engine = self._open(job, self.files[job])
                    stack.callback(engine.close)
                    engines[_name(job)] = engine.slowest() if isinstance(engine, CoarseToFineEngine) else engine
            if not engines:  # all were built ahead of time for another machine
                engine = OnnxRuntimeEngine(self.work / GRAPH_FILES["float"], threads=self.options.threads)
                stack.callback(engine.close)
                return engine.inputs, engine.outputs
            stats = in_bursts(engines, self.frames.all[0])
            self.speed = {name: round(found.p50_ms, 3) for name, found in stats.items()}
            self.choice, self.default = choice.to_json(stats), fastest(stats)
            first = next(iter(engines.values()))
            return first.inputs, first.outputs

    def _record(self, job: tuple[str, str]) -> EngineRecord:
        backend, precision = job
        built_with = {**machine.packages([backend]), "arch": platform.machine()}
        if BUILDS[job].graph == "int8":
            built_with["weight_bits"] = str(target_for(backend, weight_bits=self.options.weight_bits).options.weight_bits)
        built_with |= facts(self.files[job])
        measured = self.measured[job]
        return EngineRecord(
            name=_name(job),
            backend=backend,
            precision=precision,
            file=self.files[job].relative_to(self.work).as_posix(),
            threshold=measured.threshold,
            parity=measured.parity if job in self.here else None,
            auroc=measured.auroc,
            built_with=built_with,
        )

    def _write(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        most = max(1, min(self.options.golden_count, MAX_MAP_BYTES // self.reference.maps[0].nbytes))
        golden, camera = golden_camera(self.frames, pick_golden(self.frames, self.reference, most), self.recipe)
        reference = Answers(self.reference.scores[golden], self.reference.maps[golden])
        write_golden(self.work, [self.frames.all[i] for i in golden], reference, camera)
        kinds = self.frames.kinds()
        here = machine.facts()
        manifest = Manifest(
            name=str(self.info["name"]),
            family=self.detector.family,
            model={**self.detector.config, "image_size": list(self.detector.image_size)},
            origin=dict(self.info["origin"]),
            preprocess=self.recipe,
            inputs=inputs,
            outputs=outputs,
            engines=tuple(self._record(job) for job in self.jobs),
            default_engine=self.default,
            calibration=self._calibration_facts(),
            golden=len(golden),
            golden_kinds=tuple(kinds[i] for i in golden),
            golden_camera=tuple(camera),
            measured=self._measured_facts(),
            tools={**here.pop("packages"), **machine.packages(["onnxscript"])},
            machine=here,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        if (known := self.model_dir / TRAINED_ON).is_file():
            shutil.copyfile(known, self.work / TRAINED_ON)
        write_manifest(self.work, manifest)
        self.report("bundle", 1.0)

    def _calibration_facts(self) -> dict[str, Any] | None:
        if self.calibration is None or not self.calibrated:
            return None
        first = self.calibrated[0]
        findings = {str(finding): finding.to_json() for told in self.calibrated for finding in told.findings}
        return {
            "digest": self.calibration.digest,
            "images": len(self.calibration),
            "source": str(self.options.calibration or "set aside by training"),
            "method": self.options.observer,
            "tool": self.options.tool,
            "weight_bits": first.target.options.weight_bits,
            "int8_products": first.products,
            "findings": list(findings.values()),
        }

    def _measured_facts(self) -> dict[str, Any]:
        frames = {"held_out": len(self.frames.held_out), "good": len(self.frames.good), "defect": len(self.frames.defect)}
        return {
            "threshold": asdict(self.rule.trained),
            "auroc": self.frames.auroc(self.reference),
            "frames": frames | ({"drawn": len(self.frames.drawn)} if self.frames.drawn else {}),
            "limits": {"fp32": FP32_LIMIT, **asdict(self.options.limits)},
            "rewrites": [done.to_json() for done in self.applied],
            "search": dict(self.options.search),
            "deviations": {name: deviation.to_json() for name, deviation in self.deviations.items()},
            "guard": [told.to_json() for told in self.guarded],
            "literal": {_name(job): asdict(self.measured[job].parity) for job in self.jobs if job not in self.here},
            "latency_ms": self.speed,
            "choice": self.choice,
            "threads": self.options.threads or machine.usable_cores(),
            "training": self.info.get("metrics", {}),
            "labels": list(self.frames.labels),
            "judgement": [finding.to_json() for finding in self.findings],
            "oddest": self.info.get("oddest", []),
        }

    def tell(self, bundle: str = "", failure: str = "") -> None:
        """Write the report that was asked for, if one was; of a failure before anything was measured, the failure."""
        if self.options.report is None:
            return
        self.report("report", 0.0)
        if not self.asked:
            write_failure(self.options.report, str(self.info["name"]), failure)
            return
        answers = {name: told for report in self.guarded for name, told in report.answers.items()}
        rows = [self._row(job) for job in self.jobs if job in self.measured or _name(job) in answers]
        write_report(
            self.options.report,
            ReportData(
                name=str(self.info["name"]), family=self.detector.family, bundle=bundle, failure=failure,
                frames=self.frames.all, kinds=self.frames.kinds(), reference=self.reference, threshold=self.rule.trained,
                auroc=self.yardstick.auroc(self.reference), drawn=bool(self.frames.drawn), limits=self.options.limits,
                engines=rows, answers=answers, guards=self.guarded, calibrations=self.calibrated, machine=machine.facts(),
                search=self.options.search, judgement=self.findings, oddest=oddest_of(self.model_dir, self.info),
            ),
        )  # fmt: skip

    def _row(self, job: tuple[str, str]) -> EngineRow:
        name, measured = _name(job), self.measured.get(job)
        told = next((told for told in self.guarded if name in told.answers), None)
        return EngineRow(
            name=name,
            precision=job[1],
            threshold=self.rule.own(told.answers[name].scores) if told else measured.threshold if measured else None,
            deviation=told.deviations[name] if told else self.deviations.get(name),
            latency_ms=self.speed.get(name),
            kept_float=len(told.keep_float) if told else 0,
        )


def _name(job: tuple[str, str]) -> str:
    return f"{job[0]}-{job[1]}"
