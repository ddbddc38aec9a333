"""What does it cost to start the command line, and to import the station, beside another commit?

    python -m benchmarks.startup --before cbbf9ef --json benchmarks/results/startup.json

Each run is a fresh process; user and system time of it are counted, not the time that passed. The commands of both trees take
turns, and bare Python, argparse and click alone with them; medians are compared. The tree before and the compiled files of both
lie in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgead.machine import facts

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (("--help",), ("--version",), ("records", "--help"), ("doctor", "--help"), ("run", "--help"), ("export", "--help"))
STATION = ("edgead.runtime.loop.station", "edgead.runtime.station")
"""Where the module lies, and where it did."""

BARE = {"bare Python": "pass", "import argparse": "import argparse", "import click": "import click"}


def cpu_ms(code: Sequence[str], tree: Path, compiled: Path) -> float:
    """User and system time of a fresh Python, whose edgead is that of a tree."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start would compile all again
    subprocess.run([sys.executable, *code], cwd=tree, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measure(before: Path, runs: int, compiled: Path) -> list[dict[str, Any]]:
    """One row a command: medians and quartiles of `runs`, in milliseconds."""
    jobs: dict[tuple[str, str], tuple[tuple[str, ...], Path]] = {
        (name, "here"): (("-c", code), ROOT) for name, code in BARE.items()
    }
    for label, tree in (("before", before), ("here", ROOT)):
        (module,) = (name for name in STATION if (tree / f"{name.replace('.', '/')}.py").is_file())
        jobs["import of the station", label] = (("-c", f"import {module}"), tree)
    for words in COMMANDS:
        for label, tree in (("before", before), ("here", ROOT)):
            jobs[" ".join(("edgead", *words)), label] = (("-m", "edgead.cli.main", *words), tree)
    seen: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    for i in range(runs + 1):
        for key, (code, tree) in jobs.items():
            took = cpu_ms(code, tree, compiled)
            if i:  # the first run writes the compiled files
                seen[key].append(took)
    rows: dict[str, dict[str, Any]] = {}
    for (name, label), times in seen.items():
        low, middle, high = statistics.quantiles(times, n=4)
        rows.setdefault(name, {"command": name})[label] = {
            "median_ms": round(middle, 1),
            "quartiles_ms": [round(low, 1), round(high, 1)],
        }
    for row in rows.values():
        if "before" in row:
            row["ratio"] = round(row["here"]["median_ms"] / row["before"]["median_ms"], 2)
    return list(rows.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", default="cbbf9ef", metavar="COMMIT", help="to compare with (default cbbf9ef, the last with argparse)"
    )
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="of each command (default 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgead-startup-") as folder:
        archive = subprocess.run(["git", "archive", args.before, "edgead"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
        rows = measure(Path(folder), args.runs, Path(folder) / "compiled")
    for row in rows:
        times = "  ".join(f"{label} {row[label]['median_ms']:6.1f} ms" for label in ("before", "here") if label in row)
        print(f"{row['command']:<24}{times}" + (f"  {row['ratio']:.2f} x" if "ratio" in row else ""))
    if args.json is not None:
        report = {"before": args.before, "runs": args.runs, "rows": rows, "machine": facts()}
        args.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
