"""`python -m edgead.jobs.scoring.worker`: judges pieces of an archive, as a process of `edgead score`; on Ray without the pipes.

The first line of its standard input is an order (:class:`Order` as JSON); it answers {"ready": 1} or {"failed": ...}. Each
further line is a piece, {"first": number of its first picture, "items": [...]}, answered by {"rows": [...]} or {"failed": ...}.
It ends with its standard input.
"""

from __future__ import annotations

import ctypes
import dataclasses
import io
import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from edgead import errors
from edgead.disk import write_file
from edgead.engines.proof import check_reach, prove
from edgead.errors import EdgeadError, StorageError
from edgead.jobs.score import Judge
from edgead.jobs.scoring.reading import Reader
from edgead.runtime.loop.inspector import one_line
from edgead.runtime.records.overlay import HeatScale
from edgead.types import AnomalyMap

COLUMNS = {
    **dict.fromkeys(("path", "verdict", "cause"), "TEXT"),
    **dict.fromkeys(("score", "statistic", "level"), "REAL"),
    "area_px": "INTEGER",
    "total_ms": "REAL",
    **dict.fromkeys(("engine", "bundle"), "TEXT"),
}
"""Of a row: names and SQL types; with maps also `map`."""

MAPS = ("png", "npz")
_MIDDLE = 1 << 15
"""The grey of the threshold in maps of 16 bits; 0 is a calm picture's."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        bundle, sha256, engine, trusted: whose answers are wanted.
        threads: CPU threads of one inference.
        folder, base: how items are read (:class:`edgead.jobs.scoring.reading.Reader`).
        maps: ``"png"``, ``"npz"`` or "": none.
        maps_dir: where they are written; "": they are sent back with the rows.
    """

    bundle: str
    sha256: str
    engine: str
    trusted: tuple[str, ...] = ()
    threads: int = 1
    folder: str = ""
    base: str = ""
    maps: str = ""
    maps_dir: str = ""


class Scorer:
    """An engine that judges pieces of an archive, proved as before a station's start.

    Raises:
        EdgeadError: it does not open here, or does not answer here as the trained model did.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        trusted = tuple(Path(key) for key in order.trusted)
        self._judge = judge = Judge.open(
            Path(order.bundle), order.engine, threads=order.threads, trusted=trusted, sha256=order.sha256
        )
        try:
            calm = prove(judge.bundle, judge.record, judge.engine)
            check_reach(judge.bundle, judge.record, judge.rule, judge.bundle.golden(), lambda told: None)
            self._scale = HeatScale(min(calm, judge.rule.level), judge.rule.level)
            self._reader = Reader(order.folder, order.base, judge.bundle.manifest.preprocess.bits)
        except BaseException:
            judge.close()
            raise

    def piece(self, first: int, items: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
        """A row a picture, and the maps that are to be sent back, by their names.

        Args:
            first: number of the first picture in the run.

        Raises:
            StorageError: a map cannot be written, or the store of the pictures is away.
        """
        rows, maps = [], {}
        for i, (item, content) in enumerate(zip(items, self._reader.all(items), strict=True)):
            row, map_ = self._row(item, content)
            if self._order.maps:
                row["map"] = None
            if map_ is not None and self._order.maps:
                name = f"{(first + i) // 1000:06d}/{first + i:09d}.{self._order.maps}"
                row["map"], maps[name] = name, self._encoded(map_)
            rows.append(row)
        if self._order.maps_dir:
            write_maps(Path(self._order.maps_dir), maps)
            maps = {}
        return rows, maps

    def _row(self, item: str, content: bytes | errors.BadInput) -> tuple[dict[str, Any], AnomalyMap | None]:
        judge, shown = self._judge, self._reader.shown(item)
        found, _ = judge.ask(partial(self._reader.picture, item, content), shown)
        reading = judge.reading(found)
        level, statistic = (None, None) if reading is None else reading
        area = int(statistic) if statistic is not None and judge.rule.pixel is not None else None
        row = {
            "path": shown, "verdict": found.verdict.value, "cause": found.cause,
            "score": found.score if math.isfinite(found.score) else None, "statistic": statistic, "level": level, "area_px": area,
            "total_ms": round(found.times.total_ms, 3), "engine": judge.record.name, "bundle": judge.bundle.digest,
        }  # fmt: skip
        return row, found.anomaly_map

    def _encoded(self, anomaly_map: AnomalyMap) -> bytes:
        if self._order.maps == "npz":
            file = io.BytesIO()
            np.savez_compressed(file, map=anomaly_map)
            return file.getvalue()
        grey = np.clip(np.rint(self._scale.apply(anomaly_map) * _MIDDLE), 0, 65535).astype(np.uint16)
        return cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()

    def close(self) -> None:
        """Close the engine."""
        self._judge.close()


def write_maps(folder: Path, maps: Mapping[str, bytes]) -> None:
    """Raises StorageError."""
    for name, content in maps.items():
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(folder / name, content)
        except OSError as error:
            raise StorageError(
                f"cannot write {folder / name}: {error.strerror or error}", hint="make room; the same command goes on"
            ) from error


def dead_row(order: Order, shown: str, why: str) -> dict[str, Any]:
    """The row of a picture on which the process that judged it died."""
    nothing = dict.fromkeys(COLUMNS) | ({"map": None} if order.maps else {})
    found = {"path": shown, "verdict": "UNKNOWN", "cause": f"bad_frame: {why}", "total_ms": 0.0}
    return {**nothing, **found, "engine": order.engine, "bundle": order.sha256}


def failure(error: EdgeadError) -> dict[str, str]:
    """An error as what another process can be told; :func:`raised` makes it one again."""
    return {"failed": str(error), "hint": error.hint, "kind": type(error).__name__}


def raised(told: Mapping[str, Any]) -> EdgeadError:
    """The error that another process told."""
    kind = getattr(errors, str(told.get("kind")), errors.EngineError)
    made: EdgeadError = kind(str(told["failed"]), hint=str(told.get("hint", "")))
    return made


def main(lines: IO[bytes], answers: IO[bytes]) -> None:
    """Open, then judge until there are no more pieces."""
    told = json.loads(lines.readline())
    try:
        scorer = Scorer(Order(**told))
    except EdgeadError as error:
        _say(answers, failure(error))
        return
    _say(answers, {"ready": 1})
    for line in lines:
        piece = json.loads(line)
        try:
            _say(answers, {"rows": scorer.piece(piece["first"], piece["items"])[0]})
        except EdgeadError as error:
            _say(answers, failure(error))
            return


def order_json(order: Order) -> bytes:
    """An order as the line that a worker reads."""
    return json.dumps(dataclasses.asdict(order)).encode() + b"\n"


def one_core() -> None:
    """What libraries compute here, they compute on one core: there is a process a core."""
    cv2.setNumThreads(1)


def _say(answers: IO[bytes], told: Mapping[str, Any]) -> None:
    answers.write(json.dumps(told, allow_nan=False).encode() + b"\n")
    answers.flush()


def _end_with_parent() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: who started it ends it


if __name__ == "__main__":
    _end_with_parent()
    one_core()
    with os.fdopen(os.dup(1), "wb") as own, suppress(BrokenPipeError):
        os.dup2(2, 1)  # what libraries print must not come between answers
        try:
            main(sys.stdin.buffer, own)
        except EdgeadError:
            raise
        except Exception as error:  # noqa: BLE001 - whoever started it shall know what it died of
            _say(own, {"failed": f"a worker failed: {one_line(error)}", "hint": "please report it", "kind": "EngineError"})
