"""`edgead run station.yaml`: all its cameras in one process, with records, metrics, health and systemd."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead import __version__

if TYPE_CHECKING:
    from edgead.cli.run import Stopper
    from edgead.clock import Clock
    from edgead.config import Process, StationConfig
    from edgead.line.workshop import Cell, Lane
    from edgead.runtime.loop.stats import Health, Stats
    from edgead.runtime.supervision.process import ProcessOptions
    from edgead.runtime.supervision.supervisor import Observed

_log = logging.getLogger("edgead.run")


def run_file(file: Path, max_parts: int | None, stopper: Stopper) -> int:
    """Run what a station.yaml says until it is stopped; returns :func:`edgead.cli.run.exit_code`.

    Raises:
        EdgeadError: the file is wrong, or a file that it names. What is only not there yet (cameras, outputs, addresses to listen
            on) does not end the start: its lane says so, and tries again.
    """
    from edgead.cli.run import deaths, exit_code, summary
    from edgead.clock import MonotonicClock
    from edgead.config import read_station
    from edgead.line.links import check_addresses
    from edgead.line.workshop import Workshop
    from edgead.runtime.loop.group import StationGroup
    from edgead.runtime.outlet import say
    from edgead.runtime.supervision.logs import logging_to
    from edgead.runtime.supervision.process import tuned
    from edgead.runtime.threads import Crew
    from edgead.signing import read_trusted

    config = read_station(file)
    check_addresses(config)
    clock, trusted = MonotonicClock(), read_trusted(config.trusted)
    with ExitStack() as stack:
        crew = stack.enter_context(Crew().own())
        watch = config.supervision
        form: Literal["auto", "json"] = "auto" if watch.log == "text" else "json"
        stack.enter_context(logging_to(sys.stderr, level=watch.level, form=form, secrets=config.secrets))
        on_idle = stack.enter_context(tuned(_process(config.process)))
        keep = config.process.keep_compiled
        workshop = Workshop(stack, clock, config.process.threads, on_idle, keep=keep, waits=True, trusted=trusted, crew=crew)
        ready = {camera.name: workshop.prepare(camera) for camera in config.cameras}
        workshop.open_cameras(config.cameras, ready)
        cells = [workshop.cell(part, config.storage) for part in config.parts]
        seats = {name: cell for part, cell in zip(config.parts, cells, strict=True) for name in part.cameras}
        lanes = [workshop.build(c, config.storage, cell=seats.get(c.name), ready=ready[c.name]) for c in config.cameras]
        group = StationGroup({lane.name: lane.station for lane in lanes})
        _supervise(config, lanes, cells, clock, stack)
        stopper.attach(group)
        _log.info("edgead %s runs %s: %s", __version__, config.name, "; ".join(_described(lane) for lane in lanes))
        found = group.run(max_parts)
    told: list[tuple[str, Stats, dict[str, Any], Health]] = [
        (cell.name, cell.views.stats, {"records": cell.store}, cell.views.health()) for cell in cells
    ]
    for lane in lanes:
        kept = {"records": lane.store, "pictures": lane.pictures}
        told.append((lane.name, found[lane.name], kept, lane.station.health()))
    texts = [f"{name}: {summary(stats, kept, health.devices)}" for name, stats, kept, health in told]
    say("\n".join((*texts, *deaths(crew))), sys.stderr)
    stores = [cell.store for cell in cells] + [lane.store for lane in lanes]
    return exit_code(crew, [store for store in stores if store is not None])


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


def _described(lane: Lane) -> str:
    return f"{lane.name} with {lane.bundle.manifest.name} ({lane.record.name}), {lane.rule.describe()}"
