"""Turn a trained model into a verified bundle: ONNX, INT8, OpenVINO and ONNX Runtime engines, golden frames.

Every engine is compared with the trained model on held-out good frames and on labelled test frames; where there are none, on
defects drawn onto good frames. When an INT8 engine does not answer as the model did, the layers to blame are returned to float;
when that does not help either, the engine is refused by name and the bundle holds the others. The exit code is 4 when a refused
one was asked for by name (--backend, --precision), or when none is left: then nothing is written.

With --budget-ms, edgead searches on this device for the most accurate engine that answers in time; when there is none, nothing is
written and the exit code is 8. Of several models the one with the best engine in time is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgead.cli._console import told_progress
from edgead.cli._importing import OF_IMPORTS, foreign_of, import_options, refuse_import_options
from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS, refuse
from edgead.cli._types import FRAME, NAMES, NUMBER, PATH, Parsed, whole
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput
from edgead.thresholds.written import rate

if TYPE_CHECKING:
    from edgead.export import ExportOptions
    from edgead.export.search.options import SearchOptions
    from edgead.export.tensorrt import BuildOptions
    from edgead.jobs.export import ExportRequest, ExportResult

METHODS = ("minmax", "mse", "percentile")
INT8, JUDGING, REWRITES = "INT8", "what to accept", "rewrites: the same answers, or nearly, with less work (edgead docs rewrites)"
SEARCH, GPU = "search (edgead docs budget)", "TensorRT (--backend tensorrt or tensorrt-rtx)"
OF_INT8 = ("weight_bits", "observer", "calibration_tool")
OF_SEARCH = ("device", "search_minutes", "frame", "search_dir", "restart_search")
OF_TENSORRT = ("workspace_mb", "compute_capability", "dla")
OF_BUILDING = ("report", "calibration", "allow_unsafe_calibration", "labelled", "frames", "max_flips", "max_auroc_drop",
               "max_score_deviation", "max_false_reject", "rewrite", "no_rewrite", "threads", *OF_INT8)  # fmt: skip
LIMITS = ("max_flips", "max_auroc_drop", "max_score_deviation")


def _positive(text: str) -> float:
    """``0.001`` or ``0.1%``, from 0 on."""
    digits, percent = (text[:-1], 0.01) if text.endswith("%") else (text, 1.0)
    try:
        value = float(digits) * percent
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise ValueError(f"{text[:80]!r} is not a number from 0 on, or a percentage")
    return value


def _share(text: str) -> float:
    if (value := _positive(text)) > 1.0:
        raise ValueError(f"{text[:80]!r} is not a share between 0 and 1, or 0% and 100%")
    return value


def _device(text: str) -> str:
    if text not in ("cpu", "gpu"):
        raise ValueError(f"{text[:80]!r} is not one of cpu, gpu")
    return text


@verb(__doc__)
@argument(
    "models",
    type=PATH,
    nargs=-1,
    required=True,
    metavar="MODEL...",
    help="folder written by edgead train or import, or another tool's file (edgead docs importing); several with --budget-ms",
)
@option("-o", "--out", type=PATH, metavar="BUNDLE", help="the bundle's folder (default: NAME.edgead here)")
@option("--backend", type=NAMES, metavar="LIST", help="comma-separated; an unknown one lists them all (default: those installed)")
@option(
    "--precision",
    type=NAMES,
    metavar="LIST",
    help="of fp32,fp16,int8 (default: fp32,int8; fp32 without good pictures)",
)
@option("--calibration", type=PATH, metavar="DIR", group=INT8, help="good pictures (default: set aside by training)")
@option("--allow-unsafe-calibration", is_flag=True, group=INT8, help="use pictures that look wrong all the same")
@option(
    "--weight-bits", type=whole(7, 8), metavar="7|8", group=INT8, help="8 needs VNNI on a CPU (default: what the target takes)"
)
@option("--observer", type=click.Choice(METHODS), default="minmax", group=INT8, help="how ranges are chosen (default minmax)")
@option(
    "--calibration-tool",
    type=click.Choice(("edgead", "nncf")),
    default="edgead",
    group=INT8,
    help="maker of the graph (default edgead)",
)
@option("--labelled", type=PATH, metavar="DIR", group=JUDGING, help="test/good and test/DEFECT... to compare on as well")
@option(
    "--frames",
    type=whole(2),
    default=100,
    metavar="N",
    group=JUDGING,
    help="frames compared of each kind, at most (default 100)",
)
@option(
    "--max-flips",
    type=Parsed(_share, "share"),
    metavar="SHARE",
    group=JUDGING,
    help="tolerated share of labels that change (default 1%; in a search with labelled defects 5%)",
)
@option(
    "--max-auroc-drop",
    type=Parsed(_share, "share"),
    metavar="SHARE",
    group=JUDGING,
    help="tolerated loss of AUROC (default 0.005)",
)
@option(
    "--max-score-deviation",
    type=Parsed(_positive, "number"),
    metavar="X",
    group=JUDGING,
    help="mean score change over the scores' deviation (default 0.2; in a search with labelled defects 1)",
)
@option(
    "--max-false-reject",
    type=Parsed(rate, "rate"),
    metavar="RATE",
    group=JUDGING,
    help="choose thresholds by this share of good parts",
)
@option("--rewrite", multiple=True, metavar="NAME=VALUE", group=REWRITES, help="apply this one; an unknown name lists them")
@option("--no-rewrite", multiple=True, metavar="NAME", group=REWRITES, help="leave out one that is applied by default")
@option(
    "--budget-ms",
    type=NUMBER,
    metavar="MS",
    group=SEARCH,
    help="find the most accurate engine that answers within MS at p99 on this device, camera picture to verdict",
)
@option(
    "--device",
    type=Parsed(_device),
    metavar="NAME",
    group=SEARCH,
    help="cpu, or gpu: TensorRT (default: what is installed for the CPU)",
)
@option("--search-minutes", type=NUMBER, metavar="M", group=SEARCH, help="bound on the search (default 10)")
@option(
    "--frame",
    type=FRAME,
    metavar="WxH",
    group=SEARCH,
    help="size of the camera's pictures (default 1920x1080; with --align at training, the reference's)",
)
@option("--search-dir", type=PATH, metavar="DIR", group=SEARCH, help="what was measured (default: BUNDLE.search)")
@option("--restart-search", is_flag=True, group=SEARCH, help="measure again what an earlier search measured")
@option("--like", type=PATH, metavar="BUNDLE", group=SEARCH, help="the same engines as in this bundle, without a search")
@option("--report", type=PATH, metavar="FILE", help="write what was measured, or why it failed, to a .html or .md file")
@THREADS
@option(
    "--on-device",
    is_flag=True,
    group=GPU,
    help="MODEL is a bundle: build its TensorRT engines that do not match this GPU or version, from its own graphs",
)
@option(
    "--compute-capability",
    metavar="LIST",
    group=GPU,
    help="build ahead of time for these GPUs, e.g. 89,120 (tensorrt-rtx)",
)
@option(
    "--workspace-mb", type=whole(1), metavar="N", group=GPU, help="most GPU memory that one layer may use (default: all of it)"
)
@option("--dla", type=whole(0), metavar="CORE", group=GPU, help="use this deep learning accelerator of an Orin (tensorrt)")
@import_options
@JSON
def command(
    models: tuple[Path, ...],
    out: Path | None,
    backend: tuple[str, ...] | None,
    precision: tuple[str, ...] | None,
    on_device: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    _refuse_clashes(asked["budget_ms"], asked["like"], on_device, backend)
    if len(models) > 1:
        return _several(models, out, backend, precision, asked, as_json)
    (model,) = models
    if on_device:
        return _on_device(model, out, backend, precision, asked, as_json)
    from edgead.jobs.export import failure_told

    with failure_told(asked["report"], model.stem):
        request = _request(model, out, backend, precision, asked)
    result = _made(request)
    if result is None:
        return 130
    if as_json:
        from edgead.cli._exported import Exported

        print_json("export", Exported.of(result))
    else:
        _tell(result, request)
    result.check()
    return 0


def _several(
    models: tuple[Path, ...],
    out: Path | None,
    backend: tuple[str, ...] | None,
    precision: tuple[str, ...] | None,
    asked: dict[str, Any],
    as_json: bool,
) -> int:
    """The best engine in time of several models."""
    from edgead.cli._exported import Exported, show_rivals
    from edgead.jobs.several import export_best

    refuse("report", "on_device", "like", why="for one model, and there are several", hint="export the one that is chosen again")
    if out is None or asked["budget_ms"] is None:
        raise BadInput(
            f"{len(models)} models: only a budget chooses among them",
            hint="give --budget-ms MS and -o BUNDLE, or export one at a time",
        )
    requests = [_request(model, out, backend, precision, asked) for model in models]
    try:
        with told_progress() as progress:
            best = export_best(requests, progress, progress.say)
    except KeyboardInterrupt:
        print("edgead export: interrupted, no bundle was written; the same command goes on", file=sys.stderr)
        return 130
    if as_json:
        print_json("export", Exported.of(best.result, best.rivals))
    else:
        show_rivals(best)
        _tell(best.result, next(one for one in requests if one.model == best.rivals[0].model))
    best.result.check()
    return 0


def _refuse_clashes(budget_ms: float | None, like: Path | None, on_device: bool, backend: tuple[str, ...] | None) -> None:
    """Refuse what does not go together, before any work. Raises BadInput."""
    if budget_ms is None:
        refuse(*OF_SEARCH, why="for a search only, and there is no --budget-ms", hint="give --budget-ms, or leave it out")
    else:
        refuse("on_device", "like", why="does not go with --budget-ms", hint="a search makes a new bundle from a trained model")
    if like is not None:
        refuse("on_device", "backend", "precision", "rewrite", "no_rewrite", "weight_bits",
               why="does not go with --like", hint="the bundle says what to make")  # fmt: skip
    if not on_device and like is None and not any(name.startswith("tensorrt") for name in backend or ()):
        what = f"--backend is {','.join(backend)}" if backend else "there is no --backend"
        refuse(*OF_TENSORRT, why=f"for TensorRT only, and {what}", hint="give --backend tensorrt or tensorrt-rtx")


def _request(
    model: Path,
    out: Path | None,
    backend: tuple[str, ...] | None,
    precision: tuple[str, ...] | None,
    asked: dict[str, Any],
) -> ExportRequest:
    """What the words ask for. Raises BadInput, MissingExtra."""
    from edgead.jobs.export import ExportRequest, check_paths, need_packages
    from edgead.jobs.importing import imported_without_pictures, is_foreign

    check_paths(model, out, **{name: asked[name] for name in ("calibration", "labelled", "images")})
    foreign = is_foreign(model)
    if not foreign:
        refuse_import_options(model)
    if precision and "int8" not in precision:
        without = imported_without_pictures(model) or foreign
        unsafe = () if asked["budget_ms"] is not None else ("allow_unsafe_calibration",)  # a search judges by these pictures
        refuse(*OF_INT8, *unsafe, *(() if without else ("calibration",)),
               why=f"for INT8 only, and --precision is {','.join(precision)}", hint="leave it out, or add int8")  # fmt: skip
    if asked["calibration_tool"] == "nncf":
        refuse("observer", why="NNCF takes the smallest and the largest value", hint="leave it out, or --calibration-tool")
    if precision == ("fp32",) and not asked["rewrite"] and asked["budget_ms"] is None:
        refuse(*LIMITS, why="for what answers otherwise than the model, and --precision is fp32",
               hint="leave it out: an FP32 engine answers as the model did, or is refused")  # fmt: skip
    need_packages()
    read = foreign_of({name: asked[name] for name in OF_IMPORTS}) if foreign else None
    search = None if asked["budget_ms"] is None else _search(model, asked)
    return ExportRequest(model, _options(backend, precision, asked), out, read, search, asked["device"], asked["like"])


def _limits(asked: dict[str, Any]) -> dict[str, float]:
    return {name: asked[name] for name in LIMITS if asked[name] is not None}


def _search(model: Path, asked: dict[str, Any]) -> SearchOptions:
    from edgead.jobs.search import MINUTES, search_options

    return search_options(
        model,
        asked["budget_ms"],
        frame=asked["frame"],
        minutes=MINUTES if asked["search_minutes"] is None else asked["search_minutes"],
        folder=asked["search_dir"],
        restart=asked["restart_search"],
        limits=_limits(asked),
    )


def _options(backend: tuple[str, ...] | None, precision: tuple[str, ...] | None, asked: dict[str, Any]) -> ExportOptions:
    from edgead.calibration.judging.deviation import Limits
    from edgead.export import ExportOptions
    from edgead.families.rewriting import parse

    return ExportOptions(
        backends=backend,
        precisions=precision,
        weight_bits=asked["weight_bits"],
        observer=asked["observer"],
        tool=asked["calibration_tool"],
        calibration=asked["calibration"],
        allow_unsafe=asked["allow_unsafe_calibration"],
        labelled=asked["labelled"],
        frames_per_class=asked["frames"],
        limits=Limits(**_limits(asked)),
        max_false_reject=asked["max_false_reject"],
        report=asked["report"],
        tensorrt=_build_options(asked),
        threads=asked["threads"],
        rewrites=parse(asked["rewrite"]),
        left_out=asked["no_rewrite"],
    )


def _build_options(asked: dict[str, Any]) -> BuildOptions:
    from edgead.export.tensorrt import BuildOptions, parse_capabilities

    wanted = parse_capabilities(asked["compute_capability"]) if asked["compute_capability"] else ()
    return BuildOptions(asked["workspace_mb"], wanted, dla_core=asked["dla"])


def _made(request: ExportRequest) -> ExportResult | None:
    """The bundle; None when a search was interrupted, and all of that is told."""
    from edgead.jobs.export import export

    if request.search is None:
        with told_progress() as progress:
            return export(request, progress)
    from edgead.cli._searched import show_search
    from edgead.export.search.search import NothingMeets

    folder = request.search.folder or request.target.with_name(f"{request.target.name}.search")
    try:
        with told_progress() as progress:
            return export(request, progress, progress.say)
    except NothingMeets as error:
        show_search(error.facts, folder)
        raise
    except KeyboardInterrupt:
        kept = f"; what was measured is in {folder}: the same command goes on" if folder.exists() else ""
        print(f"edgead export: interrupted, no bundle was written{kept}", file=sys.stderr)
        return None


def _tell(result: ExportResult, request: ExportRequest) -> None:
    """What was written, what was left out, and what is next."""
    from edgead.cli._console import console
    from edgead.cli._exported import compare, show, tell_former, warn
    from edgead.cli._imported import summary
    from edgead.cli._searched import show_search
    from edgead.cli._searched import summary as searched

    def line(text: str) -> None:
        console().print(text, markup=False)

    bundle = result.bundle
    if result.imported is not None:
        line(summary(result.imported))
    if request.search is not None:
        found = bundle.manifest.measured.search
        show_search(found, request.search.folder or bundle.path.with_name(f"{bundle.path.name}.search"))
        line(f"chosen: {searched(found)}")
    if request.like is not None:
        compare(request.like, result)
    warn(bundle)
    show(bundle)
    tell_former(result)
    if result.no_int8:
        how = "--images GOOD_DIR" if result.imported is not None else "--calibration GOOD_DIR"
        as_it_is = "an OpenVINO IR runs in OpenVINO as it is"
        line(f"INT8 left out: {as_it_is if result.with_pictures else f'it needs good pictures ({how})'}")
    refused = {refusal.engine.rpartition("-")[0] for refusal in bundle.manifest.measured.refused}
    missing = {"openvino", "onnxruntime"} - {record.backend for record in bundle.manifest.engines} - refused
    if result.automatic and missing:
        line(f"left out, not installed: {', '.join(sorted(missing))}")
    if request.options.report is not None:
        line(f"report: {request.options.report}")
    line(f"wrote {bundle.path}\nnext: edgead verify {bundle.path}   or   edgead run {bundle.path} --camera 0")


def _on_device(
    model: Path,
    out: Path | None,
    backend: tuple[str, ...] | None,
    precision: tuple[str, ...] | None,
    asked: dict[str, Any],
    as_json: bool,
) -> int:
    """Build TensorRT engines in a bundle. Raises BadInput for options that do not go with it."""
    from edgead.cli._on_device import on_device

    refuse(*OF_BUILDING, *OF_IMPORTS, why="nothing that --on-device does takes it",
           hint="it builds engines from the bundle's own graphs")  # fmt: skip
    if out is not None or len(backend or ()) > 1:
        what = "-o" if out is not None else "one --backend at a time"
        raise BadInput(f"--on-device changes the bundle itself: {what} does not go with it", hint="see edgead export --help")
    return on_device(model, backend[0] if backend else None, precision or (), _build_options(asked), as_json)
