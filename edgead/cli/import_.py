"""Make an edgead model from another tool's file: anomalib's model.ckpt or ONNX, the original PatchCore, SimpleNet and EfficientAD
code's files, or any ONNX graph. No pickle in them is executed. edgead docs importing has one recipe per source.

edgead export FILE does the same on the way to a bundle; this verb keeps the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgead.cli._console import told_progress
from edgead.cli._importing import foreign_of, import_options
from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb


@verb(__doc__)
@argument("source", type=PATH, metavar="FILE_OR_DIR", help="the other tool's file or folder")
@option("-o", "--out", type=PATH, required=True, metavar="DIR", help="folder for the model")
@import_options
@JSON
def command(source: Path, out: Path, as_json: bool, **asked: Any) -> int:
    from edgead.jobs.importing import ImportRequest, import_model

    with told_progress() as progress:
        result = import_model(ImportRequest(source, out, foreign_of(asked)), progress)
    from edgead.cli._imported import ImportedModel, summary

    if as_json:
        print_json("import", ImportedModel.of(result))
        return 0
    from edgead.cli._console import console

    console().print(summary(result), markup=False)
    console().print(f"wrote {out}\nnext: edgead export {out}", markup=False)
    return 0
