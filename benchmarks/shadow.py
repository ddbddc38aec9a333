"""What a shadow costs the line: time from picture to verdict with and without one, on the same box, taking turns.

    python -m benchmarks.shadow part.edgead --json benchmarks/results/shadow.json

Each round is a whole station (camera: simulated conveyor, records on disk) that judges so many parts, once with `shadow:`, once
without; which goes first alternates. The shadow is the same bundle, so as dear as the line itself. Told are p50 and p99 of
each round, and the ratio with / without over the pairs of rounds: the geometric mean with its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgead.line.service import Station
from edgead.machine import facts
from edgead.types import Inspection

WARM_UP = 20  # parts that are not counted
STUDENT_95 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201}
"""By degrees of freedom."""
FILE = """
name: shadow
cameras:
  - name: top
    address: "sim:width={size},height={size},fps={fps},parts={parts}"
    bundle: {bundle}
    budget_ms: 1000
{shadow}
storage: {{folder: {folder}}}
"""


def measured(bundle: Path, parts: int, fps: float, size: int, shadowed: bool) -> dict[str, Any]:
    """One round."""
    seen: list[Inspection] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
        shadow = f"    shadow: {bundle}\n" if shadowed else ""
        file = Path(folder) / "station.yaml"
        file.write_text(
            FILE.format(size=size, fps=fps, parts=parts + WARM_UP, bundle=bundle, shadow=shadow, folder=f"{folder}/data"), "utf-8"
        )
        with Station.from_file(file) as station:
            station.on_inspection(seen.append, capacity=parts + WARM_UP).run()
            beside = station.lanes[0].shadow
            judged, dropped = (beside.judged, beside.dropped) if beside is not None else (0, 0)
    times = np.array([one.times.total_ms for one in seen[WARM_UP:]])
    p50, p99 = np.percentile(times, (50, 99))
    return {
        "parts": len(times),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "judged": judged,
        "dropped": dropped,
    }


def ratio(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """With / without: the geometric mean over pairs of rounds, and its 95 % interval."""
    logs = np.log([after / before for before, after in pairs])
    mean, half = float(logs.mean()), STUDENT_95[len(logs) - 1] * float(logs.std(ddof=1)) / len(logs) ** 0.5
    return {name: round(float(np.exp(value)), 3) for name, value in (("mean", mean), ("low", mean - half), ("high", mean + half))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=8, help="pairs of rounds, 3 to 12")
    parser.add_argument("--parts", type=int, default=400, help="of each round")
    parser.add_argument("--fps", type=float, default=20.0, help="parts a second")
    parser.add_argument("--size", type=int, default=512, help="width and height of the camera's pictures")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rounds: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number in range(args.rounds):
        for shadowed in (False, True) if number % 2 == 0 else (True, False):
            row = measured(args.bundle.absolute(), args.parts, args.fps, args.size, shadowed)
            rounds[shadowed].append(row)
            print("with   " if shadowed else "without", row, flush=True)
    found = {
        name: ratio([(a[name], b[name]) for a, b in zip(rounds[False], rounds[True], strict=True)])
        for name in ("p50_ms", "p99_ms")
    }
    print(found)
    if args.json:
        content = {
            "benchmark": "shadow",
            "machine": facts(),
            "parts_per_s": args.fps,
            "size_px": args.size,
            "without": rounds[False],
            "with": rounds[True],
            "ratio": found,
        }
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
