"""Make an edgead model from another tool's file: anomalib's model.ckpt or ONNX, the original PatchCore, SimpleNet and EfficientAD
code's files, or any ONNX graph. No pickle in them is executed. docs/importing.md has one recipe per source.

edgead export FILE does the same on the way to a bundle; this verb keeps the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "make a model from another tool's file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from edgead.cli._importing import add_import_arguments

    parser.add_argument("source", type=Path, metavar="FILE_OR_DIR", help="the other tool's file or folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the model")
    add_import_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from edgead.bundle import check_target
    from edgead.cli._console import console
    from edgead.cli._importing import check_pictures, import_to, summary
    from edgead.errors import BadInput
    from edgead.optional import require

    if not args.source.exists():
        raise BadInput(f"{args.source} does not exist", hint="give a file or a folder that another tool wrote")
    check_pictures("images", args.images)
    check_target(args.out, "model.json", "a trained model")

    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Importing a model")
    imported, threshold, notes = import_to(args, args.source, args.out)
    console().print(summary(imported, threshold, notes), markup=False)
    console().print(f"wrote {args.out}\nnext: edgead export {args.out}", markup=False)
    return 0
