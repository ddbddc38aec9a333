"""Do the exported engines answer as the trained models did? Every family and engine on one labelled set.

    python -m benchmarks.int8 --set elpv --json benchmarks/results/int8.json

Trains each family once, exports every engine with the limits of `edgead export` wide open, so that failures are shown instead of
refused, and prints image AUROC, label flips and errors against torch. With --no-vnni the engines run once more in a process whose
oneDNN, which OpenVINO is built on, is told to stop at AVX2 (ONEDNN_MAX_CPU_ISA); ONNX Runtime has no such switch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2

from benchmarks._sets import SETS, Split
from edgead.calibration.judging.deviation import Limits
from edgead.export import ExportOptions, export_bundle
from edgead.families import trained
from edgead.machine import facts
from edgead.preprocess import PreprocessRecipe
from edgead.training.fit import TrainRequest, train

ROW = "{:<13}{:<20}{:<8}{:>8}{:>12}{:>12}{:>12}{:>10}".format


def write_folder(split: Split, root: Path) -> None:
    """The frames of a split, at model size, in MVTec layout."""
    for i, image in enumerate(split.train):
        _write(root / "train/good" / f"{i:04d}.png", image)
    for i, item in enumerate(split.test):
        _write(root / "test" / ("defect" if item.defect else "good") / f"{i:04d}.png", item.image)


def _write(path: Path, image: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(f"cannot write {path}")


def measure(model: str, model_dir: Path, bundle: Path, weight_bits: int, cpu: str) -> list[dict[str, Any]]:
    """Export the trained model and read what the export measured: one row an engine."""
    options = ExportOptions(weight_bits=weight_bits, frames_per_class=150, limits=Limits(1.0, 1.0, 1e6))
    manifest = export_bundle(model_dir, bundle, options).manifest
    return [
        {
            "model": model, "engine": record.name, "cpu": cpu, "weight_bits": weight_bits if record.precision == "int8" else 32,
            "auroc": round(record.auroc or 0.0, 4), "torch_auroc": round(manifest.measured.auroc or 0.0, 4),
            "flips": parity.label_flips, "frames": parity.frames,
            "score_error": parity.score_error, "map_error": parity.map_error,
        }
        for record in manifest.engines
        if (parity := record.parity) is not None
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="elpv", choices=list(SETS))
    parser.add_argument("--models", default=",".join(trained()))
    parser.add_argument("--weight-bits", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-vnni", action="store_true", help="measure once more without AVX-512 and VNNI in OpenVINO")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inner", type=Path, nargs=2, metavar=("MODEL_DIR", "BUNDLE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        model_dir, bundle = args.inner
        print(json.dumps(measure(args.models, model_dir, bundle, args.weight_bits, "up to AVX2")))
        return 0
    rows: list[dict[str, Any]] = []
    print(ROW("model", "engine", "bits", "AUROC", "of torch", "flips", "score error", "map error"))
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models.split(","):
            rows += _one(model, args, Path(scratch) / model)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": "int8", "set": args.set, "seed": args.seed, "machine": facts(), "rows": rows}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


def _one(model: str, args: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    recipe: PreprocessRecipe = SETS[args.set].recipe_of(model)
    write_folder(SETS[args.set].split(args.seed, model), scratch / "data")
    train(TrainRequest(model, scratch / "data", scratch / "model", recipe, seed=args.seed))
    rows = measure(model, scratch / "model", scratch / "part.edgead", args.weight_bits, "as it is")
    if args.no_vnni:
        command = [sys.executable, "-m", "benchmarks.int8", "--models", model, "--weight-bits", str(args.weight_bits)]
        command += ["--inner", str(scratch / "model"), str(scratch / "avx2.edgead")]
        env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
        told = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
        rows += [row for row in told if row["engine"].startswith("openvino")]
    for row in rows:
        engine = row["engine"] + ("" if row["cpu"] == "as it is" else " AVX2")
        flips = f"{row['flips']}/{row['frames']}"
        errors = (f"{row['score_error']:.2g}", f"{row['map_error']:.2g}")
        print(ROW(model, engine, row["weight_bits"], row["auroc"], row["torch_auroc"], flips, *errors), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
