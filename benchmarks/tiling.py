"""Tiling of big pictures: accuracy, latency and memory of one look at the whole, of tiles, and of coarse to fine.

    python -m benchmarks.tiling --json benchmarks/results/tiling.json
    python -m benchmarks.tiling --models patchcore --json FILE

The pictures are made: solar modules of 4 x 4 real cells (elpv-dataset, monocrystalline, 300 px each, so 1200 x 1200 px), good
ones of cells without a defect, defective ones with one defective cell at a random place. Cells of training, held-out and test
modules are different ones; test modules draw theirs with repetition from one module to the next. Everything runs on OpenVINO, one
picture at a time, all cores.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks._sets import _elpv
from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.targets import Target, target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines import open_file
from edgead.engines.coarse import CoarseToFineEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.engines.timing import interleaved
from edgead.export.coarse import TwoGraphs
from edgead.export.graph import write_onnx
from edgead.export.tensorrt import BuildOptions
from edgead.families import find
from edgead.families.contract import FitData
from edgead.machine import facts
from edgead.models.detector import Detector
from edgead.models.wrappers.tiled import Tiled
from edgead.preprocess import read_image
from edgead.training.metrics import auroc
from edgead.training.tiles import Tiling, fit_shrunk, fit_tiled, join
from edgead.types import Engine, Image

CELL_PX = 300
OPTIONS: Mapping[str, Mapping[str, Any]] = {"patchcore": {"coreset": 1024.0, "max_rows": 60_000}, "simplenet": {"steps": 200}}
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Modules:
    """Composed pictures: `where` is the defective cell of each of `bad`, counted row by row."""

    cells: int
    train: list[Image]
    held_out: list[Image]
    good: list[Image]
    bad: list[Image]
    where: list[int]

    @property
    def side(self) -> int:
        return self.cells * CELL_PX

    @property
    def data(self) -> FitData:
        return FitData(self.train, (self.side, self.side))


def compose(cells: int, train: int, held_out: int, test: int, seed: int) -> Modules:
    """Modules of `cells` x `cells`; `test` good and as many defective ones."""
    rng = np.random.default_rng(seed)
    files, entries = _elpv()
    good = [files[i] for i in rng.permutation(len(files))]
    bad = [entries[i][0] for i in rng.permutation(len(entries))][:test]
    each = cells * cells
    first, second = train * each, len(good) - 188
    if second - first < each:
        raise SystemExit(f"{train} training modules of {each} cells leave no cells to hold out")

    def drawn(pool: Sequence[Path]) -> list[Path]:
        return [pool[i] for i in rng.permutation(len(pool))[:each]]

    def module(chosen: Sequence[Path]) -> Image:
        pictures = [cv2.resize(read_image(file), (CELL_PX, CELL_PX)) for file in chosen]
        rows = [np.concatenate(pictures[r * cells : (r + 1) * cells], 1) for r in range(cells)]
        return np.ascontiguousarray(np.concatenate(rows, 0))

    where = [int(rng.integers(each)) for _ in bad]
    defective = []
    for file, place in zip(bad, where, strict=True):
        chosen = drawn(good[second:])
        chosen[place] = file
        defective.append(module(chosen))
    return Modules(
        cells,
        [module(good[i * each : (i + 1) * each]) for i in range(train)],
        [module(drawn(good[first:second])) for _ in range(held_out)],
        [module(drawn(good[second:])) for _ in range(test)],
        defective,
        where,
    )


@dataclass(frozen=True, slots=True)
class Way:
    """One way to look at a module: `side` px it takes, files of its engines by precision, tiles (0: none)."""

    name: str
    side: int
    tiles: int
    files: dict[str, Path]
    note: dict[str, Any]

    def frame(self, image: Image) -> Image:
        """The module as this way takes it."""
        if image.shape[0] == self.side:
            return image
        return np.asarray(cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA), np.uint8)


class Family:
    """All ways of one model family, fitted on the same modules; engines' files go to `folder`."""

    def __init__(self, model: str, modules: Modules, folder: Path, tile: int, factor: int) -> None:
        self.model, self.modules, self.folder, self.tile, self.factor = model, modules, folder, tile, factor
        self.fit = find(model).bound(OPTIONS.get(model, {}))
        self.target: Target = target_for("openvino", facts=facts())

    def ways(self, overlaps: Sequence[int], wholes: Sequence[int]) -> list[Way]:
        found = [self.whole(px, int8=px == max(wholes)) for px in wholes]
        fitted = fit_tiled(self.fit, self.modules.data, Tiling(self.tile, self.tile, overlaps[0]))
        if self.model != "efficientad":  # its autoencoder takes pictures of one size
            found.append(self.untiled(fitted.inner))
        side = (self.modules.side, self.modules.side)
        for overlap in overlaps:
            tiled = Tiled(fitted.inner, side, overlap).eval()
            found.append(self.way(f"tiles, overlap {overlap}", tiled, len(tiled.grid), int8=overlap == overlaps[-1]))
        tiled = Tiled(fitted.inner, side, overlaps[-1]).eval()
        found.append(self.coarse(tiled))
        return found

    def whole(self, px: int, int8: bool) -> Way:
        small = [np.asarray(cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA), np.uint8) for image in self.modules.train]
        return self.way(f"whole at {px} px", self.fit(FitData(small, (px, px))).eval(), 0, int8)

    def untiled(self, tile: Detector) -> Way:
        """The tiles' model on the whole module at once: convolutions take any size."""
        detector = type(tile).build(tile.config, (self.modules.side, self.modules.side))
        detector.load_state_dict(tile.state_dict())
        return self.way("whole, native", detector.eval().requires_grad_(False), 0, int8=False)

    def way(self, name: str, detector: Detector, tiles: int, int8: bool) -> Way:
        stem = name.replace(" ", "_").replace(",", "")
        files = {"fp32": self.folder / f"{stem}.onnx"}
        write_onnx(detector, files["fp32"])
        made = Way(name, detector.image_size[0], tiles, files, {})
        if int8:
            files["int8"] = self.folder / f"{stem}.int8.onnx"
            calibrate(files["fp32"], self.pictures(made), self.target, output=files["int8"], allow_unsafe=True)
        return made

    def coarse(self, tiled: Tiled) -> Way:
        modules = self.modules
        detector, told = join(tiled, fit_shrunk(self.fit, modules.data, self.factor), modules.held_out)
        folder = self.folder / "coarse"
        (folder / "openvino").mkdir(parents=True)
        two = TwoGraphs.write(detector, folder)
        files = {"fp32": two.build(("openvino", "fp32"), BuildOptions())}
        made = Way(f"coarse 1/{self.factor} to fine", modules.side, len(tiled.grid), files, {})
        two.quantize(self.pictures(made), self.target, None)
        files["int8"] = two.build(("openvino", "int8"), BuildOptions(), self.target.options.weight_bits)
        made.note.update(
            run_share_held_out=told.run_share, drawn=told.drawn, drawn_found=told.found, level_by_defects=told.by_defects,
        )  # fmt: skip
        return made

    def pictures(self, way: Way) -> CalibrationSet:
        frames = [way.frame(image) for image in self.modules.train]
        return CalibrationSet.of(frames, [f"module {i}" for i in range(len(frames))])


def measure(family: Family, ways: Sequence[Way]) -> list[dict[str, Any]]:
    """One row a way: accuracy of each engine, then latency of all of them in turn, then memory."""
    modules = family.modules
    labels = np.array([False] * len(modules.good) + [True] * len(modules.bad))
    rows, engines, calls = [], {}, {}
    for way in ways:
        row: dict[str, Any] = {"model": family.model, "way": way.name, "tiles": way.tiles, **way.note}
        for precision, file in way.files.items():
            engine = engines[way.name, precision] = open_file(file, OpenVinoEngine)
            row[precision] = _accuracy(engine, way, modules, labels)
            for kind, image in (("good", modules.good[0]), ("defective", modules.bad[0])):
                calls[f"{way.name}|{precision}|{kind}"] = partial(engine.infer, way.frame(image))
            if isinstance(engine, CoarseToFineEngine):
                calls[f"{way.name}|{precision}|slowest"] = partial(engine.slowest().infer, modules.good[0])
        rows.append(row)
        print(f"  {way.name}: AUROC {row['fp32']['auroc']:.4f}", flush=True)
    times = interleaved(calls, rounds=ROUNDS, max_s=60.0)
    for way, row in zip(ways, rows, strict=True):
        for precision, file in way.files.items():
            of = {kind: times.get(f"{way.name}|{precision}|{kind}") for kind in ("good", "defective", "slowest")}
            row[precision]["latency_ms"] = {kind: stats.p50_ms for kind, stats in of.items() if stats is not None}
            row[precision]["peak_mb"] = _peak_mb(file, way.side)
    for engine in engines.values():
        engine.close()
    full = next(row for row in reversed(rows) if row["way"].startswith("tiles"))
    _count_lost(full, rows[-1])
    for row in rows:
        for precision in ("fp32", "int8"):
            row.get(precision, {}).pop("found", None)
    return rows


def _accuracy(engine: Engine, way: Way, modules: Modules, labels: Any) -> dict[str, Any]:
    """AUROC; how often the map's largest value lies in the defective cell; what is found with 1 in 20 good modules rejected."""
    scores, hits, runs = [], [], []
    for i, image in enumerate((*modules.good, *modules.bad)):
        score, anomaly_map = engine.infer(way.frame(image))
        scores.append(score)
        if isinstance(engine, CoarseToFineEngine):
            runs.append(engine.tiles_run / way.tiles)
        if labels[i]:
            y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
            cell = anomaly_map.shape[0] / modules.cells
            hits.append(int(y // cell) * modules.cells + int(x // cell) == modules.where[i - len(modules.good)])
    values = np.array(scores)
    told: dict[str, Any] = {"auroc": round(auroc(labels, values), 4), "cell_found": round(float(np.mean(hits)), 4)}
    threshold = np.quantile(values[~labels], 0.95)
    told["found"] = (values[labels] > threshold).tolist()
    told["caught"] = float(np.mean(told["found"]))
    if runs:
        told["run_good"], told["run_bad"] = (float(np.mean(np.array(runs)[part])) for part in (~labels, labels))
    return told


def _count_lost(full: Mapping[str, Any], coarse: dict[str, Any]) -> None:
    """Defective modules that all tiles find with 1 in 20 good modules rejected, and coarse to fine does not, and the reverse."""
    for precision in ("fp32", "int8"):
        one, other = (np.array(row[precision]["found"]) for row in (full, coarse))
        coarse[precision]["lost"], coarse[precision]["won"] = int((one & ~other).sum()), int((other & ~one).sum())


def _peak_mb(file: Path, side: int) -> float:
    """What opening the engine and two pictures add to the peak memory of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.tiling", "--memory", str(file), str(side)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory(file: Path, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    __import__("openvino")
    before = psutil.Process().memory_info().rss
    engine = open_file(file, OpenVinoEngine)
    slowest = engine.slowest() if isinstance(engine, CoarseToFineEngine) else engine
    for _ in range(2):
        slowest.infer(image)
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print((peak * 1024 - before) / 1e6)


def table(data: Mapping[str, Any]) -> str:
    """Markdown, one line a way."""
    head = (
        "| model | way | tiles | AUROC | INT8 | in the right cell | good part, ms | worst, ms | INT8: good, ms | worst, ms "
        "| memory, MB | tiles run: good / defective |"
    )
    lines = [head, "|" + "---|" * 12]
    for row in data["rows"]:
        float_, int8 = row["fp32"], row.get("int8")
        shares = f"{float_['run_good']:.0%} / {float_['run_bad']:.0%}" if "run_good" in float_ else ""
        cells = [
            row["model"], row["way"], str(row["tiles"] or ""), f"{float_['auroc']:.3f}", f"{int8['auroc']:.3f}" if int8 else "",
            f"{float_['cell_found']:.0%}", *_times(float_), *(_times(int8) if int8 else ("", "")),
            f"{float_['peak_mb']:.0f}", shares,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _times(told: Mapping[str, Any]) -> tuple[str, str]:
    times = told["latency_ms"]
    return f"{times['good']:.0f}", f"{times.get('slowest', max(times.values())):.0f}"


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    told = []
    for row in data["rows"]:
        if "run_good" not in row["fp32"]:
            continue
        full = next(r for r in reversed(data["rows"]) if r["model"] == row["model"] and r["way"].startswith("tiles"))
        one, other = row["fp32"], full["fp32"]
        faster = other["latency_ms"]["good"] / one["latency_ms"]["good"]
        slower = one["latency_ms"]["slowest"] / other["latency_ms"]["good"]
        told.append(
            f"{row['model']}: coarse to fine is {faster:.1f} times faster than all tiles on a good part and takes {slower:.2f} "
            f"times as long in the worst case, at an AUROC of {one['auroc']:.3f} against {other['auroc']:.3f}; of the defective "
            f"parts that all tiles find with 1 in 20 good parts rejected it loses {one['lost']}, and finds {one['won']} others."
        )
    side = data["cells"] * CELL_PX
    return "\n".join(
        [
            "## Big pictures: tiles, and coarse to fine",
            "",
            f"Solar modules of {data['cells']} x {data['cells']} real cells ({side} x {side} px, elpv-dataset), "
            f"{data['test']} good ones and {data['test']} with one defective cell; tiles of {data['tile']} px. OpenVINO, all "
            "cores, medians of interleaved runs; a budget counts the worst case (every tile run). Memory is what the FP32 "
            "engine adds to a process.",
            "",
            table(data),
            "",
            *(f"- {line}" for line in told),
            f"- Limits: composed pictures, one seed; with {data['test']} + {data['test']} test pictures an AUROC is good to "
            f"about {_noise(data['test']):.2f} (one standard error), less in the difference of two ways on the same pictures.",
            "",
        ]
    )


def _noise(test: int) -> float:
    """Standard error of an AUROC near 0.8 (Hanley and McNeil 1982)."""
    a = 0.8
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    return math.sqrt((a * (1 - a) + (test - 1) * (q1 + q2 - 2 * a * a)) / (test * test))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="simplenet", help="of patchcore, simplenet, efficientad (slow), by comma")
    parser.add_argument("--cells", type=int, default=4, help="in each row and column of a module")
    parser.add_argument("--test", type=int, default=40, help="good test modules, and as many defective ones")
    parser.add_argument("--coarse", type=int, default=4, help="factor by which the first look shrinks the module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a smoke run: 2 x 2 cells, 3 + 3 test modules, one whole size")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", nargs=2, metavar=("FILE", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        _memory(Path(args.memory[0]), int(args.memory[1]))
        return 0
    cells, test = (2, 3) if args.quick else (args.cells, args.test)
    began = time.monotonic()
    modules = compose(cells, *((4, 4) if args.quick else (15, 16)), test, args.seed)
    rows: list[dict[str, Any]] = []
    for model in args.models.split(","):
        print(f"{model} ...", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            family = Family(model, modules, Path(scratch), 256, args.coarse)
            rows += measure(family, family.ways((0, 64, 32), (256,) if args.quick else (256, 512)))
    data = {
        "benchmark": "tiling", "cells": cells, "test": test, "tile": 256, "coarse": args.coarse, "seed": args.seed,
        "seconds": round(time.monotonic() - began), "machine": facts(), "rows": rows,
    }  # fmt: skip
    print(page(data))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
