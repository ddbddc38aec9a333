"""A small detector as an ONNX graph with the parts that matter to quantisation, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgead.types import Image

SIZE, CHANNELS = 32, 16
OPSET = 18
Node = onnx.NodeProto
make = helper.make_node


def small_detector(
    target: Path, change: Callable[[list[Node], dict[str, Any]], None] = lambda nodes, weights: None, map_size: int = SIZE
) -> Path:
    """stem -> 1x1 -> depthwise -> 3x3, beside it a pool; both joined -> 1x1 -> mean of squares -> map, its maximum -> score.

    `change` may edit the nodes and the constants before the file is written; `map_size` is what it makes of the map's.
    """
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

    weights: dict[str, Any] = {
        "shift": np.array(120, np.float32), "spread": np.array(40, np.float32), "axes": np.array([1]), "all": np.array([1, 2]),
        "w.stem": weight(CHANNELS, 3, 3, 3), "w.one": weight(CHANNELS, CHANNELS, 1, 1), "w.deep": weight(CHANNELS, 1, 3, 3),
        "w.three": weight(CHANNELS, CHANNELS, 3, 3), "w.last": weight(CHANNELS, 2 * CHANNELS, 1, 1),
    }  # fmt: skip
    weights |= {f"b.{name}": weight(CHANNELS) * 0.1 for name in ("stem", "one", "three", "last")}
    nodes = [
        make("Cast", ["image"], ["float"], name="cast", to=TensorProto.FLOAT),
        make("Transpose", ["float"], ["bgr"], name="layout", perm=[0, 3, 1, 2]),
        make("Sub", ["bgr", "shift"], ["centred"], name="centre"),
        make("Div", ["centred", "spread"], ["pixels"], name="scale"),
        make("Conv", ["pixels", "w.stem", "b.stem"], ["stem.out"], name="stem", pads=[1, 1, 1, 1]),
        make("Relu", ["stem.out"], ["x0"], name="relu0"),
        make("Conv", ["x0", "w.one", "b.one"], ["one.out"], name="one"),
        make("Relu", ["one.out"], ["x1"], name="relu1"),
        make("Conv", ["x1", "w.deep"], ["x2"], name="deep", pads=[1, 1, 1, 1], group=CHANNELS),
        make("Conv", ["x2", "w.three", "b.three"], ["three.out"], name="three", pads=[1, 1, 1, 1]),
        make("Relu", ["three.out"], ["x3"], name="relu3"),
        make("AveragePool", ["x1"], ["pooled"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("Concat", ["x3", "pooled"], ["both"], name="concat", axis=1),
        make("Conv", ["both", "w.last", "b.last"], ["features"], name="last"),
        make("Mul", ["features", "features"], ["squared"], name="square"),
        make("ReduceMean", ["squared", "axes"], ["anomaly_map"], name="mean", keepdims=0),
        make("ReduceMax", ["anomaly_map", "all"], ["score"], name="max", keepdims=0),
    ]
    change(nodes, weights)
    outputs = {"anomaly_map": [1, map_size, map_size], "score": [1]}
    return write_graph(target, nodes, weights, [1, SIZE, SIZE, 3], outputs)


def write_graph(
    target: Path, nodes: list[Node], weights: dict[str, Any], image: list[int], outputs: dict[str, list[int] | None]
) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    start = helper.make_tensor_value_info("image", TensorProto.UINT8, image)
    graph = helper.make_graph(nodes, "graph", [start], ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return target


def surface(seed: int, defect: bool = False, light: float = 1.0) -> Image:
    """A soft pattern of its own with sensor noise, and a bright spot when defective. 32 x 32 x 3 uint8 BGR."""
    rng = np.random.default_rng([seed, defect])
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    a, b, c, d = rng.uniform(2, 7, 4)
    pattern = 18 * np.sin(a * x + b * y + c)[..., None] * np.array([1.0, 0.9, 0.8]) + 12 * np.cos(d * y)[..., None]
    image = 120 + pattern + rng.normal(0, 3, (SIZE, SIZE, 3))
    if defect:
        row, column = rng.integers(6, SIZE - 12, 2)
        image[row : row + 6, column : column + 6] += 90
    return np.clip(light * image, 0, 255).astype(np.uint8)


def surfaces(count: int, first: int = 0) -> list[Image]:
    return [surface(seed) for seed in range(first, first + count)]
