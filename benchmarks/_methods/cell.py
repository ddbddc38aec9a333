"""One method on one draw of one set: trained, judged, exported and timed, each told as soon as it is known.

    python -m benchmarks._methods.cell METHOD SET SEED OUT.json [--engines] [--maps FILE.npz]

A process of its own, since an engine that crashes must end one cell and not the run; what was told before stays in OUT.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._methods.gallery import keep
from benchmarks._sets import SETS, Entry, Sizes
from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import auroc as auroc_of
from edgead.calibration.judging.deviation import auroc_error
from edgead.calibration.judging.guarded import GuardOptions
from edgead.engines import open_engine
from edgead.errors import EdgeadError
from edgead.export import ExportOptions, export_bundle
from edgead.families import method as method_of
from edgead.jobs.train import Looked, train, train_request
from edgead.models.detector import Detector
from edgead.training.dataset import Labelled, load_labelled
from edgead.training.evaluate import answers
from edgead.training.fit import TrainResult
from edgead.training.metrics import auroc, brightness_auroc, pixel_auroc, pro
from edgead.training.trial import Asked, ask
from edgead.types import Engine

TRAIN, GOOD, DEFECTS = 80, 40, 40
"""Pictures at most; defects in equal numbers of each kind."""

ROUNDS, BURST, TIMED_S = 15, 3, 40.0

Tell = Callable[[Mapping[str, Any]], None]
"""Adds what is known now to the cell."""


class TooLong(Exception):
    """The training took more CPU time than it may."""


def drawn(name: str, seed: int) -> tuple[list[Path], list[Entry]]:
    """The files of one seed, the same for every method: good ones for training, and test entries."""
    found = SETS[name]
    kinds = {kind for _, kind, _ in found.find()[1]} - {"good"}
    return found.files(seed, Sizes(TRAIN, GOOD, DEFECTS // len(kinds)))


def measure(method: str, name: str, seed: int, size: int, tell: Tell, *, engines: bool, maps: Path | None, most_s: float) -> None:
    """The whole cell.

    Args:
        size: input of the model, px.
        tell: is given figures as they come.
        engines: export and time it, too.
        maps: keep its maps of three pictures there (:mod:`benchmarks._methods.gallery`).
        most_s: CPU seconds that the training may take.

    Raises:
        EdgeadError, TooLong: it cannot be trained.
    """
    files, entries = drawn(name, seed)
    with tempfile.TemporaryDirectory() as scratch:
        good, labelled = Path(scratch) / "good", Path(scratch) / "labelled"
        laid([(file, good) for file in files] + [(file, labelled / "test" / kind) for file, kind, _ in entries])
        taught = others(method, name, entries, seed)
        laid([(file, Path(scratch) / "taught" / kind) for file, kind, _ in taught])
        result = fitted(
            method, good, Path(scratch) / "model", seed, size, tell, most_s, Path(scratch) / "taught" if taught else None
        )
        test = list(load_labelled(entries, result.images.recipe))
        told = judged(result, test, tell)
        if maps is not None:
            keep(maps, result, test, [anomaly_map for _, anomaly_map in told])
        tell({"gflop": gflop(result.detector)})
        if engines:
            bundle = exported(Path(scratch) / "model", Path(scratch) / "part.edgead", labelled, tell)
            if bundle is not None:
                timed(bundle, result, tell)


def others(name: str, of: str, entries: Sequence[Entry], seed: int) -> list[Entry]:
    """Defects that nobody is judged on, for a method that needs some. Raises EdgeadError: there are hardly any."""
    if not method_of(name)[0].needs_defects:
        return []
    judged = {file for file, _, _ in entries}
    left = [one for one in SETS[of].find()[1] if one[1] != "good" and one[0] not in judged]
    if len(left) < 8:
        raise EdgeadError(f"{len(left)} defects are left to learn from")
    return [left[i] for i in np.random.default_rng(seed).permutation(len(left))[:DEFECTS]]


def laid(where: Sequence[tuple[Path, Path]]) -> None:
    """Copies of files, each into its folder."""
    for i, (file, folder) in enumerate(where):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / f"{i:04d}{file.suffix}")


def fitted(
    method: str, good: Path, out: Path, seed: int, size: int, tell: Tell, most_s: float, defects: Path | None = None
) -> TrainResult:
    """Train as `edgead train` does, with the threshold from held-out pictures alone: folds would be trainings more."""
    looked = Looked(size=(size, size), keep_aspect="no")
    request = train_request(method, good, out, looked, seed=seed, all_good=False, defects=[defects] if defects else [])
    began = time.process_time()

    def progress(stage: str, done: float) -> None:
        if time.process_time() - began > most_s:
            raise TooLong(f"over {most_s:.0f} CPU s of training ({stage}, {done:.0%})")

    result = train(request, progress).result
    tell({"train_cpu_s": round(time.process_time() - began, 1), "train": result.images.count, "px": size})
    return result


def judged(result: TrainResult, test: Sequence[Labelled], tell: Tell) -> list[tuple[float, Any]]:
    """Scores and maps of the labelled pictures, and the figures made of them."""
    told = [answers(result.detector, item.image) for item in test]
    defect, scores = np.array([item.defect for item in test]), np.array([score for score, _ in told])
    if not np.isfinite(scores).all() or not all(np.isfinite(anomaly_map).all() for _, anomaly_map in told):
        raise EdgeadError("answers that are not finite")
    means = np.array([float(item.image.mean()) for item in test])
    figures = {
        "image_auroc": auroc(defect, scores),
        "image_auroc_error": auroc_error(scores[~defect].astype(np.float32), scores[defect].astype(np.float32)),
        "map_mean_auroc": auroc(defect, np.array([float(anomaly_map.mean()) for _, anomaly_map in told])),
        "map_max_auroc": auroc(defect, np.array([float(anomaly_map.max()) for _, anomaly_map in told])),
        "drawn_auroc": drawn_auroc(result),
        "brightness_auroc": brightness_auroc(defect, [item.image for item in test], result.images.train),
        "brightness_correlation": float(np.corrcoef(scores, means)[0, 1]) if np.ptp(scores) > 0 else 0.0,
    }
    masks = [item.mask for item in test if item.mask is not None]
    maps = [anomaly_map for item, (_, anomaly_map) in zip(test, told, strict=True) if item.mask is not None]
    if any(mask.any() for mask in masks):
        figures |= {"pixel_auroc": pixel_auroc(masks, maps), "pro": pro(masks, maps)}
    finite = {key: round(value, 4) for key, value in figures.items() if value is not None and math.isfinite(value)}
    tell({**finite, "good": int((~defect).sum()), "defects": int(defect.sum())})
    return told


def drawn_auroc(result: TrainResult) -> float | None:
    """On defects drawn onto the held-out pictures, as `edgead train auto` judges."""
    said = ask(result.detector, result.images.recipe, Asked.of(result.images.heldout_files))
    return auroc_of(said.good, said.drawn)


@torch.no_grad()
def gflop(detector: Detector) -> float:
    """Of one picture: convolutions and matrix products, a multiplication and its addition counted as two."""
    picture = torch.zeros((1, *detector.image_size, 3), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        detector(picture)
    return round(float(counter.get_total_flops()) / 1e9, 3)


def exported(model: Path, target: Path, labelled: Path, tell: Tell) -> Bundle | None:
    """OpenVINO engines in FP32 and INT8 under the usual limits, and what the export measured of them."""
    options = ExportOptions(("openvino",), ("fp32", "int8"), labelled=labelled, guard=GuardOptions(max_s=120.0))
    try:
        bundle = export_bundle(model, target, options)
    except EdgeadError as error:
        tell({"engines_failed": str(error)[:300]})
        return None
    measured = bundle.manifest.measured
    told: dict[str, Any] = {}
    for record in bundle.manifest.engines:
        parity = record.parity
        if record.precision == "fp32" and parity is not None:
            told["fp32_error"] = float(f"{max(parity.score_error, parity.map_error):.2g}")
    if (found := measured.deviations.get("openvino-int8")) is not None:
        told |= {"int8_flips": found.label_flips, "int8_frames": found.frames, "int8_auroc": found.auroc,
                 "int8_auroc_change": found.auroc_change, "int8_deviation": round(found.score_deviation, 4)}  # fmt: skip
    if measured.guard:
        told["int8_kept_float"] = list(measured.guard[0].keep_float)
    refused = [one for one in measured.refused if one.engine == "openvino-int8"]
    tell(told | ({"int8_refused": refused[0].why} if refused else {}))
    return bundle


def timed(bundle: Bundle, result: TrainResult, tell: Tell) -> None:
    """Milliseconds of one inference on one thread, by the clock and of CPU time, the engines in turn; and the median over rounds
    of how many times longer FP32 takes."""
    image = result.images.heldout[0]
    names = [record.name for record in bundle.manifest.engines]
    engines = {name: open_engine(bundle, name, threads=1) for name in names}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    began = time.monotonic()
    for done in range(ROUNDS + 1):
        if done > 3 and time.monotonic() - began > TIMED_S:
            break
        for name, engine in engines.items():
            taken = [_taken(engine, image) for _ in range(BURST + 1)][1:]
            if done:
                rounds[name].append((float(np.median([ms for ms, _ in taken])), float(np.median([ms for _, ms in taken]))))
    for engine in engines.values():
        engine.close()
    told: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    for name, found in rounds.items():
        clock, cpu = np.median(found, axis=0)
        told |= {
            f"{name.partition('-')[2]}_p50_ms": round(float(clock), 2),
            f"{name.partition('-')[2]}_cpu_ms": round(float(cpu), 2),
        }
    if len(rounds) == 2:
        times = [float32[0] / int8[0] for float32, int8 in zip(rounds["openvino-fp32"], rounds["openvino-int8"], strict=True)]
        told["int8_times_faster"] = round(float(np.median(times)), 2)
    tell(told)


def _taken(engine: Engine, image: Any) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    engine.infer(image)
    return (time.perf_counter() - began) * 1e3, (time.process_time() - cpu) * 1e3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, required=True, help="of the model's input, px")
    parser.add_argument("--engines", action="store_true", help="export and time it, too")
    parser.add_argument("--maps", type=Path, help="keep maps of three pictures here")
    parser.add_argument("--most-s", type=float, default=900.0, help="CPU seconds that the training may take (default 900)")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}

    def tell(figures: Mapping[str, Any]) -> None:
        found.update(figures)
        args.out.write_text(json.dumps(found, allow_nan=False), "utf-8")

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        measure(args.method, args.set, args.seed, args.size, tell, engines=args.engines, maps=args.maps, most_s=args.most_s)
    except (EdgeadError, TooLong) as error:
        tell({"failed": str(error)[:300]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
