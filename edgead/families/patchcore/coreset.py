"""Greedy k-center coreset: few rows that cover many (Roth et al. 2022, algorithm 1; Gonzalez 1985).

Distances are taken after a Gaussian random projection (Johnson & Lindenstrauss 1984). Every row knows the chosen one that is
nearest to it. A new one can only be nearer when it is less than twice as far from that one as the row is (triangle inequality;
Elkan 2003 for k-means), so that most rows need not be looked at, and the choice is the same. The memory is the projected rows
plus a few vectors: no N x N table exists at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from edgead.families.patchcore.options import PROJECTED

_CHUNK = 65536

_QUARTER = 0.25 * (1.0 - 1e-4)
"""Of a squared distance: half the distance, a little less so that float rounding skips no row."""


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
        points: float32 N x D (see :func:`project`), N at least 1.
        count: rows wanted, from 1 on; fewer come back when only copies of chosen rows are left.
        start: the row chosen first.
        report: called now and then with the done share.

    Returns:
        int64 indices, at most min(count, N), in the order of choice.
    """
    count = min(count, len(points))
    half_norms = points.square().sum(1) * 0.5
    nearest = half_norms - torch.mv(points, points[start]) + half_norms[start]  # half the squared distance to the nearest chosen
    nearest[start] = -torch.inf
    owner = torch.zeros(len(points), dtype=torch.int64)  # its place among the chosen
    chosen = torch.empty(count, dtype=torch.int64)
    chosen[0] = start
    rows, norms = torch.empty(count, points.shape[1]), torch.empty(count)  # of the chosen
    rows[0], norms[0] = points[start], half_norms[start]
    for step in range(1, count):
        index = int(nearest.argmax())
        row, norm = points[index], half_norms[index]
        if float(nearest[index]) <= 1e-6 * float(norm + norms[step - 1]):
            return chosen[:step]
        between = norms[:step] - torch.mv(rows[:step], row) + norm
        some = ((between * _QUARTER)[owner] < nearest).nonzero().flatten()
        distance = half_norms[some] - torch.mv(points[some], row) + norm
        closer = distance < nearest[some]
        some = some[closer]
        nearest[some], owner[some] = distance[closer], step
        nearest[index] = -torch.inf
        chosen[step], rows[step], norms[step] = index, row, norm
        if report is not None and step % 32 == 0:
            report(step / count)
    return chosen


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
