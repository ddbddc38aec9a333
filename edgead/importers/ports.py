"""How a foreign graph takes its picture and where its answers are: the same for ONNX and OpenVINO, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in one channel (ITU-R BT.601), as Pillow, OpenCV and torchvision take them."""


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """How the foreign graph takes its picture and where its answers are.

    Attributes:
        input, score, map: names of its tensors; None: its only input; anomalib's names for the others.
        mean, std: subtracted from and divided into values 0 to 255, one or three numbers (in the graph's colour order). The
            default divides by 255.
        colour: ``"rgb"`` or ``"bgr"``.
        layout: ``"nchw"`` or ``"nhwc"``; None: where the 3 is.
    """

    input: str | None = None
    score: str | None = None
    map: str | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    colour: str = "rgb"
    layout: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphOptions:
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


def input_layout(
    name: str, shape: Sequence[int], size: Sequence[int] | None, inputs: GraphOptions
) -> tuple[str, int, tuple[int, int]]:
    """Layout, channels and (height, width) of a picture input.

    Args:
        name: of the input.
        shape: its extents; 0 (or below) where it takes any.
        size: width, height that the user asks for.

    Raises:
        BadInput: no picture, or the size is not known or not the user's.
    """
    if len(shape) != 4:
        raise BadInput(f"the input {name!r} has {len(shape)} dimensions, a picture has 4", hint="name another: --input NAME")
    extents = [max(0, extent) for extent in shape]
    last = extents[3] in (1, 3) and extents[1] not in (1, 3)
    layout = inputs.layout or ("nhwc" if last else "nchw")
    channels = extents[1 if layout == "nchw" else 3] or 3
    if channels not in (1, 3):
        raise BadInput(
            f"the input {name!r} takes {channels} channels; a camera's picture has three, or one channel when grey",
            hint="name another: --input NAME, or --layout nhwc",
        )
    height, width = extents[2:] if layout == "nchw" else extents[1:3]
    if size is not None:
        wide, high = size
        if (height or high, width or wide) != (high, wide):
            raise BadInput(f"the graph takes {width} x {height} px, not {wide} x {high}", hint="leave --size away")
        height, width = high, wide
    if not height or not width:
        raise BadInput("the graph takes pictures of any size", hint="choose one: --size PX or WxH")
    if not (16 <= height <= 8192 and 16 <= width <= 8192):
        raise BadInput(f"the input {name!r} takes {width} x {height} px, which is not usable", hint="16 to 8192 px are")
    return layout, channels, (height, width)


def told_numbers(inputs: GraphOptions, channels: int, floating: bool, name: str) -> None:
    """Refuse --mean and --std that do not suit the input.

    Raises:
        BadInput: three numbers for one channel, or any for an input of whole numbers.
    """
    plain = GraphOptions()
    if not floating and (inputs.mean, inputs.std) != (plain.mean, plain.std):
        raise BadInput(f"the input {name!r} takes whole numbers 0 to 255", hint="leave --mean and --std away")
    if channels == 1 and max(len(inputs.mean), len(inputs.std)) > 1:
        raise BadInput(f"the input {name!r} takes one channel, so --mean and --std are one number each", hint="give one number")


def scalar(name: str, shape: Sequence[int]) -> None:
    """Refuse a score that is not one number.

    Raises:
        BadInput: names the tensor and what it has.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if count != 1:
        raise BadInput(
            f"the output {name!r} of shape {list(shape)} holds {count} numbers, a score is one",
            hint="export the graph with one number, larger being more anomalous, or give --map alone",
        )


def map_extent(name: str, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of a map: [1] [1] H W, or 1 H W 1.

    Raises:
        BadInput: it is no map.
    """
    extents = list(shape)
    if len(extents) == 4 and extents[1] != 1 and extents[3] == 1:
        extents = extents[:3]
    while len(extents) > 2 and extents[0] == 1:
        extents = extents[1:]
    if len(extents) != 2 or min(extents) < 1 or max(extents) < 2 or max(extents) > 8192:
        raise BadInput(f"the output {name!r} of shape {list(shape)} is no map of one channel", hint="name another: --map NAME")
    return extents[0], extents[1]


def probe_pictures(size: tuple[int, int]) -> dict[str, npt.NDArray[np.uint8]]:
    """Pictures to try a graph on, uint8 1 x H x W x 3: an ordinary one (noise), black and white."""
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    return {"ordinary": noise, "black": np.zeros_like(noise), "white": np.full_like(noise, 255)}


def described(inputs: GraphOptions, floating: bool) -> str:
    """How pictures are given to the graph, for the user."""
    if not floating:
        return f"pictures are given as {inputs.colour.upper()}, 0 to 255"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (inputs.mean, inputs.std))
    return f"pictures are given as {inputs.colour.upper()}, minus {mean}, divided by {std} (of 0 to 255)"
