"""The covariance of many rows of numbers, as sums of products, or as the rows themselves where they are few."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 2048
"""Rows whose products are summed at a time: fewer would only move the D x D matrix through memory."""


class Moments:
    """Of rows of D numbers, float32: mean m and covariance C.

    Args:
        numbers: D.
        few: the rows are kept; no D x D matrix is made then, which is less work where they are fewer than D.
    """

    def __init__(self, numbers: int, few: bool = False, device: str = "cpu") -> None:
        self.few, self.count = few, 0
        self.sums = torch.zeros(numbers, device=device)
        self.products = torch.zeros(0 if few else numbers, numbers, device=device)
        self._block: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.sums += rows.sum(0)
        self._block.append(rows)
        if not self.few and sum(map(len, self._block)) >= BLOCK:
            self._close()

    def _close(self) -> None:
        if self._block:
            rows = torch.cat(self._block)
            self.products.addmm_(rows.T, rows)
            self._block = []

    @classmethod
    def of(cls, parts: Sequence[Moments]) -> Moments:
        """Of the rows of all (one at least)."""
        total = cls(len(parts[0].sums), parts[0].few, str(parts[0].sums.device))
        for part in parts:
            if part.few:
                total._block += part._block
            else:
                part._close()
                total.products += part.products
            total.count += part.count
            total.sums += part.sums
        return total

    def mean(self) -> Tensor:
        """float64, D, on the CPU."""
        return self.sums.double().cpu() / self.count

    def covariance(self) -> Tensor:
        """float64, D x D, on the CPU."""
        if self.few:
            away = self._away()
            inner: Tensor = away.T @ away
            return inner
        self._close()
        mean = self.mean()
        return self.products.double().cpu() / self.count - mean[:, None] * mean

    def _away(self) -> Tensor:
        """The few rows less their mean, over the root of how many they are."""
        away: Tensor = (torch.cat(self._block).double().cpu() - self.mean()) / self.count**0.5
        return away

    def seen_by(self, weight: Tensor) -> Tensor:
        """The covariance of ``weight x``: W C W^T, float64."""
        if self.few:
            seen = self._away() @ weight.T
            return seen.T @ seen
        return weight @ self.covariance() @ weight.T

    def imitated(self, weight: Tensor, bias: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """The layer that ridge regression finds for ``weight x + bias`` on these rows: W C (C + l I)^-1 and its bias, with l =
        `ridge` times the mean variance; float64."""
        if self.few:
            away = self._away()
            inner = away @ away.T
            inner.diagonal().add_(ridge * float(away.square().sum()) / away.shape[1] + 1e-12)
            made = (torch.cholesky_solve(away @ weight.T, torch.linalg.cholesky(inner))).T @ away
        else:
            covariance = self.covariance()
            wanted = covariance @ weight.T
            covariance.diagonal().add_(ridge * float(covariance.diagonal().mean()) + 1e-12)
            made = torch.cholesky_solve(wanted, torch.linalg.cholesky(covariance)).T
        return made, bias + (weight - made) @ self.mean()


def principal(weight: Tensor, moments: Moments, channels: int) -> tuple[Tensor, Tensor]:
    """What a linear layer says of rows, with mean 0 and deviation 1 each, and of that the principal axes: weight (float64 d x D)
    and bias (d) of one layer that says it."""
    varied = moments.seen_by(weight)
    deviation = varied.diagonal().clamp_min(1e-12).sqrt()
    axes = torch.linalg.eigh(varied / deviation / deviation[:, None]).eigenvectors.flip(1)[:, :channels]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # which of two directions is a matter of rounding
    said = axes.T @ (weight / deviation[:, None])
    return said, -(said @ moments.mean())
