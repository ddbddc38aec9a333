"""How long from the start of the process to the first verdict? Each family and engine, with an empty and a filled cache.

    python -m benchmarks.coldstart --json benchmarks/results/coldstart.json

Each run is a fresh `edgead run BUNDLE --camera FOLDER --max-parts 1`, timed from the start of the process until its record is
there; runs of all engines take turns. A second kind of run tells the stages. Files are in the page cache, as after an update of
the software; after a power cut the disk comes on top. Networks are never trained (see benchmarks/_scratch.py), unless --bundle
names others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._fresh import BACKENDS, SHOWN, camera_folder, markdown, show, station
from edgead.bundle import Bundle
from edgead.errors import EngineError
from edgead.machine import facts

GOAL_MS = 1000.0
STAGES = ("bundle", "engine", "proof", "first_part")
TITLES = ("model", "engine", "empty cache", "filled cache", "imports and rest", "bundle", "engine loads", "proof", "first part")


def measure(bundles: list[Bundle], runs: int, scratch: Path) -> list[dict[str, Any]]:
    """One row an engine; milliseconds are medians of `runs`."""
    camera = camera_folder(scratch / "camera", 1)
    cache = {"EDGEAD_CACHE": str(scratch / "cache")}
    pairs = [(bundle, record) for bundle in bundles for record in bundle.manifest.engines if record.backend in BACKENDS]
    empty: dict[tuple[str, str], list[float]] = {}
    filled: dict[tuple[str, str], list[float]] = {}
    stages: dict[tuple[str, str], list[dict[str, float]]] = {}
    for i in range(runs):
        for bundle, record in pairs:
            key = (str(bundle.path), record.name)
            fresh = {"EDGEAD_CACHE": str(scratch / f"empty-{i}-{len(empty)}-{record.name}-{bundle.path.name}")}
            if i == 0:  # fills the cache, and warms up the disk
                first_verdict_ms(bundle.path, record.name, camera, cache)
            empty.setdefault(key, []).append(first_verdict_ms(bundle.path, record.name, camera, fresh))
            filled.setdefault(key, []).append(first_verdict_ms(bundle.path, record.name, camera, cache))
            stages.setdefault(key, []).append(staged(bundle.path, record.name, camera, cache))
    rows = []
    for bundle, record in pairs:
        key = (str(bundle.path), record.name)
        total_ms = statistics.median(filled[key])
        row = {f"{name}_ms": round(statistics.median(one[name] for one in stages[key]), 1) for name in STAGES}
        row["rest_ms"] = round(total_ms - sum(row.values()), 1)
        names = {"bundle": bundle.manifest.name, "family": bundle.manifest.family, "engine": record.name}
        size = bundle.manifest.preprocess.width
        totals = {"empty_cache_ms": round(statistics.median(empty[key]), 1), "filled_cache_ms": round(total_ms, 1)}
        rows.append({**names, "size_px": size, **totals, **row})
    return rows


def first_verdict_ms(bundle: Path, engine: str, camera: Path, environ: dict[str, str]) -> float:
    """From the start of the process until its first record is there.

    Raises:
        EngineError: there was none.
    """
    with station(bundle, engine, camera, "--max-parts", "1", environ=environ) as started:
        for record in started.records():
            taken_ms = (time.perf_counter() - started.began_s) * 1e3
            if json.loads(record)["verdict"] == "UNKNOWN":
                raise EngineError(f"{bundle} {engine} gave no verdict: {record}")
            return taken_ms
        raise EngineError(f"{bundle} {engine} gave no record")


def staged(bundle: Path, engine: str, camera: Path, environ: dict[str, str]) -> dict[str, float]:
    """Milliseconds of each of `STAGES`, of one fresh process."""
    import os

    command = [sys.executable, "-m", "benchmarks.coldstart", "--inner", str(bundle), engine, str(camera)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environ})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def inner(bundle: str, engine: str, camera: str) -> int:
    """Run the station in this process with a clock around its stages; the last line on stdout tells them."""
    from edgead import engines
    from edgead.cli import main
    from edgead.engines import proof as _proof
    from edgead.runtime.loop.inspector import Inspector

    taken_ms = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                taken_ms[stage] += (time.perf_counter() - began) * 1e3

        return run

    Bundle.open = timed("bundle", Bundle.open)  # type: ignore[method-assign]
    engines.open_engine = timed("engine", engines.open_engine)
    _proof.prove = timed("proof", _proof.prove)
    Inspector.inspect = timed("first_part", Inspector.inspect)  # type: ignore[method-assign]
    code = main.main(["run", bundle, "--engine", engine, "--camera", camera, "--max-parts", "1", "--records", "-"])
    print(json.dumps(taken_ms))
    return code


def _cells(row: dict[str, Any]) -> list[str]:
    names = ("empty_cache_ms", "filled_cache_ms", "rest_ms", "bundle_ms", "engine_ms", "proof_ms", "first_part_ms")
    return [f"{row['family']}, {row['size_px']} px", row["engine"], *(f"{row[name]:.0f}" for name in names)]


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    rows = data["rows"]
    within = [row for row in rows if row["filled_cache_ms"] < GOAL_MS]
    slower = [f"{row['family']} on {row['engine']} ({row['filled_cache_ms']:.0f} ms)" for row in rows if row not in within]
    return "\n".join(
        [
            "## Cold start",
            "",
            "From the start of `edgead run BUNDLE --camera FOLDER` to the first verdict on a 1080p picture, in ms; medians of"
            f" {data['runs']} fresh processes of each kind, which take turns: `python -m benchmarks.coldstart`. OpenVINO's"
            " compiled graph is kept in the user's cache (`EDGEAD_CACHE`) from the first start on; ONNX Runtime keeps nothing."
            " The stages are those of starts with a filled cache: opening a bundle checks the digest of every file, the proof"
            " asks the engine about two golden frames. All files are in the page cache.",
            "",
            *markdown(TITLES, [_cells(row) for row in rows]),
            "",
            f"Goal: below {GOAL_MS:.0f} ms with a filled cache: met by {len(within)} of {len(rows)}"
            + (f"; not by {', '.join(slower)}." if slower else "."),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, action="append", help="measure this one (may be repeated)")
    parser.add_argument("--families", default=",".join(SHOWN), help="of the untrained bundles (default all)")
    parser.add_argument("--runs", type=int, default=5, help="fresh processes of each kind (default 5)")
    parser.add_argument("--quick", action="store_true", help="SimpleNet at 128 px, two runs")
    parser.add_argument("--scratch", type=Path, help="keep the untrained bundles there for the next time")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inner", nargs=3, metavar=("BUNDLE", "ENGINE", "CAMERA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        return inner(*args.inner)
    with tempfile.TemporaryDirectory() as scratch:
        if args.bundle:
            bundles = [Bundle.open(path) for path in args.bundle]
        else:
            from benchmarks._scratch import SIZE_PX, write_bundle

            families, size_px = (["simplenet"], 128) if args.quick else (args.families.split(","), SIZE_PX)
            bundles = [write_bundle(args.scratch or Path(scratch), family, size_px) for family in families]
        runs = 2 if args.quick else args.runs
        rows = measure(bundles, runs, Path(scratch))
    show(TITLES, [_cells(row) for row in rows])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": "coldstart", "machine": facts(), "runs": runs, "goal_ms": GOAL_MS, "rows": rows}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
