"""Follows a camera's records as they are written: counts by shift and recipe, and the parts that are new."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from edgead.dashboard.parts import Wish, has_records, history_of, newest, part
from edgead.dashboard.places import Place
from edgead.dashboard.shifts import Shift, parsed, shift_at
from edgead.errors import EdgeadError
from edgead.runtime.records.wallclock import utc_now

SPAN = timedelta(hours=24)
MOST = 200_000
"""Records of the last day that are counted when the dashboard starts."""
PAGE = 500
WAITED_POLLS = 60
"""So often is looked for the picture of a part that comes after its record."""

_log = logging.getLogger("edgead.dashboard")


class Tail:
    """One camera's. `poll` is called by one thread; `counts`, `causes` and `last` may be read by any.

    Args:
        place: the camera.
        shifts: of the day.
        now: the date.
    """

    def __init__(self, place: Place, shifts: Sequence[Shift], now: Callable[[], datetime] = utc_now) -> None:
        self._place, self._shifts, self._now = place, shifts, now
        self._seen: tuple[Any, ...] = ()
        self._seq: int | None = None
        self._waiting: dict[int, int] = {}  # parts whose picture may still come, and for how many polls
        self._fault = ""
        self._counts: dict[tuple[str, int | None], Counter[str]] = {}
        self._causes: dict[str, Counter[str]] = {}
        self.counts: dict[tuple[str, int | None], dict[str, int]] = {}
        self.causes: dict[str, dict[str, int]] = {}
        self.last: dict[str, Any] | None = None

    def poll(self) -> list[dict[str, Any]]:
        """New parts, oldest first; some a second time, now with their picture."""
        if not has_records(self._place):
            return []
        state = self._state()
        if state == self._seen and not self._waiting:
            return []
        try:
            with history_of(self._place) as history:
                if self._seq is None or self._renewed(history):
                    self._begin(history)
                    found: list[dict[str, Any]] = []
                else:
                    found = self._pictures(history) + self._new(history)
        except EdgeadError as error:
            if str(error) != self._fault:
                _log.warning("%s", error)
            self._fault = str(error)
            return []
        self._fault, self._seen = "", () if len(found) >= PAGE else state  # there may be more of them
        self.counts = {key: dict(counted) for key, counted in self._counts.items()}  # others read them meanwhile
        self.causes = {shift: dict(counted) for shift, counted in self._causes.items()}
        return found

    def _state(self) -> tuple[Any, ...]:
        """Another one when something was written."""
        assert self._place.folder is not None
        found: list[Any] = []
        for name in ("records.db", "records.db-wal"):
            try:
                stat = (self._place.folder / name).stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
            except OSError:
                found.append(None)
        return tuple(found)

    def _renewed(self, history: Any) -> bool:
        """A new file took the place of one that was damaged or removed."""
        rows = history.ask("SELECT coalesce(max(seq), 0) FROM records")
        return bool(rows) and int(rows[0][0]) < (self._seq or 0)

    def _begin(self, history: Any) -> None:
        """Count the last day."""
        self._counts, self._causes, self._waiting = {}, {}, {}
        since = (self._now() - SPAN).isoformat(timespec="milliseconds")
        first = newest(history, self._place, Wish(), 1)
        self._seq = int(first[0]["seq"]) if first else 0
        before, left = self._seq + 1, MOST
        self.last = part(self._place, first[0]) if first else None
        while left > 0:
            ask = "SELECT seq, time, verdict, cause, engine FROM records WHERE seq < ? ORDER BY seq DESC LIMIT 5000"
            rows = history.ask(ask, (before,))
            fresh = [row for row in rows if row[1] >= since]
            for _, time, verdict, cause, engine in fresh:
                self._count(time, verdict, cause, engine)
            if len(fresh) < len(rows) or not rows:
                return
            before, left = rows[-1][0], left - len(rows)

    def _new(self, history: Any) -> list[dict[str, Any]]:
        rows = newest(history, self._place, Wish(after=self._seq), PAGE)
        found = [part(self._place, row) for row in rows]
        for row, told in zip(rows, found, strict=True):
            self._seq = int(row["seq"])
            self._count(row["time"], row["verdict"], row["cause"], row["engine"])
            if row["verdict"] != "OK" and row["frame_id"] is not None and not told["picture"]:
                self._waiting[self._seq] = WAITED_POLLS
        if found:
            self.last = found[-1]
        return found

    def _pictures(self, history: Any) -> list[dict[str, Any]]:
        """Parts whose picture has come."""
        if not self._waiting:
            return []
        rows = newest(history, self._place, Wish(seqs=tuple(list(self._waiting)[:PAGE])), PAGE)
        found = [told for told in (part(self._place, row) for row in rows) if told["picture"]]
        for told in found:
            del self._waiting[told["seq"]]
        self._waiting = {seq: left - 1 for seq, left in self._waiting.items() if left > 1}
        return found[::-1]

    def _count(self, time: str, verdict: str, cause: str, engine: str | None) -> None:
        when = parsed(time)
        shift = shift_at(self._shifts, when if when is not None else self._now())
        key = (shift, self._place.recipe_of(engine))
        self._counts.setdefault(key, Counter())[verdict] += 1
        if cause:
            self._causes.setdefault(shift, Counter())[cause.partition(":")[0]] += 1
        while len(self._counts) > 60:  # days later
            oldest = min(self._counts, key=lambda one: one[0])
            del self._counts[oldest]
            self._causes.pop(oldest[0], None)
