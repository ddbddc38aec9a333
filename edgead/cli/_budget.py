"""`edgead export --budget-ms`: the search's options, its table and its plot; and `--like`, the same export once more."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, MissingExtra
from edgead.manifest import TRAINED

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.calibration.judging.deviation import Limits
    from edgead.export import ExportOptions
    from edgead.export.search.options import Retrain, SearchOptions
    from edgead.manifest import Arguments
    from edgead.measured import Candidate, Search
    from edgead.trained import ModelCard

FRAME = "1920x1080"
MINUTES = 10.0
WITH_DEFECTS = (0.05, 0.005, 1.0)
"""Share of flips, loss of AUROC and score deviation that a search tolerates by default where real defects tell what an engine is
worth: with a smaller bank all scores rise, each engine has its own threshold, and it is AUROC that counts."""

WIDEST = 180
"""Columns of the table of candidates, also where the terminal has fewer."""

CPU, GPU = ("openvino", "onnxruntime"), ("tensorrt", "tensorrt-rtx")


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search (docs/budget.md)")
    group.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="find the most accurate engine that answers within MS at p99 on this device, camera picture to verdict",
    )
    group.add_argument("--device", choices=("cpu", "gpu"), help="gpu: TensorRT (default: what is installed for the CPU)")
    group.add_argument("--search-minutes", type=float, metavar="M", help=f"bound on the search (default {MINUTES:g})")
    group.add_argument(
        "--frame",
        metavar="WxH",
        help=f"size of the camera's pictures (default {FRAME}; with --align at training, the reference's)",
    )
    group.add_argument("--search-dir", type=Path, metavar="DIR", help="what was measured (default: BUNDLE.search)")
    group.add_argument("--restart-search", action="store_true", help="measure again what an earlier search measured")
    group.add_argument("--like", type=Path, metavar="BUNDLE", help="the same engines as in this bundle, without a search")


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what does not go together, before any work. Raises BadInput."""
    given = {
        "--device": args.device, "--search-minutes": args.search_minutes, "--frame": args.frame, "--search-dir": args.search_dir,
        "--restart-search": args.restart_search or None,
    }  # fmt: skip
    asked = [name for name, value in given.items() if value is not None]
    if args.budget_ms is None and asked:
        raise BadInput(f"{asked[0]} goes with --budget-ms only", hint="give --budget-ms, or leave it out")
    clashes = {"--on-device": args.on_device, "--like": args.like is not None}
    if args.budget_ms is not None and (clash := [name for name, there in clashes.items() if there]):
        raise BadInput(f"--budget-ms does not go with {clash[0]}", hint="a search makes a new bundle from a trained model")
    if args.like is not None:
        chosen = {"--on-device": args.on_device, "--backend": args.backend, "--precision": args.precision,
                  "--rewrite": args.rewrite, "--no-rewrite": args.no_rewrite, "--weight-bits": args.weight_bits}  # fmt: skip
        if clash := [name for name, value in chosen.items() if value]:
            raise BadInput(f"--like does not go with {clash[0]}", hint="the bundle says what to make")


def limits(args: argparse.Namespace, usual: Limits) -> Limits:
    """What the command line allows to be lost, `usual` where it says nothing."""
    given = {"max_flips": args.max_flips, "max_score_deviation": args.max_score_deviation, "max_auroc_drop": args.max_auroc_drop}
    return dataclasses.replace(usual, **{name: value for name, value in given.items() if value is not None})


def search_options(args: argparse.Namespace, model_dir: Path) -> SearchOptions:
    """What the command line asks of the search. Raises BadInput."""
    from edgead.calibration.judging.deviation import Limits
    from edgead.cli.train import parse_size
    from edgead.export.search.options import SearchOptions

    frame = parse_size(args.frame or _usual_frame(model_dir))
    if min(frame) < 16:
        raise BadInput(f"a camera picture of {frame[0]} x {frame[1]} px is not usable", hint="give --frame 1920x1080")
    retrain, why_not = retrainer(model_dir)
    minutes = MINUTES if args.search_minutes is None else args.search_minutes
    return SearchOptions(
        args.budget_ms,
        frame,
        minutes,
        args.search_dir,
        args.restart_search,
        retrain,
        why_not,
        limits(args, Limits(*WITH_DEFECTS)),
    )


def _usual_frame(model_dir: Path) -> str:
    """`FRAME`, but of a model that finds the part in the picture the size of its reference picture."""
    card = _card(model_dir)
    found = card.preprocess.align if card else None
    return "{}x{}".format(*found.frame) if found else FRAME


def within_device(args: argparse.Namespace, options: ExportOptions) -> ExportOptions:
    """The backends that a search may take, all of which must run here.

    Raises:
        BadInput: those that were asked for are not of the device.
        MissingExtra: there is none.
    """
    from edgead.export import BACKENDS, installed_backends

    device = GPU if args.device == "gpu" else CPU
    if options.backends is not None:
        strange = [name for name in options.backends if args.device is not None and name not in device]
        if strange:
            raise BadInput(f"{strange[0]} does not run on the {args.device}", hint=f"choose {' or '.join(device)}")
        return options
    if args.device != "gpu":
        backends = tuple(name for name in installed_backends() if name in CPU)
        if not backends:
            raise MissingExtra("no inference backend is installed", hint="pip install 'edgead[openvino]'")
        return dataclasses.replace(options, backends=backends)
    installed = tuple(name for name in GPU if BACKENDS[name].installed())
    usable = tuple(name for name in installed if BACKENDS[name].runs_here(options.tensorrt))
    if not usable:
        what = "no GPU that TensorRT can use is here" if installed else "TensorRT is not installed"
        raise MissingExtra(f"--device gpu: {what}", hint="see edgead doctor and docs/tensorrt.md, or search with --device cpu")
    tried = ("fp32", "fp16", *(("int8",) if "int8" in options.precisions else ()))  # without good pictures there is no INT8
    precisions = tried if args.precision is None else options.precisions
    return dataclasses.replace(options, backends=usable, precisions=precisions)


def retrainer(model_dir: Path) -> tuple[Retrain | None, str]:
    """How to train the model again at another input size; None and why not when that cannot be.

    The pictures must be the same ones: their digest is checked before the first training.
    """
    card = _card(model_dir)
    if card is None or card.origin.tool != TRAINED or card.origin.arguments is None:
        return None, "this model was not trained by edgead train"
    folder = card.origin.data.path if card.origin.data else None
    path = Path(folder or "")
    if folder is None or not path.is_dir():
        return None, f"the pictures that it was trained on are not at {folder or ''} any more"
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


def _card(model_dir: Path) -> ModelCard | None:
    from edgead.trained import read_card

    try:
        return read_card(model_dir)
    except BadInput:
        return None  # the export says what is wrong


def _check_pictures(card: ModelCard, arguments: Arguments, path: Path) -> None:
    from edgead.training.dataset import load_good

    heldout, seed = _split(arguments)
    found = load_good(path, card.preprocess, heldout, seed, leave_out=arguments.leave_out or ()).digest
    if card.origin.data is None or found != card.origin.data.digest:
        raise BadInput(f"the pictures in {path} are not those that the model was trained on", hint="train the model again")


def _split(arguments: Arguments) -> tuple[float, int]:
    """Share and seed of what was held out. Raises BadInput."""
    if arguments.heldout is None or arguments.seed is None:
        raise BadInput("the model's card does not say how its pictures were split", hint="train the model again")
    return arguments.heldout, arguments.seed


def _train(
    card: ModelCard, arguments: Arguments, path: Path, size: tuple[int, int], folder: Path, stop: Callable[[], bool]
) -> None:
    from edgead.optional import require
    from edgead.training.fit import TrainRequest, train

    require("sklearn", extra="train", why="Training at another input size")
    recipe = dataclasses.replace(card.preprocess, width=size[0], height=size[1], crop_from=None)
    heldout, seed = _split(arguments)
    options = {key: _value(key, value) for key, value in arguments.rest.items()}
    request = TrainRequest(
        card.family, path, folder, recipe, options, card.name, heldout, seed,
        crossfit=arguments.crossfit is not False, leave_out=arguments.leave_out or (),
    )  # fmt: skip

    def progress(stage: str, done: float) -> None:
        if stop():
            raise BadInput(f"training at {size[0]} x {size[1]} px takes longer than the search may", hint="--search-minutes")

    train(request, progress)


def _value(key: str, value: Any) -> Any:
    """An argument of a training as JSON keeps it, as the family's options take it."""
    if key in ("weights", "teacher", "outside") and isinstance(value, str):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def show_search(search: Search) -> None:
    """The table of all candidates, fastest first."""
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._console import console

    names = ("p50", "p99 ms", "AUROC", "change", "noise", "dev.", "flips", "MiB", "")
    columns = (Column(name, justify="right" if name else "left", no_wrap=True) for name in names)
    table = Table(Column("candidate", no_wrap=True), *columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    trained, budget = search.trained, search.budget_ms
    assert trained is not None and budget is not None and search.frame is not None
    table.add_row("trained model", "", "", f"{trained.auroc:.4f}", "", "", "", "", "", "")
    for row in sorted(search.candidates or (), key=lambda row: row.p99_ms):
        table.add_row(*_cells(row, budget))
    console(width=max(console().width, WIDEST)).print(table)
    width, height = search.frame
    drawn = "; AUROC on drawn defects, there being no labelled ones" if trained.drawn else ""
    console().print(
        f"* chosen, + beaten by none, > over {budget:g} ms, - over a limit of what may be lost; ~ first look at a few parts; "
        f"noise: one standard error; times from a picture of {width} x {height} px to the verdict{drawn}",
        markup=False,
    )


def _cells(row: Candidate, budget_ms: float) -> list[str]:
    timed, judged = row.latency, row.accuracy
    if row.failed:
        return [row.name, *[""] * 8, f"failed: {row.failed[:60]}"]
    mark = "*" if row.chosen else "+" if row.front else ""
    cells = [row.name]
    if timed:
        about = "" if timed.full else "~"
        cells += [f"{about}{timed.p50_ms:.1f}", f"{about}{timed.p99_ms:.1f}"]
        mark += ">" if timed.p99_ms > budget_ms else ""
    else:
        cells += ["", ""]
    if judged:
        cells += [f"{judged.auroc:.4f}", f"{judged.auroc_change:+.4f}", f"{judged.noise:.4f}"]
        cells += [f"{100 * judged.score_deviation:.1f} %", f"{judged.label_flips} of {judged.frames}"]
        mark += "" if judged.within_loss else "-"
    else:
        cells += [""] * 5
    return [*cells, f"{row.bytes / 2**20:.1f}" if row.bytes else "", mark]


def write_plot(search: Search, folder: Path) -> Path | None:
    """Latency against accuracy as ``search.png``; None without matplotlib, or when nothing was judged."""
    from edgead.bundle import storage_errors
    from edgead.cli._console import console
    from edgead.export.figures import latency_against_auroc

    if not any(row.latency and row.accuracy for row in search.candidates or ()):
        return None
    try:
        picture = latency_against_auroc(search, "png")
    except MissingExtra as error:
        console().print(f"no plot: {error} ({error.hint})", markup=False)
        return None
    target = folder / "search.png"
    with storage_errors(target):
        target.write_bytes(picture)
    return target


def summary(search: Search) -> str:
    """One line on what was chosen and why, for `edgead export` and `edgead inspect`; "" when nothing was."""
    chosen, built, found = search.chosen, search.built, search.taken and search.taken.accuracy
    if chosen is None or not found:
        return ""
    time = f"p50 {built.p50_ms:.1f} ms, p99 {built.p99_ms:.1f} ms of {search.budget_ms or 0:g} ms" if built else ""
    return f"{chosen.name}: {time}, AUROC {found.auroc:.4f} ({found.auroc_change:+.4f} to the trained model's)"


def options_like(bundle: Bundle, options: ExportOptions) -> ExportOptions:
    """The export options that make a bundle's engines once more, from its manifest."""
    from pathlib import Path as File

    from edgead.calibration.judging.deviation import Limits
    from edgead.families.rewriting import known

    manifest = bundle.manifest
    measured, calibration = manifest.measured, manifest.calibration or {}
    applied = {one.name: one for one in measured.rewrites}
    usual = [one.name for one in known(manifest.family) if one.default is not None]
    search = measured.search
    guarded = [name for told in measured.guard for name in told.keep_float]
    chosen = search.chosen
    limits = {name: value for name, value in measured.limits.items() if name != "fp32"}

    def folder(known: str | None, given: File | None) -> File | None:
        return given or (File(known) if known else None)

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


def differing_graphs(one: Bundle, other: Bundle) -> list[str]:
    """Names of the graphs that are not the same, byte for byte, in two bundles."""
    names = [name for name in one.manifest.files if Path(name).parent == Path() and name.endswith(".onnx")]
    return [name for name in names if one.manifest.files[name] != other.manifest.files.get(name)]
