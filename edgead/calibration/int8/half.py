"""Float or Q/DQ ONNX graph -> the same in half precision. TensorRT 11 has no flag for it: the precision is in the graph.

Half precision holds 11 bits and ends at 65504. So these stay float, with casts at their borders:

- Inputs and outputs of the graph keep their types, so the graph contract holds.
- The score tail: what comes after the first ReduceMin/ReduceMax/TopK/ArgMin/ArgMax, and everything after the last products
  that only adds, scales or reshapes on the way to it.
- A product whose smallest output counts (nearest neighbours: |a|^2 + |b|^2 - 2ab in one product): the parts are large, the
  result is small, and 11 bits of the parts leave little of it.
- What reached `LARGE` on good pictures, when there are some, and everything whose constants half precision cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgead.calibration.findings import Finding
from edgead.calibration.int8.observe import largest_values
from edgead.calibration.int8.products import WHY, float_places, load_graph
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput
from edgead.optional import require

LARGEST, SMALLEST = 65504.0, 2.0**-24
LARGE = LARGEST / 8
"""A defect may reach further than good pictures do."""

SMALLEST_SCALE = 2.0**-14
"""Below it half precision loses bits. Channels of next to no weight get this step instead of theirs, which is still finer than
that of the others; a pair whose steps are mostly smaller keeps its float scale."""

_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that are float by the ONNX specification whatever the others are."""


def to_half(
    source: Path, target: Path, calibration: CalibrationSet | None = None, keep_float: Sequence[str] = ()
) -> list[Finding]:
    """Write `source` in half precision to `target` (both ``.onnx``); inputs and outputs keep their types.

    Args:
        source: float graph by the graph contract, or its INT8 graph: integers and zero points stay, scales become half.
        calibration: good pictures, to find what grows too large; None keeps only what the structure of the graph tells.
        keep_float: names of nodes that stay float as well.

    Returns:
        A warning for each node that stays float because of its values, not because of its place.

    Raises:
        BadInput: the file is not readable, holds subgraphs or unknown types, or `keep_float` names a node that is not there.
        MissingExtra: onnx (or, with pictures, onnxruntime) is not installed.
        EngineError: the graph does not run on the pictures.
    """
    onnx = require("onnx", extra="export", why=WHY)
    model = load_graph(source)
    _raise_small_steps(onnx, model)
    converter = _Converter(onnx, model, source)
    unknown = sorted(set(keep_float) - {node.name for node in model.graph.node})
    if unknown:
        raise BadInput(f"the graph has no node {unknown[0]!r} to keep float", hint="node names are in the ONNX file")
    findings = converter.out_of_range(largest_values(model, calibration, converter.floats) if calibration else {})
    converter.convert(set(keep_float) | {finding.where for finding in findings} | float_places(model))
    model = _with_half_pairs(onnx, model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))
    return findings


def _raise_small_steps(onnx: Any, model: Any) -> None:
    """Integers of weight channels whose step is too small for half precision, rounded again to the smallest step it can hold."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants or node.input[1] not in constants:
            continue
        weight, scale = constants[node.input[0]], constants[node.input[1]]
        steps = onnx.numpy_helper.to_array(scale)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        small = steps < SMALLEST_SCALE
        if weight.data_type != onnx.TensorProto.INT8 or not small.any() or float(np.median(steps)) < SMALLEST_SCALE:
            continue
        integers = onnx.numpy_helper.to_array(weight)
        ratio = np.where(small, steps / SMALLEST_SCALE, 1.0).reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
        weight.CopyFrom(onnx.numpy_helper.from_array(np.rint(integers * ratio).astype(np.int8), weight.name))
        scale.CopyFrom(onnx.numpy_helper.from_array(np.maximum(steps, np.float32(SMALLEST_SCALE)), scale.name))


def _with_half_pairs(onnx: Any, model: Any) -> Any:
    """Half scales of QuantizeLinear came with opset 19, which differs from 18 in additions only."""
    opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset.version >= 19 or not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    if opset.version < 18:
        return onnx.version_converter.convert_version(model, 19)
    opset.version = 19
    model.ir_version = max(model.ir_version, 9)
    return model


class _Converter:
    """Changes a model in place."""

    def __init__(self, onnx: Any, model: Any, source: Path) -> None:
        self.onnx, self.model = onnx, model
        self.float, self.half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        if any(a.type in (a.GRAPH, a.GRAPHS) for node in model.graph.node for a in node.attribute):
            raise BadInput(
                f"{source} holds subgraphs, which cannot be converted to half precision", hint="export it without branches"
            )
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        missing = [name for node in model.graph.node for name in node.output if name and name not in types]
        if missing:
            raise BadInput(
                f"{source}: the type of {missing[0]!r} is not known", hint="export it with standard ONNX operators only"
            )
        self.floats = {name for name, kind in types.items() if kind == self.float}
        self.copies: dict[tuple[str, int], str] = {}
        self.made: dict[str, int] = {}

    def out_of_range(self, largest: dict[str, float]) -> list[Finding]:
        """A warning for each node with a value beyond half precision: measured on pictures, or among its constants."""
        found = []
        for node in self.model.graph.node:
            top, name = max(((largest.get(n, 0.0), n) for n in (*node.input, *node.output)), default=(0.0, ""))
            if top > LARGE:
                found.append(Finding("warning", "large-values", node.name, f"{name!r} reaches {top:.3g}: it stays float"))
            elif any(self._unfit(name) for name in node.input):
                message = f"a constant is above {LARGEST:g} or so small that it becomes 0: it stays float"
                found.append(Finding("warning", "unfit-constant", node.name, message))
            elif node.op_type in {"QuantizeLinear", "DequantizeLinear"} and self._too_small(node.input[1]):
                message = f"a scale is below {SMALLEST_SCALE:.2g}, which half precision rounds coarsely: it stays float"
                found.append(Finding("warning", "small-scale", node.name, message))
        return found

    def convert(self, keep: set[str]) -> None:
        """Everything float to half but the nodes in `keep` and the graph's inputs and outputs."""
        nodes: list[Any] = []
        self.made = {value.name: self.float for value in self.model.graph.input if value.name in self.floats}
        outputs = {value.name for value in self.model.graph.output} & self.floats
        for node in self.model.graph.node:
            kind = self.float if node.name in keep else self.half
            fixed = _FLOAT_INPUTS.get(node.op_type, ())
            for k, name in enumerate(node.input):
                if name in self.floats or self._float_constant(name):
                    node.input[k] = self._as(name, self.float if k in fixed else kind, nodes)
            self._attributes(node, kind)
            nodes.append(node)
            for k, name in enumerate(node.output):
                if name in self.floats:
                    self.made[name] = kind
                    if name in outputs and kind == self.half:
                        node.output[k] = self.copies[(name, self.half)] = f"{name}.half"
                        cast = self.onnx.helper.make_node(
                            "Cast", [f"{name}.half"], [name], name=f"{name}.to_float", to=self.float
                        )
                        nodes.append(cast)
                        self.made[name] = self.float
        copies = [self.onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)
        del self.model.graph.value_info[:]
        self._drop_unused()

    def _as(self, name: str, kind: int, nodes: list[Any]) -> str:
        """A tensor's name in the wanted type, converting a constant or casting where needed, once for all users."""
        if self.made.get(name, self.float) == kind:
            return name
        if (name, kind) in self.copies:
            return self.copies[(name, kind)]
        suffix = "half" if kind == self.half else "float"
        new = self.copies[(name, kind)] = f"{name}.{suffix}"
        if name in self.constants:
            values = self.onnx.numpy_helper.to_array(self.constants[name]).astype(np.float16)
            self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(values, new))
        else:
            nodes.append(self.onnx.helper.make_node("Cast", [name], [new], name=f"{name}.to_{suffix}", to=kind))
        return new

    def _attributes(self, node: Any, kind: int) -> None:
        """Casts to float become casts to half; a filler's value likewise."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = kind
            elif node.op_type == "ConstantOfShape" and attribute.name == "value" and attribute.t.data_type == self.float:
                values = self.onnx.numpy_helper.to_array(attribute.t)
                if kind == self.half:
                    attribute.t.CopyFrom(self.onnx.numpy_helper.from_array(values.astype(np.float16)))

    def _float_constant(self, name: str) -> bool:
        return name in self.constants and self.constants[name].data_type == self.float

    def _unfit(self, name: str) -> bool:
        """Beyond half precision; a single value (the epsilon of a division) must not vanish either, tiny weights may."""
        if not self._float_constant(name):
            return False
        values = self.onnx.numpy_helper.to_array(self.constants[name])
        largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        return largest > LARGEST or (values.size == 1 and 0.0 < largest < SMALLEST)

    def _too_small(self, name: str) -> bool:
        return self._float_constant(name) and float(self.onnx.numpy_helper.to_array(self.constants[name]).min()) < SMALLEST_SCALE

    def _drop_unused(self) -> None:
        used = {name for node in self.model.graph.node for name in node.input}
        kept = [self.onnx.TensorProto.FromString(t.SerializeToString()) for t in self.model.graph.initializer if t.name in used]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)
