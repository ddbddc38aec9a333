"""The demo: parts are drawn, a detector learns the good ones, is exported, verified and measured; a station inspects others."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import BadInput, ParityFailed
from edgead.families import method, plausible
from edgead.families.contract import LITE
from edgead.jobs.plain import plain_of
from edgead.jobs.progress import Progress, Ticking, silent

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.demo.report import DemoReport
    from edgead.jobs.measure import Result
    from edgead.runtime.loop.stats import Stats
    from edgead.runtime.records.overlay import HeatScale
    from edgead.types import Inspection

MARKER = "demo.json"
BUNDLE_NAME = "flange.edgead"
MAX_FLIPS, MAX_AUROC_DROP = 0.07, 0.02
"""Tolerated of INT8, wider than `edgead export` has them: the threshold comes from a dozen pictures, so one or two good parts
lie at its very edge, and with ten good and fourteen bad ones (--quick) a single swapped pair costs 0.007 of AUROC. The score
deviation, which does not depend on where a threshold happens to lie, is held to the usual limit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything: pictures (pixels wide and high), model input, parts on the conveyor, bench rounds."""

    picture_px: int
    model_px: int
    good: int
    test_good: int
    per_defect: int
    parts: int
    rounds: int


FULL = Plan(picture_px=512, model_px=256, good=80, test_good=20, per_defect=4, parts=60, rounds=5)
QUICK = Plan(picture_px=512, model_px=128, good=40, test_good=10, per_defect=2, parts=20, rounds=1)


def demo(out: Path, plan: Plan = FULL, model: str = "patchcore", seed: int = 0, progress: Progress = silent) -> DemoReport:
    """All steps.

    Args:
        out: the demo's folder: new, empty, or that of an earlier demo.
        model: a name of :func:`edgead.families.methods`, trained lite.
        seed: of everything that is random.

    Raises:
        BadInput: the folder is something else, or nobody knows the model.
        MissingExtra: what trains and exports is not installed.
        ParityFailed: an engine does not answer as the trained model did.
        StorageError: the folder cannot be written.
    """
    from edgead.optional import require

    began = time.monotonic()
    for module in ("torch", "safetensors", "sklearn", "onnx", "onnxscript"):
        require(module, extra="export", why="The demo, which trains and exports,")
    from edgead.bundle import storage_errors
    from edgead.demo.report import DemoReport

    method(model)  # refuses a name that nobody knows before anything is drawn
    out = prepare(out, seed)
    watch = _Watch(progress)
    steps = _Demo(plan, out, model, seed, watch)
    steps.draw()
    metrics = steps.learn()
    bundle = steps.export()
    steps.verify(bundle)
    results = steps.measure(bundle)
    inspections, stats, scale = steps.inspect(bundle)
    steps.picture(inspections, scale)
    watch.close()
    report = DemoReport(out, model, bundle, metrics, results, inspections, stats, watch.steps_s, time.monotonic() - began)
    with storage_errors(out):
        (out / MARKER).write_text(json.dumps(plain_of(report.facts()), indent=2) + "\n", "utf-8")
    return report


def prepare(out: Path, seed: int) -> Path:
    """The demo's folder: new, empty, or that of an earlier demo, whose data set is removed.

    Raises:
        BadInput: it is something else.
        StorageError: it cannot be written.
    """
    from edgead.bundle import storage_errors
    from edgead.versions import folder_of

    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file", hint="choose another -o")
    with storage_errors(out):
        if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
            raise BadInput(f"{out} is not empty and not a demo's folder", hint="choose another -o, or remove it yourself")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text(json.dumps({"seed": seed}), "utf-8")
        for old in (out / "data", out / "taught", folder_of(out / "model"), folder_of(out / BUNDLE_NAME)):
            if old.exists():  # the model and the bundle of the demo before are kept, those of all earlier ones are not
                shutil.rmtree(old)
        (out / "records.jsonl").unlink(missing_ok=True)
    return out.resolve()


class _Watch:
    """Progress, and how long each stage took."""

    def __init__(self, progress: Progress) -> None:
        self.steps_s: dict[str, float] = {}
        self._progress, self._stage, self._began = progress, "", 0.0

    def __call__(self, stage: str, done: float) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._began = stage, time.monotonic()
        self._progress(stage, done)

    def close(self) -> None:
        """The last stage is over."""
        if self._stage:
            self.steps_s[self._stage] = round(self.steps_s.get(self._stage, 0.0) + time.monotonic() - self._began, 1)
            self._stage = ""


class _Demo:
    """The steps, each telling its progress."""

    def __init__(self, plan: Plan, out: Path, model: str, seed: int, progress: Progress) -> None:
        self.plan, self.out, self.model, self.seed, self._progress = plan, out, model, seed, progress

    def draw(self) -> None:
        from edgead.demo.gallery import write_data_set
        from edgead.runtime.cameras.conveyor import DEFECTS

        plan = self.plan
        tick = Ticking(self._progress, "drawing parts", plan.good + plan.test_good + plan.per_defect * len(DEFECTS))
        counts = {"good": plan.good, "test_good": plan.test_good, "per_defect": plan.per_defect}
        write_data_set(self.out / "data", seed=self.seed, **counts, size=plan.picture_px, tick=tick)

    def learn(self) -> dict[str, float]:
        """Figures of the model on the labelled pictures."""
        from edgead.demo.gallery import write_data_set
        from edgead.jobs.train import Looked, train, train_request

        self._progress("learning", 0.0)
        needs = method(self.model)[0].needs_defects
        if needs:
            write_data_set(
                self.out / "taught", seed=self.seed + 1000, good=0, test_good=0, per_defect=self.plan.per_defect,
                size=self.plan.picture_px,
            )  # fmt: skip
        px = min(self.plan.model_px, method(self.model)[1].px(LITE))
        request = train_request(
            self.model, self.out / "data", self.out / "model", Looked(size=(px, px)), name="flange", seed=self.seed, preset=LITE,
            defects=(self.out / "taught",) if needs else (),
            all_good=self.model in plausible(),  # folds are more trainings: minutes where one takes long
        )  # fmt: skip
        return train(request, self._progress).result.metrics

    def export(self) -> Bundle:
        from edgead.calibration.judging.deviation import Limits
        from edgead.export import ExportOptions, export_bundle

        self._progress("exporting", 0.0)
        options = ExportOptions(limits=Limits(MAX_FLIPS, MAX_AUROC_DROP))
        return export_bundle(self.out / "model", self.out / BUNDLE_NAME, options, self._progress)

    def verify(self, bundle: Bundle) -> None:
        """Raises ParityFailed when an engine does not answer as the trained model did."""
        from edgead.engines.verify import verify_engine

        engines = bundle.manifest.engines
        tick = Ticking(self._progress, "verifying", len(engines))
        for record in engines:
            if not verify_engine(bundle, record.name).passed:
                raise ParityFailed(f"{record.name} does not answer as the trained model did", hint=f"edgead verify {bundle.path}")
            tick()

    def measure(self, bundle: Bundle) -> list[Result]:
        from edgead.jobs.bench import with_cold
        from edgead.jobs.measure import load, time_all

        names = [record.name for record in bundle.manifest.engines]
        tick = Ticking(self._progress, "measuring", self.plan.rounds * len(names))
        frame = (self.plan.picture_px, self.plan.picture_px)
        with ExitStack() as stack:
            candidates = []
            for name in names:
                candidates.append(load(bundle, name, None))
                stack.callback(candidates[-1].engine.close)
            results = time_all(candidates, frame=frame, rounds=self.plan.rounds, warmup=5, tick=tick)
        tick = Ticking(self._progress, "cold starts", len(names))
        return with_cold(results, threads=None, frame=frame, runs=1, tick=tick)

    def inspect(self, bundle: Bundle) -> tuple[list[Inspection], Stats, HeatScale]:
        """Let a station inspect the simulated conveyor."""
        from edgead.clock import MonotonicClock
        from edgead.engines import open_engine
        from edgead.engines.proof import prove
        from edgead.runtime.cameras.simulated import SimulatedCamera
        from edgead.runtime.loop.station import Station
        from edgead.runtime.records.overlay import HeatScale
        from edgead.runtime.records.record import RecordFile

        tick = Ticking(self._progress, "inspecting", self.plan.parts)
        size, clock = self.plan.picture_px, MonotonicClock()
        seen: list[Inspection] = []
        record = bundle.manifest.engine()
        camera = SimulatedCamera(seed=self.seed + 1, defect_rate=0.3, width=size, height=size, parts=self.plan.parts, clock=clock)

        def collect(inspection: Inspection) -> None:
            seen.append(inspection)
            tick()

        with ExitStack() as stack:
            engine = open_engine(bundle)
            stack.callback(engine.close)
            rule = record.threshold.rule
            scale = HeatScale(prove(bundle, record, engine), rule.level)
            station = Station(camera, engine, bundle.manifest.preprocess, rule, clock=clock, engine_name=record.name)
            stack.enter_context(station)
            records = RecordFile(self.out / "records.jsonl")
            stack.callback(records.close)
            stats = station.on_inspection(collect).on_record(records.write).run()
        return seen, stats, scale

    def picture(self, inspections: list[Inspection], scale: HeatScale) -> None:
        from edgead.demo.gallery import choose, gallery, write_picture

        self._progress("drawing what was caught", 0.0)
        caught = [i for i in inspections if i.verdict.value == "NG" and i.frame and i.frame.source != "good"]
        good = [i for i in inspections if i.verdict.value == "OK" and i.frame and i.frame.source == "good"]
        defects = sum(1 for i in inspections if i.frame and i.frame.source != "good")
        title = f"edgead demo: {len(caught)} of {defects} defects caught on a simulated conveyor"
        trained = f"{method(self.model)[1].title}, trained on {self.plan.good} good pictures only"
        subtitle = f"{trained}; outlined: anomaly map at or above the threshold"
        write_picture(self.out / "caught.png", gallery(choose(caught, good), scale, title, subtitle))
