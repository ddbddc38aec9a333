"""Convolutions of concatenated tensors become sums of convolutions, one for each part, before anything is quantised.

OpenVINO misreads a Q/DQ pair between a Concat and a convolution: it moves the pair to the parts and answers something else than
the graph says. Measured (OpenVINO 2026.4): on EfficientAD, whose teacher and student end in such a convolution, the maps were
off by 0.50 of their deviation, literal execution of the same file by 0.003; on SimpleNet the scores were off by 0.24 instead of
0.12. The sum is the same in float, has as many multiplications, and each part gets a grid of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgead.calibration.int8.products import FEWEST_CHANNELS, WHY
from edgead.optional import require


def split_concats(model: Any, keep_float: Sequence[str] = ()) -> dict[str, str]:
    """Replace in place each Conv with constant weights right behind a Concat of channels, if every part has enough of them.

    Args:
        keep_float: names of nodes that are left alone.

    Returns:
        New convolution's name -> the name of the one that it is a part of.
    """
    onnx = require("onnx", extra="export", why=WHY)
    inferred = onnx.shape_inference.infer_shapes(model)
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*inferred.graph.value_info, *inferred.graph.input)
        if len(value.type.tensor_type.shape.dim) == 4
    }
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    concats = {node.output[0]: node for node in model.graph.node if node.op_type == "Concat"}
    origins: dict[str, str] = {}
    nodes: list[Any] = []
    for node in model.graph.node:
        concat = concats.get(node.input[0]) if node.op_type == "Conv" and node.name not in keep_float else None
        sizes = [channels.get(name, 0) for name in concat.input] if concat is not None else []
        if concat is None or min(sizes) < FEWEST_CHANNELS or not _fits(node, concat, weights, sum(sizes)):
            nodes.append(node)
            continue
        parts = _parts(onnx, model, node, concat, np.cumsum(sizes)[:-1], weights)
        origins.update({part.name: node.name for part in parts if part.op_type == "Conv"})
        nodes.extend(parts)
    used = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    kept = [n for n in nodes if n.op_type != "Concat" or n.output[0] in used]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return origins


def _fits(node: Any, concat: Any, weights: dict[str, Any], channels: int) -> bool:
    """A dense convolution with constant weights over the concatenated channels."""
    attributes = {a.name: a.i for a in (*node.attribute, *concat.attribute)}
    weight = weights.get(node.input[1])
    dense = attributes.get("group", 1) == 1 and attributes.get("axis") in (1, -3)
    return dense and weight is not None and weight.dims[1] == channels and weight.dims[0] >= FEWEST_CHANNELS


def _parts(onnx: Any, model: Any, node: Any, concat: Any, cuts: Any, weights: dict[str, Any]) -> list[Any]:
    """One convolution for each input of the concatenation, the bias in the first, and their sum."""
    values = np.split(onnx.numpy_helper.to_array(weights[node.input[1]]), cuts, axis=1)
    made: list[Any] = []
    total = ""
    for k, (source, value) in enumerate(zip(concat.input, values, strict=True)):
        name = f"{node.name}.part{k}"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.weight"))
        part = onnx.NodeProto.FromString(node.SerializeToString())
        part.name = name
        del part.input[:], part.output[:]
        part.input.extend([source, f"{name}.weight", *(node.input[2:] if k == 0 else ())])
        part.output.append(f"{node.output[0]}.part{k}")
        made.append(part)
        if k:
            output = node.output[0] if k == len(values) - 1 else f"{node.output[0]}.sum{k}"
            made.append(onnx.helper.make_node("Add", [total, part.output[0]], [output], name=f"{node.name}.sum{k}"))
            total = output
        else:
            total = part.output[0]
    return made
