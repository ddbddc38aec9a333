"""What is this file or folder, and which importer reads it?"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from edgead.disk import check_regular
from edgead.errors import BadInput
from edgead.importers import efficientad_modules, graph, ir, patchcore_folder, simplenet_file
from edgead.importers.anomalib import checkpoint as anomalib
from edgead.importers.bounded import first_line
from edgead.importers.model import Imported, ImportOptions
from edgead.importers.steps import shown
from edgead.models.streams import Record
from edgead.models.torchfile import read_torch_file
from edgead.preprocess import naming

KNOWN = (
    "known: anomalib's model.ckpt; folders with patchcore_params.pkl, or with student_final.pth; SimpleNet's ckpt.pth; "
    ".onnx and OpenVINO .xml files"
)
_TRIPS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
_TORCH = frozenset({".ckpt", ".pth", ".pt"})
_ANOMALIB_PLACES = ("weights/lightning/model.ckpt", "lightning/model.ckpt", "model.ckpt")


def import_model(path: Path, options: ImportOptions | None = None, inputs: graph.GraphOptions | None = None) -> Imported:
    """The model in a file or folder of another tool.

    Args:
        options: what the files do not say, or what is wanted in place of what they say.
        inputs: how an ONNX or OpenVINO graph takes its picture.

    Raises:
        BadInput: missing, not recognised, damaged, hostile or incomplete; the message says what is needed.
        MissingExtra: a package is needed for it.
    """
    options = options or ImportOptions()
    with _foreign(path):
        return _import(path, options, inputs)


@contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """Whatever a file of others makes our readers and their libraries trip over is told as a fault of the file, by its name."""
    try:
        with naming(path):
            yield
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="check the path and its permissions") from error
    except _TRIPS as error:
        raise BadInput(
            f"{path} holds what no such file holds ({type(error).__name__}: {first_line(error, 120)})",
            hint="it is damaged or of another version; if another tool takes it, please report it (--debug shows where)",
        ) from error


def _import(path: Path, options: ImportOptions, inputs: graph.GraphOptions | None) -> Imported:
    if path.is_dir():
        return _import_folder(path, options, inputs)
    if not path.exists():
        raise BadInput(f"there is no file or folder {path}", hint="check the path")
    check_regular(path)
    if path.suffix == ".xml":
        return ir.import_ir(path, options, inputs or graph.GraphOptions())
    if path.suffix == ".onnx":
        return graph.import_graph(path, options, inputs or graph.GraphOptions())
    _refuse_inputs(path, inputs)
    if path.name in (patchcore_folder.PARAMS, patchcore_folder.INDEX):
        return patchcore_folder.import_folder(path.parent, options)
    if path.suffix not in _TORCH:
        raise BadInput(f"{path} is not a model that edgead knows", hint=KNOWN)
    content = read_torch_file(path, anomalib.RECORDS)
    if isinstance(content, Record):
        return efficientad_modules.import_modules(path.parent, options)
    if isinstance(content, dict) and "discriminator" in content:
        return simplenet_file.import_simplenet(path, content, options)
    if isinstance(content, dict) and "state_dict" in content:
        return anomalib.import_checkpoint(path, content, options)
    held = ", ".join(shown(key) for key in list(content)[:4]) if isinstance(content, dict) else type(content).__name__
    raise BadInput(f"{path} is not a model that edgead knows (it holds: {held})", hint=KNOWN)


def _refuse_inputs(path: Path, inputs: graph.GraphOptions | None) -> None:
    """Options for graphs do not go with other files."""
    given, plain = asdict(inputs or graph.GraphOptions()), asdict(graph.GraphOptions())
    if wrong := [name for name, value in given.items() if value != plain[name]]:
        raise BadInput(f"--{wrong[0]} is for ONNX and OpenVINO graphs, and {path} is none", hint=f"leave --{wrong[0]} away")


def _import_folder(folder: Path, options: ImportOptions, inputs: graph.GraphOptions | None) -> Imported:
    names = {entry.name for entry in folder.iterdir()}
    if not any(name.endswith((".onnx", ".xml")) for name in names):
        _refuse_inputs(folder, inputs)
    if any(name.endswith(patchcore_folder.PARAMS) or name == patchcore_folder.INDEX for name in names):
        return patchcore_folder.import_folder(folder, options)
    if any(f"{part}_final.pth" in names for part in efficientad_modules.PARTS):
        return efficientad_modules.import_modules(folder, options)
    for place in _ANOMALIB_PLACES:
        if (folder / place).is_file():
            return _import(folder / place, options, inputs)
    graphs = [folder / name for name in sorted(names) if name.endswith((".onnx", ".xml"))]
    if len(graphs) == 1:
        return _import(graphs[0], options, inputs)
    raise BadInput(f"{folder} holds no model that edgead knows", hint=KNOWN)
