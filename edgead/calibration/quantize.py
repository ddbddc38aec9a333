"""Float ONNX graph -> INT8 graph with explicit QuantizeLinear/DequantizeLinear pairs, accepted by OpenVINO, ONNX Runtime and
TensorRT alike.

What is quantised is a list of what may be, not of what may not:

- Only Conv (group 1), Gemm and MatMul with constant weights. Never depthwise or grouped convolutions (11 points of AUROC on
  EfficientNet-Lite0), pools, additions, concatenations or resizes.
- Never a product with fewer than 8 input channels (the stem, which sees the picture) or fewer than 8 output channels (its output
  is a score, not a feature): nothing to win, much to lose.
- Never the score tail: whatever comes after the first ReduceMin/ReduceMax/TopK/ArgMin/ArgMax.

Pairs stand on the two inputs of such a product and nowhere else, so its output and bias stay float. Activations: symmetric
signed 8 bit per tensor, measured on good pictures. Weights: symmetric, 7 bits (-63 to 63) or 8 (-127 to 127), per output
channel on axis 0 (Conv, Gemm with transB), per tensor else. x86 CPUs without VNNI add pairs of products in 16 bits: 8-bit weights
saturate there, 7-bit ones cannot (2 * 255 * 63 < 2^15).

Rounding weights moves the mean of a product's output by (rounded - W) E[x]; the bias takes that back, with E[x] the mean input
of each channel over the calibration pictures (Nagel et al. 2019, section 4.2, with measured means).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.calibration.observers import METHODS, MagnitudeHistogram
from edgead.calibration.sets import CalibrationSet
from edgead.engines.onnxruntime import Tapped
from edgead.errors import BadInput
from edgead.optional import require

WEIGHT_LEVELS = {7: 63, 8: 127}
FEWEST_CHANNELS = 8
_TAIL_STARTS = frozenset({"ReduceMin", "ReduceMax", "TopK", "ArgMin", "ArgMax"})


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How the INT8 graph is made.

    Attributes:
        weight_bits: 7 (right on every CPU) or 8 (slightly finer, but wrong on x86 without VNNI).
        method: ``"minmax"`` or ``"mse"`` activation ranges. The latter may clip what good pictures rarely reach, which is
            where defects are: on elpv the maps of PatchCore and EfficientAD were 2 to 3 times farther from FP32 with it.
    """

    weight_bits: int = 7
    method: str = "minmax"

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_LEVELS:
            raise BadInput(f"{self.weight_bits}-bit weights are not supported", hint="choose 7 or 8")
        if self.method not in METHODS:
            raise BadInput(f"unknown calibration method {self.method!r}", hint=f"choose {' or '.join(METHODS)}")


@dataclass(frozen=True, slots=True)
class Product:
    """A node that may be quantised: `axis` is that of the weight's output channels, None for a scale per tensor."""

    node: Any
    activation: str
    weight: str
    axis: int | None


def quantize(
    source: Path,
    target: Path,
    calibration: CalibrationSet,
    options: QuantizeOptions | None = None,
    report: Callable[[float], None] = lambda fraction: None,
    threads: int | None = None,
) -> int:
    """Write the INT8 graph of `source` to `target` (both ``.onnx``).

    Args:
        calibration: good pictures at model size.
        report: told the share of pictures done, 0 to 1.
        threads: CPU threads for running the float model; None takes all cores.

    Returns:
        How many products became INT8.

    Raises:
        BadInput: nothing in the graph may be quantised, or a tensor is not finite on a picture.
        MissingExtra: onnx or onnxruntime is not installed.
        EngineError: the graph does not run.
    """
    options = options or QuantizeOptions()
    onnx = require("onnx", extra="export", why="Writing an INT8 graph")
    model = onnx.load(str(source))
    products = find_products(model)
    if not products:
        raise BadInput(f"{source} holds nothing that may be quantised", hint="export it with --precision fp32")
    names = list(dict.fromkeys(product.activation for product in products))
    ranges = measure(model, names, calibration, options.method, report, threads)
    _Writer(onnx, model, options.weight_bits).write(products, ranges)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return len(products)


def find_products(model: Any) -> list[Product]:
    """The nodes of an ONNX model that may be quantised, by the rules at the top, in graph order."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    tail: set[str] = set()
    found: list[Product] = []
    for node in model.graph.node:  # in topological order by the ONNX specification
        if node.op_type in _TAIL_STARTS or any(name in tail for name in node.input):
            tail.update(node.output)
        elif (product := _product(node, weights)) is not None:
            found.append(product)
    return found


def _product(node: Any, weights: dict[str, tuple[int, ...]]) -> Product | None:
    if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.input[1] not in weights or node.input[0] in weights:
        return None
    attributes = {a.name: a.i for a in node.attribute}
    shape = weights[node.input[1]]
    axis: int | None = 0
    if node.op_type == "Conv":
        channels = shape[:2]
        if attributes.get("group", 1) != 1:
            return None
    elif len(shape) != 2 or attributes.get("transA", 0):
        return None
    elif node.op_type == "Gemm" and attributes.get("transB", 0):
        channels = shape
    else:
        channels, axis = shape, None
    return Product(node, node.input[0], node.input[1], axis) if min(channels) >= FEWEST_CHANNELS else None


@dataclass(frozen=True, slots=True)
class Range:
    """What calibration learned of a tensor: `step` of its 8-bit grid, and the float64 `mean` of each channel (axis 1 of
    N x C x h x w, the last axis of others)."""

    step: float
    mean: npt.NDArray[np.float64]


def measure(
    model: Any,
    names: Sequence[str],
    calibration: CalibrationSet,
    method: str = "minmax",
    report: Callable[[float], None] = lambda fraction: None,
    threads: int | None = None,
) -> dict[str, Range]:
    """The range of each named tensor, measured with the float model on the calibration pictures.

    Raises:
        BadInput: a tensor is not finite on some picture.
        EngineError: the graph does not run.
    """
    onnx = require("onnx", extra="export", why="Writing an INT8 graph")
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    run = Tapped(tapped.SerializeToString(), names, threads)
    histograms = [MagnitudeHistogram() for _ in names]
    sums: list[Any] = [0.0 for _ in names]
    for i, image in enumerate(calibration.images):
        for k, values in enumerate(run(image)):
            try:
                histograms[k].add(values)
            except ValueError as error:
                message = f"tensor {names[k]!r} is not finite on calibration picture {i}"
                raise BadInput(message, hint="train the model again") from error
            channel = 1 if values.ndim == 4 else values.ndim - 1
            sums[k] += values.mean(tuple(a for a in range(values.ndim) if a != channel), dtype=np.float64)
        report((i + 1) / len(calibration.images))
    found = zip(names, histograms, sums, strict=True)
    return {name: Range(h.scale(method), total / len(calibration.images)) for name, h, total in found}


class _Writer:
    """Puts the pairs into a model in place."""

    def __init__(self, onnx: Any, model: Any, weight_bits: int) -> None:
        self.onnx, self.model, self.levels = onnx, model, WEIGHT_LEVELS[weight_bits]
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.before: dict[int, list[Any]] = {}

    def write(self, products: Sequence[Product], ranges: dict[str, Range]) -> None:
        places = {id(node): i for i, node in enumerate(self.model.graph.node)}
        done: dict[str, str] = {}
        for product in products:
            nodes = self.before.setdefault(places[id(product.node)], [])
            for name, make in ((product.activation, self._activation), (product.weight, self._weight)):
                if name not in done:
                    done[name] = make(nodes, product, ranges)
            self._correct_bias(product, ranges[product.activation].mean)
            product.node.input[0], product.node.input[1] = done[product.activation], done[product.weight]
        old = list(self.model.graph.node)
        new = [node for i, original in enumerate(old) for node in (*self.before.get(i, ()), original)]
        kept = [self.onnx.NodeProto.FromString(node.SerializeToString()) for node in new]
        del self.model.graph.node[:]
        self.model.graph.node.extend(kept)
        self._drop_unused()

    def _activation(self, nodes: list[Any], product: Product, ranges: dict[str, Range]) -> str:
        name = product.activation
        scale, zero = self._constants(name, np.asarray(ranges[name].step, np.float32))
        make = self.onnx.helper.make_node
        nodes.append(make("QuantizeLinear", [name, scale, zero], [f"{name}.s8"], name=f"{name}.quantize"))
        nodes.append(make("DequantizeLinear", [f"{name}.s8", scale, zero], [f"{name}.q"], name=f"{name}.dequantize"))
        return f"{name}.q"

    def _weight(self, nodes: list[Any], product: Product, ranges: dict[str, Range]) -> str:
        name = product.weight
        values = self.onnx.numpy_helper.to_array(self.weights[name])
        integers, step = quantize_weight(values, product.axis, self.levels)
        self._add(f"{name}.s8", integers)
        scale, zero = self._constants(name, step)
        axis = {} if product.axis is None else {"axis": product.axis}
        make = self.onnx.helper.make_node
        nodes.append(make("DequantizeLinear", [f"{name}.s8", scale, zero], [f"{name}.q"], name=f"{name}.dequantize", **axis))
        return f"{name}.q"

    def _correct_bias(self, product: Product, mean: npt.NDArray[np.float64]) -> None:
        node = product.node
        if product.axis is None or len(node.input) < 3 or node.input[2] not in self.weights:
            return
        values = self.onnx.numpy_helper.to_array(self.weights[product.weight])
        integers, step = quantize_weight(values, product.axis, self.levels)
        error = integers * step.reshape(-1, *[1] * (values.ndim - 1)) - values
        bias = self.onnx.numpy_helper.to_array(self.weights[node.input[2]])
        name = f"{node.input[2]}.{node.name}.corrected"  # a bias may serve several nodes
        self._add(name, (bias - error.reshape(*values.shape[:2], -1).sum(2) @ mean).astype(np.float32))
        node.input[2] = name

    def _constants(self, name: str, scale: npt.NDArray[np.float32]) -> tuple[str, str]:
        self._add(f"{name}.scale", scale)
        self._add(f"{name}.zero", np.zeros(scale.shape, np.int8))
        return f"{name}.scale", f"{name}.zero"

    def _add(self, name: str, values: npt.NDArray[Any]) -> None:
        self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(values, name))

    def _drop_unused(self) -> None:
        used = {name for node in self.model.graph.node for name in node.input}
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        copies = [self.onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(copies)


def quantize_weight(
    values: npt.NDArray[np.float32], axis: int | None, levels: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric integers and their step: values ~ step * integers, |integers| <= levels.

    Args:
        values: float32, any shape.
        axis: one step for each index on this axis (0), or None for one step for all.
        levels: 63 or 127.

    Returns:
        int8 of the same shape, and float32 steps (one for each channel, or a scalar).
    """
    if axis is None:
        largest = np.abs(values).max()
    else:
        largest = np.abs(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1).max(1)
    step = np.where(largest > levels * np.finfo(np.float32).tiny, largest / levels, 1.0).astype(np.float32)
    wide = step if axis is None else step.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return np.clip(np.rint(values / wide), -levels, levels).astype(np.int8), step
