"""Reading records: of a running station's database, a stopped one's, or a copy."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgead.errors import BadInput, StorageError
from edgead.runtime.records.database import ADDED, CHANGES, COLUMNS, FILE_NAME, check_schema

PAGE = 2000  # rows read at once; between pages nothing is held, so a running station's log can shrink

SHOWN: Mapping[str, str] = {
    **{name: kind for name, kind in COLUMNS.items() if name not in ("rule", "levels")},
    "rule": "TEXT",
    "bundle": "TEXT",
}
"""What is told of a record, with SQL types: the table's columns, of the rule its version, and the bundle's digest."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are wanted.

    Attributes:
        since, until: ISO 8601 UTC as in the column ``time``, or a beginning of it (``2026-11-22``); from since on, before until.
        verdicts: e.g. ``("NG", "UNKNOWN")``; empty is all.
        part_id: of one part.
        last: only the newest so many of them.
    """

    since: str | None = None
    until: str | None = None
    verdicts: tuple[str, ...] = ()
    part_id: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a selection holds.

    Attributes:
        parts: records.
        runs: of the station.
        first, last: UTC of the first and last by order of writing.
        verdicts, causes: counts; of a cause, what stands before a colon.
        missing: part ids between the smallest and the largest without a record; None when only some were selected.
        latency_ms: p50, p95, p99 and max from the frame's arrival to the verdict; empty when no part had a frame.
    """

    parts: int
    runs: int
    first: str
    last: str
    verdicts: dict[str, int]
    causes: dict[str, int]
    missing: int | None
    latency_ms: dict[str, float]


class History:
    """Reads the records of a folder or a database file; never writes, and never holds up the station that writes.

    Args:
        path: the folder of a :class:`edgead.runtime.records.store.RecordStore`, its ``records.db``, or a copy.

    Raises:
        BadInput: there are no records.
        StorageError: the file is damaged, not a record database, of a newer edgead, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / FILE_NAME if path.is_dir() else path
        if not self.path.is_file():
            below = sorted(str(found.parent) for found in path.glob(f"*/{FILE_NAME}")) if path.is_dir() else []
            hint = "give a camera's folder in storage.folder, its records.db, or a copy of that"
            raise BadInput(f"no records at {self.path}", hint=f"there are some in {', '.join(below)}" if below else hint)
        # Without a log nobody writes (it exists from the first write to the last close), and nothing is left beside a copy.
        log = self.path.with_name(self.path.name + "-wal")
        mode = "mode=ro" if log.exists() else "immutable=1"
        self._connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=5.0)
        self._connection.row_factory = sqlite3.Row
        try:
            self._schema = self._guarded(lambda: check_schema(self._connection, self.path))
        except StorageError:
            self.close()
            raise

    def rows(self, selection: Selection | None = None) -> Iterator[dict[str, Any]]:
        """The selected records by the names of `SHOWN`, in the order in which they were written. Raises StorageError."""
        selection = selection or Selection()
        where, values = _where(selection)
        after = self._start(selection, where, values)
        told, source = self._told()
        while True:
            page = self._query(
                f"SELECT {told} FROM {source} WHERE seq > ? AND {where} ORDER BY seq LIMIT {PAGE}", (after, *values)
            )
            for row in page:
                yield dict(row)
            if len(page) < PAGE:
                return
            after = page[-1]["seq"]

    def _told(self) -> tuple[str, str]:
        """Columns and tables of a SELECT of what is told of a record."""
        if self._schema == 1:
            return ", ".join(f"NULL AS {name}" if name in (*ADDED, "bundle") else name for name in SHOWN), "records"
        told = ", ".join({"rule": "rules.version AS rule", "bundle": "rules.bundle"}.get(n, f"records.{n}") for n in SHOWN)
        return told, "records LEFT JOIN rules ON records.rule = rules.rule"

    def select(self, tests: Sequence[str], values: Sequence[Any], limit: int, *, newest: bool = True) -> list[dict[str, Any]]:
        """Some records by the names of `SHOWN`, by order of writing; `newest`: the newest first.

        Args:
            tests: SQL over the columns of ``records``, all of which must hold.
            values: for their question marks.
            limit: the most.

        Raises:
            StorageError: they cannot be read.
        """
        told, source = self._told()
        where, order = " AND ".join(("1", *tests)), "DESC" if newest else "ASC"
        rows = self._query(f"SELECT {told} FROM {source} WHERE {where} ORDER BY seq {order} LIMIT ?", (*values, limit))
        return [dict(row) for row in rows]

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Rows of a SELECT as tuples, in one go: of few rows, or few enough. Raises StorageError."""
        return self._query(statement, values, plain=True)

    def rules(self) -> dict[int, Mapping[str, Any]]:
        """What verdicts rest on, by the number that records name (:attr:`edgead.runtime.records.basis.Judged.facts`).

        Raises:
            StorageError: they cannot be read.
        """
        rows = self._query("SELECT rule, facts FROM rules", ()) if self._schema > 1 else []
        return {int(row["rule"]): json.loads(row["facts"]) for row in rows}

    def changes(self, selection: Selection | None = None) -> list[dict[str, Any]]:
        """Changes of a threshold while the station ran, within the dates of a selection. Raises StorageError."""
        if self._schema == 1:
            return []
        dates = Selection(selection.since, selection.until) if selection is not None else Selection()
        where, values = _where(dates)
        rows = self._query(f"SELECT {', '.join(CHANGES)} FROM changes WHERE {where} ORDER BY change", values)
        return [dict(row) for row in rows]

    def with_shadow(self, selection: Selection) -> Iterator[dict[str, Any]]:
        """Of each selected record that a shadow judged: seq, time, verdict, cause, and of the shadow shadow_seq, shadow_verdict,
        shadow_cause, shadow_score, shadow_threshold, shadow_engine, shadow_ms, shadow_rule. Raises StorageError.
        """
        if self._schema == 1:
            return
        where, values = _where(selection, "records.")
        after = self._start(selection, *_where(selection))
        told = {"seq": "seq", "verdict": "verdict", "cause": "cause", "score": "score", "threshold": "threshold"}
        told |= {"engine": "engine", "ms": "total_ms", "rule": "rule"}
        columns = ", ".join(f"shadow.{column} AS shadow_{name}" for name, column in told.items())
        ask = (
            f"SELECT records.seq, records.time, records.verdict, records.cause, {columns} FROM records JOIN shadow ON "
            f"shadow.part_id = records.part_id AND shadow.run = records.run WHERE records.seq > ? AND {where} "
            f"ORDER BY records.seq LIMIT {PAGE}"
        )
        while page := self._query(ask, (after, *values)):
            for row in page:
                yield dict(row)
            after = page[-1]["seq"]

    def count(self, selection: Selection, first: int, last: int) -> int:
        """Selected records from one `seq` to another, both included. Raises StorageError."""
        where, values = _where(selection)
        rows = self._query(f"SELECT count(*) FROM records WHERE seq >= ? AND seq <= ? AND {where}", (first, last, *values))
        return int(rows[0][0]) if rows else 0

    def ends(self, selection: Selection) -> tuple[int, int]:
        """`seq` of the first and the last selected record; 0 and 0 when there is none. Raises StorageError."""
        where, values = _where(selection)
        rows = self._query(f"SELECT min(seq), max(seq) FROM records WHERE {where}", values)
        return (int(rows[0][0]), int(rows[0][1])) if rows and rows[0][0] is not None else (0, 0)

    def newest_rule(self, selection: Selection, numbers: Sequence[int]) -> int | None:
        """The rule of the newest selected record that was judged by one of these. Raises StorageError."""
        if self._schema == 1 or not numbers:
            return None
        where, values = _where(selection)
        after = self._start(selection, where, values)
        among = ", ".join(map(str, numbers))
        rows = self._query(
            f"SELECT rule FROM records WHERE seq > ? AND {where} AND rule IN ({among}) ORDER BY seq DESC LIMIT 1",
            (after, *values),
        )
        return int(rows[0][0]) if rows else None

    def raw(self, columns: str, selection: Selection, *, whole_runs: bool, page: int) -> Iterator[Sequence[Any]]:
        """Columns of the table as they stand there, and whether the record is selected. Schema 1 has none.

        Args:
            whole_runs: also what was recorded before the selection in the run in which it begins, and between.
            page: rows read at once.

        Raises:
            StorageError: they cannot be read.
        """
        if self._schema == 1:
            return
        where, values = _where(selection)
        first = self._start(selection, where, values)
        after, test = first, where
        if whole_runs:
            end = self._query(f"SELECT coalesce(max(seq), 0) FROM records WHERE seq > ? AND {where}", (first, *values))
            begin = f"SELECT run FROM records WHERE seq > ? AND {where} ORDER BY seq LIMIT 1"
            start = self._query(f"SELECT coalesce(min(seq), 1) - 1 FROM records WHERE run = ({begin})", (first, *values))
            after, test = int(start[0][0]), f"seq <= {int(end[0][0])}"
        ask = f"SELECT {columns}, (seq > ? AND {where}) FROM records WHERE seq > ? AND {test} ORDER BY seq LIMIT {page}"
        while True:
            rows = self._query(ask, (first, *values, after, *(() if whole_runs else values)), plain=True)
            yield from rows
            if len(rows) < page:
                return
            after = rows[-1][0]

    def summary(self, selection: Selection | None = None) -> Summary:
        """Counts and latency over a selection. Raises StorageError."""
        selection = selection or Selection()
        verdicts: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        runs, parts, latencies = set(), set(), array("d")
        first = last = ""
        for row in self.rows(selection):
            verdicts[row["verdict"]] += 1
            if row["cause"]:
                causes[row["cause"].partition(":")[0]] += 1
            runs.add(row["run"])
            parts.add(row["part_id"])
            first, last = first or row["time"], row["time"]
            if row["frame_id"] is not None and row["total_ms"] is not None:
                latencies.append(row["total_ms"])
        whole = not selection.verdicts and selection.part_id is None
        missing = (max(parts) - min(parts) + 1 - len(parts) if parts else 0) if whole else None
        return Summary(
            sum(verdicts.values()),
            len(runs),
            first,
            last,
            dict(verdicts),
            dict(causes.most_common()),
            missing,
            percentiles(latencies),
        )

    def last_part_id(self) -> int:
        """The largest part id of the last 1,000 records; 0 without any. Raises StorageError."""
        latest = "SELECT part_id FROM records ORDER BY seq DESC LIMIT 1000"
        rows = self._query(f"SELECT coalesce(max(part_id), 0) FROM ({latest})", ())
        return int(rows[0][0]) if rows else 0

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, selection: Selection, where: str, values: Sequence[Any]) -> int:
        """The sequence number after which the selection begins."""
        if selection.last is None:
            return 0
        newest = f"SELECT seq FROM records WHERE {where} ORDER BY seq DESC LIMIT ?"
        rows = self._query(f"SELECT coalesce(min(seq), 1) - 1 FROM ({newest})", (*values, selection.last))
        return int(rows[0][0]) if rows else 0

    def _query(self, statement: str, values: Sequence[Any], *, plain: bool = False) -> list[Any]:
        """Rows; `plain`: as tuples, which is faster."""
        if not self._schema:
            return []

        def ask() -> list[Any]:
            cursor = self._connection.cursor()
            if plain:
                cursor.row_factory = None
            return cursor.execute(statement, tuple(values)).fetchall()

        found: list[Any] = self._guarded(ask)
        return found

    def _guarded(self, ask: Any) -> Any:
        try:
            return ask()
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"cannot read {self.path}: {error}",
                hint="copy records.db and records.db-wal to a folder of yours and read them there",
            ) from error
        except sqlite3.DatabaseError as error:
            if _holds_json(self.path):
                raise BadInput(
                    f"{self.path} holds JSON records, one a line, and is no database",
                    hint="`edgead run --records` writes such files, for JSON tools; a station with storage: keeps a records.db",
                ) from error
            raise StorageError(
                f"{self.path} is damaged or not a database: {error}", hint="`sqlite3 FILE .recover` may save a part of it"
            ) from error


def _holds_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"{"


def _where(selection: Selection, table: str = "") -> tuple[str, list[Any]]:
    """A test of columns, and its values; `table` before their names, with its dot."""
    tests: list[str] = ["1"]
    values: list[Any] = []
    for test, value in (("time >= ?", selection.since), ("time < ?", selection.until), ("part_id = ?", selection.part_id)):
        if value is not None:
            tests.append(f"{table}{test}")
            values.append(value)
    if selection.verdicts:
        tests.append(f"{table}verdict IN ({', '.join('?' * len(selection.verdicts))})")
        values.extend(selection.verdicts)
    return " AND ".join(tests), values


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max; empty without values."""
    if not values:
        return {}
    numbers = np.asarray(values)
    p50, p95, p99 = np.percentile(numbers, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(numbers.max())}
