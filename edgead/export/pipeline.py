"""From a trained model's folder to a bundle: ONNX, INT8, built engines, and the proof that each answers as the model did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgead import machine
from edgead.bundle import Bundle, new_bundle
from edgead.calibration.findings import Finding
from edgead.engines import choice
from edgead.engines.coarse import CoarseToFineEngine
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.timing import fastest, in_bursts
from edgead.errors import EdgeadError, MissingExtra
from edgead.export.builds import BACKENDS, installed_backends
from edgead.export.carry import carry_over
from edgead.export.options import ExportOptions, Job, name_of
from edgead.export.report import EngineRow, ReportData, check_report, oddest_of, write_failure, write_report
from edgead.export.subject import Subject
from edgead.export.tensorrt import check_options
from edgead.export.workshop import GRAPH_FILES, Report, Workshop
from edgead.export.written import Timed, write
from edgead.optional import require
from edgead.types import Engine

__all__ = ["ExportOptions", "export_bundle"]


def export_bundle(
    model_dir: Path,
    target: Path,
    options: ExportOptions | None = None,
    report: Report = lambda stage, fraction: None,
    check: Callable[[Path], None] = lambda work: None,
) -> Bundle:
    """Export, build, measure, and write the bundle of the engines that answer as the trained model did.

    Engines that do not are left out; ``measured["refused"]`` of the manifest says which and why.

    Args:
        model_dir: written by ``edgead train``.
        target: the new bundle's folder; an old bundle there is replaced at the very end.
        report: told the stage and the share of it that is done, 0 to 1.
        check: looks at the finished bundle before it takes its place; what it raises leaves none.

    Raises:
        BadInput: no trained model, unusable pictures, `target` is something else.
        MissingExtra: a backend that was asked for, or matplotlib for a report, is not installed.
        ParityFailed: no engine answers as the model did; no bundle is left, an old one stays.
        EngineError: none can be built or run; likewise.
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
        subject = Subject(model_dir, options, jobs)
        export = _Export(subject, Workshop(work, subject, jobs, report), report)
        try:
            export.run()
        except EdgeadError as error:
            export.tell(failure=str(error))
            raise
        check(work)
        carry_over(target, work, options.max_false_reject is not None)
    export.tell(str(target))
    return Bundle.open(target)


@dataclass(slots=True)
class _Export:
    """One run."""

    subject: Subject
    shop: Workshop
    report: Report
    findings: list[Finding] = field(default_factory=list)
    timed: Timed | None = None

    def run(self) -> None:
        self.subject.ask(self.shop.told)
        self.findings = self.subject.findings()
        self.subject.rewrite(self.shop.told)
        self.shop.make()
        self.timed = self._latency()
        write(self.subject, self.shop, self.timed, self.findings)
        self.report("bundle", 1.0)

    def _latency(self) -> Timed:
        """Time all engines that run here."""
        self.report("latency", 0.0)
        shop = self.shop
        with ExitStack() as stack:
            engines: dict[str, Engine] = {}
            for job in shop.kept:
                if job in shop.here:
                    engine = shop.open(job)
                    stack.callback(engine.close)
                    engines[name_of(job)] = engine.slowest() if isinstance(engine, CoarseToFineEngine) else engine
            if not engines:  # all were built ahead of time for another machine
                engine = OnnxRuntimeEngine(shop.work / GRAPH_FILES["float"], threads=shop.options.threads)
                stack.callback(engine.close)
                return Timed(engine.inputs, engine.outputs, name_of(shop.kept[0]))
            stats = in_bursts(engines, self.subject.frames.all[0])
            first = next(iter(engines.values()))
            speed = {name: round(found.p50_ms, 3) for name, found in stats.items()}
            return Timed(first.inputs, first.outputs, fastest(stats), speed, choice.to_json(stats))

    def tell(self, bundle: str = "", failure: str = "") -> None:
        """Write the report that was asked for, if one was; of a failure before anything was measured, the failure."""
        subject, shop = self.subject, self.shop
        file = subject.options.report
        if file is None:
            return
        self.report("report", 0.0)
        if not subject.asked:
            write_failure(file, subject.card.name, failure)
            return
        answers = {name: told for report in shop.guarded for name, told in report.answers.items()}
        write_report(
            file,
            ReportData(
                name=subject.card.name, family=subject.detector.family, bundle=bundle, failure=failure,
                frames=subject.frames.all, kinds=subject.frames.kinds(), reference=subject.reference,
                threshold=subject.rule.trained, auroc=subject.yardstick.auroc(subject.reference),
                drawn=bool(subject.frames.drawn), limits=subject.options.limits,
                engines=[self._row(job) for job in shop.jobs if job in shop.measured], answers=answers, guards=shop.guarded,
                calibrations=shop.calibrated, machine=machine.facts(), search=subject.options.search, judgement=self.findings,
                oddest=oddest_of(subject.model_dir, subject.card), refused=shop.refused, pairs=subject.yardstick.pairs,
            ),
        )  # fmt: skip

    def _row(self, job: Job) -> EngineRow:
        name = name_of(job)
        told = next((told for told in self.shop.guarded if name in told.answers), None)
        return EngineRow(
            name=name,
            precision=job[1],
            threshold=self.shop.measured[job].threshold,
            deviation=self.shop.deviations[name],
            latency_ms=self.timed.speed.get(name) if self.timed else None,
            kept_float=len(told.keep_float) if told else 0,
        )
