"""An OpenVINO IR that takes the camera's picture and tells its label by OpenVINO Model API's conventions.

The recipe's region, halvings, bilinear rest and margins stand in the graph, before the engine's own, in whole numbers as
:func:`edgead.preprocess.box_steps` and OpenCV compute them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.engines._contract import failed
from edgead.engines.openvino import write_ir
from edgead.optional import require
from edgead.preprocess import FILL, box_steps
from edgead.types import Image

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""What a program must ask the CPU plug-in for: left to itself it chooses bfloat16 where the CPU has it."""

_ABOVE = 0.5 + 2.0**-12
"""The least normalised score of an anomaly: Model API asks for more than 0.5, edgead for the threshold or more."""


@dataclass(frozen=True, slots=True)
class CameraGraph:
    """What stands before and behind the engine's graph.

    Attributes:
        frame: width, height of the camera's pictures.
        part: x, y, width, height of what is inspected of them.
        placed: width, height of the resized part, and where its upper left corner lies in the model's input; below 0 where it
            is cut off.
        halves: the rule "box": halve as long as it stays large enough, before the bilinear rest.
        threshold: scores at and above it are anomalies.
        information: written as ``model_info``.
    """

    frame: tuple[int, int]
    part: tuple[int, int, int, int]
    placed: tuple[int, int, int, int]
    halves: bool
    threshold: float
    information: Mapping[str, str]


def write_camera_ir(source: Path, target: Path, graph: CameraGraph) -> None:
    """Write `target` (.xml) and its .bin, of an engine's IR or ONNX file.

    Raises:
        MissingExtra: openvino is not installed.
        EngineError: OpenVINO refuses the graph.
        OSError: the files could not be written whole.
    """
    write_ir(source, target, lambda model: _wrapped(model, graph))


def _wrapped(model: Any, graph: CameraGraph) -> Any:
    ov = require("openvino", extra="openvino", why="Writing an OpenVINO graph")
    op = require("openvino.opset13", extra="openvino", why="Writing an OpenVINO graph")
    (image,) = model.inputs
    _, height, width, _ = (int(side) for side in image.get_shape())
    picture = op.parameter([1, graph.frame[1], graph.frame[0], 3], np.uint8, name="picture")
    picture.output(0).set_names({"picture"})
    picture.set_layout(ov.Layout("NHWC"))
    made = _recipe(op, picture, graph, width, height)
    for reader in list(image.get_node().output(0).get_target_inputs()):
        reader.replace_source_output(made.output(0))
    ports = {name: port for port in model.outputs for name in port.get_names()}
    inner = {name: ports[name].get_node().input_value(0) for name in ("anomaly_map", "score")}
    heat, label = _normalised(op, inner["anomaly_map"], inner["score"], graph.threshold)
    told = {
        "anomaly_map": heat,
        "score": op.convert(inner["score"], np.float32),
        "threshold": op.constant(np.array([graph.threshold], np.float32)),
        "label": label,
    }
    results = [op.result(value) for value in told.values()]  # Model API takes one or four, and looks at the first
    for name, result in zip(told, results, strict=True):
        result.output(0).set_names({name})
    whole = ov.Model(results, [picture], "edgead")
    for name, value in graph.information.items():
        whole.set_rt_info(value, ["model_info", name])
    return whole


def _recipe(op: Any, picture: Any, graph: CameraGraph, width: int, height: int) -> Any:
    """The model's input, uint8 1 x height x width x 3."""
    x, y, w, h = graph.part
    wide, high, left, top = graph.placed
    made = _cut(op, op.convert(picture, np.float32), x, y, w, h)
    kx, ky = (box_steps(w, wide), box_steps(h, high)) if graph.halves else (0, 0)
    w, h = w - w % (1 << kx), h - h % (1 << ky)
    made = _cut(op, made, (graph.part[2] - w) // 2, (graph.part[3] - h) // 2, w, h)
    for step in range(max(kx, ky)):
        by_x, by_y = 1 + (step < kx), 1 + (step < ky)
        w, h = w // by_x, h // by_y
        blocks = op.reshape(made, np.array([1, h, by_y, w, by_x, 3], np.int64), False)
        total = op.reduce_sum(blocks, np.array([2, 4], np.int64), False)
        made = op.floor(op.divide(op.add(total, np.float32(by_x * by_y // 2)), np.float32(by_x * by_y)))
    if (w, h) != (wide, high):
        made = _bilinear(op, made, (w, h), (wide, high))
    made = _cut(op, made, max(0, -left), max(0, -top), min(wide, width), min(high, height))
    begin = np.array([0, max(0, top), max(0, left), 0], np.int64)
    end = np.array([0, height, width, 0], np.int64) - begin - np.array([0, min(high, height), min(wide, width), 0], np.int64)
    if begin.any() or end.any():
        made = op.pad(made, begin, end, "constant", np.float32(FILL))
    return op.convert(made, np.uint8)


def _bilinear(op: Any, image: Any, before: tuple[int, int], after: tuple[int, int]) -> Any:
    """As OpenCV's INTER_LINEAR of uint8 does it in fixed point: weights of 11 bits; 4 bits, then 16 of products are dropped."""

    def taken(axis: int) -> list[tuple[Any, Any]]:
        """Of both neighbours: which, and their weights, along rows (1) or columns (2)."""
        size, wanted = before[2 - axis], after[2 - axis]
        at = ((np.arange(wanted) + 0.5) * (size / wanted) - 0.5).astype(np.float32)
        low = np.floor(at).astype(np.int64)
        share = np.where((low < 0) | (low >= size - 1), 0.0, at - low).astype(np.float32)
        weights = (np.rint((1 - share) * 2048), np.rint(share * 2048))
        shape = [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1]
        sides = (low.clip(0, size - 1), (low + 1).clip(0, size - 1))
        return [(side, weight.astype(np.float32).reshape(shape)) for side, weight in zip(sides, weights, strict=True)]

    def sum_of(terms: list[Any]) -> Any:
        return op.add(terms[0], terms[1])

    rows = sum_of([op.multiply(op.gather(image, side, np.int64(2)), weight) for side, weight in taken(2)])
    rows = op.floor(op.divide(rows, np.float32(16)))
    parts = [op.multiply(op.gather(rows, side, np.int64(1)), weight / np.float32(65536)) for side, weight in taken(1)]
    total = sum_of([op.floor(part) for part in parts])
    return op.floor(op.divide(op.add(total, np.float32(2)), np.float32(4)))


def _cut(op: Any, image: Any, x: int, y: int, w: int, h: int) -> Any:
    start, stop = np.array([y, x], np.int64), np.array([y + h, x + w], np.int64)
    return op.slice(image, start, stop, np.array([1, 1], np.int64), np.array([1, 2], np.int64))


def _normalised(op: Any, anomaly_map: Any, score: Any, threshold: float) -> tuple[Any, Any]:
    """The map from 0 to 1, 0.5 at the threshold, float32 1 x 1 x h x w; its largest value is the score's. What is not finite
    is 1: an anomaly, never normal. And the label: 1 for an anomaly, int32 1."""
    level = np.float32(threshold)
    if float(level) < threshold:
        level = np.nextafter(level, np.float32(np.inf))
    scale = np.float32(2.0 * max(abs(threshold), 1e-6))
    most, half, one = np.finfo(np.float32).max, np.float32(0.5), np.float32(1.0)

    def between(values: Any) -> Any:
        scaled = op.clamp(op.add(op.divide(op.subtract(values, level), scale), half), 0.0, 1.0)
        return op.select(op.less_equal(op.absolute(values), most), scaled, one)

    heat, told = between(anomaly_map), between(score)
    told = op.select(op.less(score, level), op.minimum(told, half), op.maximum(told, np.float32(_ABOVE)))
    odd = op.logical_not(op.less_equal(op.absolute(anomaly_map), most))
    any_odd = op.reduce_logical_or(odd, np.array([1, 2], np.int64), False)
    bad = op.logical_or(any_odd, op.logical_not(op.less_equal(op.absolute(score), most)))
    told = op.reshape(op.select(bad, one, told), np.array([1, 1, 1], np.int64), False)
    peak = op.equal(heat, op.reduce_max(heat, np.array([1, 2], np.int64), True))
    label = op.reshape(op.convert(op.greater(told, half), np.int32), np.array([1], np.int64), False)
    return op.unsqueeze(op.select(peak, told, op.minimum(heat, told)), np.array([1], np.int64)), label


def camera_labels(file: Path, pictures: Iterable[Image]) -> list[tuple[bool, float]]:
    """Of each picture: is it an anomaly by Model API's conventions, and the normalised score. Raises EngineError."""
    ov = require("openvino", extra="openvino", why="Running an OpenVINO engine")
    try:
        model = ov.Core().compile_model(str(file), "CPU", EXACT)
        answers = [model(picture[None]) for picture in pictures]
        found = [(bool(one["label"][0]), float(one["anomaly_map"].max())) for one in answers]
    except Exception as error:  # the backend raises RuntimeError and others of its own
        raise failed(file, "OpenVINO cannot run", error) from error
    return found
