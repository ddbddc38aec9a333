"""Which rows of a bank came from which picture of the training, and the bank without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_SAME = 1e-5
"""A row of the bank is a patch of a picture when their squared distance is below this share of the patches' squared length."""

_FAR = 1e30
"""Of a squared distance; not infinite, since the square root of what is left of it is taken."""


class BankMemory:
    """Finds which picture each row of a bank came from: the one that has a patch at no distance from it.

    Args:
        product: weight and bias of the bank (:class:`edgead.families.patchcore.network.PatchCore`).
    """

    def __init__(self, product: nn.Linear) -> None:
        self.product = product
        rows = len(product.weight)
        self._nearest = torch.full((rows,), torch.inf)
        self._owner = torch.full((rows,), -1, dtype=torch.int64)
        self._picture, self._length = -1, 0.0
        self._hook = product.register_forward_hook(self._see)

    def look_at(self, picture: int) -> None:
        self._picture = picture

    def close(self) -> None:
        self._hook.remove()

    def left_without(self, picture: int) -> bool:
        return len(self._rows(picture)) < len(self.product.bias)

    @contextmanager
    def without(self, picture: int) -> Iterator[None]:
        """The rows that came from a picture are infinitely far from everything for a while."""
        rows = self._rows(picture)
        kept = self.product.bias[rows].clone()
        try:
            with torch.no_grad():
                self.product.bias[rows] = _FAR
            yield
        finally:
            with torch.no_grad():
                self.product.bias[rows] = kept

    def _rows(self, picture: int) -> Tensor:
        """int64, rows that came from a picture."""
        return ((self._owner == picture) & (self._nearest <= _SAME * self._length)).nonzero().flatten()

    def _see(self, module: nn.Module, given: tuple[Any, ...], products: Tensor) -> None:
        """Patches float32 P x D and their products with the rows P x R."""
        lengths = given[0].square().sum(-1, keepdim=True)
        self._length = max(self._length, float(lengths.mean()))
        squared = (lengths + products).amin(0)
        closer = squared < self._nearest
        self._nearest[closer], self._owner[closer] = squared[closer], self._picture
