"""Normalising flows: invertible networks that bring features to a normal distribution, whose likelihood is the score.

Both are affine couplings (Dinh et al. 2017): one part of the numbers stays, and tells how the other is scaled and moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

SOFT = 3.0
"""Where a scale's logarithm is softly bounded: alpha of DifferNet."""

_ATAN = 0.636
"""About 2 / pi, as DifferNet's authors write it."""


class VectorFlow(nn.Module):
    """A flow of vectors (Rudolph et al. 2021): blocks of two couplings, of a random half by the other half and the reverse.

    Which numbers a coupling reads and changes is told by zeros in its weights, so that nothing is permuted, cut or joined: the
    graph holds matrix products and elementwise functions alone. (With cuts and joins OpenVINO crashed when it compiled
    the gradient for one thread.) Vectors are columns and weights stand on the left, which keeps them out of INT8: e^s would make
    rounding loud.

    Args:
        channels: d.
        blocks: of two couplings each.
        hidden: widths of the layers inside a coupling.
        generator: draws the halves and the weights.
    """

    def __init__(self, channels: int, blocks: int, hidden: Sequence[int], generator: torch.Generator | None = None) -> None:
        super().__init__()
        couplings = []
        for _ in range(blocks):
            half = torch.zeros(channels)
            half[torch.randperm(channels, generator=generator)[: channels // 2]] = 1.0
            couplings += [Coupling(half, hidden, generator), Coupling(1.0 - half, hidden, generator)]
        self.couplings = nn.ModuleList(couplings)

    def steps(self) -> list[Coupling]:
        """Its couplings, the first one first."""
        return [one for one in self.couplings if isinstance(one, Coupling)]

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Columns d x N -> z d x N and log |det dz/dy| N."""
        total = y.new_zeros(y.shape[1])
        for coupling in self.steps():
            y, scale, _ = coupling(y)
            total = total + scale.sum(0)
        return y, total

    def gradient(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of the negative log-likelihood |z|^2 / 2 - log |det dz/dy|: z and its gradient by y, d x N each.

        It is written out, so that it is part of a graph that only runs forward; tests hold it against autograd.
        """
        seen = []
        for coupling in self.steps():
            before = y
            y, scale, inside = coupling(y)
            seen.append((before, scale, inside))
        gradient = y
        for coupling, (before, scale, inside) in zip(reversed(self.steps()), reversed(seen), strict=True):
            gradient = coupling.backwards(gradient, before, scale, inside)
        return y, gradient

    @torch.no_grad()
    def masked(self) -> VectorFlow:
        """Write the zeros into the weights, in place; a trained flow is left so."""
        for coupling in self.steps():
            coupling.mask_weights()
        return self


class Coupling(nn.Module):
    """y' = y e^s + t with [s, t] a network of the numbers that stay, for which s and t are 0.

    Args:
        stays: d numbers, 1 where one stays and is read, 0 where one is changed.
        hidden: widths inside.
    """

    stays: Tensor

    def __init__(self, stays: Tensor, hidden: Sequence[int], generator: torch.Generator | None) -> None:
        super().__init__()
        d = len(stays)
        widths = [d, *hidden]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.scale, self.shift = nn.Linear(widths[-1], d), nn.Linear(widths[-1], d)
        self.register_buffer("stays", stays)
        with torch.no_grad():
            for i, layer in enumerate(self.inside()):
                read = max(1, d // 2) if i == 0 else layer.in_features
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2.0 / read) ** 0.5)
                layer.bias.zero_()
            for last in (self.scale, self.shift):  # at first nothing is changed
                last.weight.zero_()
                last.bias.zero_()

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """d x N -> y', s, and what the gradient needs: outputs of the layers inside, and the scale before its bound."""
        inside = []
        h = y
        for i, layer in enumerate(self.inside()):
            h = torch.relu(self._weight(i) @ h + layer.bias[:, None])
            inside.append(h)
        moved = 1.0 - self.stays[:, None]
        raw, shift = ((last.weight @ h + last.bias[:, None]) * moved for last in (self.scale, self.shift))
        scale = (SOFT * _ATAN) * torch.atan(raw * (1.0 / SOFT))
        return y * torch.exp(scale) + shift, scale, [*inside, raw]

    def backwards(self, gradient: Tensor, y: Tensor, scale: Tensor, seen: list[Tensor]) -> Tensor:
        """From the gradient by y' to the one by y, of a loss from which the sum of s is taken: d x N each."""
        *inside, raw = seen
        moved = 1.0 - self.stays[:, None]
        grown = gradient * torch.exp(scale)
        slope = _ATAN / (1.0 + (raw * (1.0 / SOFT)).square())
        by_raw = (grown * y - 1.0) * slope * moved
        g = self.scale.weight.T @ by_raw + self.shift.weight.T @ (gradient * moved)
        for i in range(len(self.layers) - 1, -1, -1):
            g = self._weight(i).T @ torch.where(inside[i] > 0, g, torch.zeros_like(g))
        return grown + g

    def inside(self) -> list[nn.Linear]:
        """The layers before the last ones."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def _weight(self, layer: int) -> Tensor:
        weight = self.inside()[layer].weight
        return weight * self.stays if layer == 0 else weight

    def mask_weights(self) -> None:
        moved = 1.0 - self.stays
        self.inside()[0].weight.mul_(self.stays)
        for last in (self.scale, self.shift):
            last.weight.mul_(moved[:, None])
            last.bias.mul_(moved)


class MapFlow(nn.Module):
    """A flow of feature maps (Yu et al. 2021): couplings whose insides are convolutions, each followed by a scale, a shift and a
    permutation of the channels (as in Glow; Kingma & Dhariwal 2018).

    Args:
        channels: C.
        kernels: of the convolutions in each step, px.
        ratio: hidden channels of a coupling, as a share of the channels it reads.
        generator: draws permutations and weights.
    """

    def __init__(
        self, channels: int, kernels: Sequence[int], ratio: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList([MapStep(channels, kernel, ratio, generator) for kernel in kernels])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x h x w -> z of the same shape, and log |det| of each place N x h x w."""
        total = torch.zeros_like(x[:, 0])
        for step in self.steps:
            x, scale = step(x)
            total = total + scale
        return x, total


class MapStep(nn.Module):
    """x2' = x2 e^s + t with [s, t] = 0.1 times a network of the channels x1 that stay, s bounded to +-2 by a tanh; then all are
    scaled, moved and put in another order. The numbers are those of FrEIA's block, which both public FastFlow codes use."""

    BOUND = 2.0
    place: Tensor

    def __init__(self, channels: int, kernel: int, ratio: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.stay = channels - channels // 2
        hidden, moved = max(1, int(self.stay * ratio)), channels - self.stay
        self.inside = nn.Conv2d(self.stay, hidden, kernel, padding=kernel // 2)
        self.scale = nn.Conv2d(hidden, moved, kernel, padding=kernel // 2)
        self.shift = nn.Conv2d(hidden, moved, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(torch.zeros(channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("place", torch.randperm(channels, generator=generator))
        with torch.no_grad():
            fan = self.stay * kernel * kernel
            self.inside.weight.copy_(torch.randn(self.inside.weight.shape, generator=generator) * (2.0 / fan) ** 0.5)
            for layer in (self.scale, self.shift):  # at first nothing is changed
                layer.weight.zero_()
            for layer in (self.inside, self.scale, self.shift):
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x h x w -> x' and the sum over channels of the logarithms of all scales, N x h x w."""
        one, other = x[:, : self.stay], x[:, self.stay :]
        h = torch.relu(self.inside(one))
        scale = self.BOUND * torch.tanh(self.scale(h) * 0.1)
        other = other * torch.exp(scale) + self.shift(h) * 0.1
        moved = torch.cat([one, other], 1) * torch.exp(self.gain) + self.offset
        return moved.index_select(1, self.place), scale.sum(1) + self.gain.sum()
