"""Greedy k-center coreset: few rows that cover many (Roth et al. 2022, algorithm 1; Gonzalez 1985).

Distances are taken after a Gaussian random projection (Johnson & Lindenstrauss 1984). Every choice costs one matrix-vector
product over the projected rows, and the memory is the projected rows plus three vectors: no N x N table exists at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

PROJECTED = 64
"""Dimensions after projection; rows that have no more are taken as they are."""

_CHUNK = 65536


def project(rows: Tensor, generator: torch.Generator, dimensions: int = PROJECTED) -> Tensor:
    """Random projection that keeps distances up to a few per cent in the mean.

    Args:
        rows: float32 N x C.
        generator: source of the projection matrix.
        dimensions: of the result, D.

    Returns:
        float32 N x min(C, D), centred on the mean of the rows (k-center does not mind, float32 differences do).
    """
    centre = rows.mean(0)
    if rows.shape[1] <= dimensions:
        return rows - centre
    matrix = torch.randn(rows.shape[1], dimensions, generator=generator) / math.sqrt(dimensions)
    return torch.cat([(chunk - centre) @ matrix for chunk in torch.split(rows, _CHUNK)])


def greedy_coreset(points: Tensor, count: int, start: int = 0, report: Callable[[float], None] | None = None) -> Tensor:
    """Choose rows one by one, each the farthest from all chosen before; a prefix of the answer is the answer for fewer.

    Args:
        points: float32 N x D (see :func:`project`).
        count: rows wanted; fewer come back when only copies of chosen rows are left.
        start: the row chosen first.
        report: called now and then with the done share.

    Returns:
        int64 indices, at most min(count, N), in the order of choice.
    """
    half_norms = points.square().sum(1) * 0.5
    nearest = torch.full((len(points),), torch.inf)  # half the squared distance to the nearest chosen row
    product = torch.empty(len(points))
    chosen: list[int] = []
    index = start
    for step in range(min(count, len(points))):
        chosen.append(index)
        torch.mv(points, points[index], out=product)
        torch.minimum(nearest, half_norms - product + half_norms[index], out=nearest)
        nearest[index] = -torch.inf
        index = int(nearest.argmax())
        if float(nearest[index]) <= 1e-6 * float(half_norms[index] + half_norms[chosen[-1]]):
            break
        if report is not None and step % 32 == 0:
            report((step + 1) / count)
    return torch.tensor(chosen, dtype=torch.int64)


def nearest_rows(bank: Tensor, count: int) -> Tensor:
    """The `count` nearest rows in the bank of every row of the bank, itself first: float32 R x C -> int64 R x min(count, R)."""
    count = min(count, len(bank))
    found = []
    for start in range(0, len(bank), 1024):
        chunk = bank[start : start + 1024]
        distance = torch.cdist(chunk, bank)
        distance[torch.arange(len(chunk)), torch.arange(start, start + len(chunk))] = -1.0
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)
