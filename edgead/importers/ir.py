"""An OpenVINO IR (``.xml`` and ``.bin``) with a picture input and a map or score output, wrapped to the graph contract in a child
process with limits (:mod:`edgead.importers.foreign_ir`)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgead.disk import check_regular
from edgead.errors import BadInput
from edgead.families.foreign.network import IrDetector
from edgead.importers.bounded import Bounds, call
from edgead.importers.graph import check, told
from edgead.importers.model import Imported, ImportOptions
from edgead.importers.ports import GraphOptions


def import_ir(path: Path, options: ImportOptions, inputs: GraphOptions, bounds: Bounds | None = None) -> Imported:
    """An IR as a detector that runs in OpenVINO only, in FP32 as it is.

    Args:
        bounds: what looking at it may take.

    Raises:
        BadInput: no IR, or its picture input or outputs cannot be found or used: the message names the tensor; or it is over the
            bounds.
        MissingExtra: openvino is not installed.
    """
    check(path, options)
    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise BadInput(f"{path} has no {weights.name} beside it", hint="an IR is both files")
    check_regular(weights)
    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        out = Path(folder) / "model.xml"
        request = {"out": str(out), "size": options.size, "inputs": inputs.to_json()}
        found = call("edgead.importers.foreign_ir", path, request, bounds or Bounds())
        height, width = found["size"]
        detector = IrDetector.from_files(out, (height, width), found["anomalib"])
    return told(detector, (path, weights), "OpenVINO", found, options, inputs)
