"""Reading a float ONNX graph: which products may be quantised, where the score tail begins, what is a function of one pixel.

What is quantised is a list of what may be, not of what may not:

- Only Conv (group 1), Gemm and MatMul with constant weights. Never depthwise or grouped convolutions (11 points of AUROC on
  EfficientNet-Lite0), pools, additions, concatenations or resizes.
- Never a product with fewer than 8 input channels (the stem, which sees the picture) or fewer than 8 output channels (its output
  is a score, not a feature): nothing to win, much to lose.
- Never right behind a concatenation that could not be split (:mod:`edgead.calibration.concats`): OpenVINO misreads that.
- Never the score tail: whatever comes after the first ReduceMin/ReduceMax/TopK/ArgMin/ArgMax. Good pictures do not show how far a
  defect's score reaches, so ranges measured on them would clip it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.errors import BadInput
from edgead.optional import require

FEWEST_CHANNELS = 8
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
TAIL_STARTS = frozenset({"ReduceMin", "ReduceMax", "TopK", "ArgMin", "ArgMax"})
_POINTWISE = frozenset(
    {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Gather", "Concat"}
)
_UNARY = frozenset({"Clip", "Identity", "LeakyRelu", "Relu", "Sigmoid"})
_WITH_CONSTANT = frozenset({"Add", "Sub", "Mul", "Div"})
WHY = "Reading an ONNX graph"
_NEAREST = frozenset({"ReduceMin", "TopK", "ArgMin"})
_LIGHT = frozenset(
    {
        "Abs", "Add", "AveragePool", "Clip", "Concat", "Div", "Flatten", "Identity", "Mul", "Pow", "ReduceMean", "ReduceSum",
        "ReduceSumSquare", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Cheap operators that stay float when all they lead to is float or an output."""


@dataclass(frozen=True, slots=True)
class Product:
    """A node that may be quantised.

    Attributes:
        node: the ONNX node; its name is unique in the graph.
        activation, weight: names of its two inputs.
        axis: of the weight's output channels when each gets its own step, None for one step for all.
        out_axis: of the weight's output channels.
        pointwise: every output is a product with one column of inputs: a 1x1 convolution or a matrix product.
        stored: the weight is stored as integers with a step for each output channel already; `weight` names the integers.
    """

    node: Any
    activation: str
    weight: str
    axis: int | None
    out_axis: int
    pointwise: bool
    stored: bool = False


def load_graph(path: Path) -> Any:
    """An ONNX model with every constant an initializer and every node named; names that it had are kept.

    Raises:
        BadInput: the file is not a readable ONNX file.
        MissingExtra: onnx is not installed.
    """
    onnx = require("onnx", extra="export", why=WHY)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's, onnx's and the file system's errors have no common base
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(f"{path} is not a readable ONNX file: {reason}", hint="export it again") from error
    nodes = []
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        value = next((a for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is not None:
            model.graph.initializer.append(onnx.TensorProto.FromString(value.t.SerializeToString()))
            model.graph.initializer[-1].name = node.output[0]
            continue
        if not node.name:
            node.name = f"{node.op_type}_{index}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def find_products(model: Any, keep_float: Sequence[str] = ()) -> tuple[list[Product], list[tuple[str, str, str]]]:
    """The nodes that may be quantised, in graph order, and (node, op, why) of those products that stay float.

    Args:
        keep_float: names of nodes that stay float whatever they are.

    Raises:
        BadInput: `keep_float` names a node that is not there.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    unknown = sorted(set(keep_float) - {node.name for node in model.graph.node})
    if unknown:
        raise BadInput(f"the graph has no node {unknown[0]!r} to keep float", hint="node names are in the calibration report")
    stored = _stored_weights(model)
    tail = tail_tensors(model)
    joined = concatenated(model)
    found: list[Product] = []
    kept: list[tuple[str, str, str]] = []
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        product = _judge(node, weights, stored, tail)
        if isinstance(product, Product) and product.activation in joined:
            product = "behind a concatenation"
        if node.name in keep_float:
            product = "asked for"
        if isinstance(product, Product):
            found.append(product)
        else:
            kept.append((node.name, node.op_type, product))
    return found, kept


def _stored_weights(model: Any) -> dict[str, str]:
    """Outputs of DequantizeLinear nodes of a float graph on constants with a step for each index of axis 0 (a compressed bank),
    and the names of their integers."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and all(name in constants for name in node.input)
        and next((a.i for a in node.attribute if a.name == "axis"), 1) == 0
        and len(constants[node.input[1]].dims) == 1
    }


def _judge(node: Any, weights: dict[str, tuple[int, ...]], stored: dict[str, str], tail: set[str]) -> Product | str:
    """The product, or why it stays float."""
    attributes = {a.name: a.i for a in node.attribute}
    weight = stored.get(node.input[1], node.input[1])
    shape = weights.get(weight, ())
    if any(name in tail for name in node.input):
        return "score tail"
    if not shape or node.input[0] in weights:
        return "no constant weights"
    if node.op_type == "Conv" and attributes.get("group", 1) != 1:
        return "depthwise or grouped"
    if node.op_type != "Conv" and (len(shape) != 2 or attributes.get("transA", 0)):
        return "not a plain matrix product"
    if min(shape[:2]) < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels"
    first = node.op_type == "Conv" or bool(attributes.get("transB", 0))
    if weight != node.input[1] and not first:
        return "stored with steps on its other axis"
    pointwise = all(size == 1 for size in shape[2:])
    return Product(node, node.input[0], weight, 0 if first else None, 0 if first else 1, pointwise, weight != node.input[1])


def concatenated(model: Any) -> set[str]:
    """Names of tensors that are a concatenation, or one value by value of it."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Concat" or (node.op_type in _UNARY and node.input[0] in found):
            found.update(node.output)
    return found


def tail_tensors(model: Any) -> set[str]:
    """Names of the tensors that the score tail computes."""
    tail: set[str] = set()
    for node in model.graph.node:  # in topological order by the ONNX specification
        if node.op_type in TAIL_STARTS or any(name in tail for name in node.input):
            tail.update(node.output)
    return tail


def float_places(model: Any) -> set[str]:
    """Names of the nodes that stay float because of their place: the score tail and what leads to it or to an output."""
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    tail = tail_tensors(model)
    places: set[str] = set()
    near: set[str] = set()  # nodes whose output is compared for the smallest
    for node in reversed(model.graph.node):
        after = [user for name in node.output for user in users.get(name, [])]
        ends = all(user.name in places for user in after) and (bool(after) or any(name in outputs for name in node.output))
        if any(user.op_type in _NEAREST or (user.name in near and user.op_type in _LIGHT) for user in after):
            near.add(node.name)
        in_tail = node.op_type in TAIL_STARTS or any(name in tail for name in node.output)
        distance = node.op_type in PRODUCTS and node.name in near
        if in_tail or distance or (node.op_type in _LIGHT and ends):
            places.add(node.name)
    return places


def pixel_tensors(model: Any) -> set[str]:
    """Names of tensors whose every value is a monotone function of one value of the picture (a cast, a normalisation, another
    layout): a black and a white picture show their largest magnitude, whatever will be seen on the line."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == 2}  # TensorProto.UINT8
    for node in model.graph.node:
        variable = [name for name in node.input if name and name not in constants]
        fits = node.op_type in _POINTWISE or (node.op_type in _WITH_CONSTANT and len(variable) == 1)
        if fits and variable and all(name in found for name in variable):
            found.update(node.output)
    return found


def multiplications(model: Any, products: Sequence[Product]) -> dict[str, int]:
    """How many a product does in one inference, by node name; 0 when its output's shape is not known."""
    onnx = require("onnx", extra="export", why=WHY)
    shapes: dict[str, int] = {}
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        shapes[value.name] = math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
    sizes = {tensor.name: (math.prod(tensor.dims), tuple(tensor.dims)) for tensor in model.graph.initializer}
    counts = {}
    for product in products:
        size, dims = sizes[product.weight]
        counts[product.node.name] = size // dims[product.out_axis] * shapes.get(product.node.output[0], 0)
    return counts
