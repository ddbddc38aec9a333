"""Once more: the same model at another input size, the same engines as in a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import BadInput
from edgead.families import find
from edgead.families.contract import LITE
from edgead.manifest import TRAINED
from edgead.optional import require
from edgead.trained import ModelCard, read_card

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.export import ExportOptions
    from edgead.export.search.options import Retrain
    from edgead.manifest import Arguments


def retrainer(model_dir: Path) -> tuple[Retrain | None, str]:
    """How to train the model again at another input size; None and why not when that cannot be.

    The pictures must be the same ones: their digest is checked before the first training.
    """
    card = card_of(model_dir)
    if card is None or card.origin.tool != TRAINED or card.origin.arguments is None:
        return None, "this model was not trained by edgead train"
    folder = card.origin.data.path if card.origin.data else None
    path = Path(folder or "")
    if folder is None or not path.is_dir():
        return None, f"the pictures that it was trained on are not at {folder or ''} any more"
    for one in card.origin.arguments.defects or ():
        if not Path(one.path or "").is_dir():
            return None, f"the pictures of defects that it was trained on are not at {one.path or ''} any more"
    if card.origin.arguments.tiling:
        return None, "this model looks at tiles, whose size is part of its training"
    known, arguments = card, card.origin.arguments
    checked: list[bool] = []

    def again(size: tuple[int, int], folder: Path, stop: Callable[[], bool]) -> None:
        if not checked:
            _check_pictures(known, arguments, path)
            checked.append(True)
        _train(known, arguments, path, size, folder, stop)

    return again, ""


def card_of(model_dir: Path) -> ModelCard | None:
    """The card of a trained model; None where it cannot be read: the export says what is wrong."""
    try:
        return read_card(model_dir)
    except BadInput:
        return None


def _check_pictures(card: ModelCard, arguments: Arguments, path: Path) -> None:
    from edgead.training.dataset import load_good

    heldout, seed = _split(arguments)
    found = load_good(path, card.preprocess, heldout, seed, leave_out=arguments.leave_out or ()).digest
    if card.origin.data is None or found != card.origin.data.digest:
        raise BadInput(f"the pictures in {path} are not those that the model was trained on", hint="train the model again")

    if known := arguments.defects:
        from edgead.training.defects import load_defects

        now = load_defects(_folders(arguments), card.preprocess).told
        for was, is_now in zip(known, now, strict=True):
            if was.digest != is_now.digest:
                raise BadInput(
                    f"the pictures of defects in {was.path} are not those that the model was trained on",
                    hint="train the model again",
                )


def _folders(arguments: Arguments) -> tuple[Path, ...]:
    """Of pictures of defects."""
    return tuple(Path(one.path or "") for one in arguments.defects or ())


def _split(arguments: Arguments) -> tuple[float, int]:
    """Share and seed of what was held out. Raises BadInput."""
    if arguments.heldout is None or arguments.seed is None:
        raise BadInput("the model's card does not say how its pictures were split", hint="train the model again")
    return arguments.heldout, arguments.seed


def _train(
    card: ModelCard, arguments: Arguments, path: Path, size: tuple[int, int], folder: Path, stop: Callable[[], bool]
) -> None:
    require("sklearn", extra="train", why="Training at another input size")
    from edgead.training.fit import TrainRequest, train

    recipe = dataclasses.replace(card.preprocess, width=size[0], height=size[1], crop_from=None)
    heldout, seed = _split(arguments)
    rest = dict(arguments.rest)
    device = str(rest.pop("device", "cpu"))
    options = find(card.family).options_type().from_json(card.family, rest)
    request = TrainRequest(
        card.family, path, folder, recipe, options, card.name, heldout, seed,
        crossfit=arguments.crossfit is not False, leave_out=arguments.leave_out or (), device=device,
        defects=_folders(arguments),
        method=arguments.method or "", preset=arguments.preset or LITE,
    )  # fmt: skip

    def progress(stage: str, done: float) -> None:
        if stop():
            raise BadInput(f"training at {size[0]} x {size[1]} px takes longer than the search may", hint="--search-minutes")

    train(request, progress)


def options_like(bundle: Bundle, options: ExportOptions) -> ExportOptions:
    """The export options that make a bundle's engines once more, from its manifest."""
    from edgead.calibration.judging.deviation import Limits
    from edgead.families.rewriting import known

    manifest = bundle.manifest
    measured, calibration = manifest.measured, manifest.calibration or {}
    applied = {one.name: one for one in measured.rewrites}
    usual = [one.name for one in known(manifest.family) if one.default is not None]
    search, chosen = measured.search, measured.search.chosen
    guarded = [name for told in measured.guard for name in told.keep_float]
    limits = {name: value for name, value in measured.limits.items() if name != "fp32"}

    def folder(known: str | None, given: Path | None) -> Path | None:
        return given or (Path(known) if known else None)

    return dataclasses.replace(
        options,
        backends=tuple(dict.fromkeys(record.backend for record in manifest.engines)),
        precisions=tuple(dict.fromkeys(record.precision for record in manifest.engines)),
        weight_bits=calibration.get("weight_bits"),
        observer=calibration.get("method", options.observer),
        tool=calibration.get("tool", options.tool),
        calibration=folder(search.calibration, options.calibration),
        calibration_count=search.calibration_count or options.calibration_count,
        labelled=folder(search.labelled, options.labelled),
        frames_per_class=search.frames_per_class or options.frames_per_class,
        limits=Limits(**limits),
        rewrites={name: one.setting for name, one in applied.items() if name not in usual},
        left_out=tuple(name for name in usual if name not in applied),
        keep_float=(*(chosen.keep_float if chosen else ()), *guarded),
        threads=options.threads or (chosen.threads if chosen else None),
        search=search,
    )


def differing_graphs(one: Bundle, other: Bundle) -> tuple[str, ...]:
    """Names of the graphs that are not the same, byte for byte, in two bundles."""
    names = [name for name in one.manifest.files if Path(name).parent == Path() and name.endswith(".onnx")]
    return tuple(name for name in names if one.manifest.files[name] != other.manifest.files.get(name))
