"""What a station tells whoever looks on: health, counters and the last part, and now and then a small picture.

    FOLDER/NAME.sock      a Unix datagram socket of each program that listens (`edgead dashboard`)

The station sends and forgets: what a socket has no room for is dropped, so a listener that is slow, stopped or gone costs
nothing. A verdict costs an entry in a queue; all else happens a few times a second on a thread of this class.

A datagram is a JSON object; one with ``"kind": "picture"`` is followed by a line break and a JPEG.
"""

from __future__ import annotations

import json
import logging
import math
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2

from edgead import __version__
from edgead.clock import Clock, MonotonicClock
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.records.overlay import HeatScale, draw_overlay
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.redact import redact_all
from edgead.runtime.supervision.supervisor import Observed
from edgead.runtime.threads import Supervised
from edgead.types import Image, Inspection

TICK_S = 0.2
"""How often is told what is new."""
STATE_S = 1.0
"""How often a camera is told of in which nothing happens."""
LATENCY_S = 2.0
"""How old percentiles may be: they cost more than all else that is told."""
LOOK_S = 1.0
"""How often is looked who listens."""
PICTURE_S = 0.4
SPARE = 20
"""Pictures of a camera come no oftener than this, and making them takes no more than one part in so many of the time."""
WIDTH = 640
QUALITY = 80
MOST_PARTS = 32
"""Newest parts that are told in one tick; a listener finds the others in the records."""
PATIENCE_S = 30.0

Look = tuple[HeatScale, PreprocessRecipe | None]
_log = logging.getLogger("edgead.live")


class Watched:
    """One camera, or part of several, of which is told.

    Args:
        name: as in station.yaml.
        station: its health and counters.
        facts: what it judges by now: bundle, engine, rule; plain values.
        disk: room and records that wait; plain values.
        looks: for pictures: scale and recipe by the engine's name. Without them no heat map is drawn.
    """

    def __init__(
        self,
        name: str,
        station: Observed,
        facts: Callable[[], dict[str, Any]],
        disk: Callable[[], dict[str, Any]] = dict,
        looks: Mapping[str, Look] | None = None,
    ) -> None:
        self.name, self.station, self.facts, self.disk = name, station, facts, disk
        self.looks = looks if looks is not None else {}
        self.parts: deque[dict[str, Any]] = deque(maxlen=MOST_PARTS)
        self.newest: Inspection | None = None
        self.wanted = False
        self.seen = threading.Event()
        self.state_ns = self.picture_ns = 0
        self.latency_ms: dict[str, float] = {}
        self.latency_ns: int | None = None

    def see(self, inspection: Inspection) -> None:
        """A verdict was given (:meth:`edgead.runtime.loop.station.Station.on_inspection`)."""
        if not self.wanted:
            return
        self.parts.append(_part(inspection))
        if inspection.frame is not None:
            self.newest = inspection
        self.seen.set()


class LiveFeed:
    """Tells every socket in a folder, from a thread of its own between `start` and `close`.

    Args:
        folder: made if need be; one that cannot be made is tried again.
        station: the name in station.yaml.
        watched: its cameras and parts.
        clock: paces.
    """

    def __init__(self, folder: Path, station: str, watched: list[Watched], clock: Clock | None = None) -> None:
        self._folder, self._station, self._watched = folder, station, watched
        self._clock = clock or MonotonicClock()
        self._listeners: dict[Path, socket.socket] = {}
        self._looked_ns: int | None = None
        self._failed: dict[str, str] = {}
        self._end, self._seen = threading.Event(), threading.Event()
        for one in watched:
            one.seen = self._seen
        self._thread = Supervised("live", self._work, patience_s=PATIENCE_S)
        with suppress(OSError):  # looked for again
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)

    def start(self) -> LiveFeed:
        self._thread.start()
        return self

    def close(self) -> None:
        """May be called twice."""
        self._end.set()
        self._seen.set()
        self._thread.join()
        self._hang_up(list(self._listeners))

    def __enter__(self) -> LiveFeed:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def tick(self) -> None:
        """Tell what is new; for the thread. Never waits, never raises."""
        self._try("anything", self._look)
        for one in self._watched:
            one.wanted = bool(self._listeners)
            if one.wanted:
                self._try(one.name, partial(self._tell, one))
            else:  # who comes later is not told of what is old by then
                one.parts.clear()
                one.newest = None

    def _try(self, what: str, does: Callable[[], None]) -> None:
        try:
            does()
        except Exception as error:  # noqa: BLE001 - who looks on must not cost the line anything, whatever is wrong
            if repr(error) != self._failed.get(what):
                self._failed[what] = repr(error)
                _log.exception("the dashboard is not told of %s", what)

    def _work(self) -> None:
        while not self._end.wait(TICK_S if self._listeners else LOOK_S):
            if self._listeners:  # right after a verdict the next part is as far away as it will be
                self._seen.clear()
                self._seen.wait(STATE_S - TICK_S)
            self._thread.turn()
            self.tick()
            self._thread.rest()

    def _look(self) -> None:
        """Who listens?"""
        now_ns = self._clock.now_ns()
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_S * 1e9:
            return
        self._looked_ns = now_ns
        try:
            found = {path for path in self._folder.iterdir() if path.suffix == ".sock"}
        except OSError:
            found = set()
            with suppress(OSError):
                self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._hang_up([path for path in self._listeners if path not in found])
        for path in found - self._listeners.keys():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            connection.setblocking(False)
            try:
                connection.connect(str(path))
            except OSError:  # left behind by one that was killed
                connection.close()
                continue
            self._listeners[path] = connection

    def _hang_up(self, paths: list[Path]) -> None:
        for path in paths:
            self._listeners.pop(path).close()

    def _tell(self, one: Watched) -> None:
        now_ns = self._clock.now_ns()
        parts = [one.parts.popleft() for _ in range(len(one.parts))]
        if parts or now_ns - one.state_ns >= STATE_S * 1e9:
            one.state_ns = now_ns
            self._send(redact_all({**self._head("state", one), **self._state(one, now_ns), "parts": parts}))
        inspection = one.newest
        if inspection is None or inspection.frame is None or now_ns < one.picture_ns:
            return
        one.newest = None
        head = {**self._head("picture", one), "part_id": inspection.part_id}
        self._send({**head, "overlay": False}, _jpeg(inspection.frame.image))
        look = one.looks.get(inspection.engine)
        if look is not None:
            self._send({**head, "overlay": True}, _jpeg(draw_overlay(inspection, *look)))
        took_ns = self._clock.now_ns() - now_ns
        one.picture_ns = now_ns + max(round(PICTURE_S * 1e9), SPARE * took_ns)

    def _head(self, kind: str, one: Watched) -> dict[str, Any]:
        return {"v": 1, "kind": kind, "station": self._station, "camera": one.name}

    def _state(self, one: Watched, now_ns: int) -> dict[str, Any]:
        health, stats = one.station.health(), one.station.stats
        if one.latency_ns is None or now_ns - one.latency_ns >= LATENCY_S * 1e9:
            one.latency_ms, one.latency_ns = stats.latency_ms(), now_ns
        return {
            "version": __version__,
            "state": health.state,
            "fault": health.fault,
            "device": health.camera,
            "time_source": health.time_source,
            "notices": dict(health.notices),
            "queues": dict(health.queues),
            "devices": {name: dict(counts) for name, counts in health.devices.items()},
            "threads": {name: death.cause for name, death in health.threads.items()},
            "open_parts": health.open_parts,
            "progress_age_s": (now_ns - health.progress_at_ns) / 1e9,
            "verdicts": dict(stats.verdicts),
            "causes": dict(stats.causes),
            "late": dict(stats.late),
            "late_outputs": sum(stats.late_outputs.values()),
            "latency_ms": one.latency_ms,
            "disk": one.disk(),
            **one.facts(),
        }

    def _send(self, head: Mapping[str, Any], picture: bytes = b"") -> None:
        data = json.dumps(head, allow_nan=False, separators=(",", ":")).encode()
        if picture:
            data += b"\n" + picture
        for path, connection in list(self._listeners.items()):
            try:
                connection.send(data)
            except ConnectionError:
                self._hang_up([path])
            except OSError:  # no room (EAGAIN, ENOBUFS), or too long (EMSGSIZE): dropped
                continue


def _part(inspection: Inspection) -> dict[str, Any]:
    basis = inspection.basis
    by_area = basis is not None and basis.needs_map
    score = inspection.score if math.isfinite(inspection.score) else None
    return {
        "part_id": inspection.part_id,
        "time": utc_now().isoformat(timespec="milliseconds"),
        "verdict": inspection.verdict.value,
        "cause": inspection.cause,
        "score": score,
        "threshold": inspection.threshold if math.isfinite(inspection.threshold) else None,
        "statistic": None if by_area else score,
        "level": None if by_area else score,
        "engine": inspection.engine,
        "total_ms": round(inspection.times.total_ms, 3),
    }


def _jpeg(picture: Image) -> bytes:
    """At most 640 pixels wide and high."""
    height, width = picture.shape[:2]
    scale = WIDTH / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
