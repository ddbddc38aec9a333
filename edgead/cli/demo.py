"""The whole of edgead in about a minute, without files, hardware or network.

Parts on a simulated conveyor are drawn, a detector learns the good ones, is exported to FP32 and INT8 engines, verified and
benchmarked; then a station inspects parts that it has never seen. The last line is a picture of what it caught.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgead.cli._json import plain_of, print_json
from edgead.cli._options import JSON, SEED_OF
from edgead.cli._types import PATH
from edgead.cli._verb import option, verb
from edgead.errors import BadInput, ParityFailed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edgead.bundle import Bundle
    from edgead.jobs.bench import Result
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


@verb(__doc__)
@option("-o", "--out", type=PATH, default=Path("edgead-demo"), metavar="DIR", help="the demo's folder (default: edgead-demo)")
@option("--model", type=click.Choice(("patchcore", "simplenet")), default="patchcore", help="default: patchcore")
@option("--quick", is_flag=True, help="small pictures and few of them: a test that everything works")
@SEED_OF
@JSON
def command(out: Path, model: str, quick: bool, seed: int, as_json: bool) -> int:
    """All steps; 0 when every engine answers as the trained model did."""
    from edgead.cli._console import console, progress
    from edgead.optional import require

    began = time.monotonic()
    for module in ("torch", "safetensors", "sklearn", "onnx", "onnxscript"):
        require(module, extra="export", why="The demo, which trains and exports,")
    from edgead.bundle import storage_errors
    from edgead.cli._demo_report import DemoReport

    plan = QUICK if quick else FULL
    out = _prepare(out, seed)
    with progress() as bar:
        demo = _Demo(plan, out, model, seed, bar)
        demo.draw()
        demo.learn()
        bundle = demo.export()
        demo.verify(bundle)
        results = demo.measure(bundle)
        inspections, stats, scale = demo.inspect(bundle)
        demo.picture(inspections, scale)
    report = DemoReport(out, bundle, demo.metrics, results, inspections, stats, demo.steps_s, time.monotonic() - began)
    facts = report.facts()
    with storage_errors(out):
        (out / MARKER).write_text(json.dumps(plain_of(facts), indent=2) + "\n", "utf-8")
    print_json("demo", facts) if as_json else console().print(report.text())
    return 0


def _prepare(out: Path, seed: int) -> Path:
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
        for old in (out / "data", folder_of(out / "model"), folder_of(out / BUNDLE_NAME)):
            if old.exists():  # the model and the bundle of the demo before are kept, those of all earlier ones are not
                shutil.rmtree(old)
        (out / "records.jsonl").unlink(missing_ok=True)
    return out.resolve()


class _Demo:
    """The steps, each telling one progress bar."""

    def __init__(self, plan: Plan, out: Path, model: str, seed: int, bar: Progress) -> None:
        self.plan, self.out, self.model, self.seed, self._bar = plan, out, model, seed, bar
        self.metrics: dict[str, float] = {}
        self.steps_s: dict[str, float] = {}
        self._name, self._began = "", time.monotonic()
        self._task: TaskID | None = None

    def draw(self) -> None:
        from edgead.cli._gallery import write_data_set
        from edgead.runtime.cameras.conveyor import DEFECTS

        plan = self.plan
        self._step("drawing parts", plan.good + plan.test_good + plan.per_defect * len(DEFECTS))
        counts = {"good": plan.good, "test_good": plan.test_good, "per_defect": plan.per_defect}
        write_data_set(self.out / "data", seed=self.seed, **counts, size=plan.picture_px, tick=self._advance)

    def learn(self) -> None:
        from edgead.preprocess import PreprocessRecipe
        from edgead.training.fit import TrainRequest, train

        self._step("learning", 1.0)
        recipe = PreprocessRecipe(self.plan.model_px, self.plan.model_px)
        request = TrainRequest(self.model, self.out / "data", self.out / "model", recipe, name="flange", seed=self.seed)
        self.metrics = train(request, self._told).metrics

    def export(self) -> Bundle:
        from edgead.calibration.judging.deviation import Limits
        from edgead.export import ExportOptions, export_bundle

        self._step("exporting", 1.0)
        options = ExportOptions(limits=Limits(MAX_FLIPS, MAX_AUROC_DROP))
        return export_bundle(self.out / "model", self.out / BUNDLE_NAME, options, self._told)

    def verify(self, bundle: Bundle) -> None:
        """Raises ParityFailed when an engine does not answer as the trained model did."""
        from edgead.engines.verify import verify_engine

        engines = bundle.manifest.engines
        self._step("verifying", len(engines))
        for record in engines:
            if not verify_engine(bundle, record.name).passed:
                raise ParityFailed(f"{record.name} does not answer as the trained model did", hint=f"edgead verify {bundle.path}")
            self._advance()

    def measure(self, bundle: Bundle) -> list[Result]:
        from edgead.cli.bench import with_cold
        from edgead.jobs.bench import load, time_all

        names = [record.name for record in bundle.manifest.engines]
        self._step("measuring", self.plan.rounds * len(names))
        frame = (self.plan.picture_px, self.plan.picture_px)
        with ExitStack() as stack:
            candidates = []
            for name in names:
                candidates.append(load(bundle, name, None))
                stack.callback(candidates[-1].engine.close)
            results = time_all(candidates, frame=frame, rounds=self.plan.rounds, warmup=5, tick=self._advance)
        self._step("cold starts", len(names))
        return with_cold(results, threads=None, frame=frame, runs=1, tick=self._advance)

    def inspect(self, bundle: Bundle) -> tuple[list[Inspection], Stats, HeatScale]:
        """Let a station inspect the simulated conveyor."""
        from edgead.clock import MonotonicClock
        from edgead.engines import open_engine
        from edgead.line.proof import prove
        from edgead.runtime.cameras.simulated import SimulatedCamera
        from edgead.runtime.loop.station import Station
        from edgead.runtime.records.overlay import HeatScale
        from edgead.runtime.records.record import RecordFile

        self._step("inspecting", self.plan.parts)
        size, clock = self.plan.picture_px, MonotonicClock()
        seen: list[Inspection] = []
        record = bundle.manifest.engine()
        camera = SimulatedCamera(seed=self.seed + 1, defect_rate=0.3, width=size, height=size, parts=self.plan.parts, clock=clock)

        def collect(inspection: Inspection) -> None:
            seen.append(inspection)
            self._advance()

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
        from edgead.cli._gallery import choose, gallery, write_picture

        self._step("drawing what was caught", 1.0)
        caught = [i for i in inspections if i.verdict.value == "NG" and i.frame and i.frame.source != "good"]
        good = [i for i in inspections if i.verdict.value == "OK" and i.frame and i.frame.source == "good"]
        defects = sum(1 for i in inspections if i.frame and i.frame.source != "good")
        title = f"edgead demo: {len(caught)} of {defects} defects caught on a simulated conveyor"
        family = {"patchcore": "PatchCore", "simplenet": "SimpleNet"}[self.model]
        subtitle = f"{family}, trained on {self.plan.good} good pictures only; outlined: anomaly map at or above the threshold"
        write_picture(self.out / "caught.png", gallery(choose(caught, good), scale, title, subtitle))
        self._close_step()

    def _step(self, name: str, total: float) -> None:
        """Begin a step; its time so far is kept in `steps_s`, by its name."""
        self._close_step()
        self._name, self._began = name, time.monotonic()
        if not self._bar.console.is_terminal:  # a log shows no bar, but wants to know
            self._bar.console.print(f"{name} ...")
        self._task = self._bar.add_task(name, total=total)

    def _close_step(self) -> None:
        if self._task is not None:
            taken = self.steps_s.get(self._name, 0.0) + time.monotonic() - self._began
            self.steps_s[self._name] = round(taken, 1)
            self._bar.remove_task(self._task)
            self._task = None

    def _advance(self) -> None:
        if self._task is not None:
            self._bar.advance(self._task)

    def _told(self, stage: str, done: float) -> None:
        """What training and export say; each of their stages is a step."""
        if stage != self._name or self._task is None:
            self._step(stage, 1.0)
        assert self._task is not None
        self._bar.update(self._task, completed=done)
