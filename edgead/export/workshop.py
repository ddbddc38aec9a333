"""Builds the engines of an export and judges each: those that answer as the trained model did stay, the others leave nothing.

One engine that is refused does not take the others with it. What is left of it is its name, the limits that it broke and by how
much (:attr:`Workshop.refused`); its files are removed, so that nobody runs them by accident.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from edgead.calibration.int8.calibrate import CalibrationReport
from edgead.calibration.int8.half import to_half
from edgead.calibration.int8.targets import QuantizeOptions, Target
from edgead.calibration.judging.deviation import Deviation
from edgead.calibration.judging.guard import guard
from edgead.calibration.judging.guarded import Candidate, GuardFailed, GuardReport, Refusal
from edgead.calibration.pictures.screening import Reference, screen
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput, EdgeadError, EngineError, ParityFailed
from edgead.export.builds import BACKENDS, BUILDS
from edgead.export.coarse import BACKENDS as COARSE_BACKENDS
from edgead.export.coarse import TwoGraphs
from edgead.export.graph import write_onnx
from edgead.export.kitchen import Kitchen
from edgead.export.measure import Measured, trained_answers
from edgead.export.options import Job, name_of
from edgead.models.rewrites import Applied
from edgead.models.wrappers.coarse import CoarseToFine
from edgead.parity import compare
from edgead.types import Engine

FP32_LIMIT = 1e-4
"""Largest error of an FP32 engine on score and map, relative to the range of the maps of the model that it was made of."""

NOT_TRIED = "not tried: FP32 of the same model is refused"

GRAPH_FILES = {"float": "model.onnx", "half": "model.fp16.onnx", "int8": "model.int8.onnx"}


class Workshop:
    """Fills the folder `work` with graphs and engines.

    Attributes:
        files: of each engine that was built.
        measured, deviations: of each engine that was measured, the refused ones included.
        refused: in the order in which they were.
        here: engines that run on this machine.
        calibrated, guarded: one for each INT8 graph.
        detector, applied: what engines are made of, and the rewrites that made it.
        exact: what FP32 engines must answer, within rounding: the trained model's answers, but for lossy rewrites.
    """

    def __init__(self, work: Path, kitchen: Kitchen, jobs: Sequence[Job]) -> None:
        self.work, self.kitchen, self.jobs = work, kitchen, tuple(jobs)
        self.options, self.report, self.told = kitchen.options, kitchen.report, kitchen.told
        self.detector, self.exact = kitchen.detector, kitchen.reference
        self.applied: tuple[Applied, ...] = ()
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
        self._rewrite()
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
        return self.kitchen.opened(job, self.files[job], self.options.threads)

    @property
    def lossy(self) -> bool:
        """Whether rewrites have changed the answers by more than rounding."""
        return self.exact is not self.kitchen.reference

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

    def _rewrite(self) -> None:
        if not self.kitchen.rewriting:
            return
        self.report("rewrites", 0.0)
        self.detector, self.applied = self.kitchen.rewritten()
        if any(done.kept and not done.exact for done in self.applied):
            self.exact = trained_answers(self.detector, self.kitchen.frames.all, self.told("rewritten model"))
        self.report("rewrites", 1.0)

    def _graphs(self) -> dict[str, Path]:
        detector = self.detector
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
            to_half(graphs["float"], graphs["half"], self.kitchen.calibration)
        self.report("ONNX", 1.0)
        self._two_graphs()
        return graphs

    def _two_graphs(self) -> TwoGraphs | None:
        """The graphs of coarse-to-fine engines; None: each engine is made of one."""
        detector = self.detector
        if self._two is None and detector.two_graphs and any(job[0] in COARSE_BACKENDS for job in self.jobs):
            self._two = TwoGraphs.write(cast(CoarseToFine, detector), self.work)
        return self._two

    def _build(self, job: Job, graph: Path) -> None:
        """Build one engine that is not INT8, and judge it; one that does not run here is judged by its graph, run literally."""
        two = self._two if job[0] in COARSE_BACKENDS else None
        self.files[job] = two.build(job, self.options.tensorrt) if two else self.kitchen.built(job, graph, self.work)
        self._judge(job, graph)

    def _judge(self, job: Job, graph: Path) -> None:
        """Measure an engine. Raises ParityFailed when it is over the limits."""
        name, kitchen = name_of(job), self.kitchen
        literal = None if job in self.here else OnnxRuntimeEngine(graph, threads=self.options.threads, literal=True)
        with closing(literal or self.open(job)) as engine:
            answers = kitchen.answered(engine, name)
        self.measured[job] = measured = Measured.of(answers, kitchen.frames, kitchen.reference, kitchen.rule)
        self.deviations[name] = kitchen.yardstick.measure(answers)
        parity = compare(self.exact, answers, kitchen.rule.trained.value) if self.lossy else measured.parity
        errors = [parity.score_error, parity.map_error]
        kitchen.refuse_not_finite(name, errors)
        if job[1] == "fp32" and max(errors) > FP32_LIMIT:
            whose = "rewritten" if self.lossy else "trained"
            raise ParityFailed(
                f"{name} is off by {max(errors):.2g} of the {whose} model's map range (allowed {FP32_LIMIT:g})",
                hint="please report it with the versions that edgead doctor shows",
            )
        judged = self.lossy or job[1] != "fp32"
        if broken := self.options.limits.broken(self.deviations[name], kitchen.yardstick.pairs) if judged else ():
            hint = "give milder --rewrite settings, or none" if job[1] == "fp32" else "try --precision fp32"
            raise ParityFailed(f"{name}: {', '.join(broken)}", hint=hint)

    # INT8

    def _int8(self, float_graph: Path | None) -> None:
        """Calibrate once for each kind of target, and let the guard build and judge its engines."""
        groups: dict[QuantizeOptions, list[Job]] = {}
        targets: dict[QuantizeOptions, Target] = {}
        for job in self.jobs:
            if BUILDS[job].graph == "int8":
                target = self.kitchen.target(job[0])
                if self._two is not None and job[0] in COARSE_BACKENDS:
                    with self._leaving_nothing(job):
                        self._int8_tiles(self._two, job, target)
                    continue
                groups.setdefault(target.options, []).append(job)
                targets.setdefault(target.options, target)
        if not groups or float_graph is None:
            return
        ranges = self.kitchen.ranges(float_graph, self._known(), allow_unsafe=self.options.allow_unsafe)
        for options, jobs in groups.items():
            graph = self._int8_file(options)
            with self._leaving_nothing(*jobs):
                made = self.kitchen.quantize(float_graph, graph, targets[options], self.options.keep_float, ranges)
                self.calibrated.append(made)
                self._guard(float_graph, graph, jobs)

    def _known(self) -> Reference:
        """What calibration pictures are compared with."""
        return Reference(self.kitchen.frames.held_out, self.kitchen.frames.held_out_scores(self.exact))

    def _int8_file(self, options: QuantizeOptions) -> Path:
        if options.tool == "nncf":
            graph = self.work / "openvino/int8.xml"
            graph.parent.mkdir(exist_ok=True)
            return graph
        graph = self.work / GRAPH_FILES["int8"]
        return graph.with_name(f"model.int8.w{options.weight_bits}.onnx") if graph.exists() else graph  # another target's

    def _int8_tiles(self, two: TwoGraphs, job: Job, target: Target) -> None:
        """Build and judge an INT8 engine of two graphs (:mod:`edgead.export.coarse`)."""
        calibration = self.kitchen.calibration
        assert calibration is not None
        screen(calibration, reference=self._known(), allow_unsafe=self.options.allow_unsafe)
        self.calibrated.append(two.quantize(calibration, target, self.options.threads))
        self.files[job] = two.build(job, self.options.tensorrt, target.options.weight_bits)
        self._judge(job, self.work / GRAPH_FILES["float"])

    def _guard(self, float_graph: Path, graph: Path, jobs: Sequence[Job]) -> None:
        asked = self.options.report is not None
        options = replace(self.options.guard, always_blame=self.options.guard.always_blame or asked, threads=self.options.threads)
        candidates = [self._candidate(job) for job in jobs]
        report = guard(float_graph, graph, candidates, self.kitchen.yardstick, self.options.limits, options, self.report)
        self._guarded(report)

    def _guarded(self, report: GuardReport) -> None:
        """Take over what the guard measured, and refused."""
        self.guarded.append(report)
        refused = {refusal.engine: refusal for refusal in report.refused}
        for job in self.jobs:
            if (name := name_of(job)) in report.answers:
                kitchen = self.kitchen
                self.measured[job] = Measured.of(report.answers[name], kitchen.frames, kitchen.reference, kitchen.rule)
                self.deviations[name] = report.deviations[name]
                if name in refused:
                    self._refuse(job, ParityFailed(refused[name].why, hint=refused[name].hint))

    def _candidate(self, job: Job) -> Candidate:
        def build(graph: Path) -> Path:
            file = self.kitchen.built(job, graph, graph.parent)
            if graph.is_relative_to(self.work):  # what the guard tries lies elsewhere; what it accepts, it moves here
                self.files[job] = file
            return file

        def opened(file: Path) -> Engine:
            return self.kitchen.opened(job, file, self.options.threads)

        return Candidate(name_of(job), build, opened if job in self.here else None)
