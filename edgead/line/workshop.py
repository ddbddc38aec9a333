"""From the settings of a camera to its running station: the one place where a line's parts are wired together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from edgead.line.devices import Devices
from edgead.line.products import (
    Faces,
    Prepared,
    apply_threshold,
    first_recipe,
    make_product,
    rule_of,
    wanted_bundle,
    wish_threshold,
)
from edgead.line.shelf import Shelf

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.clock import Clock
    from edgead.config.camera import CameraConfig, PartConfig, ShadowBundle
    from edgead.config.station import Storage
    from edgead.decision import Rule
    from edgead.preprocess import PreprocessRecipe
    from edgead.runtime.absent import Opening
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.loop.station import Station
    from edgead.runtime.loop.views import Fanout, Views
    from edgead.runtime.products.recipes import Product, RecipeBook, Wishing
    from edgead.runtime.products.shadow import Shadow
    from edgead.runtime.records.overlay import HeatScale
    from edgead.runtime.records.pictures import PictureFolder
    from edgead.runtime.records.store import RecordStore
    from edgead.runtime.threads import Crew
    from edgead.signing import TrustedKey
    from edgead.types import Camera, Output, TriggerSource

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
    shadow: Shadow | None = None
    looks: Mapping[str, tuple[HeatScale, PreprocessRecipe]] = field(default_factory=dict)


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
        shelf: the engines.
        on_idle: for the stations.
        waits: a camera, an output or an address that is not there yet does not end the start: it is tried again and again.
        crew: the threads of the process; each camera and each part gets a branch of its own.
    """

    stack: ExitStack
    clock: Clock
    shelf: Shelf = field(default_factory=Shelf)
    on_idle: Callable[[], None] | None = None
    waits: bool = False
    crew: Crew = field(default_factory=_crew)
    _crews: dict[str, Crew] = field(default_factory=dict)
    _openings: dict[str, Opening] = field(default_factory=dict)
    _until_ns: int = 0

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
        devices = Devices(self.clock, self.waits)
        with ExitStack() as unfinished:
            triggers, outputs = devices.open(part, store, unfinished)
            assert triggers is not None  # the configuration has one
            first = 1 if store is None else store.last_part_id() + 1
            budget = LatencyBudget(part.budget_ms)
            views = Views(part.cameras, budget, outputs, self.clock, combine=part.combine, first_part_id=first)
            unfinished.pop_all()
        for late in devices.late:
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
            main, product = make_product(self.shelf, self.clock, camera, first_recipe(camera), faces)
        self.stack.callback(product.close)  # again after the recipes' own book, which does not matter
        return Prepared(faces, main, product)

    def open_cameras(self, cameras: Sequence[CameraConfig], ready: Mapping[str, Prepared]) -> None:
        """Begin to open them all at once; `build` takes each one up, or does without it for now."""
        from edgead.runtime.absent import START_S, Opening

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

        main, product, rule = ready.main, ready.product, rule_of(ready.main.record, camera.threshold)
        opening = self._openings.get(camera.name)
        reopen = opening or _opener(camera, self.clock, ready)
        devices = Devices(self.clock, self.waits)
        with ExitStack() as unfinished:  # what is opened here belongs to the station once there is one
            store = self._store(camera, storage)
            triggers, outputs = devices.open(camera, store, unfinished)
            if cell is not None:
                triggers, extra = cell.fanout.of(camera.name), (*extra, cell.views.output(camera.name))
                camera = replace(camera, budget_ms=cell.budget_ms)
            opened = opening.first((self._until_ns - self.clock.now_ns()) / 1e9) if opening is not None else reopen()
            unfinished.callback(opened.close)
            _check_age(camera, opened)
            station = self._station(camera, opened, reopen, product, triggers, (*outputs, *extra), store)
            unfinished.pop_all()
        self.stack.callback(station.close)
        for late in devices.late:
            late.watch(station.missing)
        lane = Lane(
            camera.name, station, main.bundle, main.record, rule, HeatScale(main.calm, rule.level), store, looks=ready.faces.looks
        )
        _keep(lane, camera, storage, ready.faces, self.shelf.trusted)
        if lane.shadow is not None:
            self.stack.enter_context(lane.shadow)
        _watch(lane, camera, ready.faces)
        lane.recipes = self._recipes(camera, lane, product, outputs, ready.faces)
        return lane

    def _recipes(self, camera: CameraConfig, lane: Lane, running: Product, outputs: list[Output], faces: Faces) -> RecipeBook:
        """The book that changes the camera's product, and takes new thresholds; without recipes only these."""
        from edgead.runtime.plc.device import PlcDevice
        from edgead.runtime.products.applied import asked
        from edgead.runtime.products.recipes import Applying, RecipeBook
        from edgead.runtime.vision.server import OpcUaServer

        plc = next((output for output in outputs if isinstance(output, (PlcDevice, OpcUaServer))), None)
        book = RecipeBook(
            lane.station,
            lambda number: self._another(camera, number, running, faces),
            camera.recipes or (0,),
            running,
            plc=plc if camera.recipes else None,
            file=camera.recipe_file,
            applying=Applying(
                lambda number: asked(wanted_bundle(camera, number)[0]),
                lambda number, digest, now: apply_threshold(self.shelf, camera, number, digest, now, faces),
                lambda before, after: _note(lane.store, before, after),
                lambda number, digest, now: self._replacement(camera, number, digest, now, faces),
            ),
            wishing=_wishing(self.shelf, camera, lane, plc, faces),
        )
        return self.stack.enter_context(book)

    def _replacement(self, camera: CameraConfig, number: int, digest: str, running: Product, faces: Faces) -> Product:
        """The bundle that lies now where the running one lay, which must have that digest. Raises EdgeadError."""
        from edgead.errors import BundleMismatch

        product = self._another(camera, number, running, faces)
        if product.main.bundle != digest:
            product.close()
            raise BundleMismatch(
                f"{wanted_bundle(camera, number)[0]} is {product.main.bundle}, asked for was {digest}",
                hint="edgead pull ... --apply asks for it as it is now",
            )
        return product

    def _another(self, camera: CameraConfig, number: int, running: Product, faces: Faces) -> Product:
        """A product to change to; it must take pictures of the depth that the camera was opened for. Raises EdgeadError."""
        from edgead.errors import BadInput
        from edgead.runtime.cameras import gives_files

        product = make_product(self.shelf, self.clock, camera, number, faces)[1]
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
        from edgead.runtime.loop.station import Station

        return Station(
            opened,
            product.main.engine,
            product.main.recipe,
            product.main.rule,
            camera,
            outputs,
            self.clock,
            reopen=reopen,
            engine_name=product.main.name,
            bundle=product.main.bundle,
            model=product.main.model,
            triggers=triggers,
            fallback=product.fallback,
            first_part_id=1 if store is None else store.last_part_id() + 1,
            on_idle=self.on_idle,
            check=product.check,
        )

    def _store(self, camera: CameraConfig | PartConfig, storage: Storage | None) -> RecordStore | None:
        if storage is None:
            return None
        from edgead.runtime.records.store import RecordStore

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


def _check_age(camera: CameraConfig, opened: Camera) -> None:
    """Raises BadInput: a limit was given that a recording cannot break."""
    from edgead.errors import BadInput
    from edgead.runtime.loop.feed import keeps

    if camera.max_age_ms is not None and (keeps(opened) or not getattr(opened, "live", True)):
        raise BadInput(
            "max_age_ms (--max-age-ms) is for live cameras: a recording's pictures have no age, nor have a hot folder's",
            hint="leave it out, or play a video file with realtime",
        )


def _opener(camera: CameraConfig, clock: Clock, ready: Prepared) -> Callable[[], Camera]:
    from edgead.runtime.cameras import open_camera

    bits = ready.main.bundle.manifest.preprocess.bits
    return partial(open_camera, camera.address, clock=clock, realtime=camera.realtime, bits=bits)


def _wishing(shelf: Shelf, camera: CameraConfig, lane: Lane, plc: Any, faces: Faces) -> Wishing | None:
    """How the camera follows the threshold that its PLC gives, where the file lets it."""
    from edgead.runtime.products.recipes import Wishing

    bounds = camera.wished
    if bounds is None:
        return None
    return Wishing(
        bounds.min,
        bounds.max,
        lambda: plc.threshold_request,
        lambda value, running: wish_threshold(shelf, camera, value, running, faces),
        lambda before, after, who: _note(lane.store, before, after, who),
    )


def _note(store: RecordStore | None, before: Answerer, after: Answerer, asked: str = "") -> None:
    """In the records, the change of a threshold, or of a bundle; `asked`: who did, other than by a command."""
    from edgead.decision import Rule
    from edgead.runtime.records.basis import Judged

    if store is not None:
        facts = [Judged(Rule.of(one.rule), one.name, one.bundle, one.model).facts for one in (before, after)]
        by = f"edgead {'threshold' if before.model == after.model else 'pull'} --apply"
        store.change(asked or by, *facts)


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


def _shadow(lane: Lane, camera: CameraConfig, wanted: ShadowBundle, trusted: Sequence[TrustedKey]) -> Shadow:
    """The second bundle that judges the camera's pictures."""
    import json
    import sys

    from edgead.runtime.cameras import gives_files
    from edgead.runtime.loop.combine import Combine
    from edgead.runtime.products.shadow import Shadow

    assert lane.store is not None
    combine = Combine.named(camera.frames_per_part, camera.combine)
    order = {
        "bundle": str(wanted.bundle),
        "engine": wanted.engine,
        "sha256": wanted.sha256,
        "trusted": [str(key.file) for key in trusted],
        "bits": lane.bundle.manifest.preprocess.bits if gives_files(camera.address) else None,
        "views": combine.views,
        "ng_views": combine.ng_views,
    }
    command = [sys.executable, "-m", "edgead.line.judge", json.dumps(order)]
    shadow = Shadow(command, combine, lane.store.shadow, lane.station.notice)
    lane.station.on_inspection(shadow.see)
    lane.station.count(shadow)
    return shadow


def _keep(lane: Lane, camera: CameraConfig, storage: Storage | None, faces: Faces, trusted: Sequence[TrustedKey]) -> None:
    """Records, pictures and shadow, as far as they are wanted."""
    if storage is None or lane.store is None:
        return
    from edgead.runtime.records.basis import Reader

    lane.store.watch(lane.station.notice)
    lane.station.on_record(lane.store.write, first=storage.records.first)
    lane.station.on_inspection(Reader(lane.store.read).see)
    if camera.shadow is not None:
        lane.shadow = _shadow(lane, camera, camera.shadow, trusted)
    if storage.pictures is None:
        return
    from edgead.runtime.records.pictures import PictureFolder

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
