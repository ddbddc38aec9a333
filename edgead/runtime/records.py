"""One structured record per part: a JSON object a line."""

from __future__ import annotations

import json
import logging
import math
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgead.errors import StorageError
from edgead.types import Inspection

_log = logging.getLogger("edgead.records")


def to_record(inspection: Inspection, *, time_utc: datetime, engine: str = "") -> dict[str, Any]:
    """What a database or a script wants to know of one part, as plain values; NaN and infinity become None.

    Keys: part_id, time (ISO 8601, UTC, of the verdict), camera, frame_id, source, verdict, cause, score, threshold (raw model
    units), times (milliseconds by stage), engine.
    """
    frame, times = inspection.frame, inspection.times
    return {
        "part_id": inspection.part_id,
        "time": time_utc.astimezone(timezone.utc).isoformat(timespec="milliseconds"),
        "camera": frame.camera if frame else None,
        "frame_id": frame.frame_id if frame else None,
        "source": frame.source if frame else "",
        "verdict": inspection.verdict.value,
        "cause": inspection.cause,
        "score": _number(inspection.score),
        "threshold": _number(inspection.threshold),
        "times": {
            "wait_ms": round(times.wait_ms, 3),
            "resize_ms": round(times.resize_ms, 3),
            "inference_ms": round(times.inference_ms, 3),
            "decision_ms": round(times.decision_ms, 3),
            "total_ms": round(times.total_ms, 3),
        },
        "engine": engine,
    }


class RecordFile:
    """Appends records to a file, a line each, flushed at once. A full disk costs records, never verdicts.

    Args:
        path: the file; None is standard output.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = str(path) if path else "standard output"
        self.lost = 0
        try:
            # Written without a buffer of our own: what is flushed cannot fail again later, when the file is closed.
            self._file = path.open("ab", buffering=0) if path else open(os.dup(1), "wb", buffering=0)  # noqa: PTH123, SIM115
        except OSError as error:
            raise StorageError(
                f"cannot write records to {path}: {error.strerror}", hint="choose another --records FILE"
            ) from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; when that fails it is counted in `lost` and the first failure is logged."""
        try:
            self._write_all(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                _log.error("records are being lost, verdicts go on: %s: %s", self._name, error.strerror or error)

    def _write_all(self, line: bytes) -> None:
        written = 0
        while written < len(line):
            written += self._file.write(line[written:])

    def close(self) -> None:
        self._file.close()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
