"""A foreign ONNX graph, looked at and wrapped to the graph contract; run as a child process (:mod:`edgead.importers.bounded`).

The wrapper adds, around the foreign graph and inside the same file: cast, colour order, layout and normalisation before it; cast
and the shapes of the contract after it. Needs onnx and ONNX Runtime, not torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.importers.bounded import first_line, serve
from edgead.importers.onnx_file import FLOATS, Ports, find_ports, inner_graphs, read
from edgead.importers.ports import GREY, GraphOptions, map_extent, probe_pictures, scalar
from edgead.optional import require

_OPSET = 13
"""Graphs of older ones are converted to it."""

_OLDEST = 7
_IR = 10
"""Version of the file's form, which every ONNX Runtime that edgead runs with reads: onnx writes newer ones than they do."""

_PREFIX = "foreign/"
_TAKEN = {f"tensor({name})" for name in ("float", "float16", "double", "bfloat16")} | {
    f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
"""ONNX Runtime's names of the types that a score or map may have."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the wrapped graph to ``out``.

    Raises:
        BadInput: no ONNX file, or its picture input or outputs cannot be found or used: the message names the tensor.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    onnx = require("onnx", extra="export", why="Importing an ONNX graph")
    path, inputs = Path(request["path"]), GraphOptions.from_json(request["inputs"])
    model, external = read(onnx, path)
    ports = find_ports(onnx, model, request["size"], inputs)
    data, notes = wrap(onnx, model, ports, inputs)
    Path(request["out"]).write_bytes(data)
    has, floating = [bool(ports.score), bool(ports.map)], ports.kind in FLOATS
    files = [str(file) for file in external]
    return {"size": ports.size, "anomalib": ports.anomalib, "has": has, "float": floating, "notes": notes, "files": files}


def _prefixed(model: Any) -> None:
    """Every name of the graph with `_PREFIX`, in the graphs inside of it too (onnx.compose leaves those that they read from
    outside as they were)."""
    todo = [model.graph]
    while todo:
        graph = todo.pop()
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = _PREFIX + value.name
        for sparse in graph.sparse_initializer:
            sparse.values.name = _PREFIX + sparse.values.name
        for node in graph.node:
            node.name = node.name and _PREFIX + node.name
            for names in (node.input, node.output):
                names[:] = [name and _PREFIX + name for name in names]  # an empty one means: not given
            todo.extend(inner_graphs(node))


def wrap(onnx: Any, model: Any, ports: Ports, inputs: GraphOptions) -> tuple[bytes, list[str]]:
    """The content of an ONNX file that follows the graph contract and holds the foreign graph, and what to tell the user."""
    model = _modern(onnx, model)
    _prefixed(model)
    body = onnx.helper.make_graph([], "edgead", [], [], list(model.graph.initializer))
    body.sparse_initializer.extend(model.graph.sparse_initializer)
    body.node.extend([*_before(onnx, body, ports, inputs), *model.graph.node])
    body.input.append(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, *ports.size, 3]))
    casts, shape, notes = _learn(onnx, model, body, ports)
    _after(onnx, body, ports, casts, shape)
    for name, dims in (("anomaly_map", [1, *shape]), ("score", [1])):
        body.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
    data = _finish(onnx, model, body)
    notes += _try(data, ports)
    return data, notes


def _modern(onnx: Any, model: Any) -> Any:
    """The model in an opset that the wrapper's own nodes are written in.

    Raises:
        BadInput: it is older than edgead converts, newer than the installed onnx, or does not convert.
    """
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise BadInput(
            f"the graph is of opset {opset}; opset {_OLDEST} to {newest} can be read here", hint="export it with opset 17"
        )
    if opset >= _OPSET:
        return model
    model.ir_version = max(model.ir_version, 8)  # older ones want every constant listed as an input
    try:
        return onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:
        raise BadInput(
            f"the graph of opset {opset} does not convert to opset {_OPSET} ({first_line(error, 100)})",
            hint="export it with opset 17",
        ) from error


def _before(onnx: Any, body: Any, ports: Ports, inputs: GraphOptions) -> list[Any]:
    """From uint8 NHWC BGR to what the foreign input takes."""
    node, proto = onnx.helper.make_node, onnx.TensorProto
    nodes, name = [], "image"

    def add(operator: str, out: str, *more: str, **attributes: Any) -> None:
        nonlocal name
        nodes.append(node(operator, [name, *more], [out], **attributes))
        name = out

    whole = ports.kind not in FLOATS
    as_it_is = ports.kind == "UINT8" and ports.channels == 3
    if not as_it_is:  # first: TensorRT takes uint8 into a Cast and nowhere else
        add("Cast", "float", to=proto.FLOAT)
    if ports.channels == 1:
        _constant(onnx, body, "grey_weights", np.array(GREY[::-1], np.float32).reshape(1, 1, 1, 3))
        _constant(onnx, body, "grey_axis", np.array([3], np.int64))
        add("Mul", "weighed", "grey_weights")
        add("ReduceSum", "grey", "grey_axis", keepdims=1)
    elif inputs.colour == "rgb":
        _constant(onnx, body, "colours", np.array([2, 1, 0], np.int64))
        add("Gather", "rgb", "colours", axis=3)
    if not whole:
        # In full rank: OpenVINO's INT8 passes move the division behind the transpose, and trip over a constant of one axis.
        mean, std = (np.resize(np.array(values, np.float32), (1, 1, 1, ports.channels)) for values in (inputs.mean, inputs.std))
        _constant(onnx, body, "mean", mean)
        _constant(onnx, body, "std", std)
        add("Sub", "centred", "mean")
        add("Div", "normalized", "std")
    elif ports.channels == 1:
        add("Round", "rounded")
    if not as_it_is and ports.kind != "FLOAT":
        add("Cast", "typed", to=getattr(proto, ports.kind))
    last = _PREFIX + ports.input
    if ports.layout == "nchw":
        add("Transpose", last, perm=[0, 3, 1, 2])
    else:
        add("Identity", last)
    return nodes


def _learn(onnx: Any, model: Any, body: Any, ports: Ports) -> tuple[set[str], tuple[int, int], list[str]]:
    """Which outputs must be cast, height and width of the map, and notes: found by running the graph once.

    Raises:
        BadInput: it does not run, an output is of a type that is no number, no map, or more than one score.
    """
    probe = onnx.GraphProto()
    probe.CopyFrom(body)
    wanted = [name for name in (ports.map, ports.score) if name]
    for name in wanted:
        probe.output.append(onnx.helper.make_value_info(_PREFIX + name, onnx.TypeProto()))
    session = _session(_finish(onnx, model, probe), ports)
    types = {value.name.removeprefix(_PREFIX): value.type for value in session.get_outputs()}
    for name, kind in types.items():
        if kind not in _TAKEN:
            raise BadInput(f"the output {name!r} is of type {kind}, which is no number", hint="name another: --score, --map")
    casts = {name for name, kind in types.items() if kind != "tensor(float)"}
    for name in casts:
        probe.node.append(onnx.helper.make_node("Cast", [_PREFIX + name], [f"cast/{name}"], to=onnx.TensorProto.FLOAT))
    if casts:
        del probe.output[:]
        for name in wanted:
            whole = f"cast/{name}" if name in casts else _PREFIX + name
            probe.output.append(onnx.helper.make_tensor_value_info(whole, onnx.TensorProto.FLOAT, None))
        session = _session(_finish(onnx, model, probe), ports)
    black = np.zeros((1, *ports.size, 3), np.uint8)
    found = dict(zip(wanted, _run(session, black, ports), strict=True))
    if ports.score:
        scalar(ports.score, found[ports.score].shape)
    shape = map_extent(ports.map, found[ports.map].shape) if ports.map else (1, 1)
    notes = [
        f"the output {name!r} is of {types[name].removeprefix('tensor(').rstrip(')')}: cast to float32" for name in sorted(casts)
    ]
    if ports.channels == 1:
        weights = " + ".join(f"{weight:g} {colour}" for weight, colour in zip(GREY, "RGB", strict=True))
        notes.append(f"the graph takes one channel: grey is made inside, {weights}")
    if ports.batch > 1:
        notes.append(f"the graph takes {ports.batch} pictures at once; it is given one")
    return casts, shape, notes


def _try(data: bytes, ports: Ports) -> list[str]:
    """Run the finished graph on a few pictures; what to tell the user.

    Raises:
        BadInput: an answer on an ordinary picture is no number, or not the same the second time.
    """
    session = _session(data, ports)
    notes = []
    for kind, image in probe_pictures(ports.size).items():
        first = _run(session, image, ports)
        if not all(np.isfinite(values).all() for values in first):
            if kind == "ordinary":
                raise BadInput(
                    "the graph's answers are not finite (NaN or infinite)", hint="check --mean and --std; export it again"
                )
            notes.append(f"the answer on a {kind} picture is not finite: such a part will be UNKNOWN")
        elif kind == "ordinary" and not all(
            np.array_equal(*pair) for pair in zip(first, _run(session, image, ports), strict=True)
        ):
            raise BadInput("the graph answers the same picture differently each time", hint="export it in evaluation mode")
    return notes


def _session(data: bytes, ports: Ports) -> Any:
    runtime = require("onnxruntime", extra="onnxruntime", why="Importing an ONNX graph")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _does_not_run(error, ports) from error


def _run(session: Any, image: npt.NDArray[np.uint8], ports: Ports) -> list[npt.NDArray[np.float32]]:
    try:
        answers: list[npt.NDArray[np.float32]] = session.run(None, {"image": image})
    except Exception as error:
        raise _does_not_run(error, ports) from error
    return answers


def _does_not_run(error: Exception, ports: Ports) -> Exception:
    if "alloc" in str(error).lower():
        return MemoryError()
    width, height = ports.size[::-1]
    hint = f"it was exported for {ports.batch} pictures at once: export it for one" if ports.batch > 1 else "export it again"
    return BadInput(f"the graph does not run on a picture of {width} x {height} px: {first_line(error)}", hint=hint)


def _after(onnx: Any, body: Any, ports: Ports, casts: set[str], shape: tuple[int, int]) -> None:
    """The foreign outputs in the contract's types and shapes; what is missing is made from the other."""
    node = onnx.helper.make_node
    _constant(onnx, body, "map_shape", np.array([1, *shape], np.int64))
    _constant(onnx, body, "score_shape", np.array([1], np.int64))
    for name in sorted(casts):
        body.node.append(node("Cast", [_PREFIX + name], [f"cast/{name}"], to=onnx.TensorProto.FLOAT))
    heat, score = ((f"cast/{name}" if name in casts else _PREFIX + name) if name else "" for name in (ports.map, ports.score))
    if not score:  # GlobalMaxPool is the same in every opset, ReduceMax is not
        _constant(onnx, body, "pool_shape", np.array([1, 1, *shape], np.int64))
        body.node.append(node("Reshape", [heat, "pool_shape"], ["pooled"]))
        body.node.append(node("GlobalMaxPool", ["pooled"], ["largest"]))
        score = "largest"
    body.node.append(node("Reshape", [heat or score, "map_shape"], ["anomaly_map"]))
    body.node.append(node("Reshape", [score, "score_shape"], ["score"]))


def _constant(onnx: Any, body: Any, name: str, values: Any) -> None:
    body.initializer.append(onnx.numpy_helper.from_array(values, name))


def _finish(onnx: Any, model: Any, body: Any) -> bytes:
    whole = onnx.helper.make_model(body, opset_imports=list(model.opset_import), functions=list(model.functions))
    whole.ir_version = _IR
    data: bytes = whole.SerializeToString()
    return data


if __name__ == "__main__":
    sys.exit(serve(answer))
