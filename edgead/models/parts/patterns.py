"""Patterns of what is hidden of a picture, piece after piece.

A *way* hides every pixel exactly once, in one of n masks. Patterns are float32 K ways x n x H x W, 1 where a pixel is hidden.
All are constants of the graph: what papers draw at test time is drawn once, from a seed, or not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgead.errors import BadInput

Size = tuple[int, int]

COLOURS = 9
"""Neighbouring cells of a grid have different colours when a cell's is (row mod 3, column mod 3)."""


def stripes(size: Size, widths: Sequence[int]) -> Tensor:
    """Stripes of SCADN (Yan et al. 2021): for each width lying and standing ones, every other one hidden, then the others.

    Args:
        widths: px.

    Returns:
        2 `widths` x 2 x H x W; the two ways of a width stand together.
    """
    height, width = size
    made = []
    for px in widths:
        lying = (torch.arange(height) // px % 2).float().view(-1, 1).expand(height, width)
        standing = (torch.arange(width) // px % 2).float().expand(height, width)
        made += [torch.stack([1.0 - one, one]) for one in (lying, standing)]
    return torch.stack(made)


def windows(size: Size, side: int, phases: int = 2) -> Tensor:
    """A window that moves over the picture: those at a distance of `phases` windows are hidden together.

    The second way has its grid half a window further, so that no edge of a window is an edge in both.

    Args:
        side: of a window, px.
        phases: along each axis; a hidden window has `phases` - 1 seen ones between it and the next.

    Returns:
        2 x `phases`^2 x H x W.
    """
    made = []
    for shift in (0, side // 2):
        rows, columns = ((torch.arange(length) + shift) // side % phases for length in size)
        place = rows[:, None] * phases + columns
        made.append(torch.stack([(place == one).float() for one in range(phases * phases)]))
    return torch.stack(made)


def permutations(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """`count` orders of the four quarters of a picture, none of them the true one and none twice.

    Those that move all four quarters come first.

    Raises:
        BadInput: there are 23 of them.
    """
    if not 1 <= count <= 23:
        raise BadInput(f"{count} orders of four quarters", hint="give a number from 1 to 23")
    orders = [order for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)]
    shuffled = [orders[i] for i in np.random.default_rng(seed).permutation(len(orders))]
    shuffled.sort(key=lambda order: sum(place == tile for place, tile in enumerate(order)))  # keeps the order of equal ones
    return shuffled[:count]


def reordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """The quarters of pictures N x C x H x W in another order: place i (rows first) holds quarter `order[i]`."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    quarter = [x[..., r * height : (r + 1) * height, c * width : (c + 1) * width] for r in (0, 1) for c in (0, 1)]
    first, second, third, fourth = (quarter[i] for i in order)
    return torch.cat([torch.cat([first, second], -1), torch.cat([third, fourth], -1)], -2)


def coloured(labels: Tensor, columns: int) -> Tensor:
    """Masks of the cells of a grid, of which all of one colour are hidden together: no two neighbours at once.

    Args:
        labels: int H x W, cell row * `columns` + cell column.

    Returns:
        1 x `COLOURS` x H x W.
    """
    colour = labels // columns % 3 * 3 + labels % columns % 3
    return torch.stack([(colour == one).float() for one in range(COLOURS)])[None]


def jittered(size: Size, cells: int = 8, jitter: float = 0.5, seed: int = 0) -> Tensor:
    """Cells of the picture around the points of a grid that were moved at random: int H x W, for :func:`coloured`.

    Args:
        cells: along each axis.
        jitter: how far a point moves at most, as a share of the distance between two.
    """
    height, width = size
    moved = np.random.default_rng(seed).uniform(-jitter / 2, jitter / 2, (cells * cells, 2))
    places = np.array([(row + 0.5, column + 0.5) for row in range(cells) for column in range(cells)])
    points = torch.tensor(((places + moved) / cells).tolist())
    rows, columns = ((torch.arange(length) + 0.5) / length for length in (height, width))
    away = (rows[:, None, None] - points[:, 0]).square() + (columns[:, None] - points[:, 1]).square()
    return away.argmin(-1)
