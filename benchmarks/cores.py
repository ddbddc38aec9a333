"""Are this machine's cores cores? What loops that share nothing get done all at once, against one of them alone.

    python -m benchmarks.cores --json benchmarks/results/cores.json

On a virtual machine, cores may be two threads of one core of the host, and change from second to second. An engine on all of them
is then no faster than on one, whatever its software does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgead.machine import facts, usable_cores

SLICE_S = 1.0


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    times = data["times_one"]
    return (
        "## The cores\n\n"
        f"{data['cores']} loops that share nothing, each in a process of its own, get {times['p50']} times done what one alone"
        f" does (median of {data['seconds']} slices of 1 s; 5th percentile {times['p5']}, 95th {times['p95']}):"
        " `python -m benchmarks.cores`. Where that is far below the number of cores, the virtual cores are two threads of one"
        " core of the host for a while, and figures of more than one thread carry it.\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="of all cores at once (default 120)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    count = usable_cores()
    alone = float(np.median(_rates(1, 10)))
    together = _rates(count, args.seconds).sum(0) / alone
    low, middle, high = np.percentile(together, (5, 50, 95)).round(2).tolist()
    print(
        f"{count} cores at once do {middle} times what one does (5th percentile {low}, 95th {high}; {args.seconds} slices of 1 s)"
    )
    if args.json:
        content = {
            "benchmark": "cores", "machine": facts(), "cores": count, "seconds": args.seconds,
            "times_one": {"p5": low, "p50": middle, "p95": high, "by_second": together.round(2).tolist()},
        }  # fmt: skip
        args.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0


def _rates(processes: int, seconds: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Loops a second of each process (rows) in each second (columns)."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        pool.map(_loops, [0.2] * processes, 1)  # started, and warm
        begin = time.time() + 0.5
        return np.array(pool.starmap(_sliced, [(begin, seconds)] * processes, 1))


def _sliced(begin: float, seconds: int) -> list[float]:
    time.sleep(max(0.0, begin - time.time()))
    return [_loops(SLICE_S) for _ in range(seconds)]


def _loops(duration_s: float) -> float:
    """Loops a second of plain Python, which uses one thread only."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < duration_s:
        sum(range(2000))
        done += 1
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
