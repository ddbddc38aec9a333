"""How the boxes of an inventory are doing, from what they tell anyway: their /metrics, and their records where those are folders.

A box that does not answer is a row that says why. All are asked side by side, few at a time, each within a time limit; a slow or
hostile one costs its own row. Nothing is kept, nothing runs on afterwards.
"""

from __future__ import annotations

import http.client
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edgead.config.inventory import BoxConfig, Inventory
from edgead.errors import EdgeadError
from edgead.jobs.progress import Progress, Ticking, silent
from edgead.optional import require
from edgead.runtime.products.drift import KINDS as DRIFT
from edgead.runtime.records.database import FILE_NAME
from edgead.words import one_line

TIMEOUT_S = 5.0
"""For a box's whole answer."""

AT_ONCE = 16
"""Boxes that are asked at the same time."""

MOST_BYTES = 8 << 20
"""Of /metrics: a station with 64 cameras has some 500 kB."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """A camera of a box, or a part that several cameras look at.

    Attributes:
        camera: its name.
        ready: it gives verdicts.
        sha256: of the bundle that answers; null: the box does not tell (an edgead of before; a part of several cameras).
        engine: that answers; null likewise.
        wanted: the digest that the inventory names for it; null: none.
        behind: whether it runs another one than that; null: not known, or none is wanted.
        verdicts: counts since its start, by OK, NG, UNKNOWN.
        p50_ms, p99_ms: trigger or arrival to verdict, of the last 10,000 parts; null before the first.
        late: deadlines that were missed since its start.
        drift: what moved away from what the bundle's golden frames show: light, focus, contrast, position, product.
        notices: what else there is to look at.
    """

    camera: str
    ready: bool
    sha256: str | None
    engine: str | None
    wanted: str | None
    behind: bool | None
    verdicts: Mapping[str, int]
    p50_ms: float | None
    p99_ms: float | None
    late: int
    drift: tuple[str, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of a camera or part, of the last 24 hours.

    Attributes:
        camera: its name.
        last: UTC of the newest record; "" when there is none.
        verdicts: counts by OK, NG, UNKNOWN.
        sha256: of the bundle that judged the newest record; null: it does not tell.
        fault: why they cannot be read; "" when they can.
    """

    camera: str
    last: str
    verdicts: Mapping[str, int]
    sha256: str | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class BoxState:
    """A box.

    Attributes:
        box: its name.
        answers: whether its /metrics could be read; null: the inventory names none.
        fault: why not; "" when it could.
        edgead: its version.
        cameras: and parts.
        records: of folders that the inventory names.
    """

    box: str
    answers: bool | None
    fault: str
    edgead: str
    cameras: tuple[CameraState, ...] = ()
    records: tuple[Recorded, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetState:
    """All boxes.

    Attributes:
        time: when they were asked, UTC.
        boxes: in the inventory's order.
        silent: names of those that did not answer.
        behind: "box/camera" of those that run another bundle than the wanted one.
        unready: "box/camera" of those that give no verdicts.
    """

    time: str
    boxes: tuple[BoxState, ...]
    silent: tuple[str, ...]
    behind: tuple[str, ...]
    unready: tuple[str, ...]


def status(
    inventory: Inventory,
    progress: Progress = silent,
    *,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    now: datetime | None = None,
) -> FleetState:
    """Ask all boxes.

    Args:
        timeout_s: for a box's whole answer.
        clock: monotonic seconds.
        now: UTC; None: now.

    Raises:
        MissingExtra: prometheus_client is not installed, and there are metrics to read.
    """
    if any(box.metrics for box in inventory.boxes):
        require("prometheus_client.parser", extra="metrics", why="Reading metrics")
    now = now or datetime.now(timezone.utc)
    tick = Ticking(progress, "asking the boxes", len(inventory.boxes))

    def ask(box: BoxConfig) -> BoxState:
        try:
            return _state(inventory, box, timeout_s, clock, now)
        finally:
            tick()

    with ThreadPoolExecutor(min(AT_ONCE, len(inventory.boxes)), "edgead-fleet") as pool:
        boxes = tuple(pool.map(ask, inventory.boxes))
    seen = [(f"{box.box}/{one.camera}", one) for box in boxes for one in box.cameras]
    return FleetState(
        now.isoformat(timespec="seconds"),
        boxes,
        silent=tuple(box.box for box in boxes if box.answers is False),
        behind=tuple(name for name, one in seen if one.behind),
        unready=tuple(name for name, one in seen if not one.ready),
    )


def _state(inventory: Inventory, box: BoxConfig, timeout_s: float, clock: Callable[[], float], now: datetime) -> BoxState:
    records = _recorded(box.records, now) if box.records is not None else ()
    if box.metrics is None:
        return BoxState(box.name, None, "", "", records=records)
    try:
        told = _Told.read(_fetched(f"{box.metrics.rstrip('/')}/metrics", timeout_s, clock))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return BoxState(box.name, False, _why(error), "", records=records)
    cameras = tuple(_camera(told, camera, inventory.wanted(box, camera)) for camera in told.cameras)
    return BoxState(box.name, True, "", told.version, cameras, records)


def _camera(told: _Told, camera: str, wanted: str | None) -> CameraState:
    engine, sha256 = next(((e, s) for role, e, s in told.bundles.get(camera, ()) if role == "main"), (None, None))
    notices = told.notices.get(camera, set())
    latency = told.latency.get(camera, {})
    return CameraState(
        camera=camera,
        ready=told.ready[camera],
        sha256=sha256 or None,
        engine=engine or None,
        wanted=wanted,
        behind=sha256 != wanted if wanted is not None and sha256 else None,
        verdicts={name: told.verdicts.get(camera, {}).get(name, 0) for name in ("OK", "NG", "UNKNOWN")},
        p50_ms=latency.get("50"),
        p99_ms=latency.get("99"),
        late=told.late.get(camera, 0),
        drift=tuple(kind for kind in DRIFT if kind in notices),
        notices=tuple(sorted(notices - set(DRIFT))),
    )


@dataclass(slots=True)
class _Told:
    """What a box's /metrics say, by camera."""

    version: str = ""
    ready: dict[str, bool] = field(default_factory=dict)
    bundles: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    notices: dict[str, set[str]] = field(default_factory=dict)

    @property
    def cameras(self) -> list[str]:
        return list(self.ready)

    @classmethod
    def read(cls, text: str) -> _Told:
        """Raises ValueError: these are no metrics of edgead."""
        parser = require("prometheus_client.parser", extra="metrics", why="Reading metrics")
        told = cls()
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                told._take(sample.name, sample.labels, sample.value)
        if not told.version:
            raise ValueError("what answers there is not edgead: it tells no edgead_info")
        return told

    def _take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if not math.isfinite(value):
            return
        camera = one_line(labels.get("camera", ""), 100)
        if name == "edgead_info":
            self.version = one_line(labels.get("version", ""), 40)
        elif name == "edgead_ready":
            self.ready[camera] = value == 1
        elif name == "edgead_bundle_info" and value == 1:
            found = tuple(one_line(labels.get(label, ""), 200) for label in ("role", "engine", "sha256"))
            self.bundles.setdefault(camera, []).append((found[0], found[1], found[2]))
        elif name == "edgead_verdicts_total":
            self.verdicts.setdefault(camera, {})[labels.get("verdict", "")] = int(value)
        elif name == "edgead_recent_verdict_seconds":
            self.latency.setdefault(camera, {})[labels.get("percentile", "")] = 1000 * value
        elif name == "edgead_deadline_misses_total":
            self.late[camera] = self.late.get(camera, 0) + int(value)
        elif name == "edgead_notice" and value == 1:
            self.notices.setdefault(camera, set()).add(one_line(labels.get("what", ""), 100))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        return None


def _fetched(url: str, timeout_s: float, clock: Callable[[], float]) -> str:
    """Raises OSError, HTTPException or ValueError."""
    end = clock() + timeout_s
    with urllib.request.build_opener(_NoRedirect).open(url, timeout=timeout_s) as answer:
        content = bytearray()
        while block := answer.read1(1 << 16):
            content += block
            if len(content) > MOST_BYTES:
                raise ValueError(f"it tells more than {MOST_BYTES >> 20} MiB")
            if clock() > end:
                raise TimeoutError
    return content.decode("utf-8")


def _why(error: Exception) -> str:
    """In words."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return f"it answers {error.code}" + (
                ": pip install 'edgead[metrics]' there, and supervision.http in its station.yaml" if error.code == 404 else ""
            )
    inner = getattr(error, "reason", None)
    cause = inner if isinstance(inner, BaseException) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return one_line(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__, 200)


def _recorded(folder: Path, now: datetime) -> tuple[Recorded, ...]:
    try:
        places = sorted(found.parent for found in folder.glob(f"*/{FILE_NAME}"))
        reason = "there are no records" if folder.is_dir() else "it does not exist"
    except OSError as error:
        places, reason = [], error.strerror or str(error)
    if not places:
        return (Recorded("", "", {}, None, f"{folder}: {reason}"),)
    return tuple(_of_camera(place, (now - timedelta(days=1)).isoformat(timespec="milliseconds")) for place in places)


def _of_camera(place: Path, since: str) -> Recorded:
    from edgead.runtime.records.history import History

    try:
        with History(place) as history:
            newest = history.select((), (), 1)
            counts = history.ask("SELECT verdict, count(*) FROM records WHERE time >= ? GROUP BY verdict", (since,))
    except EdgeadError as error:
        return Recorded(place.name, "", {}, None, one_line(str(error), 200))
    last, sha256 = (str(newest[0]["time"]), newest[0]["bundle"]) if newest else ("", None)
    return Recorded(place.name, last, {str(verdict): int(count) for verdict, count in counts}, sha256)
