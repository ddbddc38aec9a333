"""An OpenVINO IR (``.xml`` and ``.bin``) with a picture input and a map or score output, wrapped to the graph contract."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgead.errors import BadInput
from edgead.importers.graph import GraphOptions, told
from edgead.importers.model import Imported, ImportOptions
from edgead.models.graph import IrDetector
from edgead.optional import require


def import_ir(path: Path, options: ImportOptions, inputs: GraphOptions) -> Imported:
    """An IR as a detector that runs in OpenVINO only, in FP32 as it is.

    Raises:
        BadInput: no IR, or its picture input or outputs cannot be found: the message lists what it has.
        MissingExtra: openvino is not installed.
    """
    if options.frame_size is not None:
        raise BadInput("a foreign graph cannot resize in its graph", hint="leave --exact-resize away")
    ov = require("openvino", extra="openvino", why="Importing an OpenVINO IR")
    if not path.with_suffix(".bin").is_file():
        raise BadInput(f"{path} has no {path.with_suffix('.bin').name} beside it", hint="an IR is both files")
    try:
        model = ov.Core().read_model(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path} is not a readable OpenVINO IR", hint="export it again") from error
    score, heat, anomalib = _outputs(model, inputs)
    size = _prepare(ov, model, options, inputs)
    wrapped = _finish(ov, model, score, heat, size)
    with tempfile.TemporaryDirectory(prefix="edgead-") as folder:
        target = Path(folder) / "model.xml"
        ov.save_model(wrapped, str(target), compress_to_fp16=False)
        detector = IrDetector.from_files(target, size, anomalib)
    files = (path, path.with_suffix(".bin"))
    return told(detector, files, "OpenVINO", anomalib, (bool(score), bool(heat)), options, inputs)


def _names(ports: Any) -> list[str]:
    return [next(iter(port.get_names()), port.get_node().get_friendly_name()) for port in ports]


def _outputs(model: Any, inputs: GraphOptions) -> tuple[str, str, bool]:
    """Names of score and map ("" for none), and whether they are those of anomalib's export."""
    known = {name for port in model.outputs for name in port.get_names()}
    anomalib = {"pred_score", "anomaly_map"} <= known and inputs.score is None and inputs.map is None
    score, heat = ("pred_score", "anomaly_map") if anomalib else (inputs.score or "", inputs.map or "")
    unknown = [name for name in (score, heat) if name and name not in known]
    if unknown or not (score or heat):
        what = f"has no output {', '.join(unknown)}" if unknown else "does not tell which outputs are score and map"
        has = f"inputs: {', '.join(_names(model.inputs))}; outputs: {', '.join(_names(model.outputs))}"
        raise BadInput(f"the graph {what} ({has})", hint="name them: --score NAME and/or --map NAME")
    return score, heat, anomalib


def _prepare(ov: Any, model: Any, options: ImportOptions, inputs: GraphOptions) -> tuple[int, int]:
    """Fix the input's size, and let it take uint8 NHWC BGR; returns (height, width)."""
    names = {name for port in model.inputs for name in port.get_names()}
    if (inputs.input is None and len(model.inputs) != 1) or (inputs.input is not None and inputs.input not in names):
        raise BadInput(
            f"the graph's picture input is not told (inputs: {', '.join(_names(model.inputs))})", hint="name it: --input NAME"
        )
    port = model.input(inputs.input) if inputs.input else model.input(0)
    shape = [int(d.get_length()) if d.is_static else 0 for d in port.get_partial_shape()]
    if len(shape) != 4:
        raise BadInput(f"the input has {len(shape)} dimensions, a picture has 4", hint="name another: --input NAME")
    layout = inputs.layout or ("nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw")
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    wide, high = options.size or (width, height)
    if not wide or not high:
        raise BadInput("the graph takes pictures of any size", hint="choose one: --size PX or WxH")
    if (height or high, width or wide) != (high, wide):
        raise BadInput(f"the graph takes {width} x {height} px, not {wide} x {high}", hint="leave --size away")
    model.reshape({port: [1, 3, high, wide] if layout == "nchw" else [1, high, wide, 3]})
    builder = ov.preprocess.PrePostProcessor(model)
    info = builder.input(inputs.input) if inputs.input else builder.input(0)
    colours = ov.preprocess.ColorFormat
    info.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(colours.BGR)
    info.model().set_layout(ov.Layout(layout.upper()))
    steps = info.preprocess().convert_element_type(ov.Type.f32)
    if inputs.colour == "rgb":
        steps.convert_color(colours.RGB)
    steps.mean([float(v) for v in np.broadcast_to(inputs.mean, (3,))]).scale(
        [float(v) for v in np.broadcast_to(inputs.std, (3,))]
    )
    builder.build()
    return high, wide


def _finish(ov: Any, model: Any, score: str, heat: str, size: tuple[int, int]) -> Any:
    """The model with the contract's names and shapes; what is missing is made from the other."""
    ops = require("openvino.opset13", extra="openvino", why="Importing an OpenVINO IR")
    source = {name: model.output(name).get_node().input_value(0) for name in (score, heat) if name}
    shape = [1, 1]
    if heat:
        extents = [
            int(d.get_length()) for d in model.output(heat).get_partial_shape() if not (d.is_static and d.get_length() == 1)
        ]
        if len(extents) != 2:
            raise BadInput(f"the output {heat!r} is no map", hint="name another: --map NAME")
        shape = extents
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
