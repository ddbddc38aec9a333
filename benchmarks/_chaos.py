"""`python -m benchmarks.soak --chaos`: two lanes, two PLC processes, and a fault every few seconds until all parts are judged.

One `edgead run station.yaml` with two cameras; each lane has a PLC process of its own that follows docs/handshake.md and keeps
its own log. Parts are pictures whose true state is in their name and in their grey value; one in fifty cannot be read or has
another size. Faults come one at a time, drawn by seed, every kind equally often; after each both lanes must serve again. What is
counted at the end comes from the PLCs' logs and the database, not from what the station says of itself.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.machine import facts
from tests.faults.conftest import WallClockStep
from tests.faults.line import BAD, GOOD, LATE_S, LIMIT, read_rows, third_is_bad, truth, write_pictures
from tests.runtime.disks import fill
from tests.servers.plc import ModbusPlc
from tests.servers.station import StationProcess
from tests.waiting import until

LANES = ("left", "right")
CHUNK = 40
"""Parts that stand in front of each camera, at most."""
COMMIT_S = 1.0
"""docs/records.md: a killed process may lose the records of its last half second; as much again for what was on its way."""
PATIENCE_S = 90.0
ZERO = (
    "triggers_without_verdict",
    "wrong_ok",
    "late_ok",
    "doubled_verdicts",
    "doubled_records",
    "lost_records",
    "records_that_differ",
    "bad_exits",
)
"""All of these must be 0."""


class Lane:
    """A PLC process, and what is known of it from outside."""

    def __init__(self, folder: Path, records: Path) -> None:
        folder.mkdir()
        self.plc, self.records = ModbusPlc(folder, in_flight=3, cycle_ms=2), records
        self.wanted = self.forgotten = 0

    def outstanding(self) -> int:
        """Parts that have no verdict yet."""
        return self.wanted - self.forgotten - len(self.plc.log())

    def feed(self) -> None:
        """More parts, when only few are left."""
        if self.outstanding() < CHUNK // 2:
            self.plc.want(CHUNK)
            self.wanted += CHUNK

    def restart(self, away_s: float) -> None:
        """Power off and on again: what had no verdict is forgotten with it."""
        self.plc.kill()
        self.forgotten += self.outstanding()
        last = max((entry["part"] for entry in self.plc.log()), default=0)
        time.sleep(away_s)
        self.plc.start(start_id=last + 1000)

    def served(self) -> int:
        """Parts that the station judged by their pictures."""
        return sum(entry["by"] == "station" and entry["verdict"] in ("OK", "NG") for entry in self.plc.log())


class Plant:
    """Both lanes, the station, and everything that can be done to them."""

    def __init__(self, folder: Path, bundle: Path, pictures: int, stack: ExitStack) -> None:
        self.folder, self.bundle = folder, bundle
        self.disk = _disk(folder / "kept", stack)
        self.lanes = {name: Lane(folder / name, folder / "kept" / name / "records.db") for name in LANES}
        self.clock = WallClockStep(folder) if shutil.which("cc") else None
        self.kills_ns: list[int] = []
        self.lost: list[dict[str, Any]] = []  # parts whose records are not there
        self.done: list[tuple[int, str]] = []  # faults and when they began
        self.bad_exits: list[str] = []
        cameras = []
        for name in LANES:
            belt = _belt(folder / f"belt-{name}", pictures)
            cameras.append(_camera(name, belt, bundle, self.lanes[name].plc.port))
        kept = {"folder": str(folder / "kept"), "pictures": {"max_mb": 1, "min_free_mb": 0}}
        content: dict[str, Any] = {"name": "chaos", "cameras": cameras, "storage": kept, "process": {"threads": 1}}
        (folder / "station").mkdir()
        self.station = StationProcess(folder / "station", content)
        intruder = {**cameras[0], "threshold": 1e9}  # to this one every part is good
        (folder / "other").mkdir()
        self.other = StationProcess(
            folder / "other", {"name": "other", "cameras": [intruder], "storage": {"folder": str(folder / "other/kept")}}
        )

    def start(self) -> None:
        self.station.start(self.clock.prefix if self.clock else ())

    def faults(self) -> dict[str, Callable[[], None]]:
        """What can be done here, by name."""
        left, right = self.lanes["left"], self.lanes["right"]
        found: dict[str, Callable[[], None]] = {
            "PLC stands still for 0.3 s": lambda: self._pause(left, 0.3),
            "PLC stands still for 2 s": lambda: self._pause(right, 2.0),
            "PLC loses its power": lambda: left.restart(0.5),
            "station stands still for 0.5 s": lambda: self._stand_still(0.5),
            "station stands still for 4 s": lambda: self._stand_still(4.0),
            "kill -9": self._kill,
            "SIGTERM": lambda: self._end(signal.SIGTERM),
            "SIGHUP": lambda: self._end(signal.SIGHUP),
            "a PLC is away at the start": self._start_without_plc,
            "another station on the same block": self._intrude,
            "both PLCs lose their power": self._black_out,
        }
        if self.disk:
            found["disk full"] = self._fill_disk
        if self.clock is not None:
            found["wall clock steps by years"] = self._step_clock
        return found

    def fault_at(self, at_ns: int) -> str:
        """The last fault that had begun by then."""
        return next((name for began_ns, name in reversed(self.done) if began_ns <= at_ns), "")

    def _black_out(self) -> None:
        for lane in self.lanes.values():
            lane.restart(0.1)

    def _pause(self, lane: Lane, pause_s: float) -> None:
        lane.plc.pause()
        time.sleep(pause_s)
        lane.plc.resume()

    def _stand_still(self, pause_s: float) -> None:
        self.station.signal(signal.SIGSTOP)
        time.sleep(pause_s)
        self.station.signal(signal.SIGCONT)

    def _kill(self) -> None:
        self.station.kill()
        self.kills_ns.append(time.monotonic_ns())  # not before: it works until the signal comes
        self.start()

    def _end(self, number: signal.Signals) -> None:
        self.station.signal(number)
        if (code := self.station.wait()) != 0:
            self.bad_exits.append(f"{number.name}: {code}")
        self.start()

    def _start_without_plc(self) -> None:
        self.station.signal(signal.SIGTERM)
        if (code := self.station.wait()) != 0:
            self.bad_exits.append(f"before a start without a PLC: {code}")
        lane = self.lanes["right"]
        lane.plc.kill()
        lane.forgotten += lane.outstanding()
        self.start()
        before = self.lanes["left"].served()
        self._until(lambda: self.lanes["left"].served() > before, "the lane whose PLC is there")
        lane.plc.start(start_id=max((entry["part"] for entry in lane.plc.log()), default=0) + 1000)

    def _intrude(self) -> None:
        self.other.start()
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            self.feed()
            time.sleep(0.05)
        self.other.signal(signal.SIGTERM)
        self.other.wait()

    def _fill_disk(self) -> None:
        filler = fill(self.folder / "kept")
        time.sleep(2.0)
        filler.unlink()
        self._until(lambda: all(_recorded(lane) for lane in self.lanes.values()), "the records that waited")

    def _step_clock(self) -> None:
        assert self.clock is not None
        for years in (2, -3, 0):
            self.clock.step_to(years * 365 * 86400)
            time.sleep(0.3)

    def feed(self) -> None:
        for lane in self.lanes.values():
            lane.feed()

    def serves_again(self) -> None:
        """Wait until both lanes judge parts."""
        before = {name: lane.served() for name, lane in self.lanes.items()}

        def served() -> bool:
            self.feed()
            return all(lane.served() > before[name] + 3 for name, lane in self.lanes.items())

        self._until(served, "both lanes")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        def met() -> bool:
            if not self.station.running:
                raise RuntimeError(f"the station ended: {self.station.log()[-3000:]}")
            return condition()

        until(met, PATIENCE_S, what)

    def close(self) -> None:
        self.station.kill()
        self.other.kill()
        for lane in self.lanes.values():
            lane.plc.kill()


def chaos(folder: Path, bundle: Path, triggers: int, every_s: float, seed: int) -> dict[str, Any]:
    """Run it; the result is JSON-able."""
    began, done = time.monotonic(), Counter[str]()
    with ExitStack() as stack:
        plant = Plant(folder, bundle, triggers, stack)
        stack.callback(plant.close)
        for lane in plant.lanes.values():
            lane.plc.start()
        plant.start()
        plant.serves_again()
        order = _order(sorted(plant.faults()), seed)
        while (told := sum(len(lane.plc.log()) for lane in plant.lanes.values())) < triggers:
            calm_until = time.monotonic() + every_s
            while time.monotonic() < calm_until:
                plant.feed()
                time.sleep(0.02)
            name = next(order)
            print(f"{time.monotonic() - began:6.0f} s {told:7d} parts   {name}", flush=True)
            plant.done.append((time.monotonic_ns(), name))
            plant.faults()[name]()
            done[name] += 1
            plant.serves_again()
        plant._until(lambda: all(lane.outstanding() == 0 for lane in plant.lanes.values()), "the last parts")
        plant._until(lambda: all(_recorded(lane) for lane in plant.lanes.values()), "the last records")
        if (code := plant.station.stop()) != 0:
            plant.bad_exits.append(f"the last stop: {code}")
        account = _account(plant)
    return {
        "benchmark": "chaos",
        "machine": facts(),
        "seconds": round(time.monotonic() - began, 1),
        "seed": seed,
        "faults": dict(sorted(done.items())),
        **account,
    }


def _account(plant: Plant) -> dict[str, Any]:
    """The PLCs' logs against the databases."""
    found: Counter[str] = Counter(dict.fromkeys(ZERO, 0))
    told: Counter[str] = Counter()
    by: Counter[str] = Counter()
    found["bad_exits"] = len(plant.bad_exits)
    for name, lane in plant.lanes.items():
        log, rows = lane.plc.log(), read_rows(lane.records)
        arrived = {e["arrived"]: e for e in lane.plc.log("arrived")}
        kept = {row["line_part_id"]: row for row in rows}
        found["triggers_without_verdict"] += lane.outstanding()
        found["doubled_verdicts"] += len(log) - len({entry["part"] for entry in log})
        found["doubled_records"] += len(rows) - len(kept)
        for entry in log:
            told[entry["verdict"]] += 1
            by[entry["by"]] += 1
            row, at = kept.get(entry["part"]), arrived.get(entry["part"])
            if entry["by"] == "station" and row is None:
                excused = at is not None and any(0 <= kill - at["at_ns"] < COMMIT_S * 1e9 for kill in plant.kills_ns)
                found["lost_in_the_documented_window" if excused else "lost_records"] += 1
                if not excused:
                    plant.lost.append({"lane": name, **entry, "after": plant.fault_at(at["at_ns"]) if at else ""})
            if entry["verdict"] == "OK":
                late = at is None or (at["raised_ns"] and at["at_ns"] - at["raised_ns"] > LATE_S * 1e9)
                found["late_ok"] += bool(late)
                found["wrong_ok"] += (
                    entry["by"] != "station" or entry["score"] >= LIMIT or (row is not None and truth(row) != GOOD)
                )
                found["records_that_differ"] += row is not None and row["verdict"] != "OK"
    forgotten = sum(lane.forgotten for lane in plant.lanes.values())
    return {
        "triggers": sum(told.values()),
        "verdicts": dict(told),
        "told_by": dict(by),
        "forgotten_by_plcs_without_power": forgotten,
        "exits": plant.bad_exits,
        "lost": plant.lost,
        **dict(found),
    }


def table(row: dict[str, Any]) -> str:
    """As one table."""
    lines = [f"{'fault':<38}{'times':>6}"]
    lines += [f"{name:<38}{count:>6}" for name, count in row["faults"].items()]
    lines += ["", f"{'what':<38}{'count':>6}", f"{'triggers = verdicts told':<38}{row['triggers']:>6}"]
    lines += [f"{'  ' + name:<38}{count:>6}" for name, count in sorted(row["verdicts"].items())]
    shown = ("lost_in_the_documented_window", "forgotten_by_plcs_without_power", *ZERO)
    return "\n".join(lines + [f"{name.replace('_', ' '):<38}{row.get(name, 0):>6}" for name in shown])


def _order(names: list[str], seed: int) -> Iterator[str]:
    """Every kind once in each round, in an order of its own."""
    rng = random.Random(seed)
    while True:
        yield from rng.sample(names, len(names))


def _camera(name: str, belt: Path, bundle: Path, port: int) -> dict[str, Any]:
    plc = {"type": "modbus-client", "host": "127.0.0.1", "port": port, "timeout_ms": 200, "heartbeat_timeout_ms": 600}
    return {
        "name": name,
        "address": str(belt),
        "bundle": str(bundle),
        "trigger": {"source": "plc"},
        "budget_ms": 3000,
        "threshold": LIMIT,
        "frozen_after": 50,  # recordings are looked at for their pictures' size only with this
        "drift": None,  # these pictures drift by design
        "plc": plc,
    }


def _belt(folder: Path, pictures: int) -> Path:
    """Pictures of parts; one in fifty is broken, which no OK may be told for."""
    write_pictures(folder, third_is_bad(pictures))
    for i, file in enumerate(sorted(folder.iterdir())):
        if i % 50 == 20:
            broken = file.with_name(f"{file.stem.partition('_')[0]}_{BAD}.png")
            file.unlink()
            if i % 100 == 20:
                broken.write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
            else:
                cv2.imwrite(str(broken), np.full((24, 40, 3), 50, np.uint8))
    return folder


def _recorded(lane: Lane) -> bool:
    """All that the station told so far has its record, but for what a killed process took with it."""
    rows = read_rows(lane.records)
    told = [entry["part"] for entry in lane.plc.log() if entry["by"] == "station"]
    return not told or told[-1] in {row["line_part_id"] for row in rows}


@contextmanager
def _mounted(folder: Path) -> Iterator[bool]:
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _disk(folder: Path, stack: ExitStack) -> bool:
    """A small real disk there, where that is allowed."""
    folder.mkdir()
    return stack.enter_context(_mounted(folder))
