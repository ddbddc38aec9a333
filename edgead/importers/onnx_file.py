"""What a foreign ONNX file holds: its weights, also those beside it, and which of its tensors are picture, score and map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.disk import check_regular
from edgead.errors import BadInput
from edgead.importers.bounded import first_line
from edgead.importers.ports import GraphOptions, input_layout, told_numbers

FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")
WHOLE = ("UINT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")
"""Element types that hold 0 to 255."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The foreign graph's tensors: input, score and map ("" for none); size (height, width); layout, channels and batch of the
    input, its element type; whether it is anomalib's export."""

    input: str
    score: str
    map: str
    size: tuple[int, int]
    layout: str
    channels: int
    batch: int
    kind: str
    anomalib: bool


def read(onnx: Any, path: Path) -> tuple[Any, list[Path]]:
    """The model with its weights, and the files beside it that held them.

    Raises:
        BadInput: no ONNX file, or a file with its weights is missing, outside of its folder, no regular file or too short.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node:
            raise ValueError("it holds no graph")
    except Exception as error:
        raise BadInput(f"{path} is not a valid ONNX file ({first_line(error, 100)})", hint="export it again") from error
    files: dict[Path, int] = {}
    wanted = 0
    for tensor in _tensors(onnx, model):
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        file = path.parent / location
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise BadInput(f"{path} keeps the weight {tensor.name[:60]!r} outside of its folder", hint="do not trust this file")
        if not file.exists():
            raise BadInput(
                f"{path} keeps its weights in {file.absolute()}, which is not there", hint="copy that file beside it, too"
            )
        check_regular(file)
        files[file] = file.stat().st_size
        length = told.get("length", "")
        wanted += int(length) if length.isdigit() else files[file]
        if wanted > 4 * sum(files.values()) + (16 << 20):
            raise BadInput(f"{path} unfolds to many times the size of its weights", hint="do not trust this file")
    if files:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        except Exception as error:
            raise BadInput(
                f"the weights of {path} cannot be read ({first_line(error, 100)})", hint="copy both files again"
            ) from error
    return model, list(files)


def _tensors(onnx: Any, model: Any) -> Iterator[Any]:
    """Every tensor whose data lies outside, in the graph, the graphs inside of it, and functions."""
    external = onnx.TensorProto.EXTERNAL
    todo: list[Any] = [model.graph, *model.functions]
    while todo:
        graph = todo.pop()
        yield from (one for one in getattr(graph, "initializer", ()) if one.data_location == external)
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            yield from (one for one in (attribute.t, *attribute.tensors) if one.data_location == external)
        todo.extend(inner for node in graph.node for inner in inner_graphs(node))


def _used(model: Any) -> set[str]:
    """Names that some node reads, also inside of loops and branches, and the outputs."""
    used = {value.name for value in model.graph.output}
    todo = [model.graph]
    while todo:
        graph = todo.pop()
        for node in graph.node:
            used.update(node.input)
            todo.extend(inner_graphs(node))
        used.update(value.name for value in graph.output)
    return used


def inner_graphs(node: Any) -> list[Any]:
    """The graphs inside of a node: bodies of loops, branches."""
    return [one for a in node.attribute for one in (*((a.g,) if a.HasField("g") else ()), *a.graphs)]


def find_ports(onnx: Any, model: Any, size: tuple[int, int] | None, inputs: GraphOptions) -> Ports:
    """Which tensors are the picture, the score and the map.

    Args:
        size: width, height where the graph takes any.

    Raises:
        BadInput: it cannot be told; the message lists the graph's tensors.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    used = _used(model)
    given = {value.name: value for value in model.graph.input if value.name not in constants}
    needed = [name for name in given if name in used]
    outputs = [value.name for value in model.graph.output]
    has = f"inputs: {_listed(given)}; outputs: {_listed(outputs)}"
    pictures = [name for name in needed if len(given[name].type.tensor_type.shape.dim) == 4] if len(needed) > 1 else needed
    name = inputs.input or (pictures[0] if len(pictures) == 1 else "")
    if name not in given:
        raise BadInput(f"the graph's picture input is not told ({has})", hint="name it: --input NAME")
    if others := [other for other in needed if other != name]:
        raise BadInput(
            f"the graph also needs the input {_listed(others)}, beside the picture {name!r}",
            hint="export it with a constant in its place; edgead gives pictures only",
        )
    anomalib = {"pred_score", "anomaly_map"} <= set(outputs) and inputs.score is None and inputs.map is None
    score, heat = ("pred_score", "anomaly_map") if anomalib else (inputs.score or "", inputs.map or "")
    unknown = [tensor for tensor in (score, heat) if tensor and tensor not in outputs]
    if unknown or not (score or heat):
        what = f"has no output {', '.join(unknown)}" if unknown else "does not tell which outputs are score and map"
        raise BadInput(f"the graph {what} ({has})", hint="name them: --score NAME and/or --map NAME")
    tensor = given[name].type.tensor_type
    kinds = {value: key for key, value in onnx.TensorProto.DataType.items()}
    kind = kinds.get(tensor.elem_type, "UNDEFINED")
    if kind not in FLOATS + WHOLE:
        raise BadInput(f"the input {name!r} takes {kind.lower()}, which holds no picture", hint="export the graph in float32")
    layout, channels, found = input_layout(name, [dim.dim_value for dim in tensor.shape.dim], size, inputs)
    batch = tensor.shape.dim[0].dim_value
    told_numbers(inputs, channels, kind in FLOATS, name)
    return Ports(name, score, heat, found, layout, channels, max(batch, 0), kind, anomalib)


def _listed(names: Any) -> str:
    """Names for a message, not more than a line of them."""
    names = [str(name)[:40] for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
