"""Any ONNX graph with a picture input and a map or score output, wrapped to the graph contract in a child process with limits
(:mod:`edgead.importers.foreign_onnx`). anomalib's own ONNX exports are recognised by their outputs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgead.bundle import Threshold
from edgead.disk import check_regular
from edgead.errors import BadInput
from edgead.families.foreign.network import GraphDetector
from edgead.importers.bounded import Bounds, call
from edgead.importers.model import Imported, ImportOptions, recipe_for, refuse_options
from edgead.importers.ports import GraphOptions, described
from edgead.models.detector import Detector

__all__ = ["GraphOptions", "import_graph"]

MOST_BYTES = 2 << 30
"""Of the graph itself, by the limit of its format; weights beside it may have more."""


def import_graph(path: Path, options: ImportOptions, inputs: GraphOptions, bounds: Bounds | None = None) -> Imported:
    """An ONNX file as a detector.

    Args:
        bounds: what looking at it may take.

    Raises:
        BadInput: no ONNX file, or its picture input or outputs cannot be found or used: the message names the tensor; or it is
            over the bounds.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    check(path, options)
    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        out = Path(folder) / "model.onnx"
        request = {"out": str(out), "size": options.size, "inputs": inputs.to_json()}
        found = call("edgead.importers.foreign_onnx", path, request, bounds or Bounds())
        height, width = found["size"]
        detector = GraphDetector.from_bytes(out.read_bytes(), (height, width), found["anomalib"])
    return told(detector, (path, *map(Path, found["files"])), "ONNX", found, options, inputs)


def check(path: Path, options: ImportOptions) -> None:
    """Refuse what no graph can be imported from or with.

    Raises:
        BadInput: no regular file, or an option for other sources.
    """
    check_regular(path)
    if path.stat().st_size > MOST_BYTES:
        raise BadInput(
            f"{path} has {path.stat().st_size >> 30} GiB, and such files have at most 2", hint="give the exported graph"
        )
    if options.frame_size is not None:
        raise BadInput("a foreign graph cannot resize in its graph", hint="leave --exact-resize away")
    refuse_options(options, "a graph, which holds its weights", "weights", "backbone", "layers")


def told(
    detector: Detector,
    files: tuple[Path, ...],
    kind: str,
    found: dict[str, Any],
    options: ImportOptions,
    inputs: GraphOptions,
) -> Imported:
    """The imported graph with what is assumed about it.

    Args:
        kind: "ONNX" or "OpenVINO".
        found: what the child process told: ``anomalib``: it is anomalib's export; ``has``: whether it has a score and a map of
            its own; ``float``: its input's type; ``notes``.
    """
    anomalib, has = bool(found["anomalib"]), found["has"]
    assumptions = [described(inputs, bool(found["float"])), *found["notes"]]
    threshold = None
    if anomalib:
        assumptions.append("anomalib's export: scores and maps are normalised and clamped to 0..1, not raw; the threshold is 0.5")
        threshold = Threshold(float(np.nextafter(np.float32(0.5), np.float32(1.0))), "anomalib's normalised threshold")
    if not all(has):
        assumptions.append("the score is the map's maximum" if has[1] else "the graph has no map: the score is told as one cell")
    height, width = detector.image_size
    source = f"anomalib's {kind} export" if anomalib else f"{kind} graph"
    recipe = recipe_for((height, width), not anomalib, options)
    return Imported(detector, recipe, threshold, f"{source}, {width} x {height} px", files, assumptions)
