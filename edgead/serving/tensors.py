"""Between a request's tensors and a judge: pictures in, verdicts, causes, scores, thresholds and maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.types import Inspection

Array: TypeAlias = npt.NDArray[Any]

PICTURE, FILE = "picture", "file"
INPUTS = ({"name": PICTURE, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}, {"name": FILE, "datatype": "BYTES", "shape": [-1]})
"""One of them is given: pixels as the camera gave them, N x H x W x 3 BGR, or N picture files."""

ALWAYS = ("verdict", "cause", "score", "threshold")
MAP = "map"
DATATYPES = {"verdict": "BYTES", "cause": "BYTES", "score": "FP64", "threshold": "FP64", MAP: "FP32"}
"""Scores and thresholds are doubles: what `edgead.open` tells crosses the wire without a rounding."""

MOST_PICTURES = 1024
"""Of one request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is for.

    Attributes:
        pictures: each an array as the camera gave it, or a file's bytes.
        outputs: names of what is answered, in this order.
    """

    pictures: tuple[Array | bytes, ...]
    outputs: tuple[str, ...]


def pictures_of(name: str, tensor: Array) -> tuple[Array | bytes, ...]:
    """The pictures of an input.

    Args:
        name: `PICTURE` or `FILE`.
        tensor: for `PICTURE` uint8, or uint16 as deep cameras give it: N x H x W x C, H x W x C of one, H x W or N x H x W of
            grey ones; C is 1, 3 (BGR) or 4. For `FILE` an array of bytes, any shape.

    Raises:
        BadInput: the request is not of that form. What is wrong with a picture itself is its verdict, not an error.
    """
    if name not in (PICTURE, FILE):
        raise BadInput(f"there is no input {name[:80]!r}", hint=f"{PICTURE} (UINT8, N x H x W x 3) or {FILE} (BYTES, N)")
    if name == FILE:
        if tensor.dtype != object or not all(isinstance(one, bytes) for one in tensor.flat):
            raise BadInput(f"{FILE} holds no BYTES", hint="send picture files as BYTES in binary form (JSON cannot carry them)")
        pictures: tuple[Array | bytes, ...] = tuple(tensor.flat)
    else:
        if tensor.dtype not in (np.uint8, np.uint16):
            raise BadInput(f"{PICTURE} is of {tensor.dtype}", hint="UINT8 (or UINT16 of a deep camera), as the camera gave it")
        if tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[2] in (1, 3, 4)):
            tensor = tensor[None]
        if tensor.ndim not in (3, 4):
            raise BadInput(f"{PICTURE} has shape {tensor.shape}", hint="N x H x W x 3, or H x W x 3 of one picture")
        pictures = tuple(tensor)
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise BadInput(f"a request of {len(pictures)} pictures", hint=f"1 to {MOST_PICTURES}")
    return pictures


def outputs_of(names: Sequence[str] | None, has_map: bool) -> tuple[str, ...]:
    """The outputs that are wanted; None: all but the map. Raises BadInput: there is none of that name."""
    known = (*ALWAYS, *((MAP,) if has_map else ()))
    for name in names or ():
        if name not in known:
            why = " (this engine tells no map)" if name == MAP else ""
            raise BadInput(f"there is no output {name[:80]!r}{why}", hint=f"outputs: {', '.join(known)}")
    return tuple(dict.fromkeys(names)) if names else ALWAYS


def answered(found: Sequence[Inspection], outputs: Sequence[str], map_size: tuple[int, int]) -> dict[str, Array]:
    """The outputs by name, one row a picture. A score that there is none of is NaN, and so is its map."""
    made: dict[str, Array] = {}
    for name in outputs:
        if name == MAP:
            none = np.full(map_size, np.nan, np.float32)
            made[name] = np.stack([none if one.anomaly_map is None else one.anomaly_map for one in found])
        elif DATATYPES[name] == "BYTES":
            words = (one.verdict.value if name == "verdict" else one.cause for one in found)
            made[name] = np.array([word.encode("utf-8", "backslashreplace") for word in words], object)
        else:
            made[name] = np.array([one.score if name == "score" else one.threshold for one in found], np.float64)
    return made


def output_types(has_map: bool, map_size: tuple[int, int]) -> list[dict[str, Any]]:
    """What a model's metadata says of its outputs."""
    shapes = {MAP: [-1, *map_size]}
    names = (*ALWAYS, *((MAP,) if has_map else ()))
    return [{"name": name, "datatype": DATATYPES[name], "shape": shapes.get(name, [-1])} for name in names]
