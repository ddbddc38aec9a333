"""What people say of parts, and who changed what: a database of the dashboard's own, beside the station's records.

    FOLDER/dashboard.db     storage.folder of the station; of one without records the folder of its station.yaml

The station never reads it, and its records are never written here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from edgead.dashboard.places import Place
from edgead.errors import StorageError

FILE_NAME = "dashboard.db"
APPLICATION_ID = 0x65646462  # "eddb"
SCHEMA_VERSION = 1
LABELS = ("confirmed", "false_reject", "missed_defect")
_TABLES = f"""
CREATE TABLE reviews (camera TEXT NOT NULL, seq INTEGER NOT NULL, time TEXT NOT NULL, label TEXT NOT NULL, note TEXT NOT NULL,
                      who TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (camera, seq, time));
CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, changed TEXT NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
                    what TEXT NOT NULL, camera TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL, why TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_AUDIT = "INSERT INTO audit (changed, who, role, what, camera, old, new, why) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Reviews:
    """One station's.

    Args:
        file: made by the first change.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def of(cls, place: Place) -> Reviews:
        return cls((place.data if place.data is not None else place.file.absolute().parent) / FILE_NAME)

    @property
    def file(self) -> Path:
        return self._file

    def noted(self, place: Place, rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
        """What was said of these records, by seq. Raises StorageError."""
        times = {row["seq"]: row["time"] for row in rows}
        found: dict[int, dict[str, Any]] = {}
        if not times:
            return found
        ask = f"SELECT seq, time, label, note, who, changed FROM reviews WHERE camera = ? AND seq IN ({_marks(times)})"
        for seq, time, label, note, who, changed in self._read(ask, (place.name, *times)):
            if times[seq] == time:  # a new file of records numbers anew
                found[seq] = {"label": label, "note": note, "who": who, "when": changed}
        return found

    def seqs(self, place: Place) -> list[int]:
        """Of records of which something was said, the newest first. Raises StorageError."""
        return [row[0] for row in self._read("SELECT seq FROM reviews WHERE camera = ? ORDER BY seq DESC", (place.name,))]

    def labelled(self, place: Place, since: str | None) -> list[tuple[int, str, str]]:
        """seq, time and label, the oldest first. Raises StorageError."""
        ask = "SELECT seq, time, label FROM reviews WHERE camera = ? AND time >= ? ORDER BY seq"
        return [(row[0], row[1], row[2]) for row in self._read(ask, (place.name, since or ""))]

    def audit(self, limit: int, camera: str | None = None, what: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Changes, the newest first. Raises StorageError."""
        tests, values = ["1"], []
        if camera is not None:
            tests.append("camera = ?")
            values.append(camera)
        if what:
            tests.append(f"what IN ({_marks(what)})")
            values += what
        where = " AND ".join(tests)
        ask = f"SELECT changed, who, role, what, camera, old, new, why FROM audit WHERE {where} ORDER BY id DESC LIMIT ?"
        names = ("when", "who", "role", "what", "camera", "old", "new", "why")
        return [dict(zip(names, row, strict=True)) for row in self._read(ask, (*values, limit))]

    @contextmanager
    def changing(self, when: datetime, who: str, role: str, what: str, camera: str, why: str = "") -> Iterator[Change]:
        """What is done in the block is in the audit log: the line is on the disk before it begins, and goes if it fails.

        Raises:
            StorageError: it cannot be written; then nothing is to be done.
        """
        with self._writing() as connection:
            row = connection.execute(_AUDIT, (_stamp(when), who, role, what, camera, "", "", why)).lastrowid
            change = Change(connection)
            try:
                yield change
            except BaseException:
                connection.execute("DELETE FROM audit WHERE id = ?", (row,))
                raise
            connection.execute("UPDATE audit SET old = ?, new = ? WHERE id = ?", (change.old, change.new, row))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Raises StorageError."""
        try:
            with closing(self._writable()) as connection:
                yield connection
        except sqlite3.Error as error:
            hint = "the dashboard writes there who changed what; give it the rights"
            raise StorageError(f"{self._file}: {error}", hint=hint) from error

    def _writable(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, timeout=5.0)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _read(self, ask: str, values: Sequence[Any]) -> list[Any]:
        if not self._file.is_file():
            return []
        try:
            with closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
                return connection.execute(ask, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self._file}: {error}", hint="move it away, a new one is begun") from error


class Change:
    """One, while it is being made.

    Attributes:
        old, new: what it changes, in words; for the audit log.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.old = self.new = ""

    def review(self, camera: str, row: Mapping[str, Any], label: str | None, note: str, who: str, when: datetime) -> None:
        """Say it of a record; `label` None takes back what was said."""
        key = (camera, row["seq"], row["time"])
        told = self._connection.execute("SELECT label FROM reviews WHERE camera = ? AND seq = ? AND time = ?", key).fetchone()
        self.old, self.new = told[0] if told else "", label or ""
        if label is None:
            self._connection.execute("DELETE FROM reviews WHERE camera = ? AND seq = ? AND time = ?", key)
        else:
            self._connection.execute("REPLACE INTO reviews VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, label, note, who, _stamp(when)))


def _stamp(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def _marks(values: Any) -> str:
    return ", ".join("?" * len(values))
