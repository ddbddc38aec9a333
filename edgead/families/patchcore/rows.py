"""A PatchCore's bank in an ONNX file as few bytes: its rows are stored in 8 bits or half precision and read back in the graph.

The exporter would fold such a step away, so it is put in afterwards. The rows are rounded already
(:func:`edgead.families.patchcore.bank.rounded`): the graph computes what it computed before.
"""

from __future__ import annotations

from typing import Any

import torch

from edgead.errors import EngineError
from edgead.families.patchcore.bank import integers_of
from edgead.optional import require


def store_rows(model: Any, name: str, rows: torch.Tensor, bank: str) -> None:
    """Replace, in place, the float rows of a compressed bank in an exported ONNX model.

    INT8: int8 R x D and a float32 step for each row, read by a DequantizeLinear (axis 0). FP16: half R x D, read by a Cast.

    Args:
        name: of their tensor.
        rows: float32 R x D.
        bank: of :data:`edgead.families.patchcore.bank.BANKS`.

    Raises:
        EngineError: the graph does not hold the bank as one float table.
    """
    onnx = require("onnx", extra="export", why="Exporting to ONNX")
    found = [tensor for tensor in model.graph.initializer if tuple(tensor.dims) in (tuple(rows.shape), tuple(rows.T.shape))]
    if [tensor.name for tensor in found if tensor.dims[0] == len(rows)] != [name] or len(found) != 1:
        names = ", ".join(tensor.name for tensor in found) or "nothing"
        raise EngineError(f"the exported graph does not hold the bank once: found {names}", hint="please report it")
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    model.graph.initializer.remove(found[0])
    if bank == "int8":
        integers, step = integers_of(rows)
        model.graph.initializer.append(tensor(integers.numpy(), f"{name}.s8"))
        model.graph.initializer.append(tensor(step.numpy(), f"{name}.scale"))
        node = make("DequantizeLinear", [f"{name}.s8", f"{name}.scale"], [name], name=f"{name}.dequantize", axis=0)
    else:
        model.graph.initializer.append(tensor(rows.half().numpy(), f"{name}.f16"))
        node = make("Cast", [f"{name}.f16"], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, node)
