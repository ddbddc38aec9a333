"""Writes a bundle's golden frames and manifest: what was measured of each engine, and which were refused."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from edgead import machine
from edgead.bundle import TRAINED_ON, EngineRecord, Manifest, write_golden, write_manifest
from edgead.calibration.findings import Finding
from edgead.calibration.judging.guarded import Refusal
from edgead.export.builds import BUILDS, facts
from edgead.export.kitchen import Kitchen
from edgead.export.measure import golden_camera, pick_golden
from edgead.export.options import Job, name_of
from edgead.export.workshop import FP32_LIMIT, Workshop
from edgead.golden import MAX_MAP_BYTES
from edgead.measured import Choice, Deviated, Guarded, Measured, Noticed, Refused, Rewritten, TrainedThreshold
from edgead.parity import Answers
from edgead.typed import plain, read
from edgead.types import TensorSpec


@dataclass(frozen=True, slots=True)
class Timed:
    """The engines' inputs and outputs, the one to run when nobody says, median milliseconds by name, and how it was chosen
    (:mod:`edgead.engines.choice`)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    default: str
    speed: Mapping[str, float] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)


def write(kitchen: Kitchen, shop: Workshop, timed: Timed, findings: Sequence[Finding]) -> None:
    """Golden frames, the list of pictures trained on, and the manifest, into the shop's folder."""
    work, reference = shop.work, kitchen.reference
    most = max(1, min(kitchen.options.golden_count, MAX_MAP_BYTES // reference.maps[0].nbytes))
    golden, camera = golden_camera(kitchen.frames, pick_golden(kitchen.frames, reference, most), kitchen.recipe)
    stored = Answers(reference.scores[golden], reference.maps[golden])
    write_golden(work, [kitchen.frames.all[i] for i in golden], stored, camera)
    kinds = kitchen.frames.kinds()
    here = machine.facts()
    manifest = Manifest(
        name=kitchen.card.name,
        family=shop.detector.family,
        model={**shop.detector.config, "image_size": list(shop.detector.image_size)},
        origin=kitchen.card.origin,
        preprocess=kitchen.recipe,
        inputs=timed.inputs,
        outputs=timed.outputs,
        engines=tuple(_record(shop, job) for job in shop.kept),
        default_engine=timed.default,
        calibration=_calibration(kitchen, shop),
        golden=len(golden),
        golden_kinds=tuple(kinds[i] for i in golden),
        golden_camera=tuple(camera),
        measured=_measured(kitchen, shop, timed, findings),
        tools={**here.pop("packages"), **machine.packages(["onnxscript"])},
        machine=here,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    if (known := kitchen.model_dir / TRAINED_ON).is_file():
        shutil.copyfile(known, work / TRAINED_ON)
    write_manifest(work, manifest)


def _record(shop: Workshop, job: Job) -> EngineRecord:
    backend, precision = job
    built_with = {**machine.packages([backend]), "arch": platform.machine()}
    if BUILDS[job].graph == "int8":
        built_with["weight_bits"] = str(shop.kitchen.target(backend).options.weight_bits)
    built_with |= facts(shop.files[job])
    measured = shop.measured[job]
    return EngineRecord(
        name=name_of(job),
        backend=backend,
        precision=precision,
        file=shop.files[job].relative_to(shop.work).as_posix(),
        threshold=measured.threshold,
        parity=measured.parity if job in shop.here else None,
        auroc=measured.auroc,
        built_with=built_with,
    )


def _calibration(kitchen: Kitchen, shop: Workshop) -> dict[str, Any] | None:
    """Of INT8; None when no INT8 engine is left."""
    if kitchen.calibration is None or not shop.calibrated or not any(BUILDS[job].graph == "int8" for job in shop.kept):
        return None
    first = shop.calibrated[0]
    findings = {str(finding): finding.to_json() for told in shop.calibrated for finding in told.findings}
    return {
        "digest": kitchen.calibration.digest,
        "images": len(kitchen.calibration),
        "source": str(kitchen.options.calibration or "set aside by training"),
        "method": kitchen.options.observer,
        "tool": kitchen.options.tool,
        "weight_bits": first.target.options.weight_bits,
        "int8_products": first.products,
        "float_products": [{"node": node, "op": op, "why": why} for node, op, why in first.kept_float],
        "findings": list(findings.values()),
    }


def _measured(kitchen: Kitchen, shop: Workshop, timed: Timed, findings: Sequence[Finding]) -> Measured:
    frames, options = kitchen.frames, kitchen.options
    counts = {"held_out": len(frames.held_out), "good": len(frames.good), "defect": len(frames.defect)}
    kept = {name_of(job): shop.deviations[name_of(job)] for job in shop.kept}
    doubts = {name: tuple(options.limits.doubts(found, kitchen.yardstick.pairs)) for name, found in kept.items()}
    trained = kitchen.rule.trained
    return Measured(
        threshold=read(TrainedThreshold, plain(trained)),
        auroc=frames.auroc(kitchen.reference),
        frames=counts | ({"drawn": len(frames.drawn)} if frames.drawn else {}),
        limits={"fp32": FP32_LIMIT, **asdict(options.limits)},
        rewrites=read(tuple[Rewritten, ...], [done.to_json() for done in shop.applied]),
        search=options.search,
        deviations=read(dict[str, Deviated], {name: deviation.to_json() for name, deviation in kept.items()}),
        doubts={name: words for name, words in doubts.items() if words},
        refused=tuple(_refusal(shop, refusal) for refusal in shop.refused),
        guard=read(tuple[Guarded, ...], [told.to_json() for told in shop.guarded]),
        literal={name_of(job): shop.measured[job].parity for job in shop.kept if job not in shop.here},
        latency_ms=dict(timed.speed),
        choice=timed.choice,
        threads=options.threads or machine.usable_cores(),
        training=dict(kitchen.card.metrics),
        labels=frames.labels,
        judgement=read(tuple[Noticed, ...], [finding.to_json() for finding in findings]),
        rest={"oddest": plain(kitchen.card.oddest)},
    )


def _refusal(shop: Workshop, refusal: Refusal) -> Refused:
    """With the figures, where there are finite ones."""
    found = shop.deviations.get(refusal.engine)
    figures = found.to_json() if found is not None and found.score_deviation < float("inf") else None
    told: Refused = read(Refused, {**refusal.to_json(), "figures": figures})
    return told
