"""How much memory does a station hold with one bundle? Each family and engine, through the real loop.

    python -m benchmarks.memory --json benchmarks/results/memory.json

Each run is a fresh `edgead run BUNDLE --camera FOLDER` on 1080p pictures, read from /proc while it works, after `--parts`
verdicts: resident memory, the share of it that is files (libraries, mapped models: other processes share it), and the peak, with
an empty cache (the engine is compiled) and with a filled one. Linux only. Networks are never trained (benchmarks/_scratch.py),
unless --bundle names others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks._fresh import BACKENDS, SHOWN, camera_folder, markdown, show, station
from edgead.bundle import Bundle
from edgead.errors import EngineError
from edgead.machine import facts

GOAL_MB = 250.0
KEYS = {"resident_mb": "VmRSS:", "files_mb": "RssFile:", "peak_mb": "VmHWM:"}
TITLES = ("model", "engine", "resident", "of it files", "peak", "resident, first start", "peak, first start")


def measure(bundles: list[Bundle], parts: int, runs: int, scratch: Path) -> list[dict[str, Any]]:
    """One row an engine: medians of `runs`, MiB."""
    camera = camera_folder(scratch / "camera", parts + 20)
    rows = []
    for bundle in bundles:
        for record in bundle.manifest.engines:
            if record.backend not in BACKENDS:
                continue
            first, later = [], []
            for i in range(runs):
                environ = {"EDGEAD_CACHE": str(scratch / f"cache-{i}-{bundle.path.name}-{record.name}")}
                first.append(held_mb(bundle.path, record.name, camera, parts, environ))
                later.append(held_mb(bundle.path, record.name, camera, parts, environ))
            row: dict[str, Any] = {"bundle": bundle.manifest.name, "family": bundle.manifest.family, "engine": record.name}
            row["size_px"] = bundle.manifest.preprocess.width
            for prefix, seen in (("", later), ("first_", first)):
                row |= {prefix + key: round(statistics.median(one[key] for one in seen), 1) for key in KEYS}
            rows.append(row)
    return rows


def held_mb(bundle: Path, engine: str, camera: Path, parts: int, environ: dict[str, str]) -> dict[str, float]:
    """Memory of a fresh station after `parts` verdicts, MiB.

    Raises:
        EngineError: it gave fewer, or one of them was UNKNOWN.
    """
    with station(bundle, engine, camera, environ=environ) as started:
        records = list(islice(started.records(), parts))
        if len(records) < parts or any(json.loads(record)["verdict"] == "UNKNOWN" for record in records):
            raise EngineError(f"{bundle} {engine} did not give {parts} verdicts")
        status = Path(f"/proc/{started.process.pid}/status").read_text("utf-8").splitlines()
        return {key: next(int(line.split()[1]) / 1024 for line in status if line.startswith(name)) for key, name in KEYS.items()}


def _cells(row: dict[str, Any]) -> list[str]:
    keys = ("resident_mb", "files_mb", "peak_mb", "first_resident_mb", "first_peak_mb")
    return [f"{row['family']}, {row['size_px']} px", row["engine"], *(f"{row[key]:.0f}" for key in keys)]


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    rows = data["rows"]
    over = [f"{row['family']} on {row['engine']} ({row['resident_mb']:.0f} MB)" for row in rows if row["resident_mb"] >= GOAL_MB]
    return "\n".join(
        [
            "## Memory",
            "",
            f"What a station (`edgead run`) with one bundle and a 1080p camera holds after {data['parts']} verdicts, in MiB;"
            f" medians of {data['runs']} fresh processes: `python -m benchmarks.memory`. Files are libraries and mapped models,"
            " which other processes share. A first start compiles the engine; later ones take it from the cache.",
            "",
            *markdown(TITLES, [_cells(row) for row in rows]),
            "",
            f"Goal: below {GOAL_MB:.0f} MB resident: met by {len(rows) - len(over)} of {len(rows)}"
            + (f"; not by {', '.join(over)}." if over else "."),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, action="append", help="measure this one (may be repeated)")
    parser.add_argument("--families", default=",".join(SHOWN), help="of the untrained bundles (default all)")
    parser.add_argument("--parts", type=int, default=30, help="verdicts before memory is read (default 30)")
    parser.add_argument("--runs", type=int, default=2, help="fresh processes of each kind (default 2)")
    parser.add_argument("--quick", action="store_true", help="SimpleNet at 128 px, one run of 10 parts")
    parser.add_argument("--scratch", type=Path, help="keep the untrained bundles there for the next time")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.bundle:
            bundles = [Bundle.open(path) for path in args.bundle]
        else:
            from benchmarks._scratch import SIZE_PX, write_bundle

            families, size_px = (["simplenet"], 128) if args.quick else (args.families.split(","), SIZE_PX)
            bundles = [write_bundle(args.scratch or Path(scratch), family, size_px) for family in families]
        parts, runs = (10, 1) if args.quick else (args.parts, args.runs)
        rows = measure(bundles, parts, runs, Path(scratch))
    show(TITLES, [_cells(row) for row in rows])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": "memory", "machine": facts(), "parts": parts, "runs": runs, "goal_mb": GOAL_MB, "rows": rows}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
