"""From the configuration of a camera to its running station: the one place where `edgead run` wires the rooms together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.clock import Clock
    from edgead.config import CameraConfig, Plc, Storage
    from edgead.config import GpioOutput as GpioConfig
    from edgead.config import GpioTrigger as GpioTriggerConfig
    from edgead.config import Output as OutputConfig
    from edgead.decision import Rule
    from edgead.runtime.examiner import Answerer
    from edgead.runtime.overlay import HeatScale
    from edgead.runtime.pictures import PictureFolder
    from edgead.runtime.plc import PlcDevice
    from edgead.runtime.station import Station
    from edgead.runtime.store import RecordStore
    from edgead.types import Camera, Engine, Output, TriggerSource

GPIO_LINES = ("ok", "reject", "kick", "ready", "busy", "heartbeat", "green", "yellow", "red")


@dataclass(slots=True)
class Lane:
    """A camera with all that belongs to it."""

    name: str
    station: Station
    bundle: Bundle
    record: EngineRecord
    rule: Rule
    scale: HeatScale
    store: RecordStore | None = None
    pictures: PictureFolder | None = None


@dataclass(slots=True)
class Loaded:
    """A bundle with one of its engines, proved on this device."""

    bundle: Bundle
    record: EngineRecord
    engine: Engine
    calm: float


@dataclass(slots=True)
class Workshop:
    """What all cameras of a process share.

    Attributes:
        stack: closes engines, cameras, stores and outputs at the end, in the right order.
        clock: of cameras, triggers and stations.
        threads: CPU threads of each engine; None: all cores.
        on_idle: for the stations.
        allow_unverified: run engines whose parity was never measured.
    """

    stack: ExitStack
    clock: Clock
    threads: int | None = None
    on_idle: Callable[[], None] | None = None
    allow_unverified: bool = False
    _engines: dict[tuple[Path, str | None], Loaded] = field(default_factory=dict)

    def load(self, path: Path, engine: str | None) -> Loaded:
        """Open a bundle and its engine once, however many cameras use it.

        Raises:
            EdgeadError: it does not open, or does not answer here as the trained model did.
        """
        from edgead.bundle import Bundle
        from edgead.cli._proof import prove
        from edgead.engines import open_engine
        from edgead.runtime.group import SharedEngine

        key = (path.resolve(), engine)
        if key not in self._engines:
            bundle = Bundle.open(path)
            opened = open_engine(bundle, engine, self.threads, unverified=self.allow_unverified)
            self.stack.callback(opened.close)
            record = bundle.manifest.engine(engine)
            calm = prove(bundle, record, opened)
            self._engines[key] = Loaded(bundle, record, SharedEngine(opened), calm)
        return self._engines[key]

    def build(self, camera: CameraConfig, storage: Storage | None = None, extra: tuple[Output, ...] = ()) -> Lane:
        """The station of one camera, with `extra` outputs; nothing runs yet.

        Raises:
            EdgeadError: whatever cannot be opened, in one line.
        """
        from edgead.runtime.cameras import open_camera
        from edgead.runtime.overlay import HeatScale

        main = self.load(camera.bundle, camera.engine)
        rule = _rule(main.record, camera.threshold)
        fallback = self._fallback(camera)

        def reopen() -> Camera:
            return open_camera(camera.address, clock=self.clock, realtime=camera.realtime)

        with ExitStack() as unfinished:  # what is opened here belongs to the station once there is one
            store = self._store(camera, storage)
            triggers, outputs = self._devices(camera, store, unfinished)
            opened = reopen()
            unfinished.callback(opened.close)
            station = self._station(camera, opened, reopen, main, rule, fallback, triggers, (*outputs, *extra), store)
            unfinished.pop_all()
        self.stack.callback(station.close)
        lane = Lane(camera.name, station, main.bundle, main.record, rule, HeatScale(main.calm, rule.level), store)
        _keep(lane, camera, storage)
        return lane

    def _station(
        self,
        camera: CameraConfig,
        opened: Camera,
        reopen: Callable[[], Camera],
        main: Loaded,
        rule: Rule,
        fallback: Answerer | None,
        triggers: TriggerSource | None,
        outputs: tuple[Output, ...],
        store: RecordStore | None,
    ) -> Station:
        from edgead.budget import LatencyBudget
        from edgead.runtime.station import Station

        limits = {name: value for name, value in camera.stage_budget_ms if value is not None}
        return Station(
            opened,
            main.engine,
            main.bundle.manifest.preprocess,
            rule,
            LatencyBudget(camera.budget_ms),
            outputs,
            self.clock,
            reopen=reopen,
            frame_timeout_s=camera.frame_timeout_ms / 1000,
            max_age_s=camera.max_age_ms / 1000,
            engine_name=main.record.name,
            triggers=triggers,
            trigger_delay_s=camera.trigger_delay_ms / 1000,
            frame_window_s=None if camera.frame_window_ms is None else camera.frame_window_ms / 1000,
            max_waiting=camera.max_waiting,
            frames_per_part=camera.frames_per_part,
            combine=camera.combine,
            settle_frames=camera.settle_frames,
            hysteresis=camera.hysteresis,
            frozen_after=camera.frozen_after,
            stage_limits_ms=limits,
            on_late=camera.on_late,
            fallback=fallback,
            first_part_id=1 if store is None else store.last_part_id() + 1,
            on_idle=self.on_idle,
        )

    def _fallback(self, camera: CameraConfig) -> Answerer | None:
        from edgead.runtime.examiner import Answerer

        if camera.fallback_bundle is None and camera.fallback_engine is None:
            return None
        found = self.load(camera.fallback_bundle or camera.bundle, camera.fallback_engine)
        return Answerer(found.engine, found.bundle.manifest.preprocess, found.record.threshold.rule, found.record.name)

    def _store(self, camera: CameraConfig, storage: Storage | None) -> RecordStore | None:
        from edgead.runtime.store import RecordStore

        if storage is None:
            return None
        limits = storage.records
        folder = storage.folder / camera.name
        store = RecordStore(folder, station=camera.name, max_rows=limits.max_rows, max_days=limits.max_days)
        self.stack.callback(store.close)
        return store

    def _devices(
        self, camera: CameraConfig, store: RecordStore | None, stack: ExitStack
    ) -> tuple[TriggerSource | None, list[Output]]:
        """The trigger source, and the outputs; both may be one PLC."""
        plc = None
        if camera.plc is not None:
            plc = _plc(camera.plc, camera.budget_ms, self.clock, store)
            stack.callback(plc.close)
        outputs: list[Output] = [] if plc is None else [plc]
        for config in camera.outputs:
            output = _output(config, self.clock)
            stack.callback(output.close)
            outputs.append(output)
        return _triggers(camera, plc, self.clock, stack), outputs


def _rule(record: EngineRecord, threshold: float | None) -> Rule:
    from edgead.decision import Rule

    return record.threshold.rule if threshold is None else Rule(threshold)


def _triggers(camera: CameraConfig, plc: PlcDevice | None, clock: Clock, stack: ExitStack) -> TriggerSource | None:
    from edgead.config import GpioTrigger, IntervalTrigger
    from edgead.runtime import triggers

    config = camera.trigger
    if config.source == "free":
        return None
    if config.source == "plc":
        return plc
    source: TriggerSource
    if isinstance(config, IntervalTrigger):
        source = triggers.IntervalTrigger(config.every_ms / 1000, clock)
    elif isinstance(config, GpioTrigger):
        source = _gpio_trigger(config)
    else:
        source = triggers.CameraTrigger()
    stack.callback(source.close)
    return source


def _keep(lane: Lane, camera: CameraConfig, storage: Storage | None) -> None:
    """Records and pictures, as far as they are wanted."""
    from edgead.runtime.pictures import PictureFolder

    if storage is None or lane.store is None:
        return
    lane.station.on_record(lane.store.write)
    if storage.pictures is None:
        return
    limits = storage.pictures
    lane.pictures = PictureFolder(
        storage.folder / camera.name / "pictures",
        lane.scale,
        lane.bundle.manifest.preprocess.roi,
        max_mb=limits.max_mb,
        max_days=limits.max_days,
        min_free_mb=limits.min_free_mb,
        ok_every=limits.ok_every or 0,
        on_saved=lane.store.attach,
    )
    lane.station.on_inspection(lane.pictures.save)


def _plc(config: Plc, budget_ms: float | None, clock: Clock, store: RecordStore | None) -> PlcDevice:
    from edgead.config import ModbusClient
    from edgead.runtime.handshake import Timing
    from edgead.runtime.outputs.modbus import ModbusClientLink, ModbusServerLink
    from edgead.runtime.plc import PlcDevice, PlcLink

    link: PlcLink
    if isinstance(config, ModbusClient):
        link = ModbusClientLink(
            config.host,
            config.port,
            config.unit,
            to_plc_address=config.to_plc_address,
            from_plc_address=config.from_plc_address,
            word_order=config.word_order,
            timeout_s=config.timeout_ms / 1000,
            combined=config.combined,
        )
    else:
        link = ModbusServerLink(
            config.bind,
            config.port,
            config.unit,
            to_plc_address=config.to_plc_address,
            from_plc_address=config.from_plc_address,
            word_order=config.word_order,
            silent_s=config.silent_ms / 1000,
        )
    return PlcDevice(
        link,
        clock,
        config.cycle_ms / 1000,
        timing=Timing(answer_timeout_s=max(2.0, 2 * (budget_ms or 0.0) / 1000)),
        heartbeat_timeout_s=config.heartbeat_timeout_ms / 1000,
        on_taken=store.acknowledge if store is not None else lambda part_id: None,
    )


def _output(config: OutputConfig, clock: Clock) -> Output:
    from edgead import config as models
    from edgead.registry import resolve
    from edgead.runtime.outputs.command import CommandOutput
    from edgead.runtime.outputs.log import LogOutput

    if isinstance(config, models.LogOutput):
        return LogOutput(sys.stdout)
    if isinstance(config, models.CommandOutput):
        return CommandOutput(config.on_ng)
    if isinstance(config, models.GpioOutput):
        return _gpio_output(config, clock)
    made: Output = resolve("output", config.name)(**config.options)
    return made


def _gpio_output(config: GpioConfig, clock: Clock) -> Output:
    from edgead.runtime.gate import GateOutput
    from edgead.runtime.outputs.gpio import GpioOutput

    lines = {name: getattr(config, name) for name in GPIO_LINES}
    output = GpioOutput(config.chip, **lines, active_low=config.active_low, pulse_s=config.pulse_ms / 1000, clock=clock)
    if config.gate_delay_ms is None:
        return output
    return GateOutput(output, delay_s=config.gate_delay_ms / 1000, slack_s=config.gate_slack_ms / 1000, clock=clock)


def _gpio_trigger(config: GpioTriggerConfig) -> TriggerSource:
    from edgead.runtime.outputs.gpio import GpioTrigger

    return GpioTrigger(config.chip, config.line, active=config.active, debounce_s=config.debounce_ms / 1000)
