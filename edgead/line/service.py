"""All that one process runs on the line: the cameras and parts of a station.yaml, with records, metrics, health and systemd."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edgead import __version__

if TYPE_CHECKING:
    from edgead.clock import Clock
    from edgead.config.camera import CameraConfig
    from edgead.config.station import Process, StationConfig
    from edgead.line.workshop import Cell, Lane, Workshop
    from edgead.runtime.loop.station import Station as Loop
    from edgead.runtime.loop.stats import Health, Stats
    from edgead.runtime.loop.views import Views
    from edgead.runtime.supervision.process import ProcessOptions
    from edgead.runtime.supervision.supervisor import Observed
    from edgead.runtime.threads import Crew, Death
    from edgead.signing import TrustedKey
    from edgead.types import Inspection

_log = logging.getLogger("edgead.run")


class Keeper(Protocol):
    """Where records or pictures go."""

    @property
    def lost(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a camera, or of a part that several look at.

    Attributes:
        name: of it.
        stats: its counters.
        health: how it was in the end, with what its devices counted.
        kept: where its records and pictures went, by "records" and "pictures".
    """

    name: str
    stats: Stats
    health: Health
    kept: Mapping[str, Keeper]


class Station:
    """What `edgead run` runs, for Python: every camera and part of a station file, wired as the command line wires them.

        with Station.from_file("station.yaml") as station:
            station.on_record(print)              # a dict for each verdict (docs/records.md)
            station.on_inspection(show)           # an edgead.types.Inspection, with picture and map
            threading.Timer(60, station.stop).start()
            counters = station.run()              # until stop(), the end of the pictures, or max_parts

    `run` returns when all is told; `stop` may be called by any thread and any signal handler. Logging is left to the program
    (loggers "edgead.*"), signals as well: see :func:`edgead.line.stopping.stopped_by_signals`. What is only not there yet
    (cameras, outputs, addresses to listen on) does not end the start: its lane says so (`health`), and tries again.

    Attributes:
        lanes, cells: the cameras, and the parts that several of them look at.
        crew: all threads.
    """

    def __init__(self, workshop: Workshop, lanes: Sequence[Lane], cells: Sequence[Cell] = (), *, alone: bool = False) -> None:
        self.lanes, self.cells, self.crew = tuple(lanes), tuple(cells), workshop.crew
        self._stack, self._alone = workshop.stack, alone

    @classmethod
    def from_file(cls, path: Path | str) -> Station:
        """What a station.yaml says, opened. The caller closes it.

        Raises:
            EdgeadError: the file is wrong, or a file that it names.
        """
        from edgead.config.reading import read_station

        return cls.of(read_station(Path(path)))

    @classmethod
    def of(cls, config: StationConfig) -> Station:
        """As `from_file`, of a file that was read."""
        from edgead.clock import MonotonicClock
        from edgead.line.links import check_addresses
        from edgead.line.shelf import Shelf
        from edgead.line.workshop import Workshop
        from edgead.runtime.supervision.process import tuned
        from edgead.signing import read_trusted

        check_addresses(config)
        clock, trusted = MonotonicClock(), read_trusted(config.trusted)
        with ExitStack() as stack:
            shelf = Shelf(config.process.threads, keep=config.process.keep_compiled, trusted=trusted)
            workshop = Workshop(stack, clock, shelf, waits=True)
            with workshop.crew.own():
                workshop.on_idle = stack.enter_context(tuned(_process(config.process)))
                lanes, cells = _opened(workshop, config)
                _supervise(config, lanes, cells, clock, stack)
                _show(config, lanes, cells, clock, stack)
            workshop.stack = stack.pop_all()
        return cls(workshop, lanes, cells)

    @classmethod
    def of_bundle(
        cls,
        camera: CameraConfig,
        *,
        threads: int | None = None,
        allow_unverified: bool = False,
        keep: bool = True,
        trusted: tuple[TrustedKey, ...] = (),
    ) -> Station:
        """One camera by itself, which must be there now; see :class:`edgead.line.shelf.Shelf`. Raises EdgeadError."""
        from edgead.clock import MonotonicClock
        from edgead.line.shelf import Shelf
        from edgead.line.workshop import Workshop

        with ExitStack() as stack:
            shelf = Shelf(threads, allow_unverified, keep, trusted)
            workshop = Workshop(stack, MonotonicClock(), shelf)
            lane = workshop.build(camera)
            workshop.stack = stack.pop_all()
        return cls(workshop, [lane], alone=True)

    def on_inspection(self, callback: Callable[[Inspection], None], *, of: str | None = None, capacity: int = 16) -> Station:
        """Call `callback` with each verdict, on a thread of its own for each camera or part.

        Args:
            callback: what it raises is logged and counted.
            of: of this camera or part; None: of every part, and of every camera that does not look at one with others.
            capacity: verdicts that may wait for it; more lose the oldest, which is counted.

        Raises:
            BadInput: there is no camera or part of this name.
        """
        for source in self._sources(of):
            source.on_inspection(callback, capacity=capacity)
        return self

    def on_record(self, callback: Callable[[dict[str, Any]], None], *, of: str | None = None) -> Station:
        """As `on_inspection`, with the verdict's record, which holds no pictures (docs/records.md)."""
        for source in self._sources(of):
            source.on_record(callback)
        return self

    def run(self, max_parts: int | None = None) -> dict[str, Stats]:
        """Inspect until all cameras have ended, `stop` is called, or each has given `max_parts` verdicts.

        Returns:
            The counters, by the name of camera or part.

        Raises:
            EdgeadError: what the first camera that failed raised; the others have been stopped.
        """
        from edgead.runtime.loop.group import StationGroup

        with self.crew.own():
            if self._alone:
                self.lanes[0].station.run(max_parts)
            else:
                StationGroup({lane.name: lane.station for lane in self.lanes}).run(max_parts)
        return {name: one.stats for name, one in self._all().items()}

    def stop(self) -> None:
        """Let `run` return soon; from any thread, and from a signal handler. Before `run`, the next one ends at once."""
        for lane in self.lanes:
            lane.station.stop()

    def health(self) -> dict[str, Health]:
        """How each camera and part is doing; cheap, from any thread."""
        return {name: one.health() for name, one in self._all().items()}

    def outcomes(self) -> list[Outcome]:
        """What came of each part and camera; whole when the station is closed."""
        found = [Outcome(cell.name, cell.views.stats, cell.views.health(), _there(records=cell.store)) for cell in self.cells]
        for lane in self.lanes:
            kept = _there(records=lane.store, pictures=lane.pictures)
            found.append(Outcome(lane.name, lane.station.stats, lane.station.health(), kept))
        return found

    def close(self) -> None:
        """Close cameras, engines, outputs and stores; may be called twice, not while `run` runs."""
        self._stack.close()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _all(self) -> dict[str, Loop | Views]:
        return {cell.name: cell.views for cell in self.cells} | {lane.name: lane.station for lane in self.lanes}

    def _sources(self, name: str | None) -> list[Loop | Views]:
        from edgead.errors import BadInput

        known = self._all()
        if name is None:
            seated = {camera for cell in self.cells for camera in cell.cameras}
            return [source for own, source in known.items() if own not in seated]
        if name not in known:
            raise BadInput(f"there is no camera or part {name}", hint=f"there are: {', '.join(known)}")
        return [known[name]]


def exit_code(crew: Crew, keepers: Sequence[Keeper]) -> int:
    """What the process ends with after a run: 7 when a record was lost, else that of a thread that died (6 of a camera, an output
    or a link, 7 of a store), else 0."""
    from edgead.errors import StorageError

    if any(keeper.lost for keeper in keepers):
        return StorageError.exit_code
    return max((death.exit_code for _, death in deaths(crew)), default=0)


def deaths(crew: Crew) -> list[tuple[str, Death]]:
    """The threads that died, by name, also those that worked again."""
    return [(f"{found.name}, {name}" if found.name else name, d) for found in crew.crews() for name, d in found.deaths().items()]


def _opened(workshop: Workshop, config: StationConfig) -> tuple[list[Lane], list[Cell]]:
    ready = {camera.name: workshop.prepare(camera) for camera in config.cameras}
    workshop.open_cameras(config.cameras, ready)
    cells = [workshop.cell(part, config.storage) for part in config.parts]
    seats = {name: cell for part, cell in zip(config.parts, cells, strict=True) for name in part.cameras}
    lanes = [workshop.build(c, config.storage, cell=seats.get(c.name), ready=ready[c.name]) for c in config.cameras]
    told = "; ".join(
        f"{lane.name} with {lane.bundle.manifest.name} ({lane.record.name}), {lane.rule.describe()}" for lane in lanes
    )
    _log.info("edgead %s runs %s: %s", __version__, config.name, told)
    return lanes, cells


def _described(lane: Lane) -> str:
    return f"{lane.name} with {lane.bundle.manifest.name} ({lane.record.name}), {lane.rule.describe()}"


def _process(config: Process) -> ProcessOptions:
    from edgead.runtime.supervision.process import ProcessOptions

    return ProcessOptions(
        cpus=config.cpus or (),
        realtime_priority=config.realtime_priority,
        lock_memory=config.lock_memory,
        collect_between_parts=config.collect_garbage_when_idle,
    )


def _supervise(config: StationConfig, lanes: list[Lane], cells: list[Cell], clock: Clock, stack: ExitStack) -> None:
    from edgead.runtime.supervision.supervisor import Notifier, Supervisor

    stations: dict[str, Observed] = {lane.name: lane.station for lane in lanes}
    stations |= {cell.name: cell.views for cell in cells}
    stalled_after_s = config.supervision.stalled_after_ms / 1000
    supervisor = Supervisor(stations, stalled_after_s=stalled_after_s, notifier=Notifier(os.environ), clock=clock)
    stack.enter_context(supervisor)
    if config.supervision.http is None:
        return
    from edgead.runtime.supervision.health import HealthServer
    from edgead.runtime.supervision.metrics import Metrics

    kept = {lane.name: lane.store for lane in lanes} | {cell.name: cell.store for cell in cells}
    metrics = Metrics(
        stations,
        stores={name: store for name, store in kept.items() if store is not None},
        folders={lane.name: lane.pictures for lane in lanes if lane.pictures is not None},
        clock=clock,
    )
    host, _, port = config.supervision.http.rpartition(":")
    stack.enter_context(HealthServer(supervisor.report, metrics=metrics.render, host=host, port=int(port)))


def _show(config: StationConfig, lanes: list[Lane], cells: list[Cell], clock: Clock, stack: ExitStack) -> None:
    """Tell the dashboard, where one is wanted."""
    if config.supervision.live is None:
        return
    from edgead.line.showing import watched_cell, watched_lane
    from edgead.runtime.supervision.live import LiveFeed

    cameras = {camera.name: camera for camera in config.cameras}
    watched = [watched_cell(cell, config.storage) for cell in cells]
    watched += [watched_lane(lane, cameras[lane.name], config.storage) for lane in lanes]
    stack.enter_context(LiveFeed(config.supervision.live, config.name, watched, clock))


def _there(**keepers: Keeper | None) -> dict[str, Keeper]:
    return {name: keeper for name, keeper in keepers.items() if keeper is not None}
