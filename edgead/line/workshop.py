"""From the configuration of a camera to its running station: the one place where `edgead run` wires the rooms together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.clock import Clock
    from edgead.config import CameraConfig, PartConfig, Plc, Storage
    from edgead.config import GpioTrigger as GpioTriggerConfig
    from edgead.decision import Rule
    from edgead.preprocess import PreprocessRecipe
    from edgead.runtime.cameras.absent import Opening
    from edgead.runtime.later import Later
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.loop.station import Station
    from edgead.runtime.loop.views import Fanout, Views
    from edgead.runtime.plc.device import PlcDevice
    from edgead.runtime.products.drift import Usual
    from edgead.runtime.products.recipes import Product, RecipeBook
    from edgead.runtime.records.overlay import HeatScale
    from edgead.runtime.records.pictures import PictureFolder
    from edgead.runtime.records.store import RecordStore
    from edgead.runtime.threads import Crew
    from edgead.runtime.vision.server import OpcUaServer
    from edgead.signing import TrustedKey
    from edgead.types import Camera, Engine, Output, TriggerSource

OPEN_S = 5.0
"""How long a start waits for an output, a trigger line or a server to open; what takes longer is used once it is there."""

_log = logging.getLogger("edgead.run")


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
    recipes: RecipeBook | None = None


@dataclass(slots=True)
class Loaded:
    """A bundle with one of its engines, proved on this device; `users` hold it."""

    bundle: Bundle
    record: EngineRecord
    engine: Engine
    calm: float
    users: int = 0


@dataclass(slots=True)
class Faces:
    """What pictures of each product look like, by the name of the engine that answers."""

    looks: dict[str, tuple[HeatScale, PreprocessRecipe]] = field(default_factory=dict)
    usual: dict[str, Usual] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a lane needs that comes out of bundles."""

    faces: Faces
    main: Loaded
    product: Product


class Watched(Protocol):
    """Something that may not be there yet, and says so."""

    def watch(self, tell: Callable[[str, str], None]) -> None: ...


@dataclass(slots=True)
class Cell:
    """A part that several cameras look at."""

    name: str
    cameras: tuple[str, ...]
    views: Views
    fanout: Fanout
    budget_ms: float
    store: RecordStore | None = None


def _crew() -> Crew:
    from edgead.runtime.threads import Crew

    return Crew()


@dataclass(slots=True)
class Workshop:
    """What all cameras of a process share.

    Attributes:
        stack: closes engines, cameras, stores and outputs at the end, in the right order.
        clock: of cameras, triggers and stations.
        threads: CPU threads of each engine; None: all cores.
        on_idle: for the stations.
        allow_unverified: run engines whose parity was never measured.
        keep: keep compiled engines in the user's cache from one start to the next.
        waits: a camera, an output or an address that is not there yet does not end the start: it is tried again and again.
        trusted: one of these keys must have signed each bundle; empty: bundles need no signature.
        crew: the threads of the process; each camera and each part gets a branch of its own.
    """

    stack: ExitStack
    clock: Clock
    threads: int | None = None
    on_idle: Callable[[], None] | None = None
    allow_unverified: bool = False
    keep: bool = True
    waits: bool = False
    trusted: tuple[TrustedKey, ...] = ()
    crew: Crew = field(default_factory=_crew)
    _crews: dict[str, Crew] = field(default_factory=dict)
    _late: list[Watched] = field(default_factory=list)
    _openings: dict[str, Opening] = field(default_factory=dict)
    _until_ns: int = 0
    _engines: dict[tuple[Path, str, str], Loaded] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, path: Path, engine: str | None, sha256: str | None = None) -> Loaded:
        """Open a bundle and its engine once, however many cameras use it; each gives it back by `release`. From any thread.

        Args:
            sha256: the digest that the bundle must have; None: any.

        Raises:
            EdgeadError: it does not open, is not the one that is wanted, or does not answer here as the trained model did.
        """
        from edgead.bundle import Bundle

        with self._lock:
            bundle = Bundle.open(path, sha256, self.trusted)
            record = bundle.manifest.engine(engine)
            key = (path.resolve(), record.name, bundle.digest)
            if key not in self._engines:
                self._engines[key] = self._open(bundle, record)
            self._engines[key].users += 1
            return self._engines[key]

    def release(self, loaded: Loaded) -> None:
        """The last one closes the engine."""
        with self._lock:
            loaded.users -= 1
            if loaded.users == 0:
                self._engines = {key: kept for key, kept in self._engines.items() if kept is not loaded}
                loaded.engine.close()

    def _open(self, bundle: Bundle, record: EngineRecord) -> Loaded:
        from edgead.engines import open_engine
        from edgead.line.proof import prove
        from edgead.runtime.loop.group import SharedEngine

        opened = open_engine(bundle, record.name, self.threads, unverified=self.allow_unverified, keep=self.keep)
        try:
            return Loaded(bundle, record, SharedEngine(opened), prove(bundle, record, opened))
        except BaseException:
            opened.close()
            raise

    def cell(self, part: PartConfig, storage: Storage | None) -> Cell:
        """The outputs and triggers of a part, which its cameras' stations share; the outputs work from now on.

        Raises:
            EdgeadError: whatever cannot be opened, in one line.
        """
        with self.crew.branch(part.name).own():
            return self._cell(part, storage)

    def _cell(self, part: PartConfig, storage: Storage | None) -> Cell:
        from edgead.budget import LatencyBudget
        from edgead.runtime.loop.views import Fanout, Views

        store = self._store(part, storage)
        self._late = []
        with ExitStack() as unfinished:
            triggers, outputs = self._devices(part, store, unfinished)
            assert triggers is not None  # the configuration has one
            first = 1 if store is None else store.last_part_id() + 1
            budget = LatencyBudget(part.budget_ms)
            views = Views(part.cameras, budget, outputs, self.clock, combine=part.combine, first_part_id=first)
            unfinished.pop_all()
        for late in self._late:
            late.watch(views.missing)
        fanout = Fanout(triggers, part.cameras)
        self.stack.callback(fanout.close)
        if store is not None:
            views.on_record(store.write, first=storage is not None and storage.records.first)
        return Cell(part.name, part.cameras, self.stack.enter_context(views), fanout, part.budget_ms, store)

    def prepare(self, camera: CameraConfig) -> Prepared:
        """Engines and rule of a camera, before anything is opened that belongs to the line. Raises EdgeadError."""
        faces = Faces()
        with self._own(camera.name):
            main, product = self._product(camera, _first_recipe(camera), faces)
        self.stack.callback(product.close)  # again after the recipes' own book, which does not matter
        return Prepared(faces, main, product)

    def open_cameras(self, cameras: Sequence[CameraConfig], ready: Mapping[str, Prepared]) -> None:
        """Begin to open them all at once; `build` takes each one up, or does without it for now."""
        from edgead.runtime.cameras.absent import START_S, Opening

        self._until_ns = self.clock.now_ns() + round(START_S * 1e9)
        for camera in cameras:
            opening = self._openings[camera.name] = Opening(camera.name, _opener(camera, self.clock, ready[camera.name]))
            with self._own(camera.name):
                opening.begin()
            self.stack.callback(opening.let_go)

    def build(
        self,
        camera: CameraConfig,
        storage: Storage | None = None,
        extra: tuple[Output, ...] = (),
        cell: Cell | None = None,
        ready: Prepared | None = None,
    ) -> Lane:
        """The station of one camera, with `extra` outputs; `cell` when it is one of several on a part. Nothing runs yet.

        Raises:
            EdgeadError: whatever cannot be opened, in one line.
        """
        with self._own(camera.name):
            return self._build(camera, storage, extra, cell, ready or self.prepare(camera))

    def _own(self, name: str) -> AbstractContextManager[Crew]:
        """The crew of a camera, to which all threads belong that are made for it."""
        if name not in self._crews:
            self._crews[name] = self.crew.branch(name)
        return self._crews[name].own()

    def _build(
        self, camera: CameraConfig, storage: Storage | None, extra: tuple[Output, ...], cell: Cell | None, ready: Prepared
    ) -> Lane:
        from edgead.runtime.records.overlay import HeatScale

        main, product, rule = ready.main, ready.product, _rule(ready.main.record, camera.threshold)
        opening = self._openings.get(camera.name)
        reopen = opening or _opener(camera, self.clock, ready)
        self._late = []
        with ExitStack() as unfinished:  # what is opened here belongs to the station once there is one
            store = self._store(camera, storage)
            triggers, outputs = self._devices(camera, store, unfinished)
            if cell is not None:
                triggers, extra = cell.fanout.of(camera.name), (*extra, cell.views.output(camera.name))
                camera = camera.model_copy(update={"budget_ms": cell.budget_ms})
            opened = opening.first((self._until_ns - self.clock.now_ns()) / 1e9) if opening is not None else reopen()
            unfinished.callback(opened.close)
            _check_age(camera, opened)
            station = self._station(camera, opened, reopen, product, triggers, (*outputs, *extra), store)
            unfinished.pop_all()
        self.stack.callback(station.close)
        for late in self._late:
            late.watch(station.missing)
        lane = Lane(camera.name, station, main.bundle, main.record, rule, HeatScale(main.calm, rule.level), store)
        _keep(lane, camera, storage, ready.faces)
        _watch(lane, camera, ready.faces)
        if camera.recipes:
            lane.recipes = self._recipes(camera, station, product, outputs, ready.faces)
        return lane

    def _product(self, camera: CameraConfig, number: int, faces: Faces) -> tuple[Loaded, Product]:
        """Engines, rule and self-check of one recipe of a camera; number 0 is its only bundle. Raises EdgeadError."""
        from edgead.engines.verify import trained_threshold
        from edgead.line.proof import check_reach
        from edgead.runtime.loop.examiner import Answerer
        from edgead.runtime.loop.selfcheck import SelfCheck
        from edgead.runtime.products.drift import TrainedLight, Usual
        from edgead.runtime.products.recipes import Product
        from edgead.runtime.records.overlay import HeatScale

        path, sha256 = _wanted(camera, number)
        with ExitStack() as held:
            main = self.load(path, camera.engine, sha256)
            held.callback(self.release, main)
            bundle, record, recipe = main.bundle, main.record, main.bundle.manifest.preprocess
            rule, golden = _rule(record, camera.threshold), bundle.golden()
            check_reach(bundle, record, rule, golden, _log.warning)
            name = f"{path.stem}/{record.name}" if number else record.name
            fallback = self._fallback(camera, path, held)
            check = None
            if camera.selfcheck is not None:
                check = SelfCheck.of_bundle(bundle, record, main.engine, every_s=camera.selfcheck.every_s, clock=self.clock)
            if camera.drift is not None:
                light = TrainedLight.of(bundle.manifest.measured.training)
                faces.usual[name] = Usual(golden, recipe, rule, trained_threshold(bundle), light)
            faces.looks[name] = (HeatScale(main.calm, rule.level), recipe)
            return main, Product(number, Answerer(main.engine, recipe, rule, name), fallback, check, held.pop_all().close)

    def _recipes(
        self, camera: CameraConfig, station: Station, running: Product, outputs: list[Output], faces: Faces
    ) -> RecipeBook:
        from edgead.runtime.plc.device import PlcDevice
        from edgead.runtime.products.recipes import RecipeBook
        from edgead.runtime.vision.server import OpcUaServer

        book = RecipeBook(
            station,
            lambda number: self._another(camera, number, running, faces),
            camera.recipes,
            running,
            plc=next((output for output in outputs if isinstance(output, (PlcDevice, OpcUaServer))), None),
            file=camera.recipe_file,
        )
        return self.stack.enter_context(book)

    def _another(self, camera: CameraConfig, number: int, running: Product, faces: Faces) -> Product:
        """A product to change to; it must take pictures of the depth that the camera was opened for. Raises EdgeadError."""
        from edgead.errors import BadInput
        from edgead.runtime.cameras import gives_files

        product = self._product(camera, number, faces)[1]
        here, there = running.main.recipe.bits, product.main.recipe.bits
        if here != there and gives_files(camera.address):
            product.close()
            raise BadInput(
                f"recipe {number} takes 16-bit pictures as {there} bits, the camera was opened for {here}",
                hint="train both models with the same --bits",
            )
        return product

    def _station(
        self,
        camera: CameraConfig,
        opened: Camera,
        reopen: Callable[[], Camera],
        product: Product,
        triggers: TriggerSource | None,
        outputs: tuple[Output, ...],
        store: RecordStore | None,
    ) -> Station:
        from edgead.budget import LatencyBudget
        from edgead.runtime.loop.station import Station

        limits = {name: value for name, value in camera.stage_budget_ms if value is not None}
        return Station(
            opened,
            product.main.engine,
            product.main.recipe,
            product.main.rule,
            LatencyBudget(camera.budget_ms),
            outputs,
            self.clock,
            reopen=reopen,
            frame_timeout_s=camera.frame_timeout_ms / 1000,
            max_age_s=1.0 if camera.max_age_ms is None else camera.max_age_ms / 1000,
            engine_name=product.main.name,
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
            fallback=product.fallback,
            first_part_id=1 if store is None else store.last_part_id() + 1,
            on_idle=self.on_idle,
            check=product.check,
        )

    def _fallback(self, camera: CameraConfig, path: Path, held: ExitStack) -> Answerer | None:
        from edgead.line.proof import check_reach
        from edgead.runtime.loop.examiner import Answerer

        if camera.fallback_bundle is None and camera.fallback_engine is None:
            return None
        found = self.load(camera.fallback_bundle or path, camera.fallback_engine, camera.fallback_sha256)
        held.callback(self.release, found)
        check_reach(found.bundle, found.record, found.record.threshold.rule, found.bundle.golden(), _log.warning)
        return Answerer(found.engine, found.bundle.manifest.preprocess, found.record.threshold.rule, found.record.name)

    def _store(self, camera: CameraConfig | PartConfig, storage: Storage | None) -> RecordStore | None:
        from edgead.runtime.records.store import RecordStore

        if storage is None:
            return None
        limits = storage.records
        folder = storage.folder / camera.name
        store = RecordStore(
            folder,
            station=camera.name,
            max_rows=limits.max_rows,
            max_days=limits.max_days,
            commit_every_s=0.0 if limits.first else 0.5,
        )
        self.stack.callback(store.close)
        return store

    def _devices(
        self, camera: CameraConfig | PartConfig, store: RecordStore | None, stack: ExitStack
    ) -> tuple[TriggerSource | None, list[Output]]:
        """The trigger source, and the outputs; both may be one PLC."""
        from edgead.line.links import open_output

        plc = None
        if camera.plc is not None:
            plc = self._plc(camera.plc, camera, store)
            stack.callback(plc.close)
        outputs: list[Output] = [] if plc is None else [plc]
        for config in camera.outputs:
            named = config.name if config.type == "other" else config.type
            output = self._output(f"output {named}", partial(open_output, config, self.clock, camera.name))
            stack.callback(output.close)
            outputs.append(output)
        triggers = self._triggers(camera, plc)
        if triggers is not None and triggers is not plc:
            stack.callback(triggers.close)
        return triggers, outputs

    def _output(self, what: str, open: Callable[[], Output]) -> Output:
        from edgead.runtime.later import LateOutput

        made, later = self._now_or_later(what, open)
        return LateOutput(later) if later is not None else made

    def _triggers(self, camera: CameraConfig | PartConfig, plc: PlcDevice | OpcUaServer | None) -> TriggerSource | None:
        from edgead.runtime.later import LateTriggers
        from edgead.runtime.loop import triggers

        config = camera.trigger
        if config.source == "free":
            return None
        if config.source == "plc":
            return plc
        if config.source == "interval":
            return triggers.IntervalTrigger(config.every_ms / 1000, self.clock)
        if config.source == "gpio":
            made, later = self._now_or_later("trigger gpio", partial(_gpio_trigger, config))
            return LateTriggers(later, self.clock) if later is not None else made
        return triggers.CameraTrigger()

    def _plc(self, config: Plc, camera: CameraConfig | PartConfig, store: RecordStore | None) -> PlcDevice | OpcUaServer:
        from edgead.config import OpcUaServer as OpcUaServerConfig
        from edgead.line.links import answer_timeout_s, open_link, open_vision
        from edgead.runtime.later import LateLink
        from edgead.runtime.plc.device import PlcDevice
        from edgead.runtime.plc.handshake import Timing

        if isinstance(config, OpcUaServerConfig):
            vision = open_vision(config, camera, self.clock)
            self._late.append(vision)
            return vision
        made, later = self._now_or_later(f"plc {config.type}", partial(open_link, config))
        return PlcDevice(
            LateLink(later) if later is not None else made,
            self.clock,
            config.cycle_ms / 1000,
            timing=Timing(answer_timeout_s=answer_timeout_s(camera.budget_ms)),
            heartbeat_timeout_s=config.heartbeat_timeout_ms / 1000,
            on_taken=store.acknowledge if store is not None else lambda part_id: None,
        )

    def _now_or_later(self, what: str, open: Callable[[], Any]) -> tuple[Any, Later[Any] | None]:
        """It, or what goes on trying to open it. Raises EdgeadError: it is wrong, or absent and not waited for."""
        from edgead.errors import EdgeadError, OutputError
        from edgead.runtime.later import Later, absent
        from edgead.runtime.opening import Attempts

        attempts = Attempts(what, open, OutputError)
        try:
            return attempts.take(OPEN_S) if self.waits else open(), None
        except OutputError as error:
            fault, cause = error, error.__cause__
        except (EdgeadError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a bug or a panic of somebody else's adapter costs that output, not all lanes
            fault, cause = absent(what, error), error
        if not self.waits:
            raise fault from cause
        later = Later(what, attempts, fault, self.clock)
        self._late.append(later)
        return None, later


def _check_age(camera: CameraConfig, opened: Camera) -> None:
    """Raises BadInput: a limit was given that a recording cannot break."""
    from edgead.errors import BadInput

    if camera.max_age_ms is not None and not getattr(opened, "live", True):
        raise BadInput(
            "max_age_ms (--max-age-ms) is for live cameras: a recording's pictures have no age, and none is dropped",
            hint="leave it out, or play a video file with realtime",
        )


def _opener(camera: CameraConfig, clock: Clock, ready: Prepared) -> Callable[[], Camera]:
    from edgead.runtime.cameras import open_camera

    bits = ready.main.bundle.manifest.preprocess.bits
    return partial(open_camera, camera.address, clock=clock, realtime=camera.realtime, bits=bits)


def _wanted(camera: CameraConfig, number: int) -> tuple[Path, str | None]:
    """The bundle of a recipe (0: the only one), and the digest that it must have."""
    if not number:
        assert camera.bundle is not None  # one of them is there
        return camera.bundle, camera.sha256
    chosen = camera.recipes[number]
    return (chosen, None) if isinstance(chosen, Path) else (chosen.bundle, chosen.sha256)


def _first_recipe(camera: CameraConfig) -> int:
    """The recipe to begin with; 0 when there is one bundle only. Raises BadInput: the file names none."""
    from edgead.errors import BadInput
    from edgead.runtime.products.recipes import number_in

    if not camera.recipes:
        return 0
    file = camera.recipe_file
    if file is not None and (text := _read(file)):
        number = number_in(text, file)
        if number not in camera.recipes:
            raise BadInput(f"{file} asks for recipe {number}, which {camera.name} does not have")
        return number
    return camera.recipe or next(iter(camera.recipes))


def _read(file: Path) -> str:
    """What stands there; "" when it is not there, or cannot be read now."""
    try:
        return file.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        _log.warning("%s cannot be read: %s; the first recipe runs until it can", file, error.strerror or error)
        return ""


def _watch(lane: Lane, camera: CameraConfig, faces: Faces) -> None:
    """Warnings when the engine fails, when pictures have another shape than in training, and when pictures or scores drift."""
    from edgead.runtime.loop.answers import AnswerWatch
    from edgead.runtime.loop.shapes import ShapeWatch
    from edgead.runtime.products.drift import DriftWatch

    lane.station.on_inspection(AnswerWatch(lane.station.notice).see)
    lane.station.on_inspection(ShapeWatch(faces.looks, lane.station.notice).see)
    if camera.drift is not None:
        watch = DriftWatch(faces.usual, lane.station.notice, every_s=camera.drift.every_ms / 1000, max_ng=camera.drift.max_ng)
        lane.station.on_inspection(watch.see)


def _rule(record: EngineRecord, threshold: float | None) -> Rule:
    from edgead.decision import Rule

    return record.threshold.rule if threshold is None else Rule(threshold)


def _keep(lane: Lane, camera: CameraConfig, storage: Storage | None, faces: Faces) -> None:
    """Records and pictures, as far as they are wanted."""
    from edgead.runtime.records.pictures import PictureFolder

    if storage is None or lane.store is None:
        return
    lane.store.watch(lane.station.notice)
    lane.station.on_record(lane.store.write, first=storage.records.first)
    if storage.pictures is None:
        return
    limits = storage.pictures
    lane.pictures = PictureFolder(
        storage.folder / camera.name / "pictures",
        lane.scale,
        lane.bundle.manifest.preprocess,
        max_mb=limits.max_mb,
        max_days=limits.max_days,
        min_free_mb=limits.min_free_mb,
        ok_every=limits.ok_every or 0,
        on_saved=lane.store.attach,
        looks=faces.looks,
    )
    lane.station.on_inspection(lane.pictures.save)


def _gpio_trigger(config: GpioTriggerConfig) -> TriggerSource:
    from edgead.runtime.outputs.gpio import GpioTrigger

    return GpioTrigger(config.chip, config.line, active=config.active, debounce_s=config.debounce_ms / 1000)
