"""Every inspection in an embedded database, written by a thread of its own: a slow, full or dead disk never delays a verdict."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

from edgead.errors import BadInput, StorageError
from edgead.runtime.records import MAX_ROWS
from edgead.runtime.records.basis import levels_text
from edgead.runtime.records.database import FILE_NAME, SHADOW, UNUSABLE, WRONG, Database, is_broken_head, is_damaged, set_aside
from edgead.runtime.records.history import History
from edgead.runtime.records.record import STAGES, Tally
from edgead.runtime.records.wallclock import WallClock
from edgead.runtime.threads import Supervised

LOG_BYTES = 32_000_000  # of the write-ahead log, twice what SQLite cuts it to
BATCH = 1000  # records in one commit at most
PATIENCE_S = 30.0  # a commit that takes so long stands still
EARLY = 256  # details kept that came before their record
_REFUSALS = (sqlite3.Error, OSError, StorageError)
_log = logging.getLogger("edgead.records")

_Row: TypeAlias = tuple[Mapping[str, Any], int]  # a record, and when it came (monotonic)
_Details: TypeAlias = tuple[int, dict[str, Any], str]  # part id, columns to set, table: "records", or another to add them to


class RecordStore:
    """Writes records into ``FOLDER/records.db`` and tells when they are safe.

    `write`, `attach` and `acknowledge` only queue, from any thread. Records that come within `commit_every_s` share one commit,
    which is on the disk when `on_commit` is told. While the disk refuses (full, read-only, gone), up to `buffer` records wait in
    memory and are written once it takes them again; beyond that the oldest is lost and counted in `lost`. Each change is one
    line in the log. A damaged file is set aside and a new one begun. A record that cannot be stored costs itself only.

    Args:
        folder: made if need be; one station a folder.
        station: its name, for the table of runs.
        max_rows: the oldest records beyond this are removed (about 150 bytes each).
        max_days: older ones, too; a date that jumps forward removes nothing.
        durable: a commit waits until the disk has it; False leaves the last seconds to a power cut (never to a killed process).
        commit_every_s: seconds a record waits for others at most.
        buffer: records that may wait in memory.
        retry_s: seconds until a disk that refused is asked again.
        on_commit: told the part ids of each commit, on the writer's thread; see also `listen`.
        wall: dates and the monotonic clock.

    Attributes:
        fault: why the disk does not take records now, in words; "" when it does.

    Raises:
        StorageError: this can be no folder, another station writes there, or a newer edgead did. A disk that is full, read-only,
            not there yet or not ours is no error: the station starts, and records wait.
        BadInput: a limit makes no sense.
    """

    def __init__(
        self,
        folder: Path,
        *,
        station: str = "",
        max_rows: int = MAX_ROWS,
        max_days: float | None = None,
        durable: bool = True,
        commit_every_s: float = 0.5,
        buffer: int = 10_000,
        retry_s: float = 5.0,
        on_commit: Callable[[Sequence[int]], None] | None = None,
        wall: WallClock | None = None,
    ) -> None:
        if max_rows < 1 or buffer < 1 or commit_every_s < 0 or not retry_s > 0 or not (max_days is None or max_days > 0):
            raise BadInput("records need max_rows, buffer, retry_s and max_days above 0 and commit_every_s not below")
        self._folder, self._station, self._max_rows = folder, station, max_rows
        self._max_age = None if max_days is None else timedelta(days=max_days)
        self._synchronous = "FULL" if durable else "NORMAL"
        self._commit_every_s, self._buffer, self._retry_s = commit_every_s, buffer, retry_s
        self._listeners = [] if on_commit is None else [on_commit]
        self._wall = wall or WallClock()
        self.run_id = uuid.uuid4().hex
        self._started = self._wall.now()
        self._run, self._database = 0, None
        self._log_told = 0
        self._tell: Callable[[str, str], None] | None = None
        self._tally = Tally()
        self.owe = self._tally.owe
        self._rows: deque[_Row] = deque()
        self._details: deque[_Details] = deque(maxlen=buffer)
        self._early: list[_Details] = []
        self._hand: tuple[list[_Row], list[_Details]] = ([], [])  # what is being committed
        self._singly = 0  # so many rows are committed one by one: something among them has killed the writer
        self._alone = False  # and then the details that were there with them, without rows
        self._suspect: _Row | None = None
        self._asked = self._answered = 0  # flushes
        self._closing = False
        self._changed = threading.Condition()
        self.fault = ""
        self._last_part_id = self._begin()
        self._thread = Supervised("records", self._work, died=self._died, patience_s=PATIENCE_S, kind=StorageError)
        self._thread.start()

    _database: Database | None

    @property
    def path(self) -> Path:
        """The database file."""
        return self._folder / FILE_NAME

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet."""
        return len(self._rows) + len(self._hand[0])

    @property
    def written(self) -> int:
        """Records on the disk."""
        return self._tally.written

    @property
    def trouble(self) -> str:
        """What people should know of it now; "" when all is well."""
        lost = f"{self.lost} records are lost" if self.lost else ""
        if not self.fault:
            return lost
        return f"the disk does not take records: {self.fault}; {self.waiting} wait" + (f", {lost}" if lost else "")

    @property
    def lost(self) -> int:
        """Records that are not, and never will be; after `close` all that were owed (`owe`) or came here and are not written."""
        return self._tally.lost

    def listen(self, told: Callable[[Sequence[int]], None]) -> None:
        """Tell also this one of each commit, as `on_commit`."""
        self._listeners.append(told)

    def last_part_id(self) -> int:
        """The part id to go on from: that of the last record before this run; 0 without any (or when the disk cannot be read)."""
        return self._last_part_id

    def write(self, record: Mapping[str, Any]) -> None:
        """Queue a record (:func:`edgead.runtime.records.record.to_record`); returns at once."""
        row = dict(record), self._wall.now_ns()
        with self._changed:
            self._tally.asked += 1
            self._rows.append(row)
            if len(self._rows) > (0 if self._closing else self._buffer):
                self._rows.popleft()
                self._lose(1, "the store is closed" if self._closing else self.fault or "the disk does not keep up")
            self._changed.notify_all()

    def attach(self, part_id: int, picture: Path, overlay: Path) -> None:
        """Note where the pictures of a part are; its record may come before or after."""
        self._add_details(part_id, {"picture": _clean(str(picture)), "overlay": _clean(str(overlay))})

    def amend(self, part_id: int, verdict: str, cause: str) -> None:
        """Note that the PLC was told something else than its record says; the record may come before or after."""
        self._add_details(part_id, {"verdict": verdict, "cause": _clean(cause)})

    def acknowledge(self, part_id: int) -> None:
        """Note that the PLC has taken the result of a part; its record may come before or after."""
        self._add_details(part_id, {"acknowledged": self._wall.now().isoformat(timespec="milliseconds")})

    def read(self, part_id: int, columns: Mapping[str, Any]) -> None:
        """Note what was read of a part (:class:`edgead.runtime.records.basis.Reader`); its record may come before or after."""
        self._add_details(part_id, dict(columns))

    def shadow(self, record: Mapping[str, Any]) -> None:
        """Queue what a shadow said of a part, as a record (:func:`edgead.runtime.records.record.to_record`)."""
        self._add_details(int(record["part_id"]), dict(record), "shadow")

    def change(self, asked: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Note that from now on parts are judged by another rule; the facts of both, and who asked."""
        told = {
            "time": self._wall.now().isoformat(timespec="milliseconds"),
            "asked": asked,
            "engine": after["engine"],
            **{"before": before["says"], "after": after["says"]},
            **{"bundle_before": before["bundle"], "bundle_after": after["bundle"]},
        }
        self._add_details(0, {name: _plain(value) for name, value in told.items()}, "changes")

    def watch(self, tell: Callable[[str, str], None]) -> None:
        """`tell("records", text)` is called with what people should look at, and with "" once all is well (Station.notice)."""
        self._tell = tell

    def flush(self, wait_s: float) -> bool:
        """Commit what waits now; False when that took more than `wait_s` seconds of real time."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._answered >= ticket, wait_s)

    def close(self, wait_s: float = 5.0) -> None:
        """Commit what waits and end; what the disk does not take within `wait_s` seconds is lost. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if not self._thread.join(wait_s):
            _log.error("%s: the disk does not answer; %d records may be lost", self.path, self.waiting)
        with self._changed:
            known = self._tally.lost
            self._tally.end()
            if (more := self._tally.lost - known) > 0:
                _log.error("%s: %d verdicts have no record", self.path, more)

    def _begin(self) -> int:
        """Open the database; returns the last part id."""
        try:
            return self._open().last_part_id()
        except sqlite3.Error as error:
            self._note_fault(error)
        except OSError as error:
            if error.errno in WRONG:
                reason = error.strerror or str(error)
                raise StorageError(f"cannot keep records in {self._folder}: {reason}", hint="choose another folder") from error
            self._note_fault(error)
        return _read_last_part_id(self.path)

    def _open(self) -> Database:
        """The database, opened again if need be. Raises StorageError, sqlite3.Error, OSError."""
        if self._database is not None and not self._database.is_in_place():
            _log.error("%s was removed; a new one is begun", self.path)
            self._shut()
        if self._database is not None and not self._database.is_whole():
            self._shut()  # folds its log into the file, which may heal it
            if is_broken_head(self.path):
                self._set_aside(sqlite3.DatabaseError("its first page is destroyed"))
        if self._database is None:
            try:
                self._database = self._entered()
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                self._set_aside(error)
                self._database = self._entered()
        return self._database

    def _entered(self) -> Database:
        """A new connection, in which this run has its number."""
        database = Database(self._folder, self._synchronous)
        try:
            self._run = database.begin_run(self.run_id, _clean(self._station), self._started)
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self, error: Exception) -> None:
        kept = set_aside(self.path, self._wall.now())
        _log.error("%s is damaged (%s); it is kept as %s and a new one is begun", self.path, error, kept.name)

    def _shut(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _add_details(self, part_id: int, values: dict[str, Any], table: str = "records") -> None:
        with self._changed:
            self._details.append((part_id, values, table))
            self._changed.notify_all()

    def _work(self) -> None:
        while self._wait():
            self._thread.turn()
            rows, details, ticket = self._take()
            try:
                refused, early = self._commit(rows, details)
            except _REFUSALS as error:
                self._put_back(rows, details, error)
            else:
                self._settle(rows, refused, early, ticket)
        try:
            self._shut()
        except sqlite3.Error as error:
            _log.error("%s: %s", self.path, error)

    def _died(self, error: BaseException) -> None:
        """Whatever killed the writer must not cost more than what it was busy with: that is tried again piece by piece, and what
        kills twice, alone, is lost."""
        with self._changed:
            (rows, details), self._hand = self._hand, ([], [])
            if len(rows) == 1 and not details and rows[0] is self._suspect:
                self._lose(1, f"part {rows[0][0].get('part_id')} cannot be stored: {error!r}")
                self._singly -= 1
            elif rows:  # details alone that kill are not tried again
                self._suspect = rows[0]
                if not self._singly:
                    self._singly, self._alone = len(rows), bool(details)
                self._rows.extendleft(reversed(rows))
                self._details.extendleft(reversed(details))
        with suppress(sqlite3.Error, OSError):
            self._shut()

    def _wait(self) -> bool:
        """Wait until there is something to commit; False when it is time to end."""
        self._thread.rest()
        with self._changed:
            if self.fault:
                self._changed.wait_for(lambda: self._closing, self._retry_s)
                return bool(self._rows or not self._closing)
            self._changed.wait_for(lambda: self._rows or self._details or self._hurried())
            self._changed.wait_for(lambda: self._hurried() or len(self._rows) >= BATCH or self._singly, self._commit_every_s)
            return bool(self._rows or self._details or not self._closing)

    def _hurried(self) -> bool:
        return self._closing or self._asked > self._answered

    def _take(self) -> tuple[list[_Row], list[_Details], int]:
        """What the next commit shall hold, and the flush that it answers."""
        with self._changed:
            most = 1 if self._singly else 0 if self._alone else BATCH
            rows = [self._rows.popleft() for _ in range(min(most, len(self._rows)))]
            details: list[_Details] = []
            if not self._singly:
                details = [*self._early, *self._details]
                self._details.clear()
                self._early.clear()
                self._alone = False
            self._hand = rows, details
            return rows, details, self._answered if self._rows or self._details else self._asked

    def _commit(self, rows: list[_Row], details: list[_Details]) -> tuple[dict[int, str], list[_Details]]:
        """Returns which rows no retry can store, and the details whose records have not come yet.

        Raises StorageError, sqlite3.Error, OSError; nothing was stored then.
        """
        database = self._open()
        try:
            with database.transaction():
                refused = self._insert(database, rows)
                early = [d for d in details if not self._update(database, d)]
                database.prune(self._max_rows, self._wall.cutoff(self._max_age) if self._max_age else None)
        except sqlite3.DatabaseError as error:
            self._shut()  # a connection opened while the disk was read-only stays read-only
            if is_damaged(error):
                self._set_aside(error)
            raise
        self._watch_log(database.log_bytes())
        return refused, early[-EARLY:]

    def _watch_log(self, size: int) -> None:
        """Tell of a log that cannot shrink, at each doubling, and when it does again."""
        if size > max(LOG_BYTES, 2 * self._log_told):
            self._log_told = size
            text = (
                f"{self.path}-wal has grown to {size / 1e6:.0f} MB: a program reads the records and does not come to an end;"
                " end it (fuser shows who), the log shrinks by itself then"
            )
        elif self._log_told and size <= LOG_BYTES:
            self._log_told, text = 0, ""
        else:
            return
        if self._tell is not None:
            self._tell("records", text)
        elif text:
            _log.warning("%s", text)

    def _insert(self, database: Database, rows: list[_Row]) -> dict[int, str]:
        """Returns which no retry can store, and why."""
        unusable: dict[int, str] = {}
        good: dict[int, dict[str, Any]] = {}
        for index, (record, recorded_ns) in enumerate(rows):
            try:
                good[index] = {**_row(record, recorded_ns, self._run), "rule": _rule_of(database, record)}
            except Exception as error:  # noqa: BLE001 - one poisoned record must not cost the others
                unusable[index] = f"part {record.get('part_id')}: {error!r}"
        places = list(good)
        return unusable | {places[index]: why for index, why in database.insert(list(good.values())).items()}

    def _update(self, database: Database, details: _Details) -> bool:
        """False when the record has not come yet."""
        part_id, values, table = details
        try:
            if table == "records":
                return database.update(self._run, part_id, values)
            row = values
            if table == "shadow":
                row = {name: value for name, value in _row(values, 0, self._run).items() if name in SHADOW}
                row["rule"] = _rule_of(database, values)
            database.add(table, {**row, "run": self._run})
        except (KeyError, *UNUSABLE) as error:
            _log.error("%s: what is known of part %s cannot be stored: %r", self.path, part_id, error)
        return True

    def _settle(self, rows: list[_Row], refused: dict[int, str], early: list[_Details], ticket: int) -> None:
        stored = [row["part_id"] for index, (row, _) in enumerate(rows) if index not in refused]
        with self._changed:
            self._tally.written += len(stored)
            self._hand, self._answered, self._early = ([], []), ticket, early or self._early
            self._singly = max(0, self._singly - len(rows))
            if refused:
                self._lose(len(refused), f"they cannot be stored: {next(iter(refused.values()))}")
            if self.fault:
                self.fault = ""
                _log.warning("%s: records are written again; %d were lost so far", self.path, self.lost)
            self._changed.notify_all()
        for listener in self._listeners if stored else ():
            try:
                listener(stored)
            except Exception:  # noqa: BLE001 - a listener's fault must not end the writer
                _log.exception("%s: who is told of commits failed", self.path)

    def _put_back(self, rows: list[_Row], details: list[_Details], error: Exception) -> None:
        """Keep what could not be committed, as far as there is room; when closing it is lost."""
        with self._changed:
            self._note_fault(error)
            self._hand = [], []
            self._rows.extendleft(reversed(rows))
            self._details.extendleft(reversed(details))
            surplus = max(0, len(self._rows) - (0 if self._closing else self._buffer))
            for _ in range(surplus):
                self._rows.popleft()
            self._lose(surplus, self.fault)

    def _note_fault(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        if not self.fault:
            _log.error("%s: %s; verdicts go on, up to %d records wait in memory", self.path, reason, self._buffer)
        self.fault = reason

    def _lose(self, count: int, reason: str) -> None:
        if count and not self._tally.lost:
            _log.error("%s: records are being lost, verdicts go on: %s", self.path, reason)
        self._tally.lose(count)


def _row(record: Mapping[str, Any], recorded_ns: int, run: int) -> dict[str, Any]:
    """The record by the table's columns. Raises KeyError, TypeError when it is not one of `to_record`."""
    apart = ("times", "views", "part_id", "levels", "rule", "bundle", "basis")
    row = {name: _plain(value) for name, value in record.items() if name not in apart}
    row.update({name: _plain(record["times"][name]) for name in STAGES})
    views = record["views"]
    row["views"] = _clean(json.dumps(views, default=_plain, ensure_ascii=False, separators=(",", ":"))) if views else None
    row.setdefault("statistic", None)
    row.setdefault("level", None)
    row["levels"] = levels_text(record.get("levels") or ())
    row["part_id"] = int(record["part_id"])
    row.update(recorded_ns=recorded_ns, run=run, picture=None, overlay=None, acknowledged=None)
    return row


def _rule_of(database: Database, record: Mapping[str, Any]) -> int | None:
    basis = record.get("basis")
    return None if basis is None else database.rule(basis)


def _plain(value: Any) -> str | int | float | None:
    """As SQLite takes it, whatever an adapter has put into a frame or a trigger; NULL for numbers that it has no room for."""
    if value is None or isinstance(value, str):
        return value and _clean(value)
    if isinstance(value, Integral):
        return int(value) if -(2**63) <= int(value) < 2**63 else None
    return float(value) if isinstance(value, Real) else _clean(str(value))


def _clean(text: str) -> str:
    """File names need not be UTF-8; what is not becomes ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode()


def _read_last_part_id(path: Path) -> int:
    """Of a database that can only be read; 0 when not even that."""
    try:
        with History(path) as history:
            return history.last_part_id()
    except (StorageError, BadInput) as error:
        _log.error("%s cannot be read, part ids start at 1: %s", path, error)
        return 0
