"""One structured record per part: a JSON object a line."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.errors import StorageError
from edgead.runtime.outlet import Outlet
from edgead.runtime.records.basis import Reading, read
from edgead.types import Inspection

STAGES = ("wait_ms", "resize_ms", "inference_ms", "decision_ms", "total_ms")
_log = logging.getLogger("edgead.records")


def to_record(inspection: Inspection, *, time_utc: datetime, engine: str = "") -> dict[str, Any]:
    """What a database or a script wants to know of one part, as plain values; NaN and infinity become None.

    Keys: part_id, time (ISO 8601, UTC, of the verdict), captured_ns (monotonic clock when the picture was made, else when
    the trigger came), trigger_id, trigger_source and line_part_id (of the trigger, None or "" when free-running), camera,
    frame_id, source, verdict, cause, score, threshold (raw model units), times (milliseconds by stage), engine, views (camera,
    frame_id, verdict, cause, score and total_ms of each single frame when several were combined), bundle (its digest), rule
    (the version of what the verdict rests on; "" when nobody said), basis (all that, as a mapping; it does not go into files of
    JSON), statistic, level and levels (of each view; see :mod:`edgead.runtime.records.basis`: by area a RecordStore learns them
    later, and they are None and empty here).
    """
    frame, trigger, basis = inspection.frame, inspection.trigger, inspection.basis
    reading = Reading(None, None) if basis is None or basis.needs_map else read(inspection)
    captured_ns = frame.captured_at_ns if frame else trigger.at_ns if trigger else None
    return {
        "part_id": inspection.part_id,
        "time": time_utc.astimezone(timezone.utc).isoformat(timespec="milliseconds"),
        "captured_ns": captured_ns,
        "trigger_id": trigger.trigger_id if trigger else None,
        "trigger_source": trigger.source if trigger else "",
        "line_part_id": trigger.part_id if trigger else None,
        "camera": frame.camera if frame else None,
        "frame_id": frame.frame_id if frame else None,
        "source": frame.source if frame else "",
        "verdict": inspection.verdict.value,
        "cause": inspection.cause,
        "score": _number(inspection.score),
        "threshold": _number(inspection.threshold),
        "times": {name: round(getattr(inspection.times, name), 3) for name in STAGES},
        "engine": engine,
        "views": [_view(view) for view in inspection.views],
        "bundle": basis.facts["bundle"] if basis is not None else "",
        "rule": basis.facts["version"] if basis is not None else "",
        "basis": basis.facts if basis is not None else None,
        "statistic": reading.statistic,
        "level": reading.level,
        "levels": [list(view) if view else None for view in reading.views],
    }


class Tally:
    """Counts records of one keeper. After `end`, `lost` is what was told (or asked for) and not written, whoever lost it.

    Attributes:
        written: that are safe.
        asked: that came to be written.
    """

    def __init__(self) -> None:
        self.written = self.asked = self._known = 0
        self._owed: list[tuple[Callable[[], int], int]] = []
        self._ended = False

    def owe(self, told: Callable[[], int]) -> None:
        """From now on there should be a record for each verdict that `told` counts."""
        self._owed.append((told, told()))

    def lose(self, count: int) -> None:
        """So many are known to be lost."""
        self._known += count

    def end(self) -> None:
        """Nothing is on its way any more."""
        self._ended = True

    @property
    def lost(self) -> int:
        if not self._ended:
            return self._known
        owed = sum(told() - before for told, before in self._owed)
        return max(self._known, max(owed, self.asked) - self.written)


class RecordFile:
    """Appends records to a file, a line each, flushed at once. A full disk costs records, never verdicts.

    Args:
        path: the file; None is standard output.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = str(path) if path else "standard output"
        self._tally = Tally()
        self.owe = self._tally.owe
        try:
            # Written without a buffer of our own: what is flushed cannot fail again later, when the file is closed.
            # O_NONBLOCK: a named pipe that nobody reads is refused at once, instead of waiting for a reader for ever.
            number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666) if path else os.dup(1)
        except OSError as error:
            reason = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
            raise StorageError(f"cannot write records to {path}: {reason}", hint="choose another --records FILE") from error
        self._outlet = Outlet(number)
        os.close(number)

    @property
    def trouble(self) -> str:
        """What people should know of it now; "" when all is well."""
        return f"{self.lost} records are lost" if self.lost else ""

    @property
    def lost(self) -> int:
        """Records that are not in the file; after `close` also those that never came here."""
        return self._tally.lost

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, waiting for whoever reads; a failure is counted in `lost`, and the first one is logged."""
        self._tally.asked += 1
        try:
            line = {key: value for key, value in record.items() if key != "basis"}  # it is the same from part to part
            whole = self._outlet.write(json.dumps(line, allow_nan=False) + "\n")
            reason: object = "whoever reads them stands still"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one record must not cost the others
            whole, reason = False, getattr(error, "strerror", None) or error
        if whole:
            self._tally.written += 1
            return
        self._tally.lose(1)
        if self._tally.lost == 1:
            _log.error("records are being lost, verdicts go on: %s: %s", self._name, reason)

    def let_go(self) -> None:
        """At a stop: whoever waits for a reader gives up."""
        self._outlet.close()

    def close(self) -> None:
        self._outlet.close()
        self._tally.end()


def records_trouble(keepers: Iterable[Any]) -> dict[str, str]:
    """What is wrong with records now, as a notice; nothing when all is well."""
    told = "; ".join(text for keeper in keepers if (text := keeper.trouble))
    return {"records": told} if told else {}


def _view(view: Inspection) -> dict[str, Any]:
    return {
        "camera": view.frame.camera if view.frame else None,
        "frame_id": view.frame.frame_id if view.frame else None,
        "verdict": view.verdict.value,
        "cause": view.cause,
        "score": _number(view.score),
        "total_ms": round(view.times.total_ms, 3),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
