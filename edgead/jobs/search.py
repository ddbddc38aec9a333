"""What `edgead export` searches for: the most accurate engine that keeps a budget in milliseconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle import storage_errors
from edgead.errors import BadInput, MissingExtra
from edgead.jobs.again import card_of, retrainer

if TYPE_CHECKING:
    from edgead.export import ExportOptions
    from edgead.export.search.options import SearchOptions
    from edgead.measured import Search

MINUTES = 10.0
WITH_DEFECTS = (0.05, 0.005, 1.0)
"""Share of flips, loss of AUROC and score deviation that a search tolerates by default where real defects tell what an engine is
worth: with a smaller bank all scores rise, each engine has its own threshold, and it is AUROC that counts."""

CPU, GPU = ("openvino", "onnxruntime"), ("tensorrt", "tensorrt-rtx")


def search_options(
    model: Path,
    budget_ms: float,
    *,
    frame: tuple[int, int] | None = None,
    minutes: float = MINUTES,
    folder: Path | None = None,
    restart: bool = False,
    limits: Mapping[str, float] | None = None,
) -> SearchOptions:
    """What is asked of the search for an engine of this model.

    Args:
        model: its folder, or another tool's file.
        budget_ms: from the camera's picture to the verdict, at p99.
        frame: width, height of the camera's pictures; None: of a model that finds the part in the picture, the size of its
            reference picture, else 1920 x 1080.
        minutes: bound on the search.
        folder: what was measured; None takes ``BUNDLE.search``.
        restart: measure again what an earlier search measured.
        limits: values of :class:`edgead.calibration.judging.deviation.Limits` in place of the search's own.

    Raises:
        BadInput: a value is not usable.
    """
    from edgead.calibration.judging.deviation import Limits
    from edgead.export.search.options import SearchOptions

    if frame is None:
        card = card_of(model)
        found = card.preprocess.align if card is not None else None
        frame = found.frame if found is not None else (1920, 1080)
    if min(frame) < 16:
        raise BadInput(f"a camera picture of {frame[0]} x {frame[1]} px is not usable", hint="give --frame 1920x1080")
    retrain, why_not = retrainer(model)
    allowed = dataclasses.replace(Limits(*WITH_DEFECTS), **(limits or {}))
    return SearchOptions(budget_ms, frame, minutes, folder, restart, retrain, why_not, allowed)


def within_device(options: ExportOptions, device: str | None) -> ExportOptions:
    """The backends that a search may take, all of which must run here.

    Args:
        device: ``"cpu"``, ``"gpu"`` (TensorRT) or None: what is installed for the CPU.

    Raises:
        BadInput: those that were asked for are not of the device.
        MissingExtra: there is none.
    """
    from edgead.export import BACKENDS, installed_backends

    of_device = GPU if device == "gpu" else CPU
    if options.backends is not None:
        strange = [name for name in options.backends if device is not None and name not in of_device]
        if strange:
            raise BadInput(f"{strange[0]} does not run on the {device}", hint=f"choose {' or '.join(of_device)}")
        return options
    if device != "gpu":
        backends = tuple(name for name in installed_backends() if name in CPU)
        if not backends:
            raise MissingExtra("no inference backend is installed", hint="pip install 'edgead[openvino]'")
        return dataclasses.replace(options, backends=backends)
    installed = tuple(name for name in GPU if BACKENDS[name].installed())
    usable = tuple(name for name in installed if BACKENDS[name].runs_here(options.tensorrt))
    if not usable:
        what = "no GPU that TensorRT can use is here" if installed else "TensorRT is not installed"
        raise MissingExtra(f"--device gpu: {what}", hint="see edgead doctor, edgead docs tensorrt, or search with --device cpu")
    return dataclasses.replace(options, backends=usable)


def write_plot(search: Search, folder: Path) -> Path | None:
    """Latency against accuracy as ``search.png``; None when nothing was judged.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: it cannot be written.
    """
    from edgead.export.figures import latency_against_auroc

    if not any(row.latency and row.accuracy for row in search.candidates or ()):
        return None
    picture, target = latency_against_auroc(search, "png"), folder / "search.png"
    with storage_errors(target):
        target.write_bytes(picture)
    return target
