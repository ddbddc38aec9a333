"""Does a station lose, double or leak anything? `edgead run` for as many parts as you have patience for.

    python -m benchmarks.soak --triggers 100000 --json benchmarks/results/soak.json
    python -m benchmarks.soak --chaos --triggers 20000 --json benchmarks/results/chaos.json

Three real processes: the station (`edgead run station.yaml`: simulated camera, ONNX Runtime, records in SQLite, NG and UNKNOWN
pictures under a quota, Modbus TCP client), a Modbus TCP server that runs a PLC's program and writes its own log, and this one,
which looks at the station from outside. The PLC triggers the next part as soon as the station is ready, up to `--in-flight`.

At the end the PLC's log is held against the station's database: a part without exactly one verdict from the station and exactly
one record is lost or doubled, a part that the PLC was told is OK while the record says otherwise is wrong. Exit code 1 on any.

The engine of the default bundle is a graph of one operator (the largest value of the picture), so that the station itself is what
is loaded; --bundle takes another. Its threshold is set so that about one part in fifty is NG.
The pictures are 64 x 64 pixels: drawing them takes the simulated camera 6 ms each, and that is most of the time from trigger to
verdict. With several parts in flight the time from trigger to result holds the waiting for the parts before.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._chaos import ZERO as CHAOS_ZERO
from benchmarks._chaos import chaos, table
from edgead.machine import facts
from tests.cli.test_run import write_bundle
from tests.servers.plc import ModbusPlc
from tests.servers.station import StationProcess
from tests.waiting import until

NAME = "soak"
THRESHOLD = 208.0
WARM_UP = 100  # parts that the speed is not measured by
PATIENCE_S = 60.0
"""So long without a verdict, and the soak has failed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The station's process, seen from outside."""

    at_s: float
    parts: int
    rss_mb: float
    threads: int
    files: int


def config(folder: Path, port: int, bundle: Path, threshold: float | None) -> dict[str, Any]:
    """The station.yaml of the soak."""
    camera = {
        "name": "cam",
        "address": "sim:width=64,height=64,defect_rate=0.1",
        "bundle": str(bundle),
        "trigger": {"source": "plc"},
        "budget_ms": 1000,
        "plc": {"type": "modbus-client", "host": "127.0.0.1", "port": port, "cycle_ms": 2, "timeout_ms": 500},
    }
    if threshold is not None:
        camera["threshold"] = threshold
    return {
        "name": NAME,
        "cameras": [camera],
        "storage": {"folder": str(folder / "kept"), "pictures": {"max_mb": 8, "min_free_mb": 0}},
        "process": {"threads": 1},
    }


def soak(folder: Path, triggers: int, in_flight: int, bundle: Path, threshold: float | None, every_s: float) -> dict[str, Any]:
    """Run it; the result is JSON-able."""
    plc = ModbusPlc(folder, in_flight=in_flight, cycle_ms=2)
    plc.start()
    station = StationProcess(folder, config(folder, plc.port, bundle, threshold))
    try:
        station.start()
        plc.want(WARM_UP)
        until(lambda: len(plc.log()) >= WARM_UP, PATIENCE_S)
        began = time.monotonic()
        plc.want(triggers - WARM_UP)
        samples = watch(station, plc, triggers, every_s)
        took_s = time.monotonic() - began
        status = station.stop()
        log = station.log()
    finally:
        station.kill()
        plc.kill()
    return {
        "benchmark": NAME,
        "machine": facts(),
        "triggers": triggers,
        "in_flight": in_flight,
        "seconds": round(took_s, 1),
        "parts_per_s": round((triggers - WARM_UP) / took_s, 1),
        "exit_status": status,
        **account(plc, folder / "kept/cam/records.db", triggers),
        **usage(samples),
        **times(plc, folder / "kept/cam/records.db"),
        "pictures_mb": round(sum(file.stat().st_size for file in (folder / "kept/cam/pictures").iterdir()) / 1e6, 2),
        "summary": log[log.rfind("cam: ") :].splitlines(),
    }


def watch(station: StationProcess, plc: ModbusPlc, triggers: int, every_s: float) -> list[Sample]:
    """Sample until all parts have their verdict; a station that ends, or gives none any more, is a failure."""
    began = last = time.monotonic()
    samples: list[Sample] = []
    before = 0
    while (parts := len(plc.log())) < triggers:
        now = time.monotonic()
        if not station.running or now - last > PATIENCE_S:
            raise RuntimeError(f"no verdict any more after {parts} parts; the station said: {station.log()[-2000:]}")
        if parts > before:
            before, last = parts, now
        if not samples or now - began - samples[-1].at_s >= every_s:
            rss, threads, files = station.usage()
            samples.append(Sample(round(now - began, 1), parts, round(rss / 1e6, 2), threads, files))
            if len(samples) % 10 == 1:
                print(f"{now - began:7.0f} s {parts:8d} parts {rss / 1e6:8.1f} MB {threads} threads {files} files", flush=True)
        time.sleep(0.2)
    return samples


def account(plc: ModbusPlc, database: Path, triggers: int) -> dict[str, Any]:
    """The PLC's log against the records."""
    told = plc.log("part")
    by_part = Counter(entry["part"] for entry in told)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT line_part_id, verdict, acknowledged FROM records").fetchall()
    kept = {part: (verdict, acknowledged) for part, verdict, acknowledged in rows}
    wanted = set(range(1, triggers + 1))
    pairs = [(entry["verdict"], kept.get(entry["part"], ("", None))[0]) for entry in told]
    return {
        "told": dict(Counter(entry["verdict"] for entry in told)),
        "lost": len(wanted - set(by_part)) + sum(entry["by"] != "station" for entry in told),
        "doubled": sum(by_part.values()) - len(by_part) + len(set(by_part) - wanted) + len(plc.log("ignored")),
        "without_record": len(wanted - set(kept)),
        "records_doubled": len(rows) - len(kept),
        "not_acknowledged": sum(acknowledged is None for _, acknowledged in kept.values()),
        "told_ok_but_recorded_otherwise": sum(said == "OK" and record != "OK" for said, record in pairs),
        "told_unknown_since_late": sum(said == "UNKNOWN" and record in ("OK", "NG") for said, record in pairs),
        "plc_saw_errors": dict(Counter(entry["error"] for entry in plc.log("error"))),
    }


ZERO = ("lost", "doubled", "without_record", "records_doubled", "told_ok_but_recorded_otherwise", "exit_status")
"""All of these must be 0."""


def usage(samples: list[Sample]) -> dict[str, Any]:
    """Memory, threads and files over the run; the slope is that of the second half."""
    later = samples[len(samples) // 2 :]
    slope = float("nan")
    if len(later) > 2 and later[-1].parts > later[0].parts:
        slope = float(np.polyfit([s.parts / 10_000 for s in later], [s.rss_mb for s in later], 1)[0])
    step = max(1, len(samples) // 60)
    return {
        "rss_mb": {"first": samples[0].rss_mb, "half": later[0].rss_mb, "last": samples[-1].rss_mb},
        "rss_slope_mb_per_10000_parts": round(slope, 4) if slope == slope else None,
        "threads": sorted({s.threads for s in samples}),
        "files": sorted({s.files for s in samples}),
        "samples": [[s.at_s, s.parts, s.rss_mb, s.threads, s.files] for s in samples[::step]],
    }


def times(plc: ModbusPlc, database: Path) -> dict[str, Any]:
    """Milliseconds, by the PLC's clock and by the records."""
    arrived = [entry for entry in plc.log("arrived") if entry["raised_ns"] is not None]
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT total_ms, total_ms - resize_ms - inference_ms FROM records WHERE total_ms IS NOT NULL"
        ).fetchall()
    total, own = np.array(rows, float).T
    return {
        "trigger_raised_to_result_ms": percentiles(np.array([e["at_ns"] - e["raised_ns"] for e in arrived]) / 1e6),
        "trigger_to_verdict_ms": percentiles(total),
        "trigger_to_verdict_without_work_ms": percentiles(own),
    }


def percentiles(values: np.typing.NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99, p999 = np.percentile(values, (50, 95, 99, 99.9))
    named = {"p50": p50, "p95": p95, "p99": p99, "p99.9": p999, "max": values.max()}
    return {name: round(float(value), 3) for name, value in named.items()}


def listed(row: dict[str, Any]) -> str:
    return "\n".join(f"{key:<36}{value}" for key, value in row.items() if key not in ("machine", "samples"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=100_000)
    parser.add_argument("--in-flight", type=int, default=4, help="triggers that the PLC has open at a time")
    parser.add_argument("--bundle", type=Path, help="another bundle than the tiny one")
    parser.add_argument("--every-s", type=float, default=2.0, help="between two looks at the station's memory")
    parser.add_argument("--chaos", action="store_true", help="two lanes, and a fault every few seconds (benchmarks/_chaos.py)")
    parser.add_argument("--fault-every-s", type=float, default=3.0, help="--chaos: calm between two faults")
    parser.add_argument("--seed", type=int, default=0, help="--chaos: of the order of the faults")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.triggers < 1000:
        parser.error("a soak has 1000 triggers or more")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = args.bundle.absolute() if args.bundle else write_bundle(folder / "tiny.edgead")
        if args.chaos:
            row = chaos(folder, bundle, args.triggers, args.fault_every_s, args.seed)
        else:
            row = soak(folder, args.triggers, args.in_flight, bundle, None if args.bundle else THRESHOLD, args.every_s)
    print(table(row) if args.chaos else listed(row))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(row, indent=1, allow_nan=False) + "\n", "utf-8")
    failed = [key for key in (CHAOS_ZERO if args.chaos else ZERO) if row[key]]
    if failed:
        print("FAILED: " + ", ".join(failed), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
