"""From a trained model's folder to a bundle: ONNX, INT8, built engines, and the proof that each answers as the model did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgead import machine
from edgead.bundle import Bundle, new_bundle
from edgead.calibration.findings import Finding
from edgead.engines import choice
from edgead.engines.coarse import CoarseToFineEngine
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.timing import fastest, in_bursts, wins_no_time
from edgead.errors import EdgeadError, MissingExtra
from edgead.export.builds import BACKENDS, BUILDS, installed_backends
from edgead.export.carry import carry_over
from edgead.export.kitchen import Kitchen, Report
from edgead.export.options import ExportOptions, Job, name_of
from edgead.export.report import EngineRow, ReportData, check_report, oddest_of, write_failure, write_report
from edgead.export.tensorrt import check_options
from edgead.export.workshop import GRAPH_FILES, Workshop
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

    Engines that do not are left out; `measured.refused` of the manifest says which and why.

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
        lossy = bool(options.rewrites) or any(precision != "fp32" for _, precision in jobs)
        int8 = any(BUILDS[job].graph == "int8" for job in jobs)
        export = _Export(Kitchen(model_dir, options, options.frames_per_class, report, lossy=lossy, int8=int8), jobs)
        try:
            export.run(work)
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

    kitchen: Kitchen
    jobs: Sequence[Job]
    shop: Workshop | None = None
    findings: list[Finding] = field(default_factory=list)
    timed: Timed | None = None

    def run(self, work: Path) -> None:
        self.kitchen.ask()
        self.findings = self.kitchen.findings()
        self.shop = shop = Workshop(work, self.kitchen, self.jobs)
        shop.make()
        self.timed = self._latency(shop)
        write(self.kitchen, shop, self.timed, self.findings)
        self.kitchen.report("bundle", 1.0)

    def _latency(self, shop: Workshop) -> Timed:
        """Time all engines that run here."""
        self.kitchen.report("latency", 0.0)
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
            stats = in_bursts(engines, self.kitchen.frames.all[0])
            first, precisions = next(iter(engines.values())), {name_of(job): job[1] for job in shop.kept}
            speed = {name: round(found.p50_ms, 3) for name, found in stats.items()}
            return Timed(first.inputs, first.outputs, fastest(stats, precisions), speed, choice.told(stats))

    def tell(self, bundle: str = "", failure: str = "") -> None:
        """Write the report that was asked for, if one was; of a failure before anything was measured, the failure."""
        kitchen, shop = self.kitchen, self.shop
        file = kitchen.options.report
        if file is None:
            return
        kitchen.report("report", 0.0)
        if shop is None:
            write_failure(file, kitchen.card.name, failure)
            return
        answers = {name: told for report in shop.guarded for name, told in report.answers.items()}
        write_report(
            file,
            ReportData(
                name=kitchen.card.name, family=kitchen.detector.family, bundle=bundle, failure=failure,
                frames=kitchen.frames.all, kinds=kitchen.frames.kinds(), reference=kitchen.reference,
                threshold=kitchen.rule.trained, auroc=kitchen.yardstick.auroc(kitchen.reference),
                drawn=bool(kitchen.frames.drawn), limits=kitchen.options.limits,
                engines=[self._row(shop, job) for job in shop.jobs if job in shop.measured], answers=answers, guards=shop.guarded,
                calibrations=shop.calibrated, machine=machine.facts(), search=kitchen.options.search, judgement=self.findings,
                oddest=oddest_of(kitchen.model_dir, kitchen.card), refused=shop.refused, pairs=kitchen.yardstick.pairs,
                no_gain=self._no_gain(shop),
            ),
        )  # fmt: skip

    def _no_gain(self, shop: Workshop) -> list[str]:
        """Engines of lower precision that won no time, in words."""
        engines = {name_of(job): job for job in shop.kept}
        return wins_no_time((self.timed.choice.least_ms if self.timed else None) or {}, engines)

    def _row(self, shop: Workshop, job: Job) -> EngineRow:
        name = name_of(job)
        told = next((told for told in shop.guarded if name in told.answers), None)
        return EngineRow(
            name=name,
            precision=job[1],
            threshold=shop.measured[job].threshold,
            deviation=shop.deviations[name],
            latency_ms=self.timed.speed.get(name) if self.timed else None,
            kept_float=len(told.keep_float) if told else 0,
        )
