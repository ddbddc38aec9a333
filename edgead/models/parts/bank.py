"""The distance of features to the nearest of some rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 0.01
"""Smallest distance told, as a share of the bank's radius: below it float32 cancellation would speak, not the patch."""


class Bank(nn.Module):
    """R rows of C values: N x C x h x w -> N x h x w, the distance of each place to its nearest row.

    As in PatchCore: ||p - m||^2 = ||p||^2 + (||m||^2 - 2 p m), all minus the mean of the rows, since float32 would lose small
    distances between large numbers; the bracket is one product with rows last, and its minimum is the nearest row.
    """

    centre: Tensor
    floor: Tensor

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        self.product = nn.Linear(channels, rows)
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("floor", torch.zeros(()))

    @torch.no_grad()
    def fill(self, rows: Tensor) -> None:
        """float32 R x C."""
        self.centre.copy_(rows.mean(0))
        centred = rows - self.centre
        norms = centred.square().sum(1)
        self.product.weight.copy_(-2.0 * centred)
        self.product.bias.copy_(norms)
        self.floor.copy_(FLOOR**2 * norms.mean() + 1e-6)

    def forward(self, features: Tensor) -> Tensor:
        n, _, h, w = features.shape
        patches = features.flatten(2).transpose(1, 2) - self.centre  # N x P x C
        nearest = self.product(patches.flatten(0, 1)).amin(1).view(n, h * w)
        squared = patches.square().sum(2) + nearest
        return torch.maximum(squared, self.floor).sqrt().view(n, h, w)
