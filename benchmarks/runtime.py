"""What the station itself costs: from the PLC's trigger to the verdict in the PLC, minus resize and inference.

    python -m benchmarks.runtime --parts 2000 --json benchmarks/results/runtime.json

The whole station with an engine that only takes its time, pictures of the simulated conveyor drawn beforehand, and a real
Modbus TCP server process that plays the PLC on loopback. "overhead" begins when this process has read the trigger and ends
when the result is in the PLC's registers; the PLC's own cycle and the 5 ms between two looks at its trigger bit are not in it.
With parts that come faster than about 25 ms a result also waits for the PLC's cycles in which it acknowledges the one before.
With --records the inspections go into a database in this folder too, as `edgead run station.yaml` keeps them: `usual` beside the
verdicts, `first` before the PLC is told (storage: {records: first}), so that the disk is in the overhead.
The process is set up as `edgead run` does. On a machine that does other work too, give --realtime-priority, as a station would
have it (process: realtime_priority); the PLC's process, which no box shares with a station, gets the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgead.clock import MonotonicClock
from edgead.errors import CameraLost
from edgead.machine import facts
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.cameras.simulated import SimulatedCamera
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.plc.device import PlcDevice
from edgead.runtime.plc.modbus import ModbusClientLink, ModbusClientSettings
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.runtime.records.store import RecordStore
from edgead.runtime.supervision.process import ProcessOptions, tuned
from edgead.testing import FakeEngine
from edgead.types import Frame, Image, Inspection
from tests.servers.plc import ModbusPlc
from tests.waiting import until

PICTURES = 16
MODEL_PX = 256
WARM_UP = 20  # parts that are not counted


class Belt:
    """The simulated conveyor's pictures, drawn beforehand; each is there as soon as it is asked for."""

    live = False

    def __init__(self, size_px: int) -> None:
        camera = SimulatedCamera(width=size_px, height=size_px)
        self._frames = [camera.grab(1.0) for _ in range(PICTURES)]
        camera.close()
        self._next = 0
        self._closed = False

    def grab(self, timeout_s: float) -> Frame:
        if self._closed:
            raise CameraLost("the belt is closed")
        frame = self._frames[self._next % PICTURES]
        self._next += 1
        return Frame(frame.image, frame.camera, self._next, time.monotonic_ns())

    def close(self) -> None:
        self._closed = True


class TimedLink:
    """Notes how long each exchange takes, and each look at the station's own block."""

    def __init__(self, link: ModbusClientLink) -> None:
        self._link = link
        self.exchanges_ms: list[float] = []
        self.looks_ms: list[float] = []

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        started = time.monotonic_ns()
        seen = self._link.exchange(to_plc)
        self.exchanges_ms.append((time.monotonic_ns() - started) / 1e6)
        return seen

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        started = time.monotonic_ns()
        found = self._link.look()
        self.looks_ms.append((time.monotonic_ns() - started) / 1e6)
        return found

    def close(self) -> None:
        self._link.close()


def measure(
    parts: int, size_px: int, interval_s: float, engine_s: float, realtime_priority: int | None, records: str = "none"
) -> dict[str, Any]:
    """Run the station until it has inspected `parts` parts that come every `interval_s`; records "none", "usual" or "first"."""
    with tuned(ProcessOptions(realtime_priority=realtime_priority)) as on_idle:
        return _measure(parts, size_px, interval_s, engine_s, on_idle, records)


def _measure(
    parts: int, size_px: int, interval_s: float, engine_s: float, on_idle: Callable[[], None] | None, records: str
) -> dict[str, Any]:
    inspections: list[Inspection] = []

    def infer(_image: Image) -> float:
        time.sleep(engine_s)
        return 1.0

    engine = FakeEngine(infer, image_size=(MODEL_PX, MODEL_PX), map_size=(64, 64))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # /tmp may be memory
        plc = ModbusPlc(Path(folder), in_flight=2)
        plc.start()
        try:
            link = TimedLink(ModbusClientLink(ModbusClientSettings(host="127.0.0.1", port=plc.port, timeout_ms=500)))
            clock = MonotonicClock()
            device = PlcDevice(link, clock)
            station = Station(
                Belt(size_px),
                engine,
                PreprocessRecipe(MODEL_PX, MODEL_PX),
                2.0,
                StationSettings(budget_ms=1000.0),
                [device],
                clock,
                triggers=device,
                on_idle=on_idle,
            ).on_inspection(inspections.append, capacity=parts + WARM_UP)
            store = None
            if records != "none":
                store = RecordStore(Path(folder) / "records", commit_every_s=0.0 if records == "first" else 0.5)
                station.on_record(store.write, first=records == "first")
            with station:
                feeder = threading.Thread(target=_feed, args=(plc, parts + WARM_UP, interval_s))
                feeder.start()
                began, cpu = time.monotonic(), time.process_time()
                station.run(max_parts=parts + WARM_UP)
                took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
                feeder.join()
                until(lambda: len(plc.log()) == parts + WARM_UP)
            if store is not None:
                store.close()
                assert store.lost == 0 and store.written == parts + WARM_UP
            log, arrived = plc.log(), {entry["arrived"]: entry["at_ns"] for entry in plc.log("arrived")}
        finally:
            plc.kill()
    rows = [(inspection, arrived[inspection.trigger.part_id]) for inspection in inspections if inspection.trigger is not None]
    return {
        "parts_per_s": round(len(log) / took_s, 1),
        "cpu_share": round(cpu_s / took_s, 3),
        "verdicts": dict(Counter(entry["verdict"] for entry in log)),
        "doubled": len(log) - len({entry["part"] for entry in log}),
        **_times(rows[WARM_UP:]),
        "exchange_ms": _percentiles(link.exchanges_ms),
        "look_ms": _percentiles(link.looks_ms),
        "looks_per_s": round(len(link.looks_ms) / took_s, 1),
    }


def _feed(plc: ModbusPlc, parts: int, interval_s: float) -> None:
    due = time.monotonic()
    for _ in range(parts):
        plc.want(1)
        due += interval_s
        time.sleep(max(0.0, due - time.monotonic()))


def _times(rows: Sequence[tuple[Inspection, int]]) -> dict[str, Any]:
    """Inspections, and when (monotonic ns) their results came into the PLC's registers."""
    overhead_ms, verdict_ms, telling_ms = [], [], []
    for inspection, arrived_ns in rows:
        assert inspection.trigger is not None
        whole_ms = (arrived_ns - inspection.trigger.at_ns) / 1e6
        work_ms = inspection.times.resize_ms + inspection.times.inference_ms
        overhead_ms.append(whole_ms - work_ms)
        verdict_ms.append(inspection.times.total_ms - work_ms)
        telling_ms.append(whole_ms - inspection.times.total_ms)
    return {
        "parts": len(rows),
        "overhead_ms": _percentiles(overhead_ms),
        "trigger_to_verdict_ms": _percentiles(verdict_ms),
        "verdict_to_plc_ms": _percentiles(telling_ms),
    }


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    array = np.array(list(values))
    p50, p95, p99 = np.percentile(array, (50, 95, 99))
    return {name: round(float(v), 3) for name, v in {"p50": p50, "p95": p95, "p99": p99, "max": array.max()}.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--interval-ms", type=float, default=30.0, help="from one part to the next (default 30: 2000 a minute)")
    parser.add_argument("--engine-ms", type=float, default=5.0, help="how long an inference takes (asleep; not in the overhead)")
    parser.add_argument("--size", type=int, default=512, help="width and height of the camera's pictures")
    parser.add_argument("--realtime-priority", type=int, metavar="N", help="SCHED_FIFO priority of the station (default: none)")
    parser.add_argument("--records", choices=("none", "usual", "first"), default="none", help="keep records (see above)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    row = measure(args.parts, args.size, args.interval_ms / 1000, args.engine_ms / 1000, args.realtime_priority, args.records)
    print(f"{row['parts']} parts, {row['parts_per_s']} a second, {row['cpu_share']:.0%} of a core, PLC saw {row['verdicts']}")
    for name in ("overhead_ms", "trigger_to_verdict_ms", "verdict_to_plc_ms", "exchange_ms", "look_ms"):
        print(f"{name:<24}" + "".join(f"{key:>6} {value:8.3f}" for key, value in row[name].items()))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "benchmark": "runtime",
            "machine": facts(),
            "size_px": args.size,
            "interval_ms": args.interval_ms,
            "engine_ms": args.engine_ms,
            "realtime_priority": args.realtime_priority,
            "records": args.records,
            **row,
        }
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
