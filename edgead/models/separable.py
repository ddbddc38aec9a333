"""Linear maps along rows and columns, as matrices: resizing and blurring of pictures and maps, with their borders, in one step.

A separable resize followed by a separable blur is Y = R X C^T with constant R and C, whatever the border rule, so that it exports
as two small matrix products that every backend computes alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput

BORDERS = ("reflect", "symmetric")


class Separable(nn.Module):
    """N x ... x h x w -> N x ... x H x W by ``rows`` (H x h) and ``columns`` (W x w), both rebuilt from the configuration."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return _separable(self.rows, self.columns, x)


def resize_matrix(before: int, after: int, mode: str = "bilinear", antialias: bool = False) -> Tensor:
    """float32 `after` x `before`: the matrix of torch's own one-dimensional resize (half-pixel centres).

    Args:
        mode: ``"bilinear"``, ``"bicubic"``, ``"nearest"``, ``"nearest-exact"``, or ``"corners"``: bilinear with the outermost
            cells' middles on the edges (``align_corners=True``).
        antialias: widen the kernel when shrinking (``"bilinear"`` and ``"bicubic"`` only).
    """
    unit = torch.eye(before)[None, None]
    if mode.startswith("nearest"):
        return F.interpolate(unit, (after, before), mode=mode)[0, 0]
    if mode == "corners":
        return F.interpolate(unit, (after, before), mode="bilinear", align_corners=True)[0, 0]
    return F.interpolate(unit, (after, before), mode=mode, align_corners=False, antialias=antialias)[0, 0]


def bilinear(x: Tensor, size: Sequence[int]) -> Tensor:
    """N x h x w -> N x H x W: torch's bilinear resize (half-pixel centres), up to float rounding, as :class:`Separable`.

    OpenVINO's own operator takes 0.8 to 1.4 ms for 32 x 32 cells -> 256 x 256 px, an eighth of a PatchCore in INT8, the two
    products a tenth of that.
    """
    rows, columns = (
        torch.tensor(_two_taps(before, after), dtype=x.dtype, device=x.device)
        for before, after in zip(x.shape[-2:], size, strict=True)
    )
    return _separable(rows, columns, x)


def _separable(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """The constants stand on the left of each product, which keeps them out of INT8 (see edgead.calibration.int8.products)."""
    tall = torch.matmul(rows, x)
    return torch.matmul(columns, tall.transpose(-1, -2)).transpose(-1, -2)


@cache
def _two_taps(before: int, after: int) -> npt.NDArray[np.float32]:
    """What :func:`resize_matrix` gives, without torch, so that an exporter sees a constant."""
    place = ((np.arange(after) + 0.5) * before / after - 0.5).clip(0, before - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(before))).astype(np.float32)


def blur_matrix(size: int, sigma: float, radius: int, border: str) -> Tensor:
    """float32 `size` x `size`: a Gaussian of `sigma` cells cut off at `radius`, normalised to 1.

    Args:
        border: ``"reflect"`` (c b | a b c, the edge cell once) or ``"symmetric"`` (b a | a b c, twice).

    Raises:
        BadInput: unknown border rule.
    """
    if border not in BORDERS:
        raise BadInput(f"unknown border rule {border!r}", hint=f"known: {', '.join(BORDERS)}")
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = weights / weights.sum()
    matrix = torch.zeros(size, size, dtype=torch.float64)
    period = max(1, 2 * size - 2) if border == "reflect" else 2 * size
    for row in range(size):
        places = (row + steps.long()) % period
        folded = torch.where(places < size, places, (period if border == "reflect" else period - 1) - places)
        matrix[row].index_add_(0, folded, weights)
    return matrix.float()


def smooth_upsample(config: Mapping[str, Any], grid: tuple[int, int], image_size: tuple[int, int]) -> Separable:
    """From a patch grid (h, w) to the model's input size, then a Gaussian blur.

    Args:
        config: ``upsample`` ("nearest" or "bilinear"), ``sigma`` and ``radius`` in pixels, ``border`` (see :func:`blur_matrix`).
    """
    sigma, radius = float(config["sigma"]), int(config["radius"])
    rows, columns = (
        blur_matrix(after, sigma, radius, str(config["border"])) @ resize_matrix(before, after, str(config["upsample"]))
        for before, after in zip(grid, image_size, strict=True)
    )
    return Separable(rows, columns)
