"""PatchCore's bank in fewer bytes: what rows, dimensions and bits cost in AUROC, and what they save in bytes and milliseconds.

    python -m benchmarks.coreset --json benchmarks/results/coreset.json
    python -m benchmarks.coreset --quick

Starts from a greedy bank of 10 % of all patches in float32. Every other bank is made of it by the rewrites `rows`, `dims` and
`bank` (docs/coreset.md). AUROC is that of the rewritten detectors on shuffled labelled pictures, computed in torch from features
that are computed once, the mean of several draws. For a ladder of them engines are exported, built, timed in turns and asked for
all pictures of the first draw.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from torch import Tensor

from benchmarks._sets import SETS, Split
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine, write_ir
from edgead.engines.timing import interleaved
from edgead.export.graph import write_onnx
from edgead.families.patchcore.coreset import greedy_coreset, project
from edgead.families.patchcore.network import PatchCore
from edgead.families.rewriting import rewrite
from edgead.machine import facts
from edgead.models.patches import LinearFeatures, PatchFeatures
from edgead.models.rewrites import Material, Setting
from edgead.models.rows import collect_rows, load_features
from edgead.training.metrics import auroc
from edgead.types import Engine

BASE, NEIGHBOURS = 0.1, 9
SHARES = (0.1, 0.04, 0.02, 0.01, 0.005, 0.0025)
DIMS = (0, 64, 32, 16)
CLOSER, MORE_SHARES = 32, (0.03, 0.015)
ALL_BITS = 0.02
LADDER = (
    (0.1, 0, ""),
    (0.01, 0, ""),
    (0.1, 32, ""),
    (0.03, 32, "int8"),
    (0.02, 32, "int8"),
    (0.01, 32, "int8"),
    (0.005, 32, "int8"),
)
"""Of which engines are built: share of all patches, dimensions (0: all), how rows are stored ("": float32)."""

CALIBRATION, ROUNDS = 16, 12
THREADS = (1, 2)
TOLERANCE, GOAL, AIM = 0.5, 50, 100
ROW = "{:>8}{:>8}{:>6}{:>6}{:>12}{:>9}{:>8}{:>8}".format

Step = tuple[float, int, str]


class Draw:
    """One draw of the pictures: features of good training patches in greedy order, and of the test pictures' patches."""

    def __init__(self, features: PatchFeatures, name: str, seed: int, most: int | None) -> None:
        split = SETS[name].split(seed)
        if most is not None:
            test = [[item for item in split.test if item.defect is kind][:most] for kind in (False, True)]
            split = Split(split.train[: 2 * most], [*test[0], *test[1]])
        self.features, self.split, self.size = features, split, split.train[0].shape[:2]
        generator = torch.Generator().manual_seed(seed)
        self.rows, self.patches = collect_rows(features, split.train, generator)
        self.test = collect_rows(features, [item.image for item in split.test], generator)[0].view(
            len(split.test), -1, features.channels
        )
        points = project(self.rows, generator)
        began = time.perf_counter()
        self.order = greedy_coreset(points, round(BASE * self.patches))
        self.greedy_s = time.perf_counter() - began

    def base(self, order: Tensor | None = None) -> PatchCore:
        """The PatchCore that all others are made of; `order`: of other rows than the greedy ones."""
        rows = self.rows[self.order if order is None else order]
        return PatchCore.from_bank(self.features, rows, NEIGHBOURS, self.size, {"nested": True})

    def rewritten(self, base: PatchCore, step: Step) -> PatchCore:
        share, dims, bank = step
        plan: dict[str, Setting] = {"dims": dims} if dims else {}
        plan["rows"] = min(round(share * self.patches), len(base.bank()))
        if bank:
            plan["bank"] = bank
        made, _ = rewrite(base, plan, Material.of(self.split.train[:1]))
        assert isinstance(made, PatchCore)
        return made

    def auroc(self, detector: PatchCore) -> float:
        """Of its scores of the test pictures, in percent."""
        linear = detector.features if isinstance(detector.features, LinearFeatures) else None
        scores = []
        for patches in self.test:
            if linear is not None:  # the same product, from features on the common grid
                weight = torch.cat([layer.weight.flatten(1) for layer in linear.layers], 1)  # type: ignore[operator]
                patches = patches @ weight.T + linear.bias.flatten()
            # in parts, whose distances to all rows stay in the cache
            told = [detector.judge(part[None]) for part in patches.chunk(8)]
            scores.append(float(max(told, key=lambda one: float(one[0].amax()))[1]))
        return 100.0 * auroc(self.split.labels, np.array(scores))


def steps(quick: bool) -> Iterator[Step]:
    """What AUROC is measured of; the first one is what the others are compared with."""
    for dims in DIMS[::2] if quick else DIMS:
        more = MORE_SHARES if dims == CLOSER else ()
        for share in sorted((*SHARES, *more), reverse=True):
            yield share, dims, "int8" if dims else ""
            if share == ALL_BITS and dims in (0, CLOSER):
                yield share, dims, "fp16"
            if share in (BASE, ALL_BITS) and dims == CLOSER:
                yield share, dims, ""


def bank_bytes(detector: PatchCore) -> int:
    """Of what the bank needs in a file: rows, steps of rows, squared norms, and neighbours where there is a table of them."""
    bits = {"fp16": 2, "int8": 1}.get(detector.config.get("bank", ""), 4)
    rows, dims = detector.bank().shape
    table = 0 if "bank" in detector.config else detector.neighbours.numel() * 8
    return int(rows * (dims * bits + 4 + (4 if bits == 1 else 0)) + table)


def accuracy(draws: Sequence[Draw], quick: bool) -> list[dict[str, Any]]:
    """One row a step, AUROC being the mean over the draws."""
    bases = [draw.base() for draw in draws]
    found: list[dict[str, Any]] = []
    print(ROW("share", "rows", "dims", "bank", "bytes", "smaller", "AUROC", "lost"))
    for step in steps(quick):
        detectors = [draw.rewritten(base, step) for draw, base in zip(draws, bases, strict=True)]
        values = [draw.auroc(detector) for draw, detector in zip(draws, detectors, strict=True)]
        found.append(_row(step, detectors[0], values, found))
    return found


def _row(step: Step, detector: PatchCore, values: list[float], before: list[dict[str, Any]]) -> dict[str, Any]:
    share, _, bank = step
    rows, width = detector.bank().shape
    first = before[0] if before else {"row_bytes": rows * width * 4, "auroc": statistics.fmean(values)}
    size = bank_bytes(detector)
    row = {
        "share": share, "rows": rows, "dims": width, "bank": bank or "fp32", "bytes": size, "row_bytes": rows * width * 4,
        "smaller": round(first["row_bytes"] / size, 1), "auroc": round(statistics.fmean(values), 2),
        "lost": round(first["auroc"] - statistics.fmean(values), 2), "aurocs": [round(value, 2) for value in values],
    }  # fmt: skip
    print(_line(row), flush=True)
    return row


def _line(row: Mapping[str, Any]) -> str:
    share = f"{100 * row['share']:g} %"
    return ROW(share, row["rows"], row["dims"], row["bank"], f"{row['bytes']:,}", row["smaller"], row["auroc"], row["lost"])


def at_random(draw: Draw) -> list[dict[str, Any]]:
    """Rows drawn at random in place of the greedy ones: mean AUROC of three draws."""
    found = []
    for share in (0.01, 0.0025):
        values = []
        for seed in range(3):
            order = torch.randperm(len(draw.rows), generator=torch.Generator().manual_seed(seed))[: round(share * draw.patches)]
            values.append(draw.auroc(draw.base(order)))
        greedy = draw.auroc(draw.rewritten(draw.base(), (share, 0, "")))
        found.append({"share": share, "random": round(statistics.fmean(values), 2), "greedy": round(greedy, 2)})
        print(f"{100 * share:g} % of the rows: greedy {greedy:.2f}, at random {statistics.fmean(values):.2f}", flush=True)
    return found


def ladder(draw: Draw, root: Path, recipe: Any, quick: bool) -> list[dict[str, Any]]:
    """Engines of some steps: bytes on the disk, milliseconds, AUROC as they answer."""
    for i, image in enumerate(draw.split.train[:CALIBRATION]):
        cv2.imwrite(str(root / f"{i}.png"), image)
    pictures = CalibrationSet.from_folder(root, recipe, CALIBRATION)
    base = draw.base()
    files: dict[tuple[int, str, str], Path] = {}
    found: list[dict[str, Any]] = []
    for k, step in enumerate(LADDER[1::3] if quick else LADDER):
        detector = draw.rewritten(base, step)
        graphs = [root / f"{k}.onnx", root / f"{k}.int8.onnx"]
        write_onnx(detector, graphs[0])
        calibrate(graphs[0], pictures, target_for("openvino"), output=graphs[1], allow_unsafe=True)
        row: dict[str, Any] = {"share": step[0], "rows": len(detector.bank()), "dims": detector.bank().shape[1]}
        row |= {"bank": step[2] or "fp32", "bytes": bank_bytes(detector), "torch_auroc": round(draw.auroc(detector), 2)}
        for kind, graph in zip(("fp32", "int8"), graphs, strict=True):
            write_ir(graph, graph.with_suffix(".xml"))
            row[f"onnx_{kind}_bytes"] = graph.stat().st_size
            row[f"bank_in_onnx_{kind}_bytes"] = stored_bytes(graph, len(detector.bank()))
            row[f"ir_{kind}_bytes"] = graph.with_suffix(".bin").stat().st_size
            files[k, "openvino", kind] = graph.with_suffix(".xml")
            files[k, "onnxruntime", kind] = graph
        found.append(row)
    for threads in THREADS:
        _time(draw, files, found, threads)
    return found


def stored_bytes(graph: Path, rows: int) -> int:
    """Of all constants of an ONNX file that have a dimension of so many rows."""
    tensors = onnx.load(str(graph)).graph.initializer
    return sum(onnx.numpy_helper.to_array(t).nbytes for t in tensors if rows in t.dims)


def _time(draw: Draw, files: Mapping[tuple[int, str, str], Path], found: list[dict[str, Any]], threads: int) -> None:
    kinds = {"openvino": OpenVinoEngine, "onnxruntime": OnnxRuntimeEngine}
    engines: dict[tuple[int, str, str], Engine] = {key: kinds[key[1]](file, threads=threads) for key, file in files.items()}
    images = [item.image for item in draw.split.test]
    told = interleaved({str(key): partial(engine.infer, images[0]) for key, engine in engines.items()}, rounds=ROUNDS, max_s=60.0)
    for key, engine in engines.items():
        with closing(engine):
            k, backend, kind = key
            found[k][f"{backend}_{kind}_{threads}_ms"] = round(told[str(key)].p50_ms, 2)
            if threads == 2 and backend == "openvino":
                scores = np.array([engine.infer(image)[0] for image in images])
                found[k][f"openvino_{kind}_auroc"] = round(100.0 * auroc(draw.split.labels, scores), 2)


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    first, best = data["steps"][0], _keeping(data["steps"])
    greedy = "; ".join(f"{100 * r['share']:g} % greedy {r['greedy']:.1f}, at random {r['random']:.1f}" for r in data["random"])
    met = "above the aim" if best["smaller"] >= AIM else "goal met" if best["smaller"] >= GOAL else "goal not met"
    lines = [
        "## PatchCore's bank: rows, dimensions, bits",
        "",
        f"Set {data['set']}, {data['draws']} draws of {data['train']} good training and {data['test']} labelled test pictures.",
        f"The bank that all are compared with is greedy, 10 % of {data['patches']:,} patches: {first['rows']:,} rows of",
        f"{first['dims']} float32, {first['row_bytes']:,} bytes, AUROC {first['auroc']:.2f}; the greedy run took",
        f"{data['greedy_s']:.0f} s. Bytes count rows, their steps, norms and (float32 only) the table of neighbours.",
        "",
        f"**Smallest bank such that it and all larger ones of as many dimensions lose at most {TOLERANCE:g} points in every",
        f"draw: {best['smaller']:g} times smaller ({best['rows']:,} rows x {best['dims']}, {best['bank']},",
        f"{best['bytes']:,} bytes) at AUROC {best['auroc']:.2f}** (goal {GOAL}, aim {AIM}: {met}).",
        "",
        "| rows | dims | stored as | bytes | times smaller | AUROC | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in data["steps"]:
        cells = f"{row['rows']:,}", row["dims"], row["bank"], f"{row['bytes']:,}", row["smaller"], row["auroc"], row["lost"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    threads = [count for count in THREADS if count <= data["machine"]["cores"]]  # more than cores tell nothing
    head = "rows | dims | stored as | bank in model.onnx | AUROC FP32 | AUROC INT8"
    head += "".join(f" | OpenVINO FP32, threads: {count} | INT8" for count in threads)
    head += " | ONNX Runtime FP32, threads: 1 | INT8"
    lines += [
        "",
        "Engines of some of them: AUROC of the first draw as the OpenVINO engines answer, medians of interleaved runs in ms.",
        "",
        f"| {head} |",
        "|---" * (head.count("|") + 1) + "|",
        *(_engines(row, threads) for row in data["ladder"]),
        "",
        f"Greedy against random rows (all dimensions, first draw): {greedy}.",
        "",
    ]
    return "\n".join(lines)


def _engines(row: Mapping[str, Any], threads: Sequence[int]) -> str:
    cells = [f"{row['rows']:,}", row["dims"], row["bank"], f"{row['bank_in_onnx_fp32_bytes']:,}"]
    cells += [row["openvino_fp32_auroc"], row["openvino_int8_auroc"]]
    cells += [row[f"openvino_{kind}_{count}_ms"] for count in threads for kind in ("fp32", "int8")]
    cells += [row[f"onnxruntime_{kind}_1_ms"] for kind in ("fp32", "int8")]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _keeping(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The smallest bank such that it, and every bank measured with its dimensions that has at least as many rows, loses at most
    the tolerance in every draw. One that keeps it between two that do not was lucky."""
    first = rows[0]["aurocs"]
    found: list[dict[str, Any]] = []
    for dims in {row["dims"] for row in rows}:
        for row in sorted((row for row in rows if row["dims"] == dims), key=lambda row: (-row["rows"], -row["bytes"])):
            if max(was - now for was, now in zip(first, row["aurocs"], strict=True)) > TOLERANCE:
                found = [other for other in found if (other["dims"], other["rows"]) != (dims, row["rows"])]
                break
            found.append(row)
    return min(found, key=lambda row: row["bytes"])


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="elpv", choices=list(SETS))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one draw, few pictures: shows that it runs, not what is true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    features = load_features("efficientnet_lite0", None, None)
    draws = [Draw(features, args.set, seed, 10 if args.quick else None) for seed in range(1 if args.quick else args.draws)]
    first = draws[0]
    data: dict[str, Any] = {
        "benchmark": "coreset", "set": args.set, "quick": args.quick, "draws": len(draws), "machine": facts(),
        "train": len(first.split.train), "test": len(first.split.test), "patches": first.patches,
        "greedy_s": round(first.greedy_s, 1), "steps": accuracy(draws, args.quick), "random": at_random(first),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        data["ladder"] = ladder(first, Path(scratch), SETS[args.set].recipe, args.quick)
    print(page(data))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
