"""Projection on what an autoencoder knows (Dehaene et al. 2020), with the backward pass written out as forward operators.

A picture x0 is moved to a near picture that the autoencoder f rebuilds well: a few steps down the gradient of
E(x) = sum (x - f(x))^2 + lambda |x - x0|_1. The gradient flows through the whole network; its Jacobian's product is written layer
by layer here, so that a graph without autograd does it. Transposed convolutions of stride 2 are 3 x 3 convolutions before a
depth-to-space (:func:`subpixel`), which is exact, and which INT8 takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2
"""Slope of all leaky ReLUs below zero."""


def subpixel(weight: Tensor) -> Tensor:
    """The transposed convolution of a 4 x 4 one with stride 2 and padding 1, as a 3 x 3 convolution before ``pixel_shuffle(2)``.

    Args:
        weight: O x I x 4 x 4 of the convolution I -> O.

    Returns:
        4 I x O x 3 x 3; 9/4 of the multiplications of the transposed convolution.
    """
    outputs, inputs = weight.shape[:2]
    made = weight.new_zeros(inputs, 2, 2, outputs, 3, 3)
    for a in (0, 1):
        for b in (0, 1):
            for d in (-1, 0, 1):
                for e in (-1, 0, 1):
                    row, column = a + 1 - 2 * d, b + 1 - 2 * e
                    if 0 <= row < 4 and 0 <= column < 4:
                        made[:, a, b, :, d + 1, e + 1] = weight[:, :, row, column].T
    return made.view(4 * inputs, outputs, 3, 3)


def flipped(weight: Tensor) -> Tensor:
    """The transposed convolution of a 3 x 3 one with padding 1, as such a convolution: O x I x 3 x 3 -> I x O x 3 x 3."""
    return weight.flip(2, 3).transpose(0, 1).contiguous()


class Down(nn.Module):
    """4 x 4 convolution of stride 2, then a leaky ReLU; and back."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("back", subpixel(conv.weight.detach()), persistent=False)

    back: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out, and what the way back must know."""
        p = self.conv(x)
        return F.leaky_relu(p, LEAK), p

    def backward(self, g: Tensor, p: Tensor) -> Tensor:
        return F.pixel_shuffle(F.conv2d(torch.where(p > 0, g, LEAK * g), self.back, padding=1), 2)


class Up(nn.Module):
    """Nearest x 2, 3 x 3 convolution, then a leaky ReLU (the last one: a sigmoid); and back."""

    def __init__(self, conv: nn.Conv2d, last: bool) -> None:
        super().__init__()
        self.conv, self.last = conv, last
        self.register_buffer("back", flipped(conv.weight.detach()), persistent=False)

    back: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        if self.last:
            y = torch.sigmoid(p)
            return y, y
        return F.leaky_relu(p, LEAK), p

    def backward(self, g: Tensor, p: Tensor) -> Tensor:
        inner = g * p * (1.0 - p) if self.last else torch.where(p > 0, g, LEAK * g)
        return 4.0 * F.avg_pool2d(F.conv2d(inner, self.back, padding=1), 2)


class Coded(nn.Module):
    """Cells -> d numbers -> cells: two linear layers between encoder and decoder, a leaky ReLU after the second; and back."""

    def __init__(self, code: nn.Linear, spread: nn.Linear, shape: Sequence[int]) -> None:
        super().__init__()
        self.code, self.spread, self.shape = code, spread, tuple(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p = self.spread(self.code(x.flatten(1)))
        return F.leaky_relu(p, LEAK).unflatten(1, self.shape), p

    def backward(self, g: Tensor, p: Tensor) -> Tensor:
        flat = torch.where(p > 0, g.flatten(1), LEAK * g.flatten(1))
        return (flat @ self.spread.weight @ self.code.weight).unflatten(1, self.shape)


class Chain(nn.Module):
    """An autoencoder as a chain of the layers above, x -> f(x), with the product of its transposed Jacobian and a vector."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        kept = []
        for layer in self.layers:
            x, p = layer(x)
            kept.append(p)
        return x, kept

    def backward(self, g: Tensor, kept: Sequence[Tensor]) -> Tensor:
        for layer, p in zip(reversed(self.layers), reversed(kept), strict=True):
            g = layer.backward(g, p)  # type: ignore[operator]
        return g


class Projection(nn.Module):
    """T steps x <- clamp(x - alpha grad E(x) * (x - f(x))^2) from x0, unrolled.

    Args:
        chain: f.
        steps: T.
        alpha: length of a step. The gradient is that of the sum over pixels, and the factor (x - f(x))^2 is of pictures in 0..1.
        keep: lambda, how much it costs to leave x0.
    """

    def __init__(self, chain: Chain, steps: int = 10, alpha: float = 0.5, keep: float = 0.05) -> None:
        super().__init__()
        self.chain, self.steps, self.alpha, self.keep = chain, steps, alpha, keep

    def gradient(self, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """grad E(x), and x - f(x)."""
        y, kept = self.chain(x)
        away = x - y
        moved = x - x0
        pull = moved / (moved.abs() + 1e-3)  # a sign without a jump: it flips at x0, where every picture starts
        return 2.0 * away - self.chain.backward(2.0 * away, kept) + self.keep * pull, away

    def forward(self, x0: Tensor) -> Tensor:
        """float32 N x 3 x H x W RGB 0..1 -> the picture that it was moved to."""
        x = x0
        for _ in range(self.steps):
            slope, away = self.gradient(x, x0)
            x = (x - self.alpha * slope * away.square()).clamp(0.0, 1.0)
        return x
