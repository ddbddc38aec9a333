"""Float ONNX graph -> INT8 graph with explicit QuantizeLinear/DequantizeLinear pairs, accepted by OpenVINO, ONNX Runtime and
TensorRT alike. The engine room of :func:`edgead.calibration.int8.calibrate.calibrate`.

Pairs stand on the two inputs of a product (see :mod:`edgead.calibration.int8.products` for which) and before average pools that
shrink what goes from one product to the next, and nowhere else; biases stay float. Activations: symmetric signed 8 bit per
tensor. Weights: symmetric, 7 bits (-63 to 63) or 8 (-127 to 127), per output channel on axis 0 (Conv, Gemm with transB), per
tensor else. x86 CPUs without VNNI add pairs of products in 16 bits: 8-bit weights saturate there, 7-bit ones cannot
(2 * 255 * 63 < 2^15).

Weights of 1x1 convolutions, of matrix products and of convolutions that read the picture are rounded together
(:mod:`edgead.calibration.int8.rounding`), others each to the nearest integer. Either way rounding moves the mean of a product's
output by (rounded - W) E[x]; the bias takes that back, with E[x] the mean input of each channel over the calibration pictures
(Nagel et al. 2019, section 4.2, with measured means). A product without a bias gets one. A weight that is stored as integers in
the float graph (a compressed bank) stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.calibration.int8.observe import Observed
from edgead.calibration.int8.products import WHY, Product, drop_unused
from edgead.calibration.int8.rounding import quantize_weight, round_together
from edgead.calibration.int8.targets import WEIGHT_LEVELS, QuantizeOptions
from edgead.optional import require

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to one product: the `step` of its activation's grid and how it was chosen, the signal to noise ratio of its
    weights in decibels, and the largest shift of its bias."""

    step: float
    method: str
    weight_sqnr_db: float
    bias_shift: float


def insert_pairs(
    model: Any, products: Sequence[Product], pools: Sequence[Any], tensors: Mapping[str, Observed], options: QuantizeOptions
) -> list[Written]:
    """Put the pairs into an ONNX model in place; one answer for each product, in their order."""
    return _Writer(model, tensors, options).write(products, pools)


class _Writer:
    """Puts the pairs into a model in place."""

    def __init__(self, model: Any, tensors: Mapping[str, Observed], options: QuantizeOptions) -> None:
        self.onnx = require("onnx", extra="export", why=WHY)
        self.model, self.tensors, self.options = model, tensors, options
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.errors: dict[str, Array] = {}
        self.done: set[str] = set()
        self.before: dict[str, list[Any]] = {}
        self.after: dict[str, list[Any]] = {}

    def write(self, products: Sequence[Product], pools: Sequence[Any]) -> list[Written]:
        written = [self._product(product) for product in products]
        for pool in pools:
            name = pool.input[0]
            self.before[pool.name] = self._activation(name, self.tensors[name].step(self.options)[0])
            pool.input[0] = f"{name}.q"
        nodes = [
            self.onnx.NodeProto.FromString(node.SerializeToString())
            for original in self.model.graph.node
            for node in (*self.before.get(original.name, ()), original, *self.after.get(original.name, ()))
        ]
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)
        drop_unused(self.model)
        return written

    def _product(self, product: Product) -> Written:
        before = self.before.setdefault(product.node.name, [])
        step, method = self.tensors[product.activation].step(self.options)
        if product.activation not in self.done:
            before.extend(self._activation(product.activation, step))
        if product.stored:  # nothing is left to round
            self.done.add(product.activation)
            product.node.input[0] = f"{product.activation}.q"
            return Written(step, method, math.inf, 0.0)
        if product.weight not in self.done:
            before.extend(self._weight(product))
        self.done.update((product.activation, product.weight))
        values, error = self._values(product.weight), self.errors[product.weight]
        noise = float(np.sum(np.square(error, dtype=np.float64)))
        sqnr = 10.0 * math.log10(float(np.sum(np.square(values, dtype=np.float64))) / noise) if noise else math.inf
        shift = self._correct_bias(product, error) if self.options.correct_bias else 0.0
        product.node.input[0], product.node.input[1] = f"{product.activation}.q", f"{product.weight}.q"
        return Written(step, method, sqnr, shift)

    def _activation(self, name: str, step: float) -> list[Any]:
        scale, zero = self._constants(name, np.asarray(step, np.float32))
        make = self.onnx.helper.make_node
        return [
            make("QuantizeLinear", [name, scale, zero], [f"{name}.s8"], name=f"{name}.quantize"),
            make("DequantizeLinear", [f"{name}.s8", scale, zero], [f"{name}.q"], name=f"{name}.dequantize"),
        ]

    def _weight(self, product: Product) -> list[Any]:
        name = product.weight
        values = self._values(name)
        levels = WEIGHT_LEVELS[self.options.weight_bits]
        integers, step = quantize_weight(values, product.axis, levels)
        covariance = self.tensors[product.activation].covariance
        rows: Array = np.moveaxis(values, product.out_axis, 0)
        # it may be of another product's window
        fits = (
            covariance is not None and len(covariance) == math.prod(rows.shape[1:]) and (product.pointwise or not product.dilated)
        )
        if self.options.correct_rounding and covariance is not None and fits:
            nearest: Array = np.moveaxis(integers, product.out_axis, 0).reshape(len(rows), -1)
            rounded = round_together(rows.reshape(len(rows), -1), nearest, step, levels, covariance)
            integers = np.ascontiguousarray(np.moveaxis(rounded.reshape(rows.shape), 0, product.out_axis))
        self.errors[name] = integers * step.reshape(step.shape + (1,) * (values.ndim - 1 if step.ndim else 0)) - values
        self._add(f"{name}.s8", integers)
        scale, zero = self._constants(name, step)
        axis = {} if product.axis is None else {"axis": product.axis}
        inputs = [f"{name}.s8", scale, zero]
        return [self.onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}.q"], name=f"{name}.dequantize", **axis)]

    def _correct_bias(self, product: Product, error: Array) -> float:
        """Let the bias take back the mean error of the weights; the largest shift in the output's units."""
        rows = np.moveaxis(error, product.out_axis, 0)
        mean = self.tensors[product.activation].mean
        shift = -(rows.reshape(*rows.shape[:2], -1).sum(2, dtype=np.float64) @ mean)
        node = product.node
        if node.op_type == "MatMul":
            self._add_after(node, shift)
            return float(np.abs(shift).max())
        factors = {a.name: a.f for a in node.attribute}
        bias: Array = np.zeros(1, np.float32)
        if len(node.input) > 2 and node.input[2]:
            if node.input[2] not in self.weights or not factors.get("beta", 1.0):
                return 0.0
            bias = self._values(node.input[2])
        name = f"{node.name}.corrected"  # a bias may serve several nodes
        self._add(name, (bias + shift * (factors.get("alpha", 1.0) / factors.get("beta", 1.0))).astype(np.float32))
        del node.input[2:]
        node.input.append(name)
        return float(np.abs(shift).max() * abs(factors.get("alpha", 1.0)))

    def _add_after(self, node: Any, shift: Array) -> None:
        """MatMul has no bias: an addition behind it."""
        output, raw, name = node.output[0], f"{node.output[0]}.raw", f"{node.name}.corrected"
        self._add(name, shift.astype(np.float32))
        node.output[0] = raw
        self.after[node.name] = [self.onnx.helper.make_node("Add", [raw, name], [output], name=f"{node.name}.correct")]

    def _values(self, name: str) -> Array:
        values: Array = self.onnx.numpy_helper.to_array(self.weights[name])
        return values

    def _constants(self, name: str, scale: Array) -> tuple[str, str]:
        self._add(f"{name}.scale", scale)
        self._add(f"{name}.zero", np.zeros(scale.shape, np.int8))
        return f"{name}.scale", f"{name}.zero"

    def _add(self, name: str, values: Array) -> None:
        self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(values, name))
