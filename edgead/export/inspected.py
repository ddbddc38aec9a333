"""What TensorRT's engine inspector tells about a plan: its layers and their precisions."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.errors import EngineError


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a plan as the engine inspector tells it.

    Attributes:
        name: TensorRT's own, often several operators in one.
        kind: its type in small letters, e.g. ``"caskconvolution"``.
        inputs, outputs: the precisions of its tensors, e.g. ``"int8"``.
        nodes: the ONNX nodes that went into it, where the inspector tells.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


def describe(information: str, plan: Path) -> str:
    """Write the layers in the engine inspector's JSON beside the plan (``.layers.json``); their precisions in short."""
    layers = read_layers(information)
    text = json.dumps([dataclasses.asdict(layer) for layer in layers], indent=1) + "\n"
    plan.with_suffix(".layers.json").write_text(text, "utf-8")
    return precisions(layers)


def read_layers(information: str) -> tuple[Layer, ...]:
    """The layers in the engine inspector's JSON; a layer that is only a name (built without details) has no precisions.

    Raises:
        EngineError: it is not the inspector's JSON.
    """
    try:
        found = json.loads(information)["Layers"]
        return tuple(_layer(entry) for entry in found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the engine inspector said something unexpected: {information[:80]!r}", hint="please report it"
        ) from error


def precisions(layers: Sequence[Layer]) -> str:
    """A summary for the manifest, like ``"convolution: int8 22, float32 17; reduce: float32 3"``."""
    kinds: dict[str, Counter[str]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, Counter())[layer.inputs[0] if layer.inputs else "unknown"] += 1
    return "; ".join(f"{kind}: " + ", ".join(f"{name} {n}" for name, n in c.most_common()) for kind, c in sorted(kinds.items()))


def _layer(entry: Any) -> Layer:
    if isinstance(entry, str):
        return Layer(entry, "unknown")
    inputs, outputs = (tuple(_precision(t) for t in entry.get(key) or ()) for key in ("Inputs", "Outputs"))
    nodes = tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", str(entry.get("Metadata", ""))))
    return Layer(str(entry.get("Name", "")), str(entry.get("LayerType", "unknown")).lower(), inputs, outputs, nodes)


def _precision(tensor: Any) -> str:
    """NumPy's name of a tensor's type, from words like ``"Row major linear FP16 format"`` or ``"Int8"``."""
    words = str(tensor.get("Format/Datatype") or tensor.get("Datatype") or tensor.get("Format") or "").lower()
    for name, signs in _SIGNS.items():
        if any(sign in words for sign in signs):
            return name
    return "unknown"


_SIGNS = {
    "uint8": ("uint8",),
    "int8": ("int8", "i8"),
    "bfloat16": ("bf16", "bfloat16"),
    "float16": ("fp16", "half", "float16"),
    "float8": ("fp8",),
    "int64": ("int64", "i64"),
    "int32": ("int32", "i32"),
    "bool": ("bool",),
    "float32": ("fp32", "float"),
}
"""In the order in which they are looked for: "uint8" holds "int8", "bfloat16" holds "float16"."""
