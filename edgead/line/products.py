"""What a camera makes verdicts with: engines, rule and self-check of the product that runs, and of those to change to."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.clock import Clock
    from edgead.config.camera import CameraConfig
    from edgead.decision import Rule
    from edgead.line.shelf import Loaded, Shelf
    from edgead.preprocess import PreprocessRecipe
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.products.drift import Usual
    from edgead.runtime.products.recipes import Product
    from edgead.runtime.records.overlay import HeatScale

_log = logging.getLogger("edgead.run")


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


def make_product(shelf: Shelf, clock: Clock, camera: CameraConfig, number: int, faces: Faces) -> tuple[Loaded, Product]:
    """Engines, rule and self-check of one recipe of a camera; number 0 is its only bundle. Raises EdgeadError."""
    from edgead.engines.proof import check_reach
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.loop.selfcheck import SelfCheck
    from edgead.runtime.products.applied import asked
    from edgead.runtime.products.recipes import Product
    from edgead.runtime.records.overlay import HeatScale

    path, sha256 = wanted_bundle(camera, number)
    before = asked(path)
    with ExitStack() as held:
        main = shelf.load(path, camera.engine, sha256)
        held.callback(shelf.release, main)
        bundle, record, recipe = main.bundle, main.record, main.bundle.manifest.preprocess
        rule, golden = rule_of(record, camera.threshold), bundle.golden()
        check_reach(bundle, record, rule, golden, _log.warning)
        name = f"{path.stem}/{record.name}" if number else record.name
        fallback = _fallback(shelf, camera, path, held)
        check = None
        if camera.selfcheck is not None:
            check = SelfCheck.of_bundle(bundle, record, main.engine, every_s=camera.selfcheck.every_s, clock=clock)
        if camera.drift is not None:
            faces.usual[name] = _usual(bundle, rule)
        faces.looks[name] = (HeatScale(main.calm, rule.level), recipe)
        answerer = Answerer(main.engine, recipe, rule, name, bundle.digest, bundle.manifest.files[record.file])
        return main, Product(number, answerer, fallback, check, held.pop_all().close, before)


def _usual(bundle: Bundle, rule: Rule) -> Usual:
    from edgead.engines.verify import trained_threshold
    from edgead.runtime.products.drift import TrainedLight, Usual

    manifest = bundle.manifest
    light = TrainedLight.of(manifest.measured.training)
    return Usual(bundle.golden(), manifest.preprocess, rule, trained_threshold(bundle), light)


def apply_threshold(shelf: Shelf, camera: CameraConfig, number: int, digest: str, running: Product, faces: Faces) -> Product:
    """The running product with the threshold that its bundle has now; a fallback of another bundle stays as it is.

    Raises:
        BadInput: the station's file gives the threshold.
        EdgeadError: the bundle is not the one that was asked for, not signed as it must be, another model, or has a threshold
            that a start would refuse, too.
    """
    from edgead.engines.proof import check_reach
    from edgead.errors import BadInput, BundleMismatch
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.products.recipes import Product
    from edgead.runtime.records.overlay import HeatScale

    if camera.threshold is not None:
        raise BadInput(
            f"the station's own threshold {camera.threshold:g} decides for {camera.name}, not the bundle's",
            hint="leave `threshold` (--threshold) out, and restart",
        )
    path, sha256 = wanted_bundle(camera, number)
    with ExitStack() as held:
        main = shelf.load(path, camera.engine, sha256, running=True)
        held.callback(shelf.release, main)
        bundle, record, old = main.bundle, main.record, running.main
        if bundle.digest != digest:
            raise BundleMismatch(
                f"{path} is not as it was when its threshold was applied: its sha256 is {bundle.digest}, asked for was {digest}",
                hint=f"edgead threshold {path} --apply asks for it as it is now",
            )
        rule = record.threshold.rule
        check_reach(bundle, record, rule, bundle.golden(), _log.warning)
        fallback = running.fallback
        if fallback is not None and camera.fallback_bundle is None:
            fallback = _fallback(shelf, camera, path, held, running=True)
        elif fallback is not None:
            held.callback(shelf.release, shelf.hold(fallback.engine))
        faces.looks[old.name] = (HeatScale(main.calm, rule.level), old.recipe)
        if camera.drift is not None:
            faces.usual[old.name] = _usual(bundle, rule)
        answerer = Answerer(main.engine, old.recipe, rule, old.name, bundle.digest, old.model)
        return Product(number, answerer, fallback, running.check, held.pop_all().close)


def wish_threshold(shelf: Shelf, camera: CameraConfig, value: float | None, running: Product, faces: Faces) -> Product:
    """The running product with a threshold that the PLC gives; None: that of its bundle, as it is now.

    Raises:
        EdgeadError: the bundle is not as it must be, or this is a threshold that no start would take: by it every defect would be
            OK, or it lies outside of the rule's UNKNOWN band.
    """
    from edgead.engines.proof import check_reach
    from edgead.runtime.loop.examiner import Answerer
    from edgead.runtime.products.recipes import Product
    from edgead.runtime.records.overlay import HeatScale

    path, sha256 = wanted_bundle(camera, 0)
    with ExitStack() as held:
        main = shelf.load(path, camera.engine, sha256, running=True)
        held.callback(shelf.release, main)
        bundle, record, old = main.bundle, main.record, running.main
        rule = record.threshold.rule
        if value is not None:
            rule = rule.with_level(value, rule.unknown_band)
        check_reach(bundle, record, rule, bundle.golden(), _log.warning, strict=True)
        faces.looks[old.name] = (HeatScale(main.calm, rule.level), old.recipe)
        if camera.drift is not None:
            faces.usual[old.name] = _usual(bundle, rule)
        answerer = Answerer(main.engine, old.recipe, rule, old.name, bundle.digest, old.model)
        return Product(0, answerer, None, running.check, held.pop_all().close)


def _fallback(shelf: Shelf, camera: CameraConfig, path: Path, held: ExitStack, *, running: bool = False) -> Answerer | None:
    from edgead.engines.proof import check_reach
    from edgead.runtime.loop.examiner import Answerer

    if camera.fallback_bundle is None and camera.fallback_engine is None:
        return None
    found = shelf.load(camera.fallback_bundle or path, camera.fallback_engine, camera.fallback_sha256, running=running)
    held.callback(shelf.release, found)
    check_reach(found.bundle, found.record, found.record.threshold.rule, found.bundle.golden(), _log.warning)
    manifest, record = found.bundle.manifest, found.record
    model = manifest.files[record.file]
    return Answerer(found.engine, manifest.preprocess, record.threshold.rule, record.name, found.bundle.digest, model)


def rule_of(record: EngineRecord, threshold: float | None) -> Rule:
    from edgead.decision import Rule

    return record.threshold.rule if threshold is None else Rule(threshold)


def wanted_bundle(camera: CameraConfig, number: int) -> tuple[Path, str | None]:
    """The bundle of a recipe (0: the only one), and the digest that it must have."""
    if not number:
        assert camera.bundle is not None  # one of them is there
        return camera.bundle, camera.sha256
    chosen = camera.recipes[number]
    return (chosen, None) if isinstance(chosen, Path) else (chosen.bundle, chosen.sha256)


def first_recipe(camera: CameraConfig) -> int:
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
