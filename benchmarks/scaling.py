"""How does latency grow with the input size, PatchCore's bank, the number of cameras and the number of cores?

    python -m benchmarks.scaling --json benchmarks/results/scaling.json

Sizes, banks and cores: one inference of the built OpenVINO engine, medians of interleaved runs, bursts as in `edgead bench`.
Cameras: whole stations in one process, each on a folder of 1080p pictures that it asks for as fast as it can (the box is
saturated), once with one engine for all (on all cores) and once with an engine of one thread for each. Networks are never trained
(see benchmarks/_scratch.py): time does not depend on it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fresh import camera_folder, markdown, show
from edgead.bundle import Bundle
from edgead.engines import open_engine
from edgead.engines.timing import LatencyStats, interleaved
from edgead.machine import facts, usable_cores

SIZES = {"patchcore": (128, 192, 256, 384, 512), "simplenet": (128, 192, 256, 384, 512), "efficientad": (128, 256, 384)}
ROWS = (512, 1024, 2048, 4096, 8192, 16384)
MAX_CAMERAS = 3
PARTS = 60
PRECISIONS = ("fp32", "int8")
BURST = 5

Engine = tuple[Bundle, str, int]  # bundle, name of the engine, threads


def latencies(engines: Mapping[str, Engine], max_s: float) -> dict[str, LatencyStats]:
    """Of each engine alone, in turn."""
    with ExitStack() as stack:
        calls = {}
        for key, (bundle, name, threads) in engines.items():
            engine = open_engine(bundle, name, threads)
            stack.callback(engine.close)
            picture = np.random.default_rng(0).integers(0, 256, engine.inputs[0].shape[1:], np.uint8)
            calls[key] = partial(engine.infer, picture)
        return interleaved(calls, rounds=20, max_s=max_s, burst=BURST)


def by_size(folder: Path, sizes: Mapping[str, Sequence[int]], max_s: float) -> list[dict[str, Any]]:
    """Latency against the input size, one thread."""
    from benchmarks._scratch import write_bundle

    rows = []
    for family, chosen in sizes.items():
        bundles = {size: write_bundle(folder, family, size, backends=("openvino",), frames=2) for size in chosen}
        engines = {f"{size} {p}": (bundle, f"openvino-{p}", 1) for size, bundle in bundles.items() for p in PRECISIONS}
        found = latencies(engines, max_s)
        for size in chosen:
            times = {f"{p}_ms": round(found[f"{size} {p}"].p50_ms, 3) for p in PRECISIONS}
            rows.append({"family": family, "size_px": size, **times})
    return rows


def by_bank(folder: Path, counts: Sequence[int], max_s: float) -> list[dict[str, Any]]:
    """Latency of PatchCore at 256 px against the rows of its bank, one thread."""
    from benchmarks._scratch import write_bundle

    bundles = {rows: write_bundle(folder, "patchcore", rows=rows, backends=("openvino",), frames=2) for rows in counts}
    engines = {f"{rows} {p}": (bundle, f"openvino-{p}", 1) for rows, bundle in bundles.items() for p in PRECISIONS}
    found = latencies(engines, max_s)
    return [{"rows": rows, **{f"{p}_ms": round(found[f"{rows} {p}"].p50_ms, 3) for p in PRECISIONS}} for rows in counts]


def by_cores(folder: Path, families: Sequence[str], max_s: float) -> list[dict[str, Any]]:
    """Latency against the threads of the engine, 256 px."""
    from benchmarks._scratch import write_bundle

    rows = []
    for family in families:
        bundle = write_bundle(folder, family, backends=("openvino",), frames=2)
        counts = range(1, usable_cores() + 1)
        found = latencies({f"{n} {p}": (bundle, f"openvino-{p}", n) for n in counts for p in PRECISIONS}, max_s)
        rows += [
            {"family": family, "threads": n, **{f"{p}_ms": round(found[f"{n} {p}"].p50_ms, 3) for p in PRECISIONS}}
            for n in counts
        ]
    return rows


def by_cameras(folder: Path, family: str, parts: int, most: int) -> list[dict[str, Any]]:
    """Parts a second and latency of stations in one process against their number."""
    from benchmarks._scratch import write_bundle

    bundle = write_bundle(folder, family, backends=("openvino",), frames=2)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        camera = camera_folder(Path(scratch) / "camera", parts)
        copies = [Path(shutil.copytree(bundle.path, Path(scratch) / f"{i}.edgead")) for i in range(most)]
        for cameras in range(1, most + 1):
            for kind, bundles, threads in (
                ("one for all", [bundle.path] * cameras, None),
                ("one each, 1 thread", copies[:cameras], 1),
            ):
                found = stations(bundles, camera, threads, parts)
                rows.append({"family": family, "cameras": cameras, "engines": kind, **found})
    return rows


def stations(bundles: Sequence[Path], camera: Path, threads: int | None, parts: int) -> dict[str, float]:
    """Stations side by side in this process, a camera each: parts a second of all, and latency of a part in ms."""
    from edgead.clock import MonotonicClock
    from edgead.config.camera import CameraConfig
    from edgead.line.shelf import Shelf
    from edgead.line.workshop import Workshop
    from edgead.runtime.loop.group import StationGroup
    from edgead.runtime.supervision.process import ProcessOptions, tuned

    with ExitStack() as stack:
        on_idle = stack.enter_context(tuned(ProcessOptions()))
        workshop = Workshop(stack, MonotonicClock(), Shelf(threads), on_idle)
        configs = [
            CameraConfig(name=f"camera{i}", address=str(camera), bundle=path, engine="openvino-int8")
            for i, path in enumerate(bundles)
        ]
        lanes = [workshop.build(config) for config in configs]
        group = StationGroup({lane.name: lane.station for lane in lanes})
        began = time.perf_counter()
        stats = group.run(parts)
        taken_s = time.perf_counter() - began
    latency = [one.latency_ms() for one in stats.values()]
    return {
        "parts_per_s": round(sum(one.parts for one in stats.values()) / taken_s, 1),
        "p50_ms": round(max(one["p50"] for one in latency), 2),
        "p99_ms": round(max(one["p99"] for one in latency), 2),
    }


TABLES = {
    "size": (("model", "size", "FP32 ms", "INT8 ms"), ("family", "size_px", "fp32_ms", "int8_ms")),
    "bank": (("rows", "FP32 ms", "INT8 ms"), ("rows", "fp32_ms", "int8_ms")),
    "cores": (("model", "threads", "FP32 ms", "INT8 ms"), ("family", "threads", "fp32_ms", "int8_ms")),
    "cameras": (
        ("model", "cameras", "engines", "parts/s of all", "p50 ms", "p99 ms"),
        ("family", "cameras", "engines", "parts_per_s", "p50_ms", "p99_ms"),
    ),
}
TOLD = {
    "size": "Input size: one inference, one thread, INT8 and FP32 on OpenVINO. The work grows with the area.",
    "bank": "Rows of PatchCore's bank at 256 px, one thread.",
    "cores": "Threads of the engine at 256 px.",
    "cameras": "Cameras in one process, INT8, each as fast as it can on 1080p pictures (reading them is part of the load, not of"
    " the latency): latency is that of the slowest camera, from its picture to its verdict, with the box saturated.",
}


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    lines = ["## Scaling", "", "`python -m benchmarks.scaling`; medians of interleaved runs, networks that were never trained."]
    for name, (titles, keys) in TABLES.items():
        lines += ["", TOLD[name], "", *markdown(titles, [[row[key] for key in keys] for row in data[name]])]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=PARTS, help=f"of each camera (default {PARTS})")
    parser.add_argument("--quick", action="store_true", help="SimpleNet at two sizes, two banks, two cameras")
    parser.add_argument("--scratch", type=Path, help="keep the untrained bundles there for the next time")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes: Mapping[str, Sequence[int]] = {"simplenet": (128, 192)} if args.quick else SIZES
    counts, most, parts, max_s = ((512, 1024), 2, 10, 1.0) if args.quick else (ROWS, MAX_CAMERAS, args.parts, 8.0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.scratch or Path(scratch)
        data = {
            "size": by_size(folder, sizes, max_s),
            "bank": by_bank(folder, counts, max_s),
            "cores": by_cores(folder, tuple(sizes), max_s),
            "cameras": by_cameras(folder, "simplenet", parts, most),
        }
    for name, (titles, keys) in TABLES.items():
        show(titles, [[row[key] for key in keys] for row in data[name]])
        print()
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": "scaling", "machine": facts(), "parts": parts, **data}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
