"""Small INT8 graphs by the graph contract, each with one thing that a backend may take or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32


class Graph:
    """Nodes and constants, one after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind.lower()}", **attributes))
        return output

    def finish(self, last: str, batch: int | str = 1, opset: int = 18) -> Any:
        """From 16 channels `last` to map and score."""
        self.add("ReduceMax", [last, self.constant("channels", np.array([1]))], "anomaly_map", keepdims=0)
        self.add("ReduceMax", ["anomaly_map", self.constant("pixels", np.array([1, 2]))], "score", keepdims=0)
        kinds = TensorProto
        ends = [("image", kinds.UINT8, [batch, SIZE, SIZE, 3]), ("anomaly_map", kinds.FLOAT, [batch, SIZE, SIZE])]
        image, *outputs = (helper.make_tensor_value_info(*end) for end in [*ends, ("score", kinds.FLOAT, [batch])])
        graph = helper.make_graph(self.nodes, "hand made", [image], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def stem() -> Graph:
    """uint8 picture -> 16 float channels ``a``."""
    graph = Graph()
    graph.add("Cast", ["image"], "float", to=TensorProto.FLOAT)
    graph.add("Transpose", ["float"], "nchw", perm=[0, 3, 1, 2])
    weight = np.random.default_rng(0).normal(0, 0.05, (16, 3, 3, 3)).astype(np.float32)
    graph.add("Conv", ["nchw", graph.constant("stem.w", weight)], "a", pads=[1] * 4)
    return graph


def qdq(
    activation: Any = np.int8,
    weight: Any = np.int8,
    zero: int = 0,
    weight_zero: int = 0,
    axis: int | None = 0,
    bias: str = "float",
    batch: int | str = 1,
    opset: int = 18,
) -> Any:
    """One convolution in INT8 by Q/DQ pairs; the defaults are what edgead writes."""
    g = stem()
    scale, zero_point = g.constant("a.scale", np.float32(0.1)), g.constant("a.zero", np.array(zero, activation))
    g.add("QuantizeLinear", ["a", scale, zero_point], "a.s8")
    g.add("DequantizeLinear", ["a.s8", scale, zero_point], "a.q")
    integers = np.random.default_rng(1).integers(-63, 64, (16, 16, 3, 3)) + (128 if weight is np.uint8 else 0)
    shape = () if axis is None else (16,)
    names = [
        g.constant("w.s8", integers.astype(weight)),
        g.constant("w.scale", np.full(shape, 0.02, np.float32)),
        g.constant("w.zero", np.full(shape, 128 if weight is np.uint8 else weight_zero, weight)),
    ]
    g.add("DequantizeLinear", names, "w.q", **({} if axis is None else {"axis": axis}))
    inputs = ["a.q", "w.q"]
    if bias == "int32":  # ONNX Runtime's way
        bias_names = [
            g.constant("b.s32", np.zeros(16, np.int32)),
            g.constant("b.scale", np.full(16, 0.002, np.float32)),
            g.constant("b.zero", np.zeros(16, np.int32)),
        ]
        inputs.append(g.add("DequantizeLinear", bias_names, "b.q", axis=0))
    else:
        inputs.append(g.constant("b", np.zeros(16, np.float32)))
    g.add("Conv", inputs, "y", pads=[1] * 4)
    return g.finish("y", batch, opset)


def qlinear() -> Any:
    """The same convolution as one integer operator."""
    g = stem()
    scale, zero = g.constant("scale", np.float32(0.1)), g.constant("zero", np.array(0, np.int8))
    g.add("QuantizeLinear", ["a", scale, zero], "a.s8")
    integers = np.random.default_rng(1).integers(-63, 64, (16, 16, 3, 3)).astype(np.int8)
    inputs = ["a.s8", scale, zero, g.constant("w.s8", integers), scale, zero, scale, zero]
    g.add("QLinearConv", inputs, "y.s8", pads=[1] * 4)
    g.add("DequantizeLinear", ["y.s8", scale, zero], "y")
    return g.finish("y")


def dynamic() -> Any:
    """Activations quantised by ranges that are found anew for each picture."""
    g = stem()
    g.nodes.append(
        helper.make_node("DynamicQuantizeLinear", ["a"], ["a.u8", "a.scale", "a.zero"], name="a.dynamicquantizelinear")
    )
    g.add("DequantizeLinear", ["a.u8", "a.scale", "a.zero"], "y")
    return g.finish("y")


def moved() -> Any:
    """The picture is transposed as uint8, and cast only then."""
    g = Graph()
    g.add("Transpose", ["image"], "nchw", perm=[0, 3, 1, 2])
    g.add("Cast", ["nchw"], "y", to=TensorProto.FLOAT)
    return g.finish("y")
