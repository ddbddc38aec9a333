"""Builds the engines of an export and judges each: those that answer as the trained model did stay, the others leave nothing.

One engine that is refused does not take the others with it. What is left of it is its name, the limits that it broke and by how
much (:attr:`Workshop.refused`); its files are removed, so that nobody runs them by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgead.calibration.int8.calibrate import CalibrationReport, calibrate
from edgead.calibration.int8.half import to_half
from edgead.calibration.int8.observe import observe
from edgead.calibration.int8.targets import QuantizeOptions, Target, target_for
from edgead.calibration.judging.deviation import Deviation
from edgead.calibration.judging.guard import guard
from edgead.calibration.judging.guarded import Candidate, GuardFailed, GuardReport, Refusal
from edgead.calibration.pictures.screening import screen
from edgead.engines import open_file
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput, EdgeadError, EngineError, ParityFailed
from edgead.export.builds import BACKENDS, BUILDS
from edgead.export.coarse import BACKENDS as COARSE_BACKENDS
from edgead.export.coarse import TwoGraphs
from edgead.export.graph import write_onnx
from edgead.export.measure import Measured, told_of
from edgead.export.options import Job, name_of
from edgead.export.subject import Subject
from edgead.models.wrappers.coarse import CoarseToFine
from edgead.parity import ask, compare
from edgead.registry import resolve
from edgead.types import Engine

FP32_LIMIT = 1e-4
"""Largest error of an FP32 engine on score and map, relative to the range of the maps of the model that it was made of."""

NOT_TRIED = "not tried: FP32 of the same model is refused"

GRAPH_FILES = {"float": "model.onnx", "half": "model.fp16.onnx", "int8": "model.int8.onnx"}

Report = Callable[[str, float], None]


class Workshop:
    """Fills the folder `work` with graphs and engines.

    Attributes:
        files: of each engine that was built.
        measured, deviations: of each engine that was measured, the refused ones included.
        refused: in the order in which they were.
        here: engines that run on this machine.
        calibrated, guarded: one for each INT8 graph.
    """

    def __init__(self, work: Path, subject: Subject, jobs: Sequence[Job], report: Report) -> None:
        self.work, self.subject, self.jobs, self.report = work, subject, tuple(jobs), report
        self.options = subject.options
        self.files: dict[Job, Path] = {}
        self.measured: dict[Job, Measured] = {}
        self.deviations: dict[str, Deviation] = {}
        self.refused: list[Refusal] = []
        self.here = {job for job in jobs if BACKENDS[job[0]].runs_here(self.options.tensorrt)}
        self.calibrated: list[CalibrationReport] = []
        self.guarded: list[GuardReport] = []
        self._two: TwoGraphs | None = None
        self._errors: list[EdgeadError] = []

    @property
    def kept(self) -> tuple[Job, ...]:
        """Engines that answer as the trained model did."""
        gone = {refusal.engine for refusal in self.refused}
        return tuple(job for job in self.jobs if name_of(job) not in gone)

    def make(self) -> None:
        """Build and judge all engines.

        Raises:
            ParityFailed, EngineError: none is left.
            BadInput: unusable calibration pictures, or the model cannot be built so.
        """
        graphs = self._graphs()
        for job in self.jobs:
            if BUILDS[job].graph != "int8":
                with self._leaving_nothing(job):
                    self._build(job, graphs[BUILDS[job].graph])
        floats = [job for job in self.jobs if job[1] == "fp32"]
        if floats and not set(floats) & set(self.kept):  # minutes more would change nothing
            for job in self.kept:
                self._refuse(job, ParityFailed(NOT_TRIED))
        else:
            self._int8(graphs.get("float"))
        if not self.kept:
            raise self._nothing_left()
        self._tidy()

    def open(self, job: Job) -> Engine:
        """A built engine."""
        return open_file(self.files[job], lambda part: resolve("engine", job[0])(part, threads=self.options.threads))

    def told(self, stage: str) -> Callable[[float], None]:
        return lambda done: self.report(stage, done)

    # refusing

    @contextmanager
    def _leaving_nothing(self, *jobs: Job) -> Iterator[None]:
        """Refuse the engines that are made within when they do not answer as the trained model did, or do not run."""
        before = set(self.work.rglob("*"))
        try:
            yield
        except (ParityFailed, EngineError) as error:
            if isinstance(error, GuardFailed):
                self._guarded(error.report)
            for job in jobs:
                if job in self.kept:
                    self._refuse(job, error)
            for file in set(self.work.rglob("*")) - before:
                if file.is_file():
                    file.unlink()

    def _refuse(self, job: Job, error: EdgeadError) -> None:
        self.refused.append(Refusal(name_of(job), str(error).removeprefix(f"{name_of(job)}: "), error.hint))
        self._errors.append(error)

    def _nothing_left(self) -> EdgeadError:
        """The one error in place of a bundle."""
        kind = EngineError if all(isinstance(error, EngineError) for error in self._errors) else ParityFailed
        told = "; ".join(str(refusal) for refusal in self.refused if refusal.why != NOT_TRIED)
        return kind(f"{told}; no bundle written", hint=self.refused[0].hint)

    def _tidy(self) -> None:
        """Remove files of refused engines, and graphs that no engine is left of: nobody shall build one of them."""
        for job, file in self.files.items():
            if job not in self.kept and file.parent != self.work:  # files that lie there are graphs, which others may be made of
                for part in file.parent.glob(f"{file.stem}.*"):
                    part.unlink()
        kinds = {BUILDS[job].graph for job in self.kept}
        for kind, name in GRAPH_FILES.items():
            if kind not in {*kinds, "float"}:
                (self.work / name).unlink(missing_ok=True)
        for folder in self.work.iterdir():
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    # float and half precision

    def _graphs(self) -> dict[str, Path]:
        detector = self.subject.detector
        if detector.exports == "openvino":  # imported: there is no ONNX of it
            if self.jobs != (("openvino", "fp32"),):
                raise BadInput("an OpenVINO IR runs as it is", hint="give --backend openvino --precision fp32")
            target = self.work / "openvino/fp32.xml"
            target.parent.mkdir()
            detector.write_ir(target)
            return {"float": target}
        graphs = {"float": self.work / GRAPH_FILES["float"]}
        self.report("ONNX", 0.0)
        write_onnx(detector, graphs["float"])
        if any(BUILDS[job].graph == "half" for job in self.jobs):
            graphs["half"] = self.work / GRAPH_FILES["half"]
            to_half(graphs["float"], graphs["half"], self.subject.calibration)
        self.report("ONNX", 1.0)
        self._two_graphs()
        return graphs

    def _two_graphs(self) -> TwoGraphs | None:
        """The graphs of coarse-to-fine engines; None: each engine is made of one."""
        detector = self.subject.detector
        if self._two is None and isinstance(detector, CoarseToFine) and any(job[0] in COARSE_BACKENDS for job in self.jobs):
            self._two = TwoGraphs.write(detector, self.work)
        return self._two

    def _build(self, job: Job, graph: Path) -> None:
        """Build one engine that is not INT8, and judge it; one that does not run here is judged by its graph, run literally."""
        two = self._two if job[0] in COARSE_BACKENDS else None
        options = self.options.tensorrt
        self.files[job] = two.build(job, options) if two else BUILDS[job].make(graph, self.work, options)
        self._judge(job, graph)

    def _judge(self, job: Job, graph: Path) -> None:
        """Measure an engine. Raises ParityFailed when it is over the limits."""
        name, subject = name_of(job), self.subject
        literal = None if job in self.here else OnnxRuntimeEngine(graph, threads=self.options.threads, literal=True)
        with closing(literal or self.open(job)) as engine:
            answers = ask(engine, told_of(subject.frames.all, self.told(name)))
        self.measured[job] = measured = Measured.of(answers, subject.frames, subject.reference, subject.rule)
        self.deviations[name] = subject.yardstick.measure(answers)
        parity = compare(subject.exact, answers, subject.rule.trained.value) if subject.lossy else measured.parity
        errors = [parity.score_error, parity.map_error]
        if not np.isfinite(errors).all():
            raise EngineError(f"{name} gives values that are not finite", hint="please report it")
        if job[1] == "fp32" and max(errors) > FP32_LIMIT:
            whose = "rewritten" if subject.lossy else "trained"
            raise ParityFailed(
                f"{name} is off by {max(errors):.2g} of the {whose} model's map range (allowed {FP32_LIMIT:g})",
                hint="please report it with the versions that edgead doctor shows",
            )
        judged = subject.lossy or job[1] != "fp32"
        if broken := self.options.limits.broken(self.deviations[name], subject.yardstick.pairs) if judged else ():
            hint = "give milder --rewrite settings, or none" if job[1] == "fp32" else "try --precision fp32"
            raise ParityFailed(f"{name}: {', '.join(broken)}", hint=hint)

    # INT8

    def _int8(self, float_graph: Path | None) -> None:
        """Calibrate once for each kind of target, and let the guard build and judge its engines."""
        groups: dict[QuantizeOptions, list[Job]] = {}
        targets: dict[QuantizeOptions, Target] = {}
        for job in self.jobs:
            if BUILDS[job].graph == "int8":
                o = self.options
                target = target_for(job[0], weight_bits=o.weight_bits, method=o.observer, tool=o.tool)
                if self._two is not None and job[0] in COARSE_BACKENDS:
                    with self._leaving_nothing(job):
                        self._int8_tiles(self._two, job, target)
                    continue
                groups.setdefault(target.options, []).append(job)
                targets.setdefault(target.options, target)
        calibration = self.subject.calibration
        if not groups or float_graph is None or calibration is None:
            return
        ranges = observe(
            float_graph, calibration, reference=self.subject.known(), allow_unsafe=self.options.allow_unsafe,
            report=self.told("calibration"), threads=self.options.threads,
        )  # fmt: skip
        for options, jobs in groups.items():
            graph = self._int8_file(options)
            with self._leaving_nothing(*jobs):
                self.calibrated.append(
                    calibrate(
                        float_graph, calibration, targets[options], self.options.keep_float, output=graph, ranges=ranges,
                        report=self.told("INT8"), threads=self.options.threads,
                    )
                )  # fmt: skip
                self._guard(float_graph, graph, jobs)

    def _int8_file(self, options: QuantizeOptions) -> Path:
        if options.tool == "nncf":
            graph = self.work / "openvino/int8.xml"
            graph.parent.mkdir(exist_ok=True)
            return graph
        graph = self.work / GRAPH_FILES["int8"]
        return graph.with_name(f"model.int8.w{options.weight_bits}.onnx") if graph.exists() else graph  # another target's

    def _int8_tiles(self, two: TwoGraphs, job: Job, target: Target) -> None:
        """Build and judge an INT8 engine of two graphs (:mod:`edgead.export.coarse`)."""
        calibration = self.subject.calibration
        assert calibration is not None
        screen(calibration, reference=self.subject.known(), allow_unsafe=self.options.allow_unsafe)
        self.calibrated.append(two.quantize(calibration, target, self.options.threads))
        self.files[job] = two.build(job, self.options.tensorrt, target.options.weight_bits)
        self._judge(job, self.work / GRAPH_FILES["float"])

    def _guard(self, float_graph: Path, graph: Path, jobs: Sequence[Job]) -> None:
        asked = self.options.report is not None
        options = replace(self.options.guard, always_blame=self.options.guard.always_blame or asked, threads=self.options.threads)
        candidates = [self._candidate(job) for job in jobs]
        report = guard(float_graph, graph, candidates, self.subject.yardstick, self.options.limits, options, self.report)
        self._guarded(report)

    def _guarded(self, report: GuardReport) -> None:
        """Take over what the guard measured, and refused."""
        self.guarded.append(report)
        refused = {refusal.engine: refusal for refusal in report.refused}
        for job in self.jobs:
            if (name := name_of(job)) in report.answers:
                subject = self.subject
                self.measured[job] = Measured.of(report.answers[name], subject.frames, subject.reference, subject.rule)
                self.deviations[name] = report.deviations[name]
                if name in refused:
                    self._refuse(job, ParityFailed(refused[name].why, hint=refused[name].hint))

    def _candidate(self, job: Job) -> Candidate:
        def build(graph: Path) -> Path:
            file = BUILDS[job].make(graph, graph.parent, self.options.tensorrt)
            if graph.is_relative_to(self.work):  # what the guard tries lies elsewhere; what it accepts, it moves here
                self.files[job] = file
            return file

        def opened(file: Path) -> Engine:
            return open_file(file, lambda part: resolve("engine", job[0])(part, threads=self.options.threads))

        return Candidate(name_of(job), build, opened if job in self.here else None)
