"""A whole line of real processes: a station (`edgead run station.yaml`), the PLC, and parts whose true state is known.

A part's picture is a single grey value, which is also its score: below 200 it is a good part. The picture's file name tells the
truth once more (`good`, `bad`), and the station's records tell which file each part was judged by.
"""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np

from edgead.runtime.plc.signals import Cause
from tests.servers.plc import ModbusPlc
from tests.servers.station import StationProcess
from tests.waiting import PATIENCE_S, until

LIMIT = 200.0
GOOD, BAD = "good", "bad"
BUDGET_S = 3.0
LATE_S = BUDGET_S + 0.5  # from the PLC's trigger to its result, with what the handshake allows for seeing the trigger


def write_pictures(folder: Path, kinds: Iterable[str], size: int = 16) -> Path:
    """One picture for each part, in order; neighbours always differ."""
    folder.mkdir()
    for i, kind in enumerate(kinds):
        grey = i % 190 if kind == GOOD else 205 + i % 50
        cv2.imwrite(str(folder / f"{i:05d}_{kind}.png"), np.full((size, size, 3), grey, np.uint8))
    return folder


def third_is_bad(count: int) -> list[str]:
    return [BAD if i % 3 == 2 else GOOD for i in range(count)]


class Line:
    """Station and PLC in `folder`; the station is not started yet.

    Args:
        folder: of logs, configuration and, if `records` is not given, the records.
        bundle: scores of LIMIT and above are NG; several by their numbers are recipes, the first running.
        address: the camera's.
        records: folder of the records.
        plc: options of tests/servers/modbus.py.
        link: further keys of the camera's `plc` in station.yaml.
        others: further cameras in station.yaml, which have the same bundle.
        camera: further keys of the camera in station.yaml; `threshold` moves the limit.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path | dict[int, Path],
        address: str,
        *,
        records: Path | None = None,
        plc: dict[str, float] | None = None,
        link: dict[str, float] | None = None,
        others: Sequence[dict[str, Any]] = (),
        **camera: Any,
    ) -> None:
        self.limit = float(camera.get("threshold", LIMIT))
        self.plc = ModbusPlc(folder, **(plc or {}))
        self.http = ModbusPlc(folder).port  # another free port
        self.records = (records or folder / "kept") / "cam/records.db"
        device = {"type": "modbus-client", "host": "127.0.0.1", "port": self.plc.port}
        products = (
            {"recipes": {n: str(path) for n, path in bundle.items()}} if isinstance(bundle, dict) else {"bundle": str(bundle)}
        )
        content = {
            "name": "faults",
            "cameras": [
                {
                    "name": "cam",
                    "address": address,
                    **products,
                    "trigger": {"source": "plc"},
                    "budget_ms": BUDGET_S * 1000,
                    "plc": {**device, "timeout_ms": 200, "heartbeat_timeout_ms": 600, **(link or {})},
                    **camera,
                },
                *({"bundle": str(bundle), "budget_ms": BUDGET_S * 1000, **other} for other in others),
            ],
            "storage": {"folder": str(records or folder / "kept"), "pictures": {"max_mb": 1, "min_free_mb": 0}},
            "supervision": {"http": f"127.0.0.1:{self.http}"},
            "process": {"threads": 1},
        }
        self.station = StationProcess(folder, content)

    def start(self, prefix: Sequence[str] = (), *, terminal: int | None = None) -> None:
        """Both, until the station gives verdicts."""
        self.plc.start()
        self.station.start(prefix, terminal=terminal)
        self.until_ready()

    def until_ready(self) -> None:
        self.until(lambda: self.health()[1].get("state") == "ready")

    def close(self) -> None:
        self.station.kill()
        self.plc.kill()

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait; a station that has ended meanwhile is a failure."""

        def met() -> bool:
            assert self.station.running, self.station.log()[-3000:]
            return bool(condition())

        until(met, PATIENCE_S)

    def health(self, camera: str = "cam") -> tuple[bool, dict[str, Any]]:
        """Is all ready, and what /readyz says of the camera."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=PATIENCE_S) as answer:
                return True, json.load(answer)["stations"][camera]
        except urllib.error.HTTPError as error:
            with error:
                return False, json.load(error)["stations"][camera]
        except (URLError, OSError):
            return False, {}

    # What the PLC saw

    def count(self) -> int:
        return len(self.plc.log())

    def last_id(self) -> int:
        return max((entry["part"] for entry in self.plc.log()), default=0)

    def give(self, parts: int) -> list[str]:
        """So many parts come by; what the PLC was told of them, in words."""
        before = self.count()
        self.plc.want(parts)
        self.until(lambda: self.count() >= before + parts)
        return [words(entry) for entry in self.plc.log()[before:]]

    def healthy(self) -> None:
        """Six parts get what they deserve."""
        before = self.count()
        told = self.give(6)
        assert all(word in ("OK", "NG") for word in told), told
        entries = self.plc.log()[before:]
        assert [entry["verdict"] == "OK" for entry in entries] == [entry["score"] < self.limit for entry in entries]

    # What must always hold

    def judge(self, *, recorded: bool = True) -> list[dict[str, Any]]:
        """Exactly one verdict for each part that came, no wrong or late OK; the records say the same. Returns the log.

        With `recorded` each part that the station answered has its one record.
        """
        log = self.plc.log()
        ids = [entry["part"] for entry in log]
        assert len(ids) == len(set(ids)), "a part has two verdicts"
        told = {entry["part"]: entry for entry in log if entry["by"] == "station"}
        # A part that nobody acknowledged is rejected by the PLC itself, while the one before may still wait for its verdict.
        assert list(told) == sorted(told), "verdicts came out of order"
        took_s = {e["arrived"]: (e["at_ns"] - e["raised_ns"]) / 1e9 for e in self.plc.log("arrived") if e["raised_ns"]}
        if recorded:
            until(lambda: told.keys() <= {row["line_part_id"] for row in self.rows()}, PATIENCE_S)
        rows = self.rows()
        by_part = {row["line_part_id"]: row for row in rows}
        assert len(by_part) == len(rows), "a part has two records"
        for entry in log:
            if entry["verdict"] == "OK":
                assert entry["by"] == "station"
                assert entry["score"] < self.limit, f"a wrong OK: {entry}"
                assert took_s[entry["part"]] < LATE_S, f"an OK that came too late: {entry}"
                row = by_part.get(entry["part"])
                assert row is not None or not recorded
                assert row is None or (row["verdict"] == "OK" and truth(row) == GOOD), f"a wrong OK: {row}"
        pictures = [(row["run"], row["source"]) for row in rows if row["source"]]
        assert len(pictures) == len(set(pictures)), "a picture serves two parts"
        return log

    def rows(self, camera: str = "cam") -> list[dict[str, Any]]:
        """The records, as somebody else reads them while the station runs."""
        return read_rows(self.records.parent.parent / camera / "records.db")


def read_rows(records: Path) -> list[dict[str, Any]]:
    """All records of a database, as somebody else reads them while the station runs."""
    if not records.exists():
        return []
    with closing(sqlite3.connect(f"file:{records}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
            return []  # it is being made
        return [dict(row) for row in connection.execute("SELECT * FROM records ORDER BY seq")]


def truth(row: dict[str, Any]) -> str:
    """Of the picture by which a part was judged; streams have no files."""
    source = str(row["source"] or "")
    return Path(source).stem.rpartition("_")[2] if source else GOOD


def words(entry: dict[str, Any]) -> str:
    """A verdict in the PLC's log: "OK", "NG", "UNKNOWN late", or "UNKNOWN no_result" when the PLC rejected it by itself."""
    if entry["verdict"] != "UNKNOWN":
        return str(entry["verdict"])
    return f"UNKNOWN {Cause(entry['cause']).name.lower() if entry['by'] == 'station' else entry['by']}"


def wait(seconds: float) -> None:
    """For what takes real time: a PLC that stands still for longer than it may."""
    time.sleep(seconds)
