"""A tiny detector as an ONNX graph, with a layer in it that breaks under INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgead.types import Image

SIZE, CHANNELS = 32, 16
PLANTED = "planted"
LAYERS = ("first", "second", PLANTED, "last")
OUTLIER = 3000.0


def write_detector(target: Path, seed: int = 0) -> Path:
    """image -> stem -> four 1x1 convolutions -> squared distance from grey's features -> map and its maximum.

    One channel of what enters `PLANTED` is 3,000 times as large as the others, and its weights for that channel are as much
    smaller: in float nothing happens, on one 8-bit grid for all channels the others vanish.
    """
    rng = np.random.default_rng(seed)
    node = helper.make_node
    weights: dict[str, np.ndarray] = {
        "scale": np.array(1 / 255, np.float32),
        "w.stem": rng.normal(0, 0.5, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "b.stem": rng.normal(0, 0.1, CHANNELS).astype(np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["bgr"], perm=[0, 3, 1, 2]),
        node("Mul", ["bgr", "scale"], ["pixels"]),
        node("Conv", ["pixels", "w.stem", "b.stem"], ["stem.out"], name="stem", pads=[1, 1, 1, 1]),
        node("Relu", ["stem.out"], ["x0"]),
    ]
    for i, name in enumerate(LAYERS):
        w = rng.normal(0, np.sqrt(2 / CHANNELS), (CHANNELS, CHANNELS, 1, 1))
        if i + 1 < len(LAYERS) and LAYERS[i + 1] == PLANTED:
            w[0] = np.abs(w[0]) * OUTLIER
        if name == PLANTED:
            w[:, 0] /= OUTLIER
        weights |= {f"w.{name}": w.astype(np.float32), f"b.{name}": rng.normal(0, 0.05, CHANNELS).astype(np.float32)}
        nodes.append(node("Conv", [f"x{i}", f"w.{name}", f"b.{name}"], [f"{name}.out"], name=name))
        nodes.append(node("Relu", [f"{name}.out"], [f"x{i + 1}"]))
    nodes += [
        node("Mul", [f"x{len(LAYERS)}", f"x{len(LAYERS)}"], ["squared"]),
        node("ReduceMean", ["squared", "axes"], ["anomaly_map"], keepdims=0),
        node("ReduceMax", ["anomaly_map", "all"], ["score"], keepdims=0),
    ]
    weights["all"] = np.array([1, 2], np.int64)
    ends = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, SIZE, SIZE]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, [1]),
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "planted", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))
    return target


def picture(seed: int, defect: bool = False, light: float = 1.0) -> Image:
    """A noisy grey surface of its own brightness, with a bright spot when defective."""
    rng = np.random.default_rng([seed, defect])
    image = light * rng.uniform(110, 130) + rng.normal(0, 8, (SIZE, SIZE, 3))
    if defect:
        y, x = rng.integers(4, SIZE - 8, 2)
        image[y : y + 5, x : x + 5] += rng.uniform(15, 40)
    return np.clip(image, 0, 255).astype(np.uint8)
