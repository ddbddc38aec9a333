"""What INT8 costs and wins: edgead's calibration under its guard, against NNCF as it comes and anomalib's recipe.

    python -m benchmarks.calibration --sets elpv --models patchcore --seeds 0 --json benchmarks/results/calibration.json

Each model is trained once for each set and seed, exported to ONNX, and quantised in these ways, all run by OpenVINO on this CPU:

- ``fp32``: not quantised; what the others are compared with.
- ``edgead``: `edgead export`'s way: good pictures that training set aside, our Q/DQ writer for this target, the guard with its
  default limits. ``edgead, no guard`` is the graph before layers were returned to float; only shown when some were.
- ``nncf``: ``nncf.quantize(model, good pictures)`` on the whole graph, all defaults.
- ``anomalib``: what anomalib 2.7's INT8_PTQ does (``anomalib/deploy/export.py``): ``nncf.quantize(model, validation set)``, all
  defaults, where the validation set is half of the test set, defects included. anomalib itself bakes threshold and normalisation
  into its graph; here its recipe is applied to our graph, so only the quantisation differs.

Frames for calibration, for thresholds and for the figures are disjoint: anomalib's half of the test set is in no figure. Every
variant has its own threshold, from its own scores of the held-out good frames. Deviation is the mean score difference from fp32
over the standard deviation of the fp32 scores. Latencies are medians of rounds in which all variants take turns, one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks._sets import SETS, ImageSet, Sizes, Split
from benchmarks.int8 import write_folder
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.judging.deviation import Limits, Yardstick
from edgead.calibration.judging.guard import Candidate, GuardFailed, GuardOptions, GuardReport, guard
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.openvino import OpenVinoEngine, write_ir
from edgead.engines.timing import interleaved_ms
from edgead.export.graph import write_onnx
from edgead.families import trained
from edgead.machine import facts
from edgead.optional import require
from edgead.parity import Answers, ask
from edgead.preprocess import list_images, read_image
from edgead.thresholds.choose import threshold_from_good
from edgead.trained import load_model
from edgead.training.fit import TrainRequest, train
from edgead.types import Image

SETTINGS = {"smallest": Sizes(60, 30, 30), "small": Sizes(120, 60, 40), "full": Sizes(200, 150, 150)}
"""Training images, good test images, defects of each kind; test images are halved between anomalib's validation and figures."""

ROW = "{:<14}{:<12}{:>5}  {:<18}{:>8}{:>9}{:>11}{:>10}{:>8}{:>8}".format
TITLES = ("set", "model", "seed", "variant", "AUROC", "flips", "deviation", "map dev.", "ms", "float")


def run(name: str, model: str, seed: int, sizes: Sizes, threads: int, scratch: Path) -> list[dict[str, Any]]:
    """Train one model and measure all variants: one row each."""
    images: ImageSet = dataclasses.replace(SETS[name], sizes=sizes)
    recipe = images.recipe_of(model)
    split = images.split(seed, model)
    write_folder(split, scratch / "data")
    train(TrainRequest(model, scratch / "data", scratch / "model", recipe, seed=seed))
    graph = scratch / "model.onnx"
    write_onnx(load_model(scratch / "model")[0], graph)
    validation, tested = _halves(split)
    held_out = [read_image(file) for file in list_images(scratch / "model/heldout")]
    good_set = CalibrationSet.from_folder(scratch / "model/calibration", recipe, 64)
    frames = (*held_out, *(item for item, defect in tested if not defect), *(item for item, defect in tested if defect))
    good = range(len(held_out), len(held_out) + sum(not defect for _, defect in tested))
    files: dict[str, Path] = {"fp32": scratch / "fp32.xml"}
    write_ir(graph, files["fp32"])
    reference = _ask(files["fp32"], frames, threads)

    def own(scores: Any) -> float:
        return threshold_from_good(scores[: len(held_out)]).value

    yardstick = Yardstick(frames, reference, own(reference.scores), own, good, range(good.stop, len(frames)))
    base = {"set": name, "model": model, "seed": seed}
    notes: dict[str, dict[str, Any]] = {}
    told, calibrated = _edgead(graph, good_set, yardstick, threads, scratch)
    files |= calibrated
    notes["edgead"] = {
        "kept_float": list(told.keep_float),
        "within_limits": "edgead" in calibrated,
        "guard_s": round(told.seconds, 1),
    }
    for variant, pictures in (("nncf", good_set.images), ("anomalib", validation)):
        files[variant] = _nncf(graph, pictures, scratch / f"{variant}.xml")
    rows: list[dict[str, Any]] = []
    for variant, file in files.items():
        deviation = yardstick.measure(reference if variant == "fp32" else _ask(file, frames, threads))
        rows.append(base | {"variant": variant} | deviation.to_json() | notes.get(variant, {}))
    with ExitStack() as stack:
        engines = {variant: OpenVinoEngine(file, threads=threads) for variant, file in files.items()}
        for engine in engines.values():
            stack.callback(engine.close)
        speed = interleaved_ms(engines, frames[0])
    for row in rows:
        row["latency_ms"] = speed[row["variant"]]
    return rows


def _halves(split: Split) -> tuple[list[Image], list[tuple[Image, bool]]]:
    """Every second labelled frame is anomalib's validation set, the others are tested."""
    validation, tested = [], []
    for kind in (False, True):
        items = [item.image for item, defect in zip(split.test, split.labels, strict=True) if bool(defect) is kind]
        validation += items[::2]
        tested += [(image, kind) for image in items[1::2]]
    return validation, tested


def _edgead(
    graph: Path, pictures: CalibrationSet, yardstick: Yardstick, threads: int, scratch: Path
) -> tuple[GuardReport, dict[str, Path]]:
    """Calibrate and guard; the engines' files: none named "edgead" when no layer in float was enough."""
    folder = scratch / "edgead"
    folder.mkdir()
    int8 = folder / "model.int8.onnx"
    calibrate(graph, pictures, target_for("openvino"), output=int8, threads=threads, allow_unsafe=True)
    unguarded = scratch / "unguarded.xml"
    write_ir(int8, unguarded)

    def build(source: Path) -> Path:
        write_ir(source, source.with_suffix(".xml"))
        return source.with_suffix(".xml")

    candidate = Candidate("openvino-int8", build, lambda file: OpenVinoEngine(file, threads=threads))
    try:
        told = guard(graph, int8, [candidate], yardstick, Limits(), GuardOptions(threads=threads))
    except GuardFailed as failed:
        print(f"edgead: {failed}", file=sys.stderr)
        return failed.report, {"edgead, no guard": unguarded}
    files = {"edgead": int8.with_suffix(".xml")}
    return told, files | ({"edgead, no guard": unguarded} if told.keep_float else {})


def _nncf(graph: Path, pictures: Sequence[Image], target: Path) -> Path:
    """``nncf.quantize`` with all defaults on the OpenVINO model."""
    nncf = require("nncf", extra="nncf", why="This benchmark")
    ov = require("openvino", extra="openvino", why="This benchmark")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = ov.Core().read_model(str(graph))
    quantised = nncf.quantize(model, nncf.Dataset([image[None] for image in pictures]))
    ov.save_model(quantised, str(target), compress_to_fp16=False)
    return target


def _ask(file: Path, frames: Sequence[Image], threads: int) -> Answers:
    engine = OpenVinoEngine(file, threads=threads)
    try:
        return ask(engine, frames)
    finally:
        engine.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="elpv,magnetic_tile,casting", help=f"of {', '.join(SETS)}")
    parser.add_argument("--models", default=",".join(trained()), help=f"of {', '.join(trained())}")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--size", default="small", choices=list(SETTINGS), help="how many pictures (default small)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="start no model after so much time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here, after every model")
    args = parser.parse_args(argv)
    jobs = [(n, m, int(s)) for n in args.sets.split(",") for s in args.seeds.split(",") for m in args.models.split(",")]
    for name, model, _ in jobs:
        if name not in SETS or model not in trained():
            parser.error(f"unknown: {name} {model}; known: {', '.join([*SETS, *trained()])}")
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    began = time.monotonic()
    print(ROW(*TITLES), flush=True)
    for name, model, seed in jobs:
        if time.monotonic() - began > 60 * args.max_minutes:
            skipped[f"{name} {model} {seed}"] = f"{args.max_minutes:g} minutes are over"
            continue
        try:
            with tempfile.TemporaryDirectory() as scratch:
                new = run(name, model, seed, SETTINGS[args.size], args.threads, Path(scratch))
        except FileNotFoundError as absent:
            skipped[f"{name} {model} {seed}"] = str(absent)
            continue
        rows += new
        _show(new, print)
        if args.json:
            _write(args.json, args, rows, skipped)
    for what, reason in skipped.items():
        print(f"skipped {what}: {reason}")
    if args.json:
        _write(args.json, args, rows, skipped)
    return 0


def _show(rows: Sequence[dict[str, Any]], tell: Callable[[str], None]) -> None:
    for row in rows:
        auroc = "" if row["auroc"] is None else f"{row['auroc']:.4f}"
        figures = (f"{row['score_deviation']:.3f}", f"{row['map_deviation']:.3f}", f"{row['latency_ms']:.1f}")
        kept = str(len(row["kept_float"])) if "kept_float" in row else ""
        flips = f"{row['label_flips']}/{row['frames']}"
        tell(ROW(row["set"], row["model"], row["seed"], row["variant"], auroc, flips, *figures, kept))


def _write(target: Path, args: argparse.Namespace, rows: list[dict[str, Any]], skipped: dict[str, str]) -> None:
    content = {
        "benchmark": "calibration", "machine": facts(), "size": args.size, "sizes": dataclasses.asdict(SETTINGS[args.size]),
        "threads": args.threads, "limits": dataclasses.asdict(Limits()), "skipped": skipped, "rows": rows,
    }  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
