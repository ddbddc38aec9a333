"""Parts as the pages get them, out of a station's records; and their pictures."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.dashboard.places import Place
from edgead.disk import read_file
from edgead.errors import BadInput
from edgead.runtime.records.database import FILE_NAME
from edgead.runtime.records.history import History

LONGEST_PICTURE = 200_000_000  # bytes
HUGE = 1e300  # levels beyond say "at any threshold" and "at none"
VERDICTS = ("OK", "NG", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which parts are wanted; None: whichever."""

    verdicts: tuple[str, ...] = ()
    cause: str | None = None
    recipe: int | None = None
    since: str | None = None
    until: str | None = None
    score_min: float | None = None
    score_max: float | None = None
    before: int | None = None
    seqs: tuple[int, ...] | None = None
    after: int | None = None


def has_records(place: Place) -> bool:
    """Is there a database yet?"""
    return place.folder is not None and (place.folder / FILE_NAME).is_file()


@contextmanager
def history_of(place: Place) -> Iterator[History]:
    """Raises BadInput: it has no records (yet). StorageError: they cannot be read."""
    if place.folder is None:
        raise BadInput(f"{place.id} keeps no records", hint="storage: {folder: ...} in its station.yaml")
    with History(place.folder) as history:
        yield history


def newest(history: History, place: Place, wish: Wish, limit: int) -> list[dict[str, Any]]:
    """Records by the names of :data:`edgead.runtime.records.history.SHOWN`, the newest first (the oldest first with `after`).

    Raises:
        StorageError: they cannot be read.
    """
    tests, values = _tests(place, wish)
    return history.select(tests, values, limit, newest=wish.after is None)


def _tests(place: Place, wish: Wish) -> tuple[list[str], list[Any]]:
    tests: list[str] = []
    values: list[Any] = []
    pairs: list[tuple[str, Any]] = [
        ("records.time >= ?", wish.since),
        ("records.time < ?", wish.until),
        ("records.score >= ?", wish.score_min),
        ("records.score <= ?", wish.score_max),
        ("records.seq < ?", wish.before),
        ("records.seq > ?", wish.after),
    ]
    if wish.recipe is not None:
        bundle = place.bundles().get(wish.recipe)
        pairs.append(("records.engine LIKE ? ESCAPE '!'", f"{_like(bundle.stem)}/%" if bundle is not None else ""))
    if wish.cause is not None:
        tests.append("(records.cause = ? OR records.cause LIKE ? ESCAPE '!')")
        values += [wish.cause, f"{_like(wish.cause)}:%"]
    for test, value in pairs:
        if value is not None:
            tests.append(test)
            values.append(value)
    for name, among in (("verdict", wish.verdicts or None), ("seq", wish.seqs)):
        if among is not None:
            tests.append(f"records.{name} IN ({', '.join('?' * len(among))})")
            values += among
    return tests, values


def _like(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def part(place: Place, row: Mapping[str, Any], review: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A PART."""
    return {
        "id": place.id,
        "seq": row.get("seq"),
        "part_id": row["part_id"],
        "time": row["time"],
        "verdict": row["verdict"],
        "cause": row["cause"],
        "score": _finite(row["score"]),
        "statistic": _finite(row["statistic"]),
        "threshold": _finite(row["threshold"]),
        "level": _finite(row["level"]),
        "recipe": place.recipe_of(row["engine"]),
        "engine": row["engine"] or "",
        "total_ms": _finite(row["total_ms"]),
        "picture": picture_of(place, row.get("picture")) is not None,
        "overlay": picture_of(place, row.get("overlay")) is not None,
        "reviewed": review,
    }


def whole(
    place: Place, row: Mapping[str, Any], facts: Mapping[str, Any] | None, review: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A PART with all that is known of it."""
    from edgead.dashboard.words import cause_words, why

    stages = {name: _finite(row[name]) for name in ("wait_ms", "resize_ms", "inference_ms", "decision_ms")}
    return {
        **part(place, row, review),
        **stages,
        "source": Path(source).name if (source := row["source"] or "").startswith("/") else source,
        "line_part_id": row["line_part_id"],
        "acknowledged": row["acknowledged"],
        "bundle": row["bundle"] or "",
        "rule": facts["says"] if facts is not None else "",
        "cause_words": cause_words(row["cause"]),
        "why": why(row, facts),
        "views": json.loads(row["views"] or "[]"),
    }


def one(history: History, place: Place, seq: int) -> dict[str, Any]:
    """Raises LookupError: there is no such part."""
    rows = history.select(["records.seq = ?"], [seq], 1)
    if not rows:
        raise LookupError(f"{place.id} has no part with the number {seq}")
    return rows[0]


def picture_of(place: Place, name: str | None) -> Path | None:
    """The file of a picture, if it is still there and lies where the station puts them: whatever the record says."""
    if not name or place.folder is None:
        return None
    folder = place.folder / "pictures"
    file = folder / Path(name).name
    if file.suffix not in (".png", ".jpg") or not file.is_file() or file.is_symlink():
        return None
    return file


def picture(place: Place, name: str | None) -> tuple[bytes, str]:
    """Its bytes, and what they are. Raises LookupError: it is not there (any more)."""
    file = picture_of(place, name)
    if file is None:
        raise LookupError("the picture was not saved, or is not kept any more")
    try:
        return read_file(file, LONGEST_PICTURE), "image/png" if file.suffix == ".png" else "image/jpeg"
    except OSError as error:
        raise LookupError(f"the picture cannot be read: {error.strerror or error}") from error


def counts(history: History, tests: Sequence[str], values: Sequence[Any]) -> list[sqlite3.Row]:
    """day, verdict and how many. Raises StorageError."""
    where = " AND ".join(("1", *tests))
    return history.ask(f"SELECT substr(time, 1, 10), verdict, count(*) FROM records WHERE {where} GROUP BY 1, 2", values)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and abs(value) < HUGE else None
