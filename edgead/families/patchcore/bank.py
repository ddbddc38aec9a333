"""A PatchCore bank in fewer bytes: fewer dimensions, and rows in half precision or 8 bits. Fewer rows are a prefix of the greedy
order (:mod:`edgead.families.patchcore.coreset`)."""

from __future__ import annotations

import torch
from torch import Tensor

from edgead.errors import BadInput

BANKS = ("fp32", "fp16", "int8")
"""How rows are stored."""

ROW_LEVELS = 63
"""Largest integer of an INT8 row: 7 bits of magnitude and sign, so that products with it never saturate on x86 without VNNI."""


def integers_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as integers with a step for each row.

    Args:
        rows: float32 R x D, finite.

    Returns:
        int8 R x D, at most `ROW_LEVELS` in magnitude, and float32 R, above 0: rows ~ integers * step.
    """
    largest = rows.abs().amax(1)
    step = torch.where(largest > 0, largest / ROW_LEVELS, 1.0)
    return (rows / step[:, None]).round().clamp(-ROW_LEVELS, ROW_LEVELS).to(torch.int8), step


def rounded(rows: Tensor, bank: str) -> Tensor:
    """Rows that `bank` (of `BANKS`) can hold, nearest to the given ones: float32 R x D. Rounding them again changes nothing but
    the last bit.

    Raises:
        BadInput: a value is beyond what half precision holds.
    """
    if bank == "int8":
        integers, step = integers_of(rows)
        return integers.to(torch.float32) * step[:, None]
    if bank == "fp16":
        half = rows.half()
        if not bool(torch.isfinite(half).all()):
            raise BadInput("the bank holds values beyond the range of half precision", hint="use bank=int8")
        return half.float()
    return rows


def principal_axes(rows: Tensor, dims: int) -> Tensor:
    """The directions in which rows vary most (Pearson 1901): float32 R x C, centred -> orthonormal float32 dims x C."""
    wide = rows.double()
    _, axes = torch.linalg.eigh(wide.T @ wide)  # ascending
    found: Tensor = axes.flip(1)[:, :dims].T.float().contiguous()
    return found


def random_axes(channels: int, dims: int) -> Tensor:
    """Random directions (Johnson & Lindenstrauss 1984), always the same ones, scaled so that distances keep their mean size:
    float32 dims x channels."""
    drawn = torch.randn(channels, dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes, _ = torch.linalg.qr(drawn)
    found: Tensor = (axes.T * (channels / dims) ** 0.5).float().contiguous()
    return found
