"""A trained model, or another tool's file, as a verified bundle. What needs torch is imported when it is used."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead import versions
from edgead.bundle import Bundle, check_target
from edgead.errors import BadInput, BundleError, EdgeadError, ParityFailed
from edgead.jobs.importing import (
    Foreign,
    ImportRequest,
    ImportResult,
    check_folder,
    import_model,
    imported_without_pictures,
    is_foreign,
    with_good_pictures,
)
from edgead.jobs.progress import Progress, silent
from edgead.optional import require

if TYPE_CHECKING:
    from edgead.export import ExportOptions
    from edgead.export.search.options import SearchOptions


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export.

    Attributes:
        model: folder of a trained model, or another tool's file.
        options: what to build and what to accept. Without `precisions` these are FP32 and, where there are good pictures, INT8.
        bundle: its folder; None: ``NAME.edgead`` in the current one.
        foreign: how another tool's file is read; of a trained model None.
        search: find the most accurate engine that keeps a budget (:func:`edgead.jobs.search.search_options`); None: build those
            of `options`.
        device: where a search's engines run, ``"cpu"`` or ``"gpu"``; None: what is installed for the CPU.
        like: make the same engines as in this bundle, without a search.
    """

    model: Path
    options: ExportOptions
    bundle: Path | None = None
    foreign: Foreign | None = None
    search: SearchOptions | None = None
    device: str | None = None
    like: Path | None = None

    @property
    def target(self) -> Path:
        """The bundle's folder."""
        return target_of(self.model, self.bundle)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was made.

    Attributes:
        bundle: opened; its manifest says what was measured, and what was refused.
        imported: what was found in another tool's file; None: the model was a trained one.
        kept: where the bundle that was there is now; None: none was.
        wanted: engines that were asked for by name and were refused all the same.
        no_int8: nobody named precisions, and INT8 was left out: there are no good pictures, or the model runs as it is.
        with_pictures: there were good pictures.
        automatic: nobody named backends: those that are installed were taken.
        differing: names of graphs that are not those of the bundle to be like; None: there was none.
    """

    bundle: Bundle
    imported: ImportResult | None
    kept: Path | None
    wanted: tuple[str, ...]
    no_int8: bool
    with_pictures: bool
    automatic: bool
    differing: tuple[str, ...] | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the engines, and how far each is from the trained model."""
        from edgead.jobs.pages import html_table

        rows = []
        for record in self.bundle.manifest.engines:
            parity = record.parity
            told = ("-", "-") if parity is None else (f"{parity.score_error:.2g}", f"{parity.label_flips} of {parity.frames}")
            rows.append((record.name, record.precision, f"{record.threshold.value:.4g}", *told))
        return html_table((str(self.bundle.path), "precision", "threshold", "score error", "labels flipped"), rows)

    def check(self) -> None:
        """Raises ParityFailed when something that was asked for by name was refused."""
        if self.wanted:
            held = ", ".join(record.name for record in self.bundle.manifest.engines)
            raise ParityFailed(
                f"refused, though asked for: {', '.join(self.wanted)}; {self.bundle.path} is written without",
                hint=f"it holds {held}; edgead inspect {self.bundle.path} says why",
            )


def need_packages() -> None:
    """Raises MissingExtra: what every export needs is not installed."""
    for module in ("torch", "safetensors", "onnx", "onnxscript"):
        require(module, extra="export", why="Exporting")


def target_of(model: Path, bundle: Path | None) -> Path:
    """The bundle's folder: as it is given, else ``NAME.edgead`` in the current one."""
    if bundle is not None:
        return bundle
    model = model.resolve()
    return Path(f"{model.name if model.is_dir() else model.stem}.edgead")


def check_paths(model: Path, bundle: Path | None, **pictures: Path | None) -> None:
    """What can be known before anything is imported.

    Args:
        pictures: folders of pictures, by the names of their options.

    Raises:
        BadInput: there is no model, no such folder, or something else where the bundle is to be.
        StorageError: the bundle's folder cannot be made.
    """
    if not model.exists():
        raise BadInput(
            f"{model} holds no trained model: it does not exist", hint="train one with: edgead train MODEL GOOD_DIR -o DIR"
        )
    for name, folder in pictures.items():
        check_folder(name, folder)
    check_target(target_of(model, bundle))


def export(request: ExportRequest, progress: Progress = silent, say: Callable[[str], None] = lambda line: None) -> ExportResult:
    """Make the bundle.

    Args:
        say: told, line by line, what a search finds on its way.

    Raises:
        BadInput: no model, unusable pictures, options that do not go together, or the target is something else.
        MissingExtra: a package or backend that is needed is not installed.
        ParityFailed: no engine answers as the model did; no bundle is left, an old one stays.
        NothingMeets: no engine keeps the budget; likewise.
        EngineError: none can be built or run; likewise.
        StorageError: the disk is full or not writable; likewise.
    """
    with failure_told(request.options.report, request.model.stem):
        _check(request)
        need_packages()
        before = {version.path for version in versions.former(request.target)}
        with tempfile.TemporaryDirectory(prefix="edgead-") as temporary:
            bundle, imported, options = _made(request, Path(temporary), progress, say)
        kept = [version.path for version in versions.former(bundle.path) if version.path not in before]
        like = None if request.like is None else _differing(request.like, bundle)
        asked = request.options
        return ExportResult(
            bundle,
            imported,
            kept[-1] if kept else None,
            _wanted(bundle, asked),
            asked.precisions is None and "int8" not in (options.precisions or ()),
            request.foreign is not None and request.foreign.images is not None,
            options.backends is None and request.search is None and request.like is None,
            like,
        )


@contextmanager
def failure_told(report: Path | None, name: str) -> Iterator[None]:
    """Whatever fails inside is told in the report that was asked for, unless it already is.

    Args:
        name: of the model.
    """

    def written() -> int | None:
        return report.stat().st_mtime_ns if report is not None and report.is_file() else None

    before = written()
    try:
        yield
    except EdgeadError as error:
        if report is not None and written() == before:
            try:
                from edgead.export.report import check_report, write_failure

                check_report(report)
                write_failure(report, name, str(error), getattr(error, "facts", None))
            except (EdgeadError, ImportError) as second:  # what went wrong first is what counts
                logging.getLogger(__name__).warning("no report: %s", second)
        raise


def _check(request: ExportRequest) -> None:
    """Refuse what is not there and what does not apply, before any work. Raises BadInput."""
    check_paths(
        request.model, request.bundle, calibration=request.options.calibration, labelled=request.options.labelled
    )  # fmt: skip
    if request.foreign is not None and not is_foreign(request.model):
        raise BadInput(f"{request.model} is an edgead model", hint="only another tool's file is told how it is read")
    if request.search is not None and request.like is not None:
        raise BadInput("a budget and a bundle to be like do not go together", hint="a search makes a new bundle")


def _made(
    request: ExportRequest, temporary: Path, progress: Progress, say: Callable[[str], None]
) -> tuple[Bundle, ImportResult | None, ExportOptions]:
    """The bundle, what was imported for it, and the options that were taken at last."""
    from edgead.export import export_bundle
    from edgead.export.search.search import search_bundle
    from edgead.jobs.search import within_device

    model_dir, options, imported = _model(request, temporary, progress)
    if request.search is not None:
        options = within_device(options, request.device)
        return search_bundle(model_dir, request.target, options, request.search, progress, say), imported, options
    if request.like is not None:
        model_dir, options = _like(request.like, model_dir, options, temporary)
    return export_bundle(model_dir, request.target, options, progress), imported, options


def _model(request: ExportRequest, temporary: Path, progress: Progress) -> tuple[Path, ExportOptions, ImportResult | None]:
    """The trained model's folder, and the options as this model takes them."""
    model, options, imported = request.model, request.options, None
    pictures = True
    if is_foreign(model):
        foreign = request.foreign or Foreign()
        if foreign.images is None and options.calibration is not None:  # they are good pictures of the part
            foreign, options = _with_images(foreign, options)
        pictures = foreign.images is not None
        if not pictures and "int8" in (options.precisions or ()):
            raise BadInput("INT8 needs good pictures of the part", hint="give --images GOOD_DIR, or --precision fp32")
        imported = import_model(ImportRequest(model, temporary / "model", foreign), progress)
        model = imported.out
        if imported.imported.detector.exports == "openvino" and options.backends is None and options.precisions is None:
            options, pictures = dataclasses.replace(options, backends=("openvino",)), False
    elif imported_without_pictures(model):
        pictures = options.calibration is not None
        if options.calibration is not None:
            with_good_pictures(model, temporary / "model", options.calibration)
            model, options = temporary / "model", dataclasses.replace(options, calibration=None)
    if options.precisions is None and request.like is None:
        options = dataclasses.replace(options, precisions=_precisions(request, pictures))
    if options.backends is None and options.tool == "nncf":  # its graphs are for OpenVINO only
        options = dataclasses.replace(options, backends=("openvino",))
    return model, options, imported


def _with_images(foreign: Foreign, options: ExportOptions) -> tuple[Foreign, ExportOptions]:
    images = dataclasses.replace(foreign, images=options.calibration)
    return images, dataclasses.replace(options, calibration=None)


def _precisions(request: ExportRequest, pictures: bool) -> tuple[str, ...]:
    """Those to build when nobody says; without good pictures there is no INT8."""
    floats = ("fp32", "fp16") if request.search is not None and request.device == "gpu" else ("fp32",)
    return (*floats, "int8") if pictures else floats


def _like(path: Path, model_dir: Path, options: ExportOptions, temporary: Path) -> tuple[Path, ExportOptions]:
    """The model (trained again at the size that a search chose), and the options of a bundle's export."""
    from edgead.jobs.again import options_like, retrainer

    like = Bundle.open(path)
    try:
        options = options_like(like, options)
        size = options.search.chosen.size if options.search.chosen else None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} does not tell how it was made ({error!r})"[:300], hint="export without --like") from error
    if size is not None:
        retrain, why_not = retrainer(model_dir)
        if retrain is None:
            raise BadInput(f"{path} is of the model trained again at {size[0]} x {size[1]} px: {why_not}", hint="give --size")
        model_dir = temporary / "again"
        retrain((size[0], size[1]), model_dir, lambda: False)
    return model_dir, options


def _differing(like: Path, bundle: Bundle) -> tuple[str, ...]:
    from edgead.jobs.again import differing_graphs

    return differing_graphs(Bundle.open(like), bundle)


def _wanted(bundle: Bundle, asked: ExportOptions) -> tuple[str, ...]:
    """Refused engines that were named: who names backends and precisions wants each of their engines; who names one of them wants
    any engine of it."""
    kept = {(record.backend, record.precision) for record in bundle.manifest.engines}
    missing = []
    for refusal in bundle.manifest.measured.refused:
        backend, _, precision = refusal.engine.rpartition("-")
        others = {
            (True, True): False,
            (True, False): any(b == backend for b, _ in kept),
            (False, True): any(p == precision for _, p in kept),
            (False, False): True,
        }[asked.backends is not None, asked.precisions is not None]
        if not others:
            missing.append(refusal.engine)
    return tuple(missing)
