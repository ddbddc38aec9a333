"""Turn a trained model into a verified bundle: ONNX, INT8, OpenVINO and ONNX Runtime engines, golden frames.

Every engine is compared with the trained model on held-out good frames and, where there are any, labelled test frames. When one
of them does not answer as the model did, nothing is written and the exit code is 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._importing import add_import_arguments, import_to, is_foreign, summary
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.bundle import Bundle

SUMMARY = "make a verified bundle from a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder written by edgead train or import, or another tool's file (docs/importing.md)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help="the bundle's folder (default: NAME.edgead here)")
    parser.add_argument("--backend", metavar="LIST", help="openvino,onnxruntime (default: those installed)")
    parser.add_argument("--precision", metavar="LIST", help="fp32,int8 (default: both; fp32 when there are no good pictures)")
    parser.add_argument("--weight-bits", type=int, choices=(7, 8), default=7, help="of INT8; 8 needs a CPU with VNNI (default 7)")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="good pictures for INT8 (default: set aside by training)")
    parser.add_argument("--labelled", type=Path, metavar="DIR", help="test/good and test/DEFECT... to compare on as well")
    parser.add_argument("--max-flips", type=_share, default=0.01, help="tolerated share of labels INT8 changes (default 0.01)")
    parser.add_argument("--max-auroc-drop", type=_share, default=0.005, help="tolerated AUROC loss of INT8 (default 0.005)")
    parser.add_argument("--frames", type=int, default=100, help="frames compared of each kind, at most (default 100)")
    parser.add_argument("--threads", type=int, help="CPU threads of one inference (default: the engine's choice)")
    add_import_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from edgead.cli._console import console, progress
    from edgead.optional import require

    for module in ("torch", "safetensors", "onnx", "onnxscript"):
        require(module, extra="export", why="Exporting")
    from edgead.calibration.quantize import QuantizeOptions
    from edgead.export import ExportOptions, export_bundle

    if args.threads is not None and args.threads < 1:
        raise BadInput(f"{args.threads} threads are not usable", hint="give a number above 0")
    options = ExportOptions(
        backends=_list(args.backend) if args.backend else None,
        precisions=_list(args.precision) if args.precision else _precisions(args),
        quantize=QuantizeOptions(weight_bits=args.weight_bits),
        calibration=args.calibration,
        labelled=args.labelled,
        frames_per_class=args.frames,
        max_flips=args.max_flips,
        max_auroc_drop=args.max_auroc_drop,
        threads=args.threads,
    )
    target = args.output or default_target(args.model)
    with tempfile.TemporaryDirectory(prefix="edgead-") as temporary:
        model_dir: Path = args.model
        if is_foreign(args.model):
            model_dir = Path(temporary) / "model"
            imported, threshold, notes = import_to(args, args.model, model_dir)
            console().print(summary(imported, threshold, notes), markup=False)
            if imported.detector.family == "openvino_ir" and args.backend is None and args.precision is None:
                options = dataclasses.replace(options, backends=("openvino",), precisions=("fp32",))
        with progress() as bar:
            task = bar.add_task("reading", total=1.0)
            bundle = export_bundle(
                model_dir, target, options, lambda stage, done: bar.update(task, description=stage, completed=done)
            )
    show(bundle)
    if is_foreign(args.model) and args.precision is None and "int8" not in options.precisions:
        runs_as_is = "an OpenVINO IR runs in OpenVINO as it is"
        console().print(f"INT8 left out: {runs_as_is if args.images else 'it needs good pictures (--images GOOD_DIR)'}")
    missing = {"openvino", "onnxruntime"} - {record.backend for record in bundle.manifest.engines}
    if args.backend is None and missing:
        console().print(f"left out, not installed: {', '.join(sorted(missing))}")
    console().print(
        f"wrote {bundle.path}\nnext: edgead verify {bundle.path}   or   edgead run {bundle.path} --camera 0", markup=False
    )
    return 0


def default_target(model: Path) -> Path:
    """``NAME.edgead`` in the current folder, NAME being that of the model's folder or file."""
    model = model.resolve()
    return Path(f"{model.name if model.is_dir() else model.stem}.edgead")


def _precisions(args: argparse.Namespace) -> tuple[str, ...]:
    pictures = not is_foreign(args.model) or args.images is not None or args.calibration is not None
    return ("fp32", "int8") if pictures else ("fp32",)


def show(bundle: Bundle) -> None:
    """The table of engines with what was measured at export."""
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._console import console

    measured = bundle.manifest.measured
    names = ("score err", "map err", "flips", "AUROC", "threshold", "ms")
    table = Table("engine", *(Column(name, justify="right") for name in names), box=box.SIMPLE_HEAD, pad_edge=False)
    auroc = measured.get("auroc")
    trained = measured["threshold"]["value"]
    table.add_row("trained model", "", "", "", "" if auroc is None else f"{auroc:.4f}", f"{trained:.4g}", "")
    for record in bundle.manifest.engines:
        chosen = " *" if record.name == bundle.manifest.default_engine else ""
        table.add_row(
            record.name + chosen,
            f"{record.parity.score_error:.1e}",
            f"{record.parity.map_error:.1e}",
            f"{record.parity.label_flips} of {record.parity.frames}",
            "" if record.auroc is None else f"{record.auroc:.4f}",
            f"{record.threshold.value:.4g}",
            f"{measured['latency_ms'][record.name]:.1f}",
        )
    console().print(table)
    console().print("* fastest here, the default; errors relative to the range of the trained model's maps")


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value
