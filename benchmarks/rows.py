"""What PatchCore's bank costs in time: engines of several sizes of bank, before and after decision 0042, in turns.

    python -m benchmarks.rows --json benchmarks/results/rows.json

"before" is the graph of commit a8661d4: the map enlarged by the resize operator, all patches compared with the bank at once.
Pictures are castings (or noise where there are none), rows drawn at random: they cost what chosen ones do. One thread; every
ratio is to the bank of 696 rows before, 1 % of 80 pictures at 256 px, within rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._sets import SETS
from benchmarks.peers import take_turns
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine, write_ir
from edgead.engines.timing import LatencyStats
from edgead.export.graph import write_onnx
from edgead.families.patchcore import network
from edgead.families.patchcore.network import PatchCore
from edgead.machine import facts
from edgead.models import patches
from edgead.models.rows import collect_rows, load_features
from edgead.models.usual import TRAINED
from edgead.preprocess import PreprocessRecipe
from edgead.types import Engine, Image

WAYS = ((696, "before"), (696, "now"), (1536, "before"), (1536, "now"), (2048, "before"), (2048, "now"))
CALIBRATION, ROUNDS, BURST = 16, 30, 4
ENGINES = ("openvino-int8", "openvino-fp32", "onnxruntime-fp32")


@contextmanager
def as_before() -> Iterator[None]:
    def resized(cells: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(cells[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]

    with mock.patch.object(patches, "bilinear", resized), mock.patch.object(network, "_CELLS", 1 << 30):
        yield


def pictures(side: int) -> list[Image]:
    try:
        found = SETS["casting"].split(0).train[: 2 * CALIBRATION]
    except FileNotFoundError:
        found = [np.random.default_rng(i).integers(0, 256, (300, 300, 3), dtype=np.uint8) for i in range(2 * CALIBRATION)]
    return [np.asarray(cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA), np.uint8) for one in found]


@torch.no_grad()
def engines(side: int, images: Sequence[Image], root: Path) -> dict[tuple[int, str, str], Engine]:
    """By rows, way and engine."""
    features = load_features("efficientnet_lite0", None, None, TRAINED)
    generator = torch.Generator().manual_seed(0)
    rows, _ = collect_rows(features, images, generator)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    for i, image in enumerate(images[:CALIBRATION]):
        cv2.imwrite(str(root / f"{i}.png"), image)
    calibration = CalibrationSet.from_folder(root, PreprocessRecipe(side, side), CALIBRATION)
    made: dict[tuple[int, str, str], Engine] = {}
    for count, how in WAYS:
        detector = PatchCore.from_bank(features, rows[:count], 9, (side, side))
        graphs = {kind: root / f"{count}-{how}-{kind}.onnx" for kind in ("fp32", "int8")}
        with as_before() if how == "before" else nullcontext():
            write_onnx(detector, graphs["fp32"])
        calibrate(graphs["fp32"], calibration, target_for("openvino"), output=graphs["int8"], allow_unsafe=True)
        for kind, graph in graphs.items():
            write_ir(graph, graph.with_suffix(".xml"))
            made[count, how, f"openvino-{kind}"] = OpenVinoEngine(graph.with_suffix(".xml"), threads=1)
        made[count, how, "onnxruntime-fp32"] = OnnxRuntimeEngine(graphs["fp32"], threads=1)
    return made


def measure(side: int) -> list[dict[str, Any]]:
    images = pictures(side)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        made = engines(side, images, Path(folder))
        for name in ENGINES:
            mine = {(count, how): engine for (count, how, kind), engine in made.items() if kind == name}
            clocks: dict[str, Callable[[int], list[float]]] = {
                str(key): partial(_clock, one, images[-1]) for key, one in mine.items()
            }
            samples = take_turns(clocks, ROUNDS, BURST, 60.0)
            base = samples[str(WAYS[0])]
            for count, how in WAYS:
                taken = samples[str((count, how))]
                ratios = [np.median(one) / np.median(other) for one, other in zip(taken, base, strict=True)]
                low, mid, high = (round(float(value), 2) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
                stats = LatencyStats.of([ms for one in taken for ms in one])
                found.append(
                    {"px": side, "engine": name, "rows": count, "way": how, "p50_ms": round(stats.p50_ms, 2),
                     "p95_ms": round(stats.p95_ms, 2), "times": mid, "times_quartiles": [low, high]}
                )  # fmt: skip
        for engine in made.values():
            engine.close()
    return found


def _clock(engine: Engine, image: Image, calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        engine.infer(image)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="256,384,512", help="model input sizes in pixels (default 256,384,512)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for side in (int(side) for side in args.sides.split(",")):
        rows += measure(side)
    print("| px | engine | rows | way | p50 ms | p95 ms | times (quartiles) |\n|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["times_quartiles"]
        told = (row["px"], row["engine"], f"{row['rows']:,}", row["way"], row["p50_ms"], row["p95_ms"])
        print(f"| {' | '.join(str(cell) for cell in told)} | {row['times']:.2f} ({low:.2f} to {high:.2f}) |")
    if args.json is not None:
        content = {"benchmark": "rows", "machine": facts(), "load": os.getloadavg()[0], "threads": 1, "rows": rows}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
