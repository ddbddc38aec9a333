"""What does a dashboard cost the station? Trigger to verdict with nobody looking on, with a dashboard, with 30 browsers that do
not read, and with a dashboard that stands still, in turns within one run of a station.

    python -m benchmarks.dashboard --json benchmarks/results/dashboard.json

The station has a real-time priority, as docs/station.md advises where other programs run on the box.

The ratio is that of the medians over turns, each to the turn with nobody just before it, with a 95 % interval over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._fresh import show
from edgead.machine import facts
from tests.dashboard.client import Client
from tests.dashboard.watched import Watched
from tests.waiting import until

STALLED = 30
TITLES = ("looking on", "parts", "p50", "p99", "p50 ratio", "p99 ratio")


@contextmanager
def nobody(line: Watched) -> Iterator[None]:
    yield


@contextmanager
def looked_at(line: Watched, browsers: int = 0) -> Iterator[None]:
    """A dashboard, and browsers that open the stream of events and never read it."""
    line.look()
    client = Client(line.url)
    until(lambda: Watched.camera(client)["state"] == "ready")
    with ExitStack() as stack:
        for _ in range(browsers):
            stack.enter_context(client.stream())
        yield
    line.stop_looking()


@contextmanager
def stalled(line: Watched) -> Iterator[None]:
    with looked_at(line, STALLED):
        yield


@contextmanager
def standing_still(line: Watched) -> Iterator[None]:
    with looked_at(line, STALLED):
        os.kill(line.dashboard, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(line.dashboard, signal.SIGCONT)


KINDS: dict[str, Any] = {
    "nobody": nobody,
    "a dashboard": looked_at,
    f"{STALLED} browsers that do not read": stalled,
    f"a dashboard that stands still, {STALLED} browsers": standing_still,
}


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def turn_ms(line: Watched, kind: str, seconds: float) -> list[float]:
    """Milliseconds from trigger to verdict of the parts of one turn."""
    with KINDS[kind](line):
        time.sleep(1.0)
        begun = now()
        time.sleep(seconds)
        ended = now()
    ask = "SELECT total_ms, verdict FROM records WHERE time >= ? AND time < ?"
    with closing(sqlite3.connect(f"file:{line.records}?mode=ro", uri=True)) as connection:
        rows = connection.execute(ask, (begun, ended)).fetchall()
    assert all(verdict != "UNKNOWN" for _, verdict in rows)
    return [row[0] for row in rows]


def ratio(turns: list[list[float]], without: list[list[float]], q: float) -> dict[str, float]:
    """Of a percentile, turn by turn: the geometric mean and its 95 % interval (Student's t)."""
    logs = [float(np.log(np.percentile(a, q) / np.percentile(b, q))) for a, b in zip(turns, without, strict=True)]
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}[len(logs)]
    middle, half = statistics.fmean(logs), t * statistics.stdev(logs) / len(logs) ** 0.5
    return {
        name: round(float(np.exp(value)), 3)
        for name, value in (("mean", middle), ("low", middle - half), ("high", middle + half))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=6, choices=range(2, 11))
    parser.add_argument("--every-ms", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    line = Watched(every_ms=arguments.every_ms, process={"realtime_priority": 50})
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    try:
        line.station.start()
        until(lambda: line.records.exists())
        time.sleep(5)
        for _ in range(arguments.rounds):
            for kind in KINDS:
                found[kind].append(turn_ms(line, kind, arguments.seconds))
    finally:
        line.close()
    rows = [_row(kind, turns, found["nobody"]) for kind, turns in found.items()]
    show(TITLES, [_told(row) for row in rows])
    if arguments.json is not None:
        load = [round(one, 1) for one in os.getloadavg()]
        told = {"machine": facts(), "load": load, "turn_s": arguments.seconds, "every_ms": arguments.every_ms, "rows": rows}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


def _row(kind: str, turns: list[list[float]], without: list[list[float]]) -> dict[str, Any]:
    everything = [value for turn in turns for value in turn]
    p50, p99 = (round(float(value), 3) for value in np.percentile(everything, (50, 99)))
    ratios = {f"p{q}": ratio(turns, without, q) for q in (50, 99)} if kind != "nobody" else None
    return {"looking_on": kind, "parts": len(everything), "turns": len(turns), "p50_ms": p50, "p99_ms": p99, "ratio": ratios}


def _told(row: dict[str, Any]) -> tuple[str, ...]:
    ratios = [f"{r['mean']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in (row["ratio"] or {}).values()] or ["", ""]
    return (row["looking_on"], f"{row['parts']:,}", f"{row['p50_ms']:.2f} ms", f"{row['p99_ms']:.2f} ms", *ratios)


if __name__ == "__main__":
    main()
