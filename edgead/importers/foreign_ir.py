"""A foreign OpenVINO IR, wrapped to the graph contract; run as a child process (:mod:`edgead.importers.bounded`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgead.errors import BadInput
from edgead.importers.bounded import first_line, serve
from edgead.importers.ports import GraphOptions, input_layout, map_extent, probe_pictures, scalar, told_numbers
from edgead.optional import require

_FLOATS = ("f16", "f32", "f64", "bf16")
_WHOLE = ("u8", "u16", "i16", "u32", "i32", "u64", "i64")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the wrapped graph to ``out`` (``.xml``, and the ``.bin`` beside it).

    Raises:
        BadInput: no IR, or its picture input or outputs cannot be found or used: the message names the tensor.
        MissingExtra: openvino is not installed.
    """
    ov = require("openvino", extra="openvino", why="Importing an OpenVINO IR")
    path, inputs = Path(request["path"]), GraphOptions.from_json(request["inputs"])
    try:
        model = ov.Core().read_model(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path} is not a readable OpenVINO IR", hint="export it again") from error
    score, heat, anomalib = _outputs(model, inputs)
    size, channels, floating = _prepare(ov, model, request["size"], inputs)
    wrapped = _finish(ov, model, score, heat)
    ov.save_model(wrapped, request["out"], compress_to_fp16=False)
    notes = _try(ov, wrapped, size)
    if channels == 1:
        notes.append("the graph takes one channel: grey is made inside, by OpenVINO's weights of red, green and blue")
    return {"size": size, "anomalib": anomalib, "has": [bool(score), bool(heat)], "float": floating, "notes": notes, "files": []}


def _names(ports: Any) -> str:
    names = [next(iter(port.get_names()), port.get_node().get_friendly_name())[:40] for port in ports]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _outputs(model: Any, inputs: GraphOptions) -> tuple[str, str, bool]:
    """Names of score and map ("" for none), and whether they are those of anomalib's export."""
    known = {name for port in model.outputs for name in port.get_names()}
    anomalib = {"pred_score", "anomaly_map"} <= known and inputs.score is None and inputs.map is None
    score, heat = ("pred_score", "anomaly_map") if anomalib else (inputs.score or "", inputs.map or "")
    unknown = [name for name in (score, heat) if name and name not in known]
    if unknown or not (score or heat):
        what = f"has no output {', '.join(unknown)}" if unknown else "does not tell which outputs are score and map"
        has = f"inputs: {_names(model.inputs)}; outputs: {_names(model.outputs)}"
        raise BadInput(f"the graph {what} ({has})", hint="name them: --score NAME and/or --map NAME")
    return score, heat, anomalib


def _prepare(ov: Any, model: Any, size: list[int] | None, inputs: GraphOptions) -> tuple[tuple[int, int], int, bool]:
    """Fix the input's size, and let it take uint8 NHWC BGR; returns (height, width), channels, whether it takes floats."""
    named = {name: port for port in model.inputs for name in port.get_names()}
    if (inputs.input is None and len(model.inputs) != 1) or (inputs.input is not None and inputs.input not in named):
        raise BadInput(f"the graph's picture input is not told (inputs: {_names(model.inputs)})", hint="name it: --input NAME")
    port = named[inputs.input] if inputs.input else model.input(0)
    name = inputs.input or _names([port])
    if len(model.inputs) > 1:
        others = _names([other for other in model.inputs if other != port])
        raise BadInput(f"the graph also needs the input {others}, beside the picture {name!r}", hint="edgead gives pictures only")
    kind = port.get_element_type().get_type_name()
    if kind not in _FLOATS + _WHOLE:
        raise BadInput(f"the input {name!r} takes {kind}, which holds no picture", hint="export the graph in float32")
    rank = port.get_partial_shape()
    shape = [] if rank.rank.is_dynamic else [int(d.get_length()) if d.is_static else 0 for d in rank]
    layout, channels, (high, wide) = input_layout(name, shape, size, inputs)
    told_numbers(inputs, channels, kind in _FLOATS, name)
    model.reshape({port: [1, channels, high, wide] if layout == "nchw" else [1, high, wide, channels]})
    builder = ov.preprocess.PrePostProcessor(model)
    info = builder.input(0)
    colours = ov.preprocess.ColorFormat
    info.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(colours.BGR)
    info.model().set_layout(ov.Layout(layout.upper()))
    steps = info.preprocess().convert_element_type(ov.Type.f32)
    if channels == 1:
        steps.convert_color(colours.GRAY)
    elif inputs.colour == "rgb":
        steps.convert_color(colours.RGB)
    if kind in _FLOATS:
        steps.mean([float(v) for v in np.broadcast_to(inputs.mean, (channels,))])
        steps.scale([float(v) for v in np.broadcast_to(inputs.std, (channels,))])
    steps.convert_element_type(getattr(ov.Type, kind))
    builder.build()
    return (high, wide), channels, kind in _FLOATS


def _finish(ov: Any, model: Any, score: str, heat: str) -> Any:
    """The model with the contract's names, types and shapes; what is missing is made from the other."""
    ops = require("openvino.opset13", extra="openvino", why="Importing an OpenVINO IR")
    source = {}
    for name in (score, heat):
        if name:
            kind = model.output(name).get_element_type().get_type_name()
            if kind not in (*_FLOATS, *_WHOLE, "i8"):
                raise BadInput(f"the output {name!r} is of type {kind}, which is no number", hint="name another: --score, --map")
            value = model.output(name).get_node().input_value(0)
            source[name] = value if kind == "f32" else ops.convert(value, "f32").output(0)
    extents = {name: _extents(model.output(name), name) for name in source}
    shape = (1, 1)
    if heat:
        shape = map_extent(heat, extents[heat])
    if score:
        scalar(score, extents[score])
    grid = ops.reshape(source[heat or score], np.array([1, *shape], np.int64), special_zero=False)
    value = source[score] if score else ops.reduce_max(grid, np.array([1, 2], np.int64))
    results = []
    for name, node in (("anomaly_map", grid), ("score", ops.reshape(value, np.array([1], np.int64), special_zero=False))):
        result = ops.result(node)
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    parameter = model.get_parameters()[0]
    parameter.output(0).get_tensor().set_names({"image"})
    return ov.Model(results, [parameter], "edgead")


def _extents(port: Any, name: str) -> list[int]:
    shape = port.get_partial_shape()
    if shape.is_dynamic:
        raise BadInput(f"the output {name!r} has no fixed shape ({shape})", hint="export the graph with a fixed picture size")
    return [int(extent.get_length()) for extent in shape]


def _try(ov: Any, model: Any, size: tuple[int, int]) -> list[str]:
    """Run the finished graph on a few pictures; what to tell the user.

    Raises:
        BadInput: it does not run, or an answer on an ordinary picture is no number or not the same the second time.
    """
    try:
        request = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

        def run(image: Any) -> list[Any]:
            request.infer([image])
            return [request.get_tensor(name).data.copy() for name in ("anomaly_map", "score")]

        answers = {kind: run(image) for kind, image in probe_pictures(size).items()}
        again = run(probe_pictures(size)["ordinary"])
    except RuntimeError as error:
        raise BadInput(f"the graph does not run on a picture of {size[1]} x {size[0]} px: {first_line(error)}") from error
    finite = {kind: all(np.isfinite(values).all() for values in told) for kind, told in answers.items()}
    if not finite["ordinary"]:
        raise BadInput("the graph's answers are not finite (NaN or infinite)", hint="check --mean and --std; export it again")
    if not all(np.array_equal(*pair) for pair in zip(answers["ordinary"], again, strict=True)):
        raise BadInput("the graph answers the same picture differently each time", hint="export it in evaluation mode")
    return [
        f"the answer on a {kind} picture is not finite: such a part will be UNKNOWN" for kind, good in finite.items() if not good
    ]


if __name__ == "__main__":
    sys.exit(serve(answer))
