"""A detector behind steps inside the graph: resizes and cuts in float, for models whose preprocessing has more than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edgead.models.detector import Detector, Wrapper
from edgead.models.separable import Separable, resize_matrix


@dataclass(frozen=True, slots=True)
class Scale:
    """Resize to `size` (height, width); `mode` as in ``torch.nn.functional.interpolate``."""

    size: tuple[int, int]
    mode: str = "bilinear"
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The part of `size` (height, width) whose corner is at `corner` (top, left); where it reaches out of the picture, `fill`
    (RGB, 0 to 255)."""

    corner: tuple[int, int]
    size: tuple[int, int]
    fill: tuple[float, ...] = (0.0, 0.0, 0.0)


class Prepared(Wrapper):
    """Frames of one fixed size, brought to the inner detector's by steps; the map stays at the inner size.

    All steps are linear along rows and along columns, so together they are two matrices, and one constant picture where a border
    was added. Config: the inner detector's, plus ``prepare``: {``to``: [height, width] of the inner detector, ``steps``: one
    object each with the fields of :class:`Scale` or :class:`Window`}.
    """

    border: Tensor | None

    def __init__(self, inner: Detector, frame_size: tuple[int, int], steps: Sequence[Scale | Window]) -> None:
        told = {"to": list(inner.image_size), "steps": [_told(step) for step in steps]}
        super().__init__(inner, {**inner.config, "prepare": told}, frame_size)
        rows, columns, border = _matrices(frame_size, steps)
        self.resize = Separable(rows, columns)
        self.register_buffer("border", border, persistent=False)

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels of a frame -> the inner detector's."""
        resized: Tensor = self.resize(pixels)
        return resized if self.border is None else resized + self.border


def read(told: Mapping[str, Any]) -> tuple[Scale | Window, ...]:
    """The steps of a configuration.

    Raises:
        KeyError, TypeError, ValueError: they are none.
    """
    return tuple(
        Window(_pair(step["corner"]), _pair(step["size"]), tuple(float(value) for value in step["fill"]))
        if "corner" in step
        else Scale(_pair(step["size"]), str(step["mode"]), bool(step["antialias"]))
        for step in told["steps"]
    )


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _told(step: Scale | Window) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(step).items()}


def _matrices(size: tuple[int, int], steps: Sequence[Scale | Window]) -> tuple[Tensor, Tensor, Tensor | None]:
    """All steps as rows (H x h), columns (W x w), and a constant picture 3 x H x W or None, in double precision till the end."""
    both = [torch.eye(extent, dtype=torch.float64) for extent in size]
    border = torch.zeros(3, *size, dtype=torch.float64)
    for step in steps:
        if isinstance(step, Scale):
            now = [
                resize_matrix(len(before), after, step.mode, antialias=step.antialias).double()
                for before, after in zip(both, step.size, strict=True)
            ]
            outside = torch.zeros(1, *step.size, dtype=torch.float64)
        else:
            now = [_cut(len(before), *axis) for before, axis in zip(both, zip(step.corner, step.size, strict=True), strict=True)]
            outside = 1.0 - now[0].sum(1)[None, :, None] * now[1].sum(1)[None, None]
        fill = torch.tensor(step.fill if isinstance(step, Window) else (0.0,) * 3, dtype=torch.float64).view(3, 1, 1)
        border = now[0] @ border @ now[1].T + outside * fill
        both = [matrix @ before for matrix, before in zip(now, both, strict=True)]
    return both[0].float(), both[1].float(), border.float() if border.any() else None


def _cut(extent: int, start: int, length: int) -> Tensor:
    """`length` x `extent`: the cells from `start` on; rows that lie outside are zero."""
    places = torch.arange(start, start + length)
    return (places[:, None] == torch.arange(extent)).double()
