"""Turn a trained model into a verified bundle: ONNX, INT8, OpenVINO and ONNX Runtime engines, golden frames.

Every engine is compared with the trained model on held-out good frames and on labelled test frames; where there are none, on
defects drawn onto good frames. When an INT8 engine does not answer as the model did, the layers to blame are returned to float;
when that does not help either, the engine is refused by name and the bundle holds the others. The exit code is 4 when a refused
one was asked for by name (--backend, --precision), or when none is left: then nothing is written.

With --budget-ms, edgead searches on this device for the most accurate engine that answers in time; when there is none, nothing is
written and the exit code is 8.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgead import versions
from edgead.bundle import check_target
from edgead.cli import _budget
from edgead.cli._exported import compare, listed, show, tell_former, tell_refused, warn
from edgead.cli._importing import (
    add_import_arguments,
    check_pictures,
    import_to,
    imported_without_pictures,
    is_foreign,
    refuse_import_arguments,
    summary,
    with_good_pictures,
)
from edgead.cli._on_device import build_options, on_device
from edgead.errors import BadInput, BundleError, EdgeadError

if TYPE_CHECKING:
    from edgead.bundle import Bundle
    from edgead.export import ExportOptions
    from edgead.measured import Search

METHODS = ("minmax", "mse", "percentile")
SUMMARY = "make a verified bundle from a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder written by edgead train or import, or another tool's file (docs/importing.md)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help="the bundle's folder (default: NAME.edgead here)")
    parser.add_argument(
        "--backend", metavar="LIST", help="comma-separated; an unknown one lists them all (default: those installed)"
    )
    parser.add_argument("--precision", metavar="LIST", help="of fp32,fp16,int8 (default: fp32,int8; fp32 without good pictures)")
    quantising = parser.add_argument_group("INT8")
    quantising.add_argument("--calibration", type=Path, metavar="DIR", help="good pictures (default: set aside by training)")
    quantising.add_argument("--allow-unsafe-calibration", action="store_true", help="use pictures that look wrong all the same")
    quantising.add_argument(
        "--weight-bits", type=int, choices=(7, 8), help="8 needs VNNI on a CPU (default: what the target takes)"
    )
    quantising.add_argument("--observer", choices=METHODS, default="minmax", help="how ranges are chosen (default minmax)")
    quantising.add_argument("--calibration-tool", choices=("edgead", "nncf"), default="edgead", help="default edgead")
    judging = parser.add_argument_group("what to accept")
    judging.add_argument("--labelled", type=Path, metavar="DIR", help="test/good and test/DEFECT... to compare on as well")
    judging.add_argument("--frames", type=int, default=100, help="frames compared of each kind, at most (default 100)")
    judging.add_argument("--max-flips", type=_share, help="tolerated share of labels that change (default 1%%)")
    judging.add_argument("--max-auroc-drop", type=_share, default=0.005, help="tolerated loss of AUROC (default 0.005)")
    judging.add_argument(
        "--max-score-deviation", type=_positive, help="mean score change over the scores' deviation (default 0.2)"
    )
    judging.add_argument("--max-false-reject", type=_share, metavar="SHARE", help="choose thresholds by this share of good parts")
    rewrites = parser.add_argument_group("rewrites: the same answers, or nearly, with less work (docs/rewrites.md)")
    rewrites.add_argument("--rewrite", action="append", metavar="NAME=VALUE", help="apply this one; an unknown name lists them")
    rewrites.add_argument("--no-rewrite", action="append", metavar="NAME", help="leave out one that is applied by default")
    _budget.add_budget_arguments(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write what was measured, or why it failed, to a .html or .md file"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of one inference (default: the engine's choice)")
    gpu = parser.add_argument_group("TensorRT (--backend tensorrt or tensorrt-rtx)")
    gpu.add_argument(
        "--on-device",
        action="store_true",
        help="MODEL is a bundle: build its TensorRT engines that do not match this GPU or version, from its own graphs",
    )
    gpu.add_argument(
        "--compute-capability", metavar="LIST", help="build ahead of time for these GPUs, e.g. 89,120 (tensorrt-rtx)"
    )
    gpu.add_argument("--workspace-mb", type=int, metavar="N", help="most GPU memory that one layer may use (default: all of it)")
    gpu.add_argument("--dla", type=int, metavar="CORE", help="use this deep learning accelerator of an Orin (tensorrt)")
    add_import_arguments(parser)


def run(args: argparse.Namespace) -> int:
    _budget.check_arguments(args)
    if args.on_device:
        return on_device(args)
    with _failure_told(args):
        _check(args)
        return _export(args)


def _export(args: argparse.Namespace) -> int:
    from edgead.cli._console import console
    from edgead.optional import require

    for module in ("torch", "safetensors", "onnx", "onnxscript"):
        require(module, extra="export", why="Exporting")
    args = _pictures(args)
    options = _options(args)
    target = args.output or default_target(args.model)
    former = {version.path for version in versions.former(target)}
    with tempfile.TemporaryDirectory(prefix="edgead-") as temporary:
        model_dir: Path = args.model
        if is_foreign(args.model):
            model_dir = Path(temporary) / "model"
            imported, threshold, notes = import_to(args, args.model, model_dir)
            console().print(summary(imported, threshold, notes), markup=False)
            if imported.detector.family == "openvino_ir" and args.backend is None and args.precision is None:
                options = dataclasses.replace(options, backends=("openvino",), precisions=("fp32",))
        elif args.calibration is not None and imported_without_pictures(args.model):
            model_dir, options = Path(temporary) / "model", dataclasses.replace(options, calibration=None)
            with_good_pictures(args.model, model_dir, args.calibration)
        bundle = _exported(args, model_dir, target, options, Path(temporary))
    if bundle is None:
        return 130
    _tell(args, options, bundle, former)
    return tell_refused(bundle, listed(args.backend or ""), listed(args.precision or ""))


def _tell(args: argparse.Namespace, options: ExportOptions, bundle: Bundle, former: set[Path]) -> None:
    """What was written, what was left out, and what is next."""
    from edgead.cli._console import console

    warn(bundle)
    show(bundle)
    tell_former(bundle, former)
    if args.precision is None and "int8" not in options.precisions:
        runs_as_is = "an OpenVINO IR runs in OpenVINO as it is"
        how = "--images GOOD_DIR" if is_foreign(args.model) else "--calibration GOOD_DIR"
        console().print(f"INT8 left out: {runs_as_is if args.images else f'it needs good pictures ({how})'}")
    refused = {refusal.engine.rpartition("-")[0] for refusal in bundle.manifest.measured.refused}
    missing = {"openvino", "onnxruntime"} - {record.backend for record in bundle.manifest.engines} - refused
    if options.backends is None and missing and args.budget_ms is None and args.like is None:
        console().print(f"left out, not installed: {', '.join(sorted(missing))}")
    if args.report is not None:
        console().print(f"report: {args.report}", markup=False)
    console().print(
        f"wrote {bundle.path}\nnext: edgead verify {bundle.path}   or   edgead run {bundle.path} --camera 0", markup=False
    )


def _check(args: argparse.Namespace) -> None:
    """Refuse what is not there and what does not apply, before any work. Raises BadInput."""
    if args.threads is not None and args.threads < 1:
        raise BadInput(f"{args.threads} threads are not usable", hint="give a number above 0")
    if not args.model.exists():
        raise BadInput(
            f"{args.model} holds no trained model: it does not exist", hint="train one with: edgead train MODEL GOOD_DIR -o DIR"
        )
    if not is_foreign(args.model):
        refuse_import_arguments(args)
    for name in ("images", "calibration", "labelled"):
        check_pictures(name, getattr(args, name))
    _check_gpu(args)
    check_target(args.output or default_target(args.model))
    serves_as_images = is_foreign(args.model) or imported_without_pictures(args.model)
    if args.precision and "int8" not in listed(args.precision):
        of_int8 = {"--weight-bits": args.weight_bits is not None, "--observer": args.observer != METHODS[0],
                   "--calibration-tool": args.calibration_tool != "edgead",
                   "--calibration": args.calibration is not None and not serves_as_images}  # fmt: skip
        if given := [flag for flag, there in of_int8.items() if there]:
            what = f"{', '.join(given)}: for INT8 only, and --precision is {args.precision}"
            raise BadInput(what, hint="leave it out, or add int8")


def _check_gpu(args: argparse.Namespace) -> None:
    """Refuse options of TensorRT where nothing is built by it. Raises BadInput."""
    given = {"--workspace-mb": args.workspace_mb, "--compute-capability": args.compute_capability, "--dla": args.dla}
    flags = [flag for flag, value in given.items() if value is not None]
    backends = listed(args.backend) if args.backend else ()
    if flags and args.like is None and not any(name.startswith("tensorrt") for name in backends):
        what = f"and --backend is {args.backend}" if args.backend else "and there is no --backend"
        raise BadInput(f"{', '.join(flags)}: for TensorRT only, {what}", hint="give --backend tensorrt or tensorrt-rtx")


@contextmanager
def _failure_told(args: argparse.Namespace) -> Iterator[None]:
    """Whatever fails inside is told in the report that was asked for, unless it already is."""
    target: Path | None = args.report

    def written() -> int | None:
        return target.stat().st_mtime_ns if target is not None and target.is_file() else None

    before = written()
    try:
        yield
    except EdgeadError as error:
        if target is not None and written() == before:
            from edgead.export.report import check_report, write_failure

            try:
                check_report(target)
                write_failure(target, args.model.stem, str(error), getattr(error, "facts", None))
            except EdgeadError as second:  # what went wrong first is what counts
                logging.getLogger(__name__).warning("no report: %s", second)
        raise


def _pictures(args: argparse.Namespace) -> argparse.Namespace:
    """Calibration pictures of an import are good pictures of the part: without --images, they serve as those.

    Raises:
        BadInput: INT8 is asked for and there are no pictures.
    """
    if not is_foreign(args.model):
        return args
    if args.images is None and args.calibration is not None:
        args = argparse.Namespace(**{**vars(args), "images": args.calibration, "calibration": None})
    if args.images is None and "int8" in (args.precision or ""):
        raise BadInput("INT8 needs good pictures of the part", hint="give --images GOOD_DIR, or --precision fp32")
    return args


def _options(args: argparse.Namespace) -> ExportOptions:
    from edgead.calibration.judging.deviation import Limits
    from edgead.export import ExportOptions
    from edgead.families.rewriting import parse

    return ExportOptions(
        backends=_backends(args),
        precisions=listed(args.precision) if args.precision else _precisions(args),
        weight_bits=args.weight_bits,
        observer=args.observer,
        tool=args.calibration_tool,
        calibration=args.calibration,
        allow_unsafe=args.allow_unsafe_calibration,
        labelled=args.labelled,
        frames_per_class=args.frames,
        limits=_budget.limits(args, Limits()),
        max_false_reject=args.max_false_reject,
        report=args.report,
        tensorrt=build_options(args),
        threads=args.threads,
        rewrites=parse(args.rewrite or ()),
        left_out=tuple(args.no_rewrite or ()),
    )


def _exported(args: argparse.Namespace, model_dir: Path, target: Path, options: ExportOptions, temporary: Path) -> Bundle | None:
    """The bundle, by a search, like another one, or as the options say; None when a search was interrupted."""
    from edgead.cli._console import progress
    from edgead.export import export_bundle

    if args.budget_ms is not None:
        return _searched(args, model_dir, target, options)
    like = None
    if args.like is not None:
        model_dir, options, like = _like(args, model_dir, options, temporary)
    with progress() as bar:
        task = bar.add_task("reading", total=1.0)
        bundle = export_bundle(
            model_dir, target, options, lambda stage, done: bar.update(task, description=stage, completed=done)
        )
    if like is not None:
        compare(like, bundle)
    return bundle


def _searched(args: argparse.Namespace, model_dir: Path, target: Path, options: ExportOptions) -> Bundle | None:
    from edgead.cli._console import console, progress
    from edgead.export.search.search import NothingMeets, search_bundle

    options, search = _budget.within_device(args, options), _budget.search_options(args, model_dir)
    folder = search.folder or target.with_name(f"{target.name}.search")

    def tell(found: Search) -> None:
        _budget.show_search(found)
        if plot := _budget.write_plot(found, folder):
            console().print(f"plot: {plot}", markup=False)

    with progress() as bar:
        task = bar.add_task("reading", total=1.0)
        try:
            bundle = search_bundle(
                model_dir, target, options, search,
                lambda stage, done: bar.update(task, description=stage, completed=done),
                lambda line: bar.console.print(line, markup=False),
            )  # fmt: skip
        except NothingMeets as error:
            bar.stop()
            tell(error.facts)
            raise
        except KeyboardInterrupt:
            bar.stop()
            kept = f"; what was measured is in {folder}: the same command goes on" if folder.exists() else ""
            print(f"edgead export: interrupted, no bundle was written{kept}", file=sys.stderr)
            return None
    facts = bundle.manifest.measured.search
    tell(facts)
    console().print(f"chosen: {_budget.summary(facts)}", markup=False)
    return bundle


def _like(
    args: argparse.Namespace, model_dir: Path, options: ExportOptions, temporary: Path
) -> tuple[Path, ExportOptions, Bundle]:
    """The model (trained again at the size that a search chose), the options of a bundle's export, and that bundle."""
    from edgead.bundle import Bundle

    like = Bundle.open(args.like)
    try:
        options = _budget.options_like(like, options)
        size = options.search.chosen.size if options.search.chosen else None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{args.like} does not tell how it was made ({error!r})"[:300], hint="export without --like") from error
    if size is not None:
        retrain, why_not = _budget.retrainer(model_dir)
        if retrain is None:
            raise BadInput(
                f"{args.like} is of the model trained again at {size[0]} x {size[1]} px: {why_not}", hint="give --size"
            )
        model_dir = temporary / "again"
        retrain((size[0], size[1]), model_dir, lambda: False)
    return model_dir, options, like


def default_target(model: Path) -> Path:
    """``NAME.edgead`` in the current folder, NAME being that of the model's folder or file."""
    model = model.resolve()
    return Path(f"{model.name if model.is_dir() else model.stem}.edgead")


def _backends(args: argparse.Namespace) -> tuple[str, ...] | None:
    if args.backend:
        return listed(args.backend)
    return ("openvino",) if args.calibration_tool == "nncf" else None  # its graphs are for OpenVINO only


def _precisions(args: argparse.Namespace) -> tuple[str, ...]:
    foreign = is_foreign(args.model) or imported_without_pictures(args.model)
    pictures = not foreign or args.images is not None or args.calibration is not None
    return ("fp32", "int8") if pictures else ("fp32",)


def _share(text: str) -> float:
    """``0.001`` or ``0.1%``."""
    value = _positive(text)
    if value > 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1, or 0% and 100%")
    return value


def _positive(text: str) -> float:
    number, percent = (text[:-1], 0.01) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) * percent
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on, or a percentage")
    return value
