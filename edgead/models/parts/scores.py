"""From a map of cells to the score of the picture."""

from __future__ import annotations

from torch import Tensor

from edgead.errors import BadInput
from edgead.models.usual import SCORES

TOP = 0.01
"""The share of the cells that ``top`` is the mean of."""


def reduced(cells: Tensor, how: str) -> Tensor:
    """The score of each picture.

    Args:
        cells: float32 N x h x w or N x P, larger is worse.
        how: ``max``, the worst cell: small defects; ``mean``: what is spread over the picture; ``top``, the mean of the worst
            hundredth (one cell at least): in between.

    Returns:
        float32 N.

    Raises:
        BadInput: there is no such way.
    """
    flat = cells.flatten(1)
    if how == "max":
        return flat.amax(1)
    if how == "mean":
        return flat.mean(1)
    if how == "top":
        return flat.topk(max(1, round(TOP * flat.shape[1])), 1).values.mean(1)
    raise BadInput(f"there is no score {how!r}", hint=f"one of {', '.join(SCORES)}")
