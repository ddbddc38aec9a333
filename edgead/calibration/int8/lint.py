"""What a backend would refuse in an INT8 graph or, worse, misread without a word. Every finding names its node.

| code | targets | severity | what happens otherwise |
|---|---|---|---|
| quantised-tail | all | error | scores beyond those of good pictures are clipped: every defect gets the same score |
| bad-scale | all | error | a step that is zero, negative or not finite |
| wide-weights | CPUs not known to sum in 32 bits | error | 8-bit weights saturate on x86 without VNNI |
| behind-concat | OpenVINO | error | the pair is moved to the parts: maps off by half of their deviation |
| quantised-depthwise | all | warning | 11 points of AUROC lost |
| quantised-pool | all | warning | accuracy lost for nothing; not where a pool shrinks what is quantised behind it |
| uint8-activation | TensorRT | error | built with only a warning, and wrong |
| uint8-operator | TensorRT | error | refused: it takes a uint8 picture into a Cast and nowhere else |
| uint8-weight, int32-bias, zero-point, integer-operator | TensorRT | error | refused |
| other-type, dynamic-scale | TensorRT | error | refused, or outside of what NVIDIA documents |
| weight-axis, channel-activation | TensorRT | error | built, but outside of what NVIDIA documents, and not checked on a GPU |
| unpaired | TensorRT | warning | built; integers go where floats were meant |

Measured with TensorRT for RTX 1.7, OpenVINO 2026.4 and ONNX Runtime 1.31 (docs/calibration.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgead.calibration.findings import Finding
from edgead.calibration.int8.products import TAIL_STARTS, WHY, concatenated, load_graph, shrinks, tail_tensors
from edgead.calibration.int8.targets import WEIGHT_LEVELS, Target
from edgead.optional import require

INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QGemm", "QLinearAdd", "QLinearConv", "QLinearMatMul"}
)
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
_SHAPE_ONLY = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def lint(path: Path, target: Target) -> list[Finding]:
    """Findings on an INT8 ONNX file, whoever wrote it; an error is something that `target` refuses or misreads.

    Raises:
        BadInput: the file is not a readable ONNX file.
        MissingExtra: onnx is not installed.
    """
    return lint_graph(load_graph(path), target)


def lint_graph(model: Any, target: Target) -> list[Finding]:
    """The same for a model in memory whose constants are initializers and whose nodes have names."""
    linter = _Linter(model, target)
    return [finding for node in model.graph.node for finding in linter.judge(node)]


class _Linter:
    def __init__(self, model: Any, target: Target) -> None:
        onnx = require("onnx", extra="export", why=WHY)
        self.target = target
        self.types = onnx.TensorProto.DataType
        self.as_array = onnx.numpy_helper.to_array
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.tail = tail_tensors(model)
        self.concatenated = concatenated(model)
        self.pictures = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == self.types.UINT8}

    def judge(self, node: Any) -> Iterator[Finding]:
        if self.target.tensorrt and node.op_type != "Cast" and any(name in self.pictures for name in node.input):
            yield _error(
                "uint8-operator", node, f"{node.op_type} on the uint8 picture is refused by TensorRT: cast it to float first"
            )
        if node.op_type in INTEGER_OPERATORS and self.target.tensorrt:
            yield _error(
                "integer-operator", node, f"{node.op_type} is refused by TensorRT: write QuantizeLinear/DequantizeLinear"
            )
        elif node.op_type in _PAIR:
            yield from self._pair(node)
        elif any(self._quantised(name) for name in node.input):
            yield from self._quantised_input(node)

    def _pair(self, node: Any) -> Iterator[Finding]:
        if any(name in self.tail for name in (*node.input, *node.output)):
            yield _error("quantised-tail", node, "the score tail is quantised: it clips what good pictures never reach")
        if node.op_type == "QuantizeLinear" and self.target.backend == "openvino" and node.input[0] in self.concatenated:
            yield _error("behind-concat", node, "OpenVINO misreads a pair right behind a concatenation: quantise the parts")
        yield from self._scale(node)
        weight = self.constants.get(node.input[0])
        if node.op_type == "DequantizeLinear" and weight is not None:
            yield from self._wide(node, weight)
        if self.target.tensorrt:
            yield from self._types(node, weight)

    def _scale(self, node: Any) -> Iterator[Finding]:
        if node.input[1] not in self.constants:
            if self.target.tensorrt:
                yield _error("dynamic-scale", node, "its scale is computed; TensorRT wants a constant")
            return
        scale = np.asarray(self.as_array(self.constants[node.input[1]]), np.float64)
        if not bool((np.isfinite(scale) & (scale > 0)).all()):
            yield _error("bad-scale", node, "a scale is zero, negative or not finite")
        if not self.target.tensorrt or scale.size == 1:
            return
        if node.input[0] not in self.constants and node.input[0] not in self.makers:
            return
        if self._is_weight(node.input[0]):
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            if axis != 0:
                yield _error("weight-axis", node, f"its scales are along axis {axis}; TensorRT documents axis 0 or one scale")
        else:
            yield _error("channel-activation", node, "activations have a scale for each channel; TensorRT documents one")

    def _wide(self, node: Any, weight: Any) -> Iterator[Finding]:
        if self.target.tensorrt or self.target.wide_sums or weight.data_type not in (self.types.INT8, self.types.UINT8):
            return
        integers = self.as_array(weight).astype(np.int32)
        zero = self._zero(node)
        largest = int(np.abs(integers - (0 if zero is None else int(zero.ravel()[0]))).max())
        if largest > WEIGHT_LEVELS[7]:
            message = f"8-bit weights (up to {largest}) saturate on x86 CPUs without VNNI: use 7 bits (-63 to 63)"
            yield _error("wide-weights", node, message)

    def _types(self, node: Any, weight: Any) -> Iterator[Finding]:
        kind = self._integer_type(node, weight)
        if kind == self.types.INT32:
            yield _error("int32-bias", node, "an int32 bias is refused by TensorRT: keep biases float")
        elif kind == self.types.UINT8 and weight is not None:
            yield _error("uint8-weight", node, "uint8 weights are refused by TensorRT: use symmetric int8")
        elif kind == self.types.UINT8:
            yield _error(
                "uint8-activation", node, "uint8 activations are misread by TensorRT without an error: use symmetric int8"
            )
        elif kind != self.types.INT8:
            yield _error("other-type", node, f"{self.types.Name(kind)} instead of symmetric int8")
        zero = self._zero(node)
        if zero is not None and zero.any():
            yield _error("zero-point", node, "its zero point is not 0; TensorRT takes symmetric int8 only")
        if node.op_type == "QuantizeLinear":
            users = self.users.get(node.output[0], [])
            if not users or any(user.op_type != "DequantizeLinear" for user in users):
                yield Finding("warning", "unpaired", node.name, "it is not followed by a DequantizeLinear")

    def _quantised_input(self, node: Any) -> Iterator[Finding]:
        if node.op_type in TAIL_STARTS or (node.op_type in _SHAPE_ONLY and self._leads_to_tail(node)):
            yield _error("quantised-tail", node, f"the score's {node.op_type} sees a quantised input: it clips what defects give")
        elif node.op_type in {"Conv", "ConvTranspose"} and next((a.i for a in node.attribute if a.name == "group"), 1) > 1:
            yield Finding(
                "warning", "quantised-depthwise", node.name, "a depthwise or grouped convolution is quantised: keep it float"
            )
        elif node.op_type in _POOLS and not (shrinks(node) and self._requantised(node)):
            yield Finding("warning", "quantised-pool", node.name, f"{node.op_type} is quantised: keep it float")

    def _requantised(self, node: Any) -> bool:
        """Whether what a node gives is quantised at once, whoever takes it."""
        return all(user.op_type == "QuantizeLinear" for user in self.users.get(node.output[0], [node]))

    def _leads_to_tail(self, node: Any) -> bool:
        return any(
            user.op_type in TAIL_STARTS or (user.op_type in _SHAPE_ONLY and self._leads_to_tail(user))
            for user in self.users.get(node.output[0], [])
        )

    def _quantised(self, name: str) -> bool:
        """Whether an activation comes out of a DequantizeLinear."""
        maker = self.makers.get(name)
        return maker is not None and maker.op_type == "DequantizeLinear" and not self._is_weight(name)

    def _is_weight(self, name: str) -> bool:
        """Whether a tensor is constant, or one behind Quantize/DequantizeLinear."""
        while name not in self.constants:
            maker = self.makers.get(name)
            if maker is None or maker.op_type not in _PAIR:
                return False
            name = maker.input[0]
        return True

    def _zero(self, node: Any) -> Any:
        known = len(node.input) > 2 and node.input[2] in self.constants
        return self.as_array(self.constants[node.input[2]]) if known else None

    def _integer_type(self, node: Any, weight: Any) -> int:
        """ONNX type of the integers: that of a constant, of the zero point, of the attribute, or uint8, ONNX's default."""
        if node.op_type == "DequantizeLinear" and weight is not None:
            return int(weight.data_type)
        if len(node.input) > 2 and node.input[2] in self.constants:
            return int(self.constants[node.input[2]].data_type)
        maker = self.makers.get(node.input[0])
        if node.op_type == "DequantizeLinear" and maker is not None and maker.op_type == "QuantizeLinear":
            return self._integer_type(maker, None)
        return next((int(a.i) for a in node.attribute if a.name == "output_dtype" and a.i), int(self.types.UINT8))


def _error(code: str, node: Any, message: str) -> Finding:
    return Finding("error", code, node.name, message)
