"""Convolutions that read the picture itself read it around grey 128, where a signed 8-bit grid of step 1 holds every grey level.

So nothing is lost at their input, whatever the picture; only their weights are rounded. Colour order and normalisation stay as
they are or go into weights and bias. Convolutions that pad stay as they are: zeros around a normalised picture are no grey level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.calibration.int8.products import FEWEST_CHANNELS, GREY, WHY, drop_unused, grey_levels
from edgead.optional import require

Array = npt.NDArray[np.float64]


def centre_picture(model: Any, keep_float: Sequence[str] = ()) -> None:
    """Let each dense convolution without padding that reads the normalised picture read the picture minus `GREY`, in place.

    Args:
        keep_float: names of nodes that are left alone.
    """
    onnx = require("onnx", extra="export", why=WHY)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    levels = grey_levels(model)
    made: list[Any] = []
    centred: set[str] = set()

    def add(name: str, values: Any) -> str:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    for node in model.graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "Conv" and node.name not in keep_float else None
        bias = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        if weight is not None and bias is not None and weight.ndim == 4 and len(weight) >= FEWEST_CHANNELS and _plain(node):
            source, factor, shift = _affine(node.input[0], weight.shape[1], makers, constants, levels)
            if source:
                name = f"{source}.centred"
                if source not in centred:
                    centred.add(source)
                    made.append(onnx.helper.make_node("Sub", [source, add(f"{name}.grey", GREY)], [name], name=f"{name}.sub"))
                folded = weight * factor[:, None, None]
                moved = bias + (weight.astype(np.float64) * (GREY * factor + shift)[:, None, None]).sum((1, 2, 3))
                inputs = [name, add(f"{node.name}.centred.weight", folded), add(f"{node.name}.centred.bias", moved)]
                del node.input[:]
                node.input.extend(inputs)
        made.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in made]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    drop_unused(model)


def _plain(node: Any) -> bool:
    """Neither padded nor grouped."""
    attributes = {a.name: a for a in node.attribute}
    padded = "pads" in attributes and any(attributes["pads"].ints)
    automatic = "auto_pad" in attributes and attributes["auto_pad"].s not in (b"", b"NOTSET", b"VALID")
    return not padded and not automatic and ("group" not in attributes or attributes["group"].i == 1)


def _affine(
    name: str, channels: int, makers: Mapping[str, Any], constants: Mapping[str, Any], levels: set[str]
) -> tuple[str, Array, Array]:
    """(source, factor, shift): a tensor is factor * source + shift by channel, source being grey levels; "" when it is not."""
    factor, shift = np.ones(channels), np.zeros(channels)
    while name not in levels:
        node = makers.get(name)
        if node is None or node.op_type not in ("Add", "Sub", "Mul", "Div"):
            return "", factor, shift
        places = [place for place in (0, 1) if node.input[place] in constants]
        fits = places == [1] or (places == [0] and node.op_type in ("Add", "Mul"))
        value = _by_channel(constants[node.input[places[0]]], channels) if fits else None
        if value is None:
            return "", factor, shift
        if node.op_type in ("Add", "Sub"):
            shift = shift + factor * (value if node.op_type == "Add" else -value)
        else:
            factor = factor * (value if node.op_type == "Mul" else 1.0 / value)
        name = node.input[1 - places[0]]
    return name, factor, shift


def _by_channel(value: Any, channels: int) -> Array | None:
    """One number for each channel of N x C x h x w, or None when the constant is no such thing."""
    shape = (1,) * (4 - value.ndim) + value.shape
    if len(shape) != 4 or shape[1] not in (1, channels) or (shape[0], *shape[2:]) != (1, 1, 1):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), channels)
