"""From a trained model's folder to a bundle: ONNX, INT8, built engines, and the proof that each answers as the model did."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgead import machine
from edgead.bundle import Bundle, EngineRecord, Manifest, Threshold, new_bundle, write_golden, write_manifest
from edgead.calibration.quantize import QuantizeOptions, quantize
from edgead.calibration.sets import CalibrationSet
from edgead.engines.openvino import write_ir
from edgead.errors import BadInput, EngineError, MissingExtra, ParityFailed
from edgead.export.graph import write_onnx
from edgead.export.measure import (
    Frames,
    Measured,
    latencies,
    measure_engine,
    pick_golden,
    read_frames,
    reference_threshold,
    trained_answers,
)
from edgead.models.detector import Detector, load_detector
from edgead.models.graph import IrDetector
from edgead.optional import require
from edgead.parity import Answers
from edgead.preprocess import PreprocessRecipe
from edgead.registry import resolve
from edgead.types import Engine

BACKENDS = ("openvino", "onnxruntime")
PRECISIONS = ("fp32", "int8")
FP32_LIMIT = 1e-4
"""Largest error of an FP32 engine on score and map, relative to the range of the trained model's maps."""

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to build and what to accept.

    Attributes:
        backends: of `BACKENDS`; None takes those that are installed.
        precisions: of `PRECISIONS`.
        quantize: how INT8 is made.
        calibration: folder of good pictures for INT8; None takes those that training set aside.
        calibration_count: at most so many of them are used.
        labelled: MVTec-style folder with labelled test pictures; None takes the one known from training, if it is still there.
        frames_per_class: at most so many frames of each kind (held out, good, defect) are compared.
        golden_count: frames stored in the bundle for `edgead verify`.
        max_flips: tolerated share of frames whose label differs from the trained model's, INT8 only; one frame is always
            tolerated, since with few frames a share says nothing.
        max_auroc_drop: tolerated loss of image AUROC, INT8 only, 0.005 being half a point.
        threads: CPU threads; None takes all cores.
    """

    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = PRECISIONS
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    calibration: Path | None = None
    calibration_count: int = 64
    labelled: Path | None = None
    frames_per_class: int = 100
    golden_count: int = 8
    max_flips: float = 0.01
    max_auroc_drop: float = 0.005
    threads: int | None = None

    def __post_init__(self) -> None:
        for given, known in ((self.backends or BACKENDS, BACKENDS), (self.precisions, PRECISIONS)):
            unknown = sorted(set(given) - set(known))
            if unknown or not given:
                raise BadInput(f"cannot export for {', '.join(unknown) or 'nothing'}", hint=f"choose from {', '.join(known)}")
        if min(self.calibration_count, self.golden_count) < 1 or self.frames_per_class < 2:
            raise BadInput("a count of frames is too small", hint="at least 1 golden and calibration frame, 2 frames per class")


def installed_backends() -> tuple[str, ...]:
    """Those of `BACKENDS` whose package is installed here."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def export_bundle(
    model_dir: Path, target: Path, options: ExportOptions | None = None, report: Report = lambda stage, fraction: None
) -> Bundle:
    """Export, build, measure, and only if every engine answers as the trained model did, write the bundle.

    Args:
        model_dir: written by ``edgead train``.
        target: the new bundle's folder; an old bundle there is replaced at the very end.
        report: told the stage and the share of it that is done, 0 to 1.

    Raises:
        BadInput: no trained model, unusable pictures, `target` is something else.
        MissingExtra: a backend that was asked for is not installed.
        ParityFailed: an engine does not answer as the model did; no bundle is left, an old one stays.
        StorageError: the disk is full or not writable; likewise.
    """
    options = options or ExportOptions()
    backends = options.backends or installed_backends()
    if not backends:
        raise MissingExtra("no inference backend is installed", hint="pip install 'edgead[openvino]'")
    for backend in backends:
        require(backend, extra=backend, why=f"Building the {backend} engine")
    with new_bundle(target) as work:
        _Export(model_dir, work, options, backends, report).run()
    return Bundle.open(target)


class _Export:
    """One run, filling the folder `work`."""

    def __init__(self, model_dir: Path, work: Path, options: ExportOptions, backends: tuple[str, ...], report: Report) -> None:
        self.work, self.options, self.backends, self.report = work, options, backends, report
        detector, self.info = load_detector(model_dir)
        self.detector: Detector = detector
        self.recipe = PreprocessRecipe.from_json(self.info["preprocess"])
        self.frames = read_frames(model_dir, self.recipe, self._labelled_root(), options.frames_per_class)
        self.calibration: CalibrationSet | None = None
        if "int8" in options.precisions:
            own = options.calibration  # goes through the whole recipe; what training set aside already went through it
            recipe = self.recipe if own else replace(self.recipe, roi=None, crop_from=None)
            self.calibration = CalibrationSet.from_folder(own or model_dir / "calibration", recipe, options.calibration_count)

    def run(self) -> None:
        images = self.frames.all
        reference = trained_answers(self.detector, images, self._told("trained model"))
        threshold, automatic = reference_threshold(self.info, self.frames.held_out_scores(reference))
        graphs = self._graphs()
        engines: dict[str, Engine] = {}
        records: list[EngineRecord] = []
        try:
            for precision in self.options.precisions:
                for backend in self.backends:
                    name = f"{backend}-{precision}"
                    file = self._build(backend, precision, graphs[precision])
                    engines[name] = resolve("engine", backend)(file, threads=self.options.threads)
                    measured = measure_engine(engines[name], self.frames, reference, threshold, automatic, self._told(name))
                    self._judge(name, precision, measured, self.frames.auroc(reference))
                    records.append(self._record(backend, precision, file, measured))
            self.report("latency", 0.0)
            speed = latencies(engines, images[0])
        finally:
            for engine in engines.values():
                engine.close()
        self._write(records, speed, engines[records[0].name], reference, threshold)

    def _labelled_root(self) -> Path | None:
        if self.options.labelled is not None:
            return self.options.labelled
        known = self.info.get("labelled_root")
        return Path(known) if known and (Path(known) / "test").is_dir() else None

    def _graphs(self) -> dict[str, Path]:
        if isinstance(self.detector, IrDetector):  # imported: there is no ONNX of it
            if self.backends != ("openvino",) or self.options.precisions != ("fp32",):
                raise BadInput("an OpenVINO IR runs as it is", hint="give --backend openvino --precision fp32")
            return {"fp32": self.work / "openvino/fp32.xml"}
        graphs = {"fp32": self.work / "model.onnx", "int8": self.work / "model.int8.onnx"}
        self.report("ONNX", 0.0)
        write_onnx(self.detector, graphs["fp32"])
        self.report("ONNX", 1.0)
        if self.calibration is not None:
            self.products = quantize(
                graphs["fp32"], graphs["int8"], self.calibration, self.options.quantize, self._told("INT8"), self.options.threads
            )
        return graphs

    def _told(self, stage: str) -> Callable[[float], None]:
        return lambda done: self.report(stage, done)

    def _build(self, backend: str, precision: str, graph: Path) -> Path:
        if backend != "openvino":
            return graph
        target = self.work / "openvino" / f"{precision}.xml"
        target.parent.mkdir(exist_ok=True)
        if isinstance(self.detector, IrDetector):
            self.detector.write(target)
        else:
            write_ir(graph, target)
        return target

    def _judge(self, name: str, precision: str, measured: Measured, trained_auroc: float | None) -> None:
        parity = measured.parity
        if not np.isfinite([parity.score_error, parity.map_error]).all():
            raise EngineError(f"{name} gives values that are not finite", hint="please report it")
        worst = max(parity.score_error, parity.map_error)
        if precision == "fp32" and worst > FP32_LIMIT:
            raise ParityFailed(
                f"{name} is off by {worst:.2g} of the trained model's map range (allowed {FP32_LIMIT:g}); no bundle written",
                hint="please report it with the versions that edgead doctor shows",
            )
        if precision == "fp32":
            return
        allowed = max(1, int(self.options.max_flips * parity.frames))
        drop = (trained_auroc or 0.0) - (measured.auroc or 0.0)
        if parity.label_flips > allowed or drop > self.options.max_auroc_drop:
            scores = "" if measured.auroc is None else f", AUROC {measured.auroc:.4f} of {trained_auroc:.4f}"
            raise ParityFailed(
                f"{name} flips {parity.label_flips} of {parity.frames} labels (allowed {allowed}){scores}; no bundle written",
                hint="try --precision fp32, more --calibration pictures, --weight-bits 8 (needs VNNI), or a higher --max-flips",
            )

    def _record(self, backend: str, precision: str, file: Path, measured: Measured) -> EngineRecord:
        built_with = {**machine.packages([backend]), "arch": platform.machine()}
        if precision == "int8":
            built_with["weight_bits"] = str(self.options.quantize.weight_bits)
        return EngineRecord(
            name=f"{backend}-{precision}",
            backend=backend,
            precision=precision,
            file=file.relative_to(self.work).as_posix(),
            threshold=measured.threshold,
            parity=measured.parity,
            auroc=measured.auroc,
            built_with=built_with,
        )

    def _write(
        self, records: list[EngineRecord], speed: dict[str, float], engine: Engine, reference: Answers, threshold: Threshold
    ) -> None:
        golden = pick_golden(self.frames, reference, self.options.golden_count)
        write_golden(self.work, [self.frames.all[i] for i in golden], Answers(reference.scores[golden], reference.maps[golden]))
        facts = machine.facts()
        manifest = Manifest(
            name=str(self.info["name"]),
            family=self.detector.family,
            model={**self.detector.config, "image_size": list(self.detector.image_size)},
            origin=dict(self.info["origin"]),
            preprocess=self.recipe,
            inputs=engine.inputs,
            outputs=engine.outputs,
            engines=tuple(records),
            default_engine=min(speed, key=lambda name: speed[name]),
            calibration=self._calibration_facts(),
            golden=len(golden),
            measured=_measured(self.frames, reference, threshold, speed, self.options, self.info),
            tools={**facts.pop("packages"), **machine.packages(["onnxscript"])},
            machine=facts,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        write_manifest(self.work, manifest)
        self.report("bundle", 1.0)

    def _calibration_facts(self) -> dict[str, Any] | None:
        if self.calibration is None:
            return None
        return {
            "digest": self.calibration.digest,
            "images": len(self.calibration.images),
            "source": str(self.options.calibration or "set aside by training"),
            "method": self.options.quantize.method,
            "weight_bits": self.options.quantize.weight_bits,
            "int8_products": self.products,
        }


def _measured(
    frames: Frames,
    reference: Answers,
    threshold: Threshold,
    speed: dict[str, float],
    options: ExportOptions,
    info: dict[str, Any],
) -> dict[str, Any]:
    return {
        "threshold": asdict(threshold),
        "auroc": frames.auroc(reference),
        "frames": {"held_out": len(frames.held_out), "good": len(frames.good), "defect": len(frames.defect)},
        "limits": {"fp32": FP32_LIMIT, "max_flips": options.max_flips, "max_auroc_drop": options.max_auroc_drop},
        "latency_ms": speed,
        "threads": options.threads or machine.usable_cores(),
        "training": info.get("metrics", {}),
    }
