"""Reading a float ONNX graph: which products may be quantised, where the score tail begins, what is a function of one pixel.

What is quantised is a list of what may be, not of what may not:

- Only Conv (group 1), Gemm and MatMul with constant weights. Never depthwise or grouped convolutions (11 points of AUROC on
  EfficientNet-Lite0), additions, concatenations or resizes; pools only where :func:`shrinking_pools` says.
- Never a product with fewer than 8 output channels (its output is a score, not a feature) or fewer than 8 input channels: nothing
  to win, much to lose. But for a convolution that reads the picture on a grid without loss (:mod:`edgead.calibration.int8.stem`).
- Never a transposed convolution: what a decoder needs of it is a nearest x 2 and a 3 x 3 convolution, which become INT8.
- Never right behind a concatenation that could not be split (:mod:`edgead.calibration.int8.concats`): OpenVINO misreads that.
- Never what its model says is to stay float (`float_parts` of a detector): such names begin with `STAYS_FLOAT`.
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
GREY = 128.0
"""What is taken from a picture so that a signed 8-bit grid of step 1 holds it."""
STAYS_FLOAT = "float/"
"""The name of a node that its model says is to stay float begins so."""

PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
TAIL_STARTS = frozenset({"ReduceMin", "ReduceMax", "TopK", "ArgMin", "ArgMax"})
_POINTWISE = frozenset(
    {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Gather", "Concat"}
)
_UNARY = frozenset({"Clip", "Identity", "LeakyRelu", "Relu", "Sigmoid"})
_WITH_CONSTANT = frozenset({"Add", "Sub", "Mul", "Div"})
NOT_WRITTEN = {
    "ConvTranspose": "transposed convolution",
    "Einsum": "not a plain matrix product",
    "GRU": "recurrent",
    "LSTM": "recurrent",
    "RNN": "recurrent",
}
"""Other products, which stay float, and why."""

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
        kernel: k and k' of a k x k' convolution, () of a matrix product.
        stored: the weight is stored as integers with a step for each output channel already; `weight` names the integers.
    """

    node: Any
    activation: str
    weight: str
    axis: int | None
    out_axis: int
    kernel: tuple[int, ...]
    stored: bool = False

    @property
    def pointwise(self) -> bool:
        """Every output is a product with one column of inputs: a 1x1 convolution or a matrix product."""
        return math.prod(self.kernel) == 1

    @property
    def dilated(self) -> bool:
        """It reads a window with gaps."""
        return any(max(a.ints, default=1) > 1 for a in self.node.attribute if a.name == "dilations")


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
    exact = exact_tensors(model)
    tail = tail_tensors(model)
    joined = concatenated(model)
    found: list[Product] = []
    kept: list[tuple[str, str, str]] = []
    for node in model.graph.node:
        if node.op_type in NOT_WRITTEN:
            kept.append((node.name, node.op_type, NOT_WRITTEN[node.op_type]))
        if node.op_type not in PRODUCTS:
            continue
        product = _judge(node, weights, stored, tail, exact)
        if isinstance(product, Product) and product.activation in joined:
            product = "behind a concatenation"
        if node.name in keep_float:
            product = "asked for"
        elif node.name.startswith(STAYS_FLOAT):
            product = "the model says so"
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


def _judge(
    node: Any, weights: dict[str, tuple[int, ...]], stored: dict[str, str], tail: set[str], exact: set[str]
) -> Product | str:
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
    fewest = shape[0] if node.op_type == "Conv" and node.input[0] in exact else min(shape[:2])
    if fewest < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels"
    first = node.op_type == "Conv" or bool(attributes.get("transB", 0))
    if weight != node.input[1] and not first:
        return "stored with steps on its other axis"
    return Product(node, node.input[0], weight, 0 if first else None, 0 if first else 1, shape[2:], weight != node.input[1])


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
    return _from_picture(model, _WITH_CONSTANT)


def grey_levels(model: Any) -> set[str]:
    """Names of tensors that hold values of the uint8 picture as they are, in whatever order and type."""
    return _from_picture(model, frozenset())


def _from_picture(model: Any, with_constant: frozenset[str]) -> set[str]:
    """Names of tensors made of the uint8 picture alone, by operators on single values; `with_constant`: also with a constant."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == 2}  # TensorProto.UINT8
    for node in model.graph.node:
        variable = [name for name in node.input if name and name not in constants]
        fits = node.op_type in _POINTWISE or (node.op_type in with_constant and len(variable) == 1)
        if fits and variable and all(name in found for name in variable):
            found.update(node.output)
    return found


def exact_tensors(model: Any) -> set[str]:
    """Names of tensors that are the picture minus `GREY`: integers from -128 to 127."""
    onnx = require("onnx", extra="export", why=WHY)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    grey = {name for name, value in values.items() if value.size and (value == GREY).all()}
    levels = grey_levels(model)
    return {
        node.output[0] for node in model.graph.node if node.op_type == "Sub" and node.input[0] in levels and node.input[1] in grey
    }


def shrinking_pools(model: Any, products: Sequence[Product], keep_float: Sequence[str] = ()) -> list[Any]:
    """Average pools with a stride that stand between two of the products: what they read may be on a grid of its own, so that
    the product before them leaves bytes. (The largest tensors of a network are before its first pools, and memory is what they
    cost: EfficientAD's first convolution with its pool took 0.35 of the time.)

    Args:
        keep_float: names of nodes that stay float.
    """
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    made = {product.node.output[0] for product in products}
    read = {(product.node.name, product.activation) for product in products}
    for node in model.graph.node:
        if node.op_type in _UNARY and node.input[0] in made and len(users[node.input[0]]) == 1:
            made.add(node.output[0])
    return [
        node
        for node in model.graph.node
        if node.op_type == "AveragePool"
        and node.name not in keep_float
        and shrinks(node)
        and node.input[0] in made - outputs
        and len(users[node.input[0]]) == 1
        and node.output[0] not in outputs
        and all((user.name, node.output[0]) in read for user in users.get(node.output[0], [node]))
    ]


def shrinks(pool: Any) -> bool:
    """Whether a pool has a stride."""
    return any(max(a.ints) > 1 for a in pool.attribute if a.name == "strides")


def drop_unused(model: Any) -> None:
    """Remove nodes and constants that nothing needs, in place."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if any(name in needed for name in node.output):
            needed.update(node.input)
            kept.append(type(node).FromString(node.SerializeToString()))
    tensors = [type(t).FromString(t.SerializeToString()) for t in model.graph.initializer if t.name in needed]
    for field, items in ((model.graph.node, reversed(kept)), (model.graph.initializer, tensors)):
        del field[:]
        field.extend(items)


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
