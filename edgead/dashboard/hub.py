"""What is known now of every camera, and who is told when it changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from edgead.clock import Clock, MonotonicClock
from edgead.dashboard.live import Listener, state_of
from edgead.dashboard.parts import part
from edgead.dashboard.places import Place
from edgead.dashboard.shifts import WHOLE_DAY, Shift, shift_at
from edgead.dashboard.tail import Tail
from edgead.runtime.records.wallclock import utc_now

SILENT_S = 5.0
"""A station that has told nothing for so long is not there."""
POLL_S = 0.5
LINE_S = 0.25
"""How often a camera is told of at most."""
LATE_S = 600.0
"""A late part is a fault for so long."""
BEHIND = 500
"""Events that wait for a browser; of more the oldest are lost to it."""

_log = logging.getLogger("edgead.dashboard")


class Reader:
    """One browser's events; a slow one loses the oldest."""

    def __init__(self) -> None:
        self._events: deque[bytes] = deque(maxlen=BEHIND)
        self._there = asyncio.Event()
        self.over = False

    def end(self) -> None:
        """There is nothing more to come."""
        self.over = True
        self._there.set()

    def put(self, event: bytes) -> None:
        self._events.append(event)
        self._there.set()

    async def next(self, wait_s: float) -> bytes:
        """All that waits; b"" when nothing came within `wait_s` seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._there.wait(), wait_s)
        self._there.clear()
        told = b"".join(self._events)
        self._events.clear()
        return told


class Hub:
    """All cameras. Changed on the event loop only; read by any thread.

    Args:
        places: by id.
        shifts: of the day.
        clock: for who is silent.
        now: the date.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        shifts: Sequence[Shift] = WHOLE_DAY,
        clock: Clock | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.places, self._shifts, self._clock, self._now = places, shifts, clock or MonotonicClock(), now
        self._told: dict[str, dict[str, Any]] = {}
        self._told_ns: dict[str, int] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._late: dict[str, tuple[float, int | None]] = {}  # how many parts were late, and when it became more
        self._pictures: dict[tuple[str, bool], tuple[bytes, int]] = {}
        self._tails = {one.id: Tail(one, shifts, now) for one in places.values()}
        self._readers: set[Reader] = set()
        self._changed: set[str] = set()
        self._shown: dict[str, str] = {}
        self._listener = Listener([one.live for one in places.values() if one.live is not None], self._take)
        self._tasks: list[asyncio.Task[None]] = []

    # for threads and the event loop

    def state(self, place: Place) -> dict[str, Any]:
        """What the station said last; {} when it is silent."""
        return self._told.get(place.id, {}) if self._reachable(place) else {}

    def picture(self, place: Place, overlay: bool) -> tuple[bytes, int] | None:
        """The newest one that was told, JPEG, and the number of its part; None: none was, or the station is silent: an old one is
        not what is now."""
        return self._pictures.get((place.id, overlay)) if self._reachable(place) else None

    def late_lately(self, place: Place) -> bool:
        """Was a part late within the last `LATE_S` seconds? One that was late before we listened counts as late when we began."""
        late_ns = self._late.get(place.id, (0, None))[1]
        return late_ns is not None and self._clock.now_ns() - late_ns < LATE_S * 1e9

    def camera(self, place: Place) -> dict[str, Any]:
        """A CAMERA."""
        from edgead.dashboard.cameras import camera

        tail = self._tails[place.id]
        shift = shift_at(self._shifts, self._now())
        told, recorded = self._last.get(place.id), tail.last
        last = told if recorded is None or (told is not None and told["part_id"] > recorded["part_id"]) else recorded
        return camera(place, self.state(place), last, shift, tail.counts, tail.causes.get(shift, {}))

    # the event loop's

    async def start(self) -> None:
        """Listen and follow, on the running event loop."""
        self._listener.open()
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._show())]

    async def stop(self) -> None:
        """May be called twice."""
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def join(self) -> Reader:
        """Somebody who wants events."""
        reader = Reader()
        self._readers.add(reader)
        return reader

    def end(self) -> None:
        """Tell all readers that it is over: the server stops."""
        for reader in self._readers:
            reader.end()

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)

    @property
    def readers(self) -> int:
        return len(self._readers)

    def tell(self, kind: str, data: Any) -> None:
        """An event for everybody."""
        event = f"event: {kind}\ndata: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n".encode()
        for reader in self._readers:
            reader.put(event)

    def _reachable(self, place: Place) -> bool:
        told_ns = self._told_ns.get(place.id)
        return told_ns is not None and self._clock.now_ns() - told_ns < SILENT_S * 1e9

    def _take(self, message: dict[str, Any], picture: bytes) -> None:
        """A station has told something."""
        place = self.places.get(f"{message['station']}/{message['camera']}")
        if place is None:
            return
        if message["kind"] == "picture":
            self._pictures[place.id, bool(message["overlay"])] = picture, int(message["part_id"])
            return
        state = state_of(message)
        self._count_late(place, state)
        parts = [part(place, {**one, "part_id": int(one["part_id"])}) for one in message["parts"]]
        before = self._last.get(place.id)
        if not self._reachable(place) or (parts and before is not None and parts[0]["part_id"] < before["part_id"]):
            for overlay in (False, True):  # it has begun anew, and counts parts anew: a picture of before is of another part
                self._pictures.pop((place.id, overlay), None)
        self._told[place.id], self._told_ns[place.id] = state, self._clock.now_ns()
        if parts:
            self._last[place.id] = parts[-1]
            if place.folder is None:  # nobody else tells of them
                for one in parts:
                    self.tell("part", one)
        self._changed.add(place.id)

    def _count_late(self, place: Place, state: Mapping[str, Any]) -> None:
        late, (before, when_ns) = sum(state["late"].values()), self._late.get(place.id, (0, None))
        self._late[place.id] = late, self._clock.now_ns() if late > before else when_ns

    async def _follow(self) -> None:
        """The records, in a thread of their own."""
        while True:
            for place in self.places.values():
                if place.folder is None:
                    continue
                try:
                    parts = await asyncio.to_thread(self._tails[place.id].poll)
                    for one in parts:
                        self.tell("part", one)
                except Exception:  # noqa: BLE001 - one camera's records must not keep the others from being shown
                    _log.exception("%s: the records cannot be followed", place.id)
                    continue
                if parts:
                    self._changed.add(place.id)
            await asyncio.sleep(POLL_S)

    async def _show(self) -> None:
        """What has changed of the cameras, not too often."""
        since = 0
        while True:
            await asyncio.sleep(LINE_S)
            since += 1
            look = set(self.places) if since % 8 == 0 else self._changed  # also what falls silent
            self._changed = set()
            for name in look if self._readers else ():
                try:
                    self._show_one(name)
                except Exception:  # noqa: BLE001 - a bug in one camera must not keep the others from being shown
                    _log.exception("%s cannot be shown", name)

    def _show_one(self, name: str) -> None:
        told = self.camera(self.places[name])
        text = json.dumps(told, sort_keys=True)
        if self._shown.get(name) != text:
            self._shown[name] = text
            self.tell("line", told)
