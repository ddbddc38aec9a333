"""Any ONNX graph with a picture input and a map or score output, wrapped to the graph contract.

The wrapper adds, around the foreign graph and inside the same file: cast, colour order, layout and normalisation before it; the
shapes of the contract after it. anomalib's own ONNX exports are recognised by their outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.bundle import Threshold
from edgead.errors import BadInput
from edgead.importers.model import Imported, ImportOptions, recipe_for
from edgead.models.detector import Detector
from edgead.models.graph import GraphDetector
from edgead.optional import require

_OLDEST_OPSET = 13
_PREFIX = "foreign/"


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """How the foreign graph takes its picture and where its answers are.

    Attributes:
        input, score, map: names of its tensors; None: its only input; anomalib's names for the others.
        mean, std: subtracted from and divided into values 0 to 255, one or three numbers (in the graph's colour order). The
            default divides by 255.
        colour: ``"rgb"`` or ``"bgr"``.
        layout: ``"nchw"`` or ``"nhwc"``; None: where the 3 is.
    """

    input: str | None = None
    score: str | None = None
    map: str | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    colour: str = "rgb"
    layout: str | None = None


@dataclass(frozen=True, slots=True)
class _Ports:
    """The foreign graph's tensors: input, score and map ("" for none); size (height, width); layout; the input's element type."""

    input: str
    score: str
    map: str
    size: tuple[int, int]
    layout: str
    kind: int
    anomalib: bool


def import_graph(path: Path, options: ImportOptions, inputs: GraphOptions) -> Imported:
    """An ONNX file as a detector.

    Raises:
        BadInput: no ONNX file, or its picture input or outputs cannot be found: the message lists what it has.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    if options.frame_size is not None:
        raise BadInput("a foreign graph cannot resize in its graph", hint="leave --exact-resize away")
    onnx = require("onnx", extra="export", why="Importing an ONNX graph")
    try:
        model = onnx.load(str(path))
        if not model.graph.node:
            raise ValueError("it holds no graph")
    except Exception as error:
        raise BadInput(f"{path} is not a valid ONNX file ({str(error).splitlines()[0][:100]})", hint="export it again") from error
    ports = find_ports(onnx, model, options, inputs)
    data = wrap(onnx, model, ports, inputs)
    detector = GraphDetector.from_bytes(data, ports.size, ports.anomalib)
    return told(detector, (path,), "ONNX", ports.anomalib, (bool(ports.score), bool(ports.map)), options, inputs)


def told(
    detector: Detector,
    files: tuple[Path, ...],
    kind: str,
    anomalib: bool,
    has: tuple[bool, bool],
    options: ImportOptions,
    inputs: GraphOptions,
) -> Imported:
    """The imported graph with what is assumed about it.

    Args:
        kind: "ONNX" or "OpenVINO".
        anomalib: it is anomalib's export.
        has: whether it has a score and a map of its own.
    """
    assumptions = [
        f"pictures are given as {inputs.colour.upper()}, minus {_list(inputs.mean)}, divided by {_list(inputs.std)} (of 0 to 255)"
    ]
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


def find_ports(onnx: Any, model: Any, options: ImportOptions, inputs: GraphOptions) -> _Ports:
    """Which tensors are the picture, the score and the map.

    Raises:
        BadInput: it cannot be told; the message lists the graph's tensors.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    given = {value.name: value for value in model.graph.input if value.name not in constants}
    outputs = [value.name for value in model.graph.output]
    has = f"inputs: {', '.join(given)}; outputs: {', '.join(outputs)}"
    name = inputs.input or (next(iter(given)) if len(given) == 1 else "")
    if name not in given:
        raise BadInput(f"the graph's picture input is not told ({has})", hint="name it: --input NAME")
    anomalib = {"pred_score", "anomaly_map"} <= set(outputs) and inputs.score is None and inputs.map is None
    score, heat = ("pred_score", "anomaly_map") if anomalib else (inputs.score or "", inputs.map or "")
    unknown = [tensor for tensor in (score, heat) if tensor and tensor not in outputs]
    if unknown or not (score or heat):
        what = f"has no output {', '.join(unknown)}" if unknown else "does not tell which outputs are score and map"
        raise BadInput(f"the graph {what} ({has})", hint="name them: --score NAME and/or --map NAME")
    tensor = given[name].type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    if len(shape) != 4:
        raise BadInput(f"the input {name!r} has {len(shape)} dimensions, a picture has 4", hint="name another: --input NAME")
    layout = inputs.layout or ("nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw")
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    if options.size is not None:
        wide, high = options.size
        if (height or high, width or wide) != (high, wide):
            raise BadInput(f"the graph takes {width} x {height} px, not {wide} x {high}", hint="leave --size away")
        height, width = high, wide
    if not height or not width:
        raise BadInput("the graph takes pictures of any size", hint="choose one: --size PX or WxH")
    if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
        raise BadInput(f"the input {name!r} is neither float32 nor uint8", hint="export the graph in float32")
    return _Ports(name, score, heat, (height, width), layout, tensor.elem_type, anomalib)


def wrap(onnx: Any, model: Any, ports: _Ports, inputs: GraphOptions) -> bytes:
    """The content of an ONNX file that follows the graph contract and holds the foreign graph."""
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        model = onnx.version_converter.convert_version(model, _OLDEST_OPSET)
    for value in model.graph.input:
        if value.name == ports.input:
            height, width = ports.size
            for dim, number in zip(
                value.type.tensor_type.shape.dim,
                (1, 3, height, width) if ports.layout == "nchw" else (1, height, width, 3),
                strict=True,
            ):
                dim.dim_value = number
    model = onnx.compose.add_prefix(model, _PREFIX)
    body = onnx.helper.make_graph([], "edgead", [], [], list(model.graph.initializer))
    before = _before(onnx, body, ports, inputs)
    body.node.extend([*before, *model.graph.node])
    shape = _map_shape(onnx, model, body, ports)
    _after(onnx, body, ports, shape)
    body.input.append(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, *ports.size, 3]))
    for name, dims in (("anomaly_map", [1, *shape]), ("score", [1])):
        body.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
    return _finish(onnx, model, body)


def _before(onnx: Any, body: Any, ports: _Ports, inputs: GraphOptions) -> list[Any]:
    """From uint8 NHWC BGR to what the foreign input takes."""
    node, name = onnx.helper.make_node, "image"
    nodes = []
    if ports.kind == onnx.TensorProto.FLOAT:  # first: TensorRT takes uint8 into a Cast and nowhere else
        nodes.append(node("Cast", [name], ["float"], to=onnx.TensorProto.FLOAT))
        name = "float"
    if inputs.colour == "rgb":
        _constant(onnx, body, "colours", np.array([2, 1, 0], np.int64))
        nodes.append(node("Gather", [name, "colours"], ["rgb"], axis=3))
        name = "rgb"
    if ports.kind == onnx.TensorProto.FLOAT:
        mean, std = (np.broadcast_to(np.array(values, np.float32), (3,)) for values in (inputs.mean, inputs.std))
        _constant(onnx, body, "mean", np.array(mean))
        _constant(onnx, body, "std", np.array(std))
        nodes.append(node("Sub", [name, "mean"], ["centred"]))
        nodes.append(node("Div", ["centred", "std"], ["normalized"]))
        name = "normalized"
    last = _PREFIX + ports.input
    nodes.append(
        node("Transpose", [name], [last], perm=[0, 3, 1, 2]) if ports.layout == "nchw" else node("Identity", [name], [last])
    )
    return nodes


def _map_shape(onnx: Any, model: Any, body: Any, ports: _Ports) -> tuple[int, int]:
    """Height and width of the map, found by running the graph once."""
    if not ports.map:
        return 1, 1
    runtime = require("onnxruntime", extra="onnxruntime", why="Importing an ONNX graph")
    probe = onnx.GraphProto()
    probe.CopyFrom(body)
    probe.input.append(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, *ports.size, 3]))
    probe.output.append(onnx.helper.make_tensor_value_info(_PREFIX + ports.map, onnx.TensorProto.FLOAT, None))
    try:
        session = runtime.InferenceSession(_finish(onnx, model, probe), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"image": np.zeros((1, *ports.size, 3), np.uint8)})
    except Exception as error:
        raise BadInput(f"the graph does not run: {str(error).splitlines()[0][:160]}", hint="export it again") from error
    shape = [n for n in found.shape if n != 1]
    if len(shape) != 2:
        raise BadInput(f"the output {ports.map!r} of shape {found.shape} is no map", hint="name another: --map NAME")
    return shape[0], shape[1]


def _after(onnx: Any, body: Any, ports: _Ports, shape: tuple[int, int]) -> None:
    """The foreign outputs in the contract's shapes; what is missing is made from the other."""
    node = onnx.helper.make_node
    _constant(onnx, body, "map_shape", np.array([1, *shape], np.int64))
    _constant(onnx, body, "score_shape", np.array([1], np.int64))
    heat, score = (_PREFIX + name if name else "" for name in (ports.map, ports.score))
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
    whole.ir_version = min(whole.ir_version, max(model.ir_version, 8))
    data: bytes = whole.SerializeToString()
    return data


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
