"""The SQLite file of records: its table, and the connection that writes it (:mod:`edgead.runtime.records.history` reads it).

WAL with ``synchronous=FULL``: a committed record survives a killed process and, as far as the disk tells the truth, a power cut
(docs/decisions/0009-records.md; https://sqlite.org/wal.html).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from edgead import __version__
from edgead.errors import StorageError

FILE_NAME = "records.db"
APPLICATION_ID = 0x65646765  # "edge": what `file` and we recognise the file by
SCHEMA_VERSION = 2

COLUMNS: Mapping[str, str] = {
    "seq": "INTEGER PRIMARY KEY AUTOINCREMENT",  # the order, whatever the dates say; never used twice
    "run": "INTEGER NOT NULL",
    "part_id": "INTEGER NOT NULL",
    "trigger_id": "INTEGER",
    "trigger_source": "TEXT",
    "line_part_id": "INTEGER",
    "time": "TEXT NOT NULL",  # of the verdict, ISO 8601 UTC with milliseconds
    "recorded_ns": "INTEGER NOT NULL",  # monotonic clock of this boot when the record came
    "captured_ns": "INTEGER",
    "camera": "TEXT",
    "frame_id": "INTEGER",
    "source": "TEXT",
    "verdict": "TEXT NOT NULL",
    "cause": "TEXT NOT NULL",
    "score": "REAL",
    "threshold": "REAL",
    "engine": "TEXT",
    "wait_ms": "REAL",
    "resize_ms": "REAL",
    "inference_ms": "REAL",
    "decision_ms": "REAL",
    "total_ms": "REAL",
    "views": "TEXT",  # JSON, NULL for parts of one frame
    "picture": "TEXT",  # file saved for this part; the quota may have removed it since
    "overlay": "TEXT",
    "acknowledged": "TEXT",  # when the PLC took the result, ISO 8601 UTC
    "rule": "INTEGER",  # in the table rules: bundle, rule and what else the verdict rests on; NULL when nobody said
    "statistic": "REAL",  # what the rule compares: the score, by area the pixels of the largest hot piece
    "level": "REAL",  # the largest threshold at which the part is NG, raw model units
    "levels": "TEXT",  # JSON [[level, statistic], null, ...] of each view, NULL for parts of one frame
}
"""The table's columns and their SQL types, in order."""

ADDED = ("rule", "statistic", "level", "levels")
"""Columns that schema 1 did not have."""

SHADOW: Mapping[str, str] = {
    "seq": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "run": "INTEGER NOT NULL",
    "part_id": "INTEGER NOT NULL",
    "time": "TEXT NOT NULL",  # when the shadow had judged
    "verdict": "TEXT NOT NULL",
    "cause": "TEXT NOT NULL",
    "score": "REAL",
    "threshold": "REAL",
    "engine": "TEXT",
    "inference_ms": "REAL",
    "total_ms": "REAL",
    "rule": "INTEGER",
    "statistic": "REAL",
    "level": "REAL",
    "levels": "TEXT",
}
"""What a shadow bundle said of a part: the table `shadow`."""

CHANGES: Mapping[str, str] = {
    "change": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "run": "INTEGER NOT NULL",
    "time": "TEXT NOT NULL",
    "asked": "TEXT NOT NULL",  # who asked for it
    "engine": "TEXT NOT NULL",
    "before": "TEXT NOT NULL",  # the rule before, in words
    "after": "TEXT NOT NULL",
    "bundle_before": "TEXT NOT NULL",  # SHA-256 of the manifest
    "bundle_after": "TEXT NOT NULL",
}
"""Changes of a threshold while the station ran: the table `changes`."""

WRONG = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
"""What is wrong with the name of a folder. All else may pass (full, read-only, not mounted yet, a share that is away, rights
that come with the mount), and a station must start with it, too."""

HEAD, ROOT = 24, 100
"""Bytes at the file's beginning that never change, and where its first page's own b-tree begins (sqlite.org/fileformat2.html)."""

_TABLES = f"""
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, station TEXT NOT NULL, started TEXT NOT NULL,
                   boot TEXT NOT NULL, pid INTEGER NOT NULL, edgead TEXT NOT NULL);
CREATE TABLE records ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())});
CREATE INDEX records_by_part ON records (part_id);
PRAGMA application_id = {APPLICATION_ID};
"""
_SINCE_2 = f"""
CREATE TABLE rules (rule INTEGER PRIMARY KEY AUTOINCREMENT, version TEXT NOT NULL, bundle TEXT NOT NULL, model TEXT NOT NULL,
                    engine TEXT NOT NULL, facts TEXT NOT NULL, UNIQUE (version, bundle, model, engine));
CREATE TABLE shadow ({", ".join(f"{name} {kind}" for name, kind in SHADOW.items())});
CREATE INDEX shadow_by_part ON shadow (part_id);
CREATE TABLE changes ({", ".join(f"{name} {kind}" for name, kind in CHANGES.items())});
PRAGMA user_version = {SCHEMA_VERSION};
"""
_MIGRATE = "".join(f"ALTER TABLE records ADD COLUMN {name} {COLUMNS[name]};" for name in ADDED) + _SINCE_2


def _insert(table: str, columns: Mapping[str, str]) -> str:
    names = [name for name, kind in columns.items() if "AUTOINCREMENT" not in kind]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"


_INSERTS = {table: _insert(table, columns) for table, columns in (("records", COLUMNS), ("shadow", SHADOW), ("changes", CHANGES))}
_DAMAGED = ("not a database", "malformed", "no such table", "no such column", "has no column named")
_PRUNED_AT_ONCE = 1000  # rows a commit removes at most, so that a new quota does not stall the writer
UNUSABLE = (
    OverflowError,
    ValueError,
    TypeError,
    sqlite3.InterfaceError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
)
"""Faults of a value, not of the disk: no retry can store it."""


def check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """The schema of a record database, 0 for an empty file.

    Raises:
        StorageError: another program's database, or one of a newer edgead.
        sqlite3.DatabaseError: not a database at all.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer edgead (records of schema {version}, this one knows {SCHEMA_VERSION})",
            hint="update edgead, or give another folder",
        )
    if application == APPLICATION_ID:
        return max(1, int(version))
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StorageError(f"{path} is a database, but not one of edgead's records", hint="give another folder or file")
    return 0


def is_damaged(error: Exception) -> bool:
    """Does SQLite say that the file is not, or no longer, a database, or that somebody removed our tables from it?"""
    return isinstance(error, sqlite3.DatabaseError) and any(text in str(error) for text in _DAMAGED)


class Database:
    """One writer's connection; used by one thread at a time.

    Args:
        folder: made if need be; locked against a second writer.
        synchronous: SQLite's "FULL" or "NORMAL".

    Raises:
        StorageError: another station writes here, or the file is not ours to write.
        sqlite3.Error, OSError: the disk refuses.
    """

    def __init__(self, folder: Path, synchronous: str = "FULL") -> None:
        self.path = folder / FILE_NAME
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock_folder(self._lock, folder)
            # For an errno, since SQLite says only that it cannot, and to look at the file below SQLite's cache. It is closed
            # after the connection: closing any descriptor of the file gives up SQLite's locks.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None, check_same_thread=False)
        except BaseException:
            os.close(self._file)
            os.close(self._lock)
            raise
        try:
            self._prepare(synchronous)
            self._head = os.pread(self._file, HEAD, 0)
            self._inode = self.path.stat().st_ino
        except BaseException:
            self.close()
            raise

    def _prepare(self, synchronous: str) -> None:
        connection = self._connection
        known = check_schema(connection, self.path)
        if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            raise StorageError(
                f"{self.path} cannot be kept in WAL mode here (it is in {mode})", hint="use a folder on a local disk"
            )
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA journal_size_limit = 16777216")  # a reader may make the log grow; it shrinks again
        if known < SCHEMA_VERSION:  # new, or one that an older edgead began: it is carried over in place, in one step
            with self.transaction():
                for statement in (_MIGRATE if known else _TABLES + _SINCE_2).split(";"):
                    connection.execute(statement)

    def begin_run(self, run_id: str, station: str, started: datetime) -> int:
        """The number of this run of the station in this file; it is entered on the first call."""
        boot = Path("/proc/sys/kernel/random/boot_id")
        values = (run_id, station, started.isoformat(timespec="milliseconds"), _text(boot), os.getpid(), __version__)
        with self.transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO runs (id, station, started, boot, pid, edgead) VALUES (?, ?, ?, ?, ?, ?)", values
            )
        run: int = self._connection.execute("SELECT run FROM runs WHERE id = ?", (run_id,)).fetchone()[0]
        return run

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises sqlite3.Error when it could not be committed; it is rolled back then."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Add rows inside a transaction; those that no retry can add are left out: their index and what is wrong with them."""
        refused = {}
        for index, row in enumerate(rows):
            try:
                self._connection.execute(_INSERTS["records"], row)
            except UNUSABLE as error:
                refused[index] = f"part {row.get('part_id')}: {error}"
        return refused

    def rule(self, facts: Mapping[str, Any]) -> int:
        """The number of what verdicts rest on (:attr:`edgead.runtime.records.basis.Judged.facts`), entered inside a transaction
        on the first call."""
        texts = (str(facts[name]) for name in ("version", "bundle", "model", "engine"))
        key = tuple(text.encode("utf-8", "backslashreplace").decode() for text in texts)  # names need not be UTF-8
        ask = "SELECT rule FROM rules WHERE version = ? AND bundle = ? AND model = ? AND engine = ?"
        if (found := self._connection.execute(ask, key).fetchone()) is None:
            insert = "INSERT INTO rules (version, bundle, model, engine, facts) VALUES (?, ?, ?, ?, ?)"
            self._connection.execute(insert, (*key, json.dumps(facts)))
            found = self._connection.execute(ask, key).fetchone()
        return int(found[0])

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """A row of the table "shadow" or "changes", inside a transaction."""
        self._connection.execute(_INSERTS[table], row)

    def update(self, run: int, part_id: int, values: Mapping[str, str | None]) -> bool:
        """Set columns of a part inside a transaction; False when the part is not there."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        done = self._connection.execute(
            f"UPDATE records SET {assignments} WHERE part_id = ? AND run = ?", (*values.values(), part_id, run)
        )
        return done.rowcount > 0

    def prune(self, max_rows: int, before: datetime | None) -> None:
        """Remove the oldest rows inside a transaction: beyond `max_rows`, and those of before `before`; 1,000 a table at most."""
        for table in ("records", "shadow"):
            self._prune(table, max_rows, before)

    def _prune(self, table: str, max_rows: int, before: datetime | None) -> None:
        oldest, newest = self._connection.execute(f"SELECT min(seq), max(seq) FROM {table}").fetchone()
        if oldest is None:
            return
        last = newest - max_rows
        if before is not None:
            kept = self._connection.execute(
                f"SELECT seq FROM (SELECT seq, time FROM {table} ORDER BY seq LIMIT ?) WHERE time >= ? LIMIT 1",
                (_PRUNED_AT_ONCE, before.isoformat(timespec="milliseconds")),
            ).fetchone()
            last = max(last, (kept[0] if kept else newest) - 1)
        last = min(last, oldest + _PRUNED_AT_ONCE - 1)
        if last >= oldest:
            self._connection.execute(f"DELETE FROM {table} WHERE seq <= ?", (last,))

    def last_part_id(self) -> int:
        """The largest part id of the last 1,000 records; 0 without any."""
        latest = "SELECT part_id FROM records ORDER BY seq DESC LIMIT 1000"
        return int(self._connection.execute(f"SELECT coalesce(max(part_id), 0) FROM ({latest})").fetchone()[0])

    def is_in_place(self) -> bool:
        """False when somebody removed or replaced the file: SQLite would go on writing into the removed one."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def is_whole(self) -> bool:
        """False when somebody destroyed the file's first page: SQLite has that in memory, and would notice at the next start."""
        page = os.pread(self._file, ROOT + 1, 0)
        return page[:HEAD] == self._head and page[ROOT : ROOT + 1] in (b"\x05", b"\x0d")

    def log_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Fold the log into the file, so that it can be copied alone, and unlock the folder."""
        try:
            self._connection.close()
        finally:
            os.close(self._file)
            os.close(self._lock)


def is_broken_head(path: Path) -> bool:
    """Does the file begin otherwise than a database?"""
    with path.open("rb") as file:
        return file.read(16) not in (b"", b"SQLite format 3\0")


def set_aside(path: Path, stamp: datetime) -> Path:
    """Rename a damaged database and its log; returns the new name. Raises OSError."""
    target = path.with_name(f"{path.name}.damaged-{stamp:%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    return target


def _lock_folder(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"another station writes records in {folder}", hint="stop it, or give each station a folder of its own"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
