"""Prometheus metrics, read at each scrape from what the stations count anyway: nothing is counted twice, no part waits for it.

The only file that knows prometheus_client. Units as Prometheus wants them: seconds, bytes, degrees Celsius.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from edgead import __version__
from edgead.clock import Clock, MonotonicClock
from edgead.optional import require
from edgead.runtime.loop.stats import BOUNDS_MS, Health, Stats
from edgead.runtime.supervision.boxstate import Reading, read_box, read_process
from edgead.runtime.supervision.supervisor import Observed
from edgead.runtime.threads import Crew

_Sample: TypeAlias = tuple[tuple[str, ...], float]  # label values, value

_COUNTERS = {
    "verdicts": ("verdict", "Verdicts given"),
    "causes": ("cause", "Verdicts that have a cause, by cause"),
    "late": ("stage", "Deadlines and stage limits missed, by the stage in which"),
    "drops": ("cause", "Frames without a verdict of their own, by cause"),
    "errors": ("name", "Faults of outputs, callbacks and trigger sources"),
    "undelivered": ("name", "Verdicts that an output or callback was too slow to take"),
    "late_outputs": ("name", "Verdicts that an output could tell only after the deadline"),
    "engines": ("engine", "Answers by engine"),
}
_RENAMED = {"late": "deadline_misses"}
_PLAIN = {
    "triggers": "Triggers that arrived",
    "frames": "Frames that arrived from the camera",
    "inspected": "Frames that the loop took",
    "reconnects": "How often a lost camera came back",
    "late_results": "Results that came after their part's verdict",
}
_PERCENTILES = {"p50": "50", "p95": "95", "p99": "99"}
_BOX = {
    "temperature": ("box_temperature_celsius", "gauge", "Temperatures of the box"),
    "throttled": ("box_throttle_events", "counter", "Times the box slowed itself down since boot"),
    "cooling": ("box_cooling_ratio", "gauge", "State of cooling devices, 0 idle to 1 strongest"),
    "frequency": ("box_cpu_frequency_hertz", "gauge", "Clock rate of a CPU"),
    "frequency_limit": ("box_cpu_frequency_limit_hertz", "gauge", "Highest clock rate that is allowed now"),
}


class Store(Protocol):
    """What is told of a :class:`edgead.runtime.records.store.RecordStore`."""

    @property
    def written(self) -> int: ...

    @property
    def lost(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class Folder(Protocol):
    """What is told of a :class:`edgead.runtime.records.pictures.PictureFolder`."""

    saved: int
    lost: int

    @property
    def total_bytes(self) -> int: ...


class Metrics:
    """The metrics of a process, in a registry of its own. Threads of the crew in which it is made are the process's.

    Args:
        stations: by name, the label ``camera``.
        stores, folders: of records and pictures, by the same names.
        clock: the stations'.
        sysfs: where the box tells.

    Raises:
        MissingExtra: prometheus_client is not installed.
    """

    def __init__(
        self,
        stations: Mapping[str, Observed],
        *,
        stores: Mapping[str, Store] | None = None,
        folders: Mapping[str, Folder] | None = None,
        clock: Clock | None = None,
        sysfs: Path = Path("/sys"),
    ) -> None:
        client = require("prometheus_client", extra="metrics", why="Serving metrics")
        self._families = require("prometheus_client.core", extra="metrics", why="Serving metrics")
        self._exposition = require("prometheus_client.exposition", extra="metrics", why="Serving metrics")
        self._stations, self._stores, self._folders = dict(stations), dict(stores or {}), dict(folders or {})
        self._clock, self._sysfs = clock or MonotonicClock(), sysfs
        self._crew = Crew.current()
        self._registry = client.CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> tuple[str, bytes]:
        """Content type and body of ``/metrics`` (Prometheus text format)."""
        return str(self._exposition.CONTENT_TYPE_LATEST), bytes(self._exposition.generate_latest(self._registry))

    def collect(self) -> Iterator[Any]:
        """All metric families now; called by the registry."""
        yield self._family("gauge", "info", "Version", ("version",), [((__version__,), 1)])
        stats = {name: station.stats for name, station in self._stations.items()}
        health = {name: station.health() for name, station in self._stations.items()}
        yield from self._counts(stats)
        yield self._stages(stats)
        yield self._latency(stats)
        yield from self._states(health)
        yield from self._storage()
        yield from self._box(read_box(self._sysfs))
        process = read_process()
        for key, name, what in (("VmRSS", "memory_bytes", "Resident memory"), ("Threads", "threads", "Threads")):
            if key in process:
                yield self._family("gauge", f"process_{name}", f"{what} of this process", (), [((), process[key])])

    def _family(self, kind: str, name: str, text: str, labels: tuple[str, ...], samples: Sequence[_Sample]) -> Any:
        make = self._families.CounterMetricFamily if kind == "counter" else self._families.GaugeMetricFamily
        family = make(f"edgead_{name}", text, labels=labels)
        for values, value in samples:
            family.add_metric(values, value)
        return family

    def _counts(self, stats: Mapping[str, Stats]) -> Iterator[Any]:
        counts = {camera: found.to_json() for camera, found in stats.items()}
        for key, (label, text) in _COUNTERS.items():
            samples: list[_Sample] = [
                ((camera, name), count) for camera, found in counts.items() for name, count in found[key].items()
            ]
            yield self._family("counter", _RENAMED.get(key, key), text, ("camera", label), samples)
        for key, text in _PLAIN.items():
            plain: list[_Sample] = [((camera,), found[key]) for camera, found in counts.items()]
            yield self._family("counter", key, text, ("camera",), plain)
        peaks: list[_Sample] = [
            ((camera, name), most) for camera, found in counts.items() for name, most in found["queue_peaks"].items()
        ]
        yield self._family("gauge", "queue_peak", "Most items that ever waited", ("camera", "queue"), peaks)

    def _stages(self, stats: Mapping[str, Stats]) -> Any:
        text = "Time of each stage of a part; total is from trigger or arrival to verdict"
        family = self._families.HistogramMetricFamily("edgead_stage_seconds", text, labels=("camera", "stage"))
        ends = [*(f"{bound / 1000:g}" for bound in BOUNDS_MS), "+Inf"]
        for camera, found in stats.items():
            for stage, (counts, sum_ms) in found.histograms().items():
                family.add_metric((camera, stage), list(zip(ends, accumulate(counts), strict=True)), sum_ms / 1000)
        return family

    def _latency(self, stats: Mapping[str, Stats]) -> Any:
        """Exact, where the histogram of the stages knows its buckets only."""
        samples: list[_Sample] = [
            ((camera, percentile), latency[name] / 1000)
            for camera, found in stats.items()
            if (latency := found.latency_ms())
            for name, percentile in _PERCENTILES.items()
        ]
        text = "Time from trigger or arrival to verdict, of the last 10,000 parts"
        return self._family("gauge", "recent_verdict_seconds", text, ("camera", "percentile"), samples)

    def _states(self, health: Mapping[str, Health]) -> Iterator[Any]:
        now_ns = self._clock.now_ns()

        def gauge(name: str, text: str, of: Any) -> Any:
            return self._family("gauge", name, text, ("camera",), [((camera,), of(found)) for camera, found in health.items()])

        yield gauge("ready", "1 while the station gives verdicts", lambda h: h.state == "ready")
        yield gauge("camera_ok", "1 while the camera delivers", lambda h: h.camera == "ok")
        yield gauge("open_parts", "Parts whose verdict is owed", lambda h: h.open_parts)
        yield gauge("waiting_parts", "Open parts that the loop has not begun", lambda h: h.waiting_parts)
        answering: list[_Sample] = [
            ((camera, role, one.engine, one.bundle), 1)
            for camera, found in health.items()
            for role, one in found.answering.items()
        ]
        text = "Who answers now: the engine, and the digest of its bundle as edgead inspect shows it"
        yield self._family("gauge", "bundle_info", text, ("camera", "role", "engine", "sha256"), answering)
        running = {camera: found for camera, found in health.items() if found.state != "stopped"}
        ages: list[_Sample] = [((camera,), (now_ns - found.progress_at_ns) / 1e9) for camera, found in running.items()]
        yield self._family("gauge", "progress_age_seconds", "Time since the loop's last turn", ("camera",), ages)
        depths: list[_Sample] = [
            ((camera, queue), depth) for camera, found in health.items() for queue, depth in found.queues.items()
        ]
        yield self._family("gauge", "queue_depth", "Items that wait", ("camera", "queue"), depths)
        counted: list[_Sample] = [
            ((camera, device, what), count)
            for camera, found in health.items()
            for device, counts in found.devices.items()
            for what, count in counts.items()
        ]
        noticed: list[_Sample] = [((camera, what), 1) for camera, found in health.items() for what in found.notices]
        text = "1 while there is something to look at; health tells in words"
        yield self._family("gauge", "notice", text, ("camera", "what"), noticed)
        dead: list[_Sample] = [
            ((camera, name), death.count) for camera, found in health.items() for name, death in found.threads.items()
        ]
        dead += [(("", name), death.count) for name, death in self._crew.deaths().items()]
        text = "Threads that died, also those that work again; camera is empty for those of the whole process"
        yield self._family("counter", "thread_deaths", text, ("camera", "thread"), dead)
        labels = ("camera", "device", "what")
        yield self._family("counter", "device_events", "What cameras and outputs count themselves", labels, counted)

    def _storage(self) -> Iterator[Any]:
        def of(kind: str, name: str, text: str, things: Mapping[str, Any], attribute: str) -> Any:
            return self._family(kind, name, text, ("camera",), [((k,), getattr(v, attribute)) for k, v in things.items()])

        if self._stores:
            yield of("counter", "records_written", "Records on the disk", self._stores, "written")
            yield of("counter", "records_lost", "Records that the disk did not take in time", self._stores, "lost")
            yield of("gauge", "records_waiting", "Records in memory", self._stores, "waiting")
        if self._folders:
            yield of("counter", "pictures_saved", "Parts whose pictures were saved", self._folders, "saved")
            yield of(
                "counter",
                "pictures_lost",
                "Parts whose pictures found no room or no disk",
                self._folders,
                "lost",
            )
            yield of("gauge", "pictures_bytes", "Bytes of all pictures", self._folders, "total_bytes")

    def _box(self, readings: Iterable[Reading]) -> Iterator[Any]:
        readings = list(readings)
        for kind, (name, family, text) in _BOX.items():
            samples: list[_Sample] = [((r.name, r.place), r.value) for r in readings if r.kind == kind]
            if samples:
                yield self._family(family, name, text, ("sensor", "place"), samples)
