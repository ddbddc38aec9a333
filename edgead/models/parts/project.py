"""Projection on what an autoencoder knows (Dehaene et al. 2020), with the backward pass written out as forward operators.

A picture x0 is moved to a near picture that the autoencoder f rebuilds well: a few steps down the gradient of
E(x) = sum (x - f(x))^2 + lambda |x - x0|_1. The gradient flows through the whole network; its Jacobian's product is written layer
by layer here, so that a graph without autograd does it. Transposed convolutions of stride 2 are 3 x 3 convolutions before a
depth-to-space (:func:`subpixel`), which is exact, and which INT8 takes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.convnets import LEAK, Autoencoder, Block, twice
from edgead.models.parts.necks import Neck, Vector

PULL = 1e-2
"""Of lambda |x - x0|: below this the slope falls to 0 smoothly, for every picture starts at x0, where a sign would flip. At a
tenth of it pixels that are rebuilt badly swing around x0."""

KNEE = 1e-2
"""The slope of a leaky ReLU changes over so much of what goes in, not at 0, where an engine's last bit would flip it.

Both keep the moves from making much of a last bit: error of an FP32 engine, of a map's range, on magnetic_tile and elpv 7e-4 and
3e-5 with a `PULL` of 1e-3 and no knee, 1e-5 and 1e-6 now; AUROC .735 -> .732 and .883 -> .883 (`benchmarks.methods`, one seed;
chosen on these sets)."""


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


class Projection(nn.Module):
    """T steps x <- clamp(x - alpha grad E(x) * (x - f(x))^2) from x0, unrolled.

    Args:
        network: f, with `neck` between its halves; without batch norms when it is asked.
        moves: T.
        alpha: length of a step. The gradient is that of the sum over pixels of pictures in 0..1.
        keep: lambda, what it costs to leave x0.
    """

    def __init__(self, network: Autoencoder, moves: int = 10, alpha: float = 0.5, keep: float = 0.05) -> None:
        super().__init__()
        self.moves, self.alpha, self.keep = moves, alpha, keep
        for i, conv in enumerate(_convs(network)):
            self.register_buffer(f"back_{i}", _backward(conv))

    @torch.no_grad()
    def learn(self, network: Autoencoder) -> None:
        """Take the weights of a network that was trained."""
        for i, conv in enumerate(_convs(network)):
            getattr(self, f"back_{i}").copy_(_backward(conv))

    def rebuilt(self, x: Tensor, network: Autoencoder, neck: Neck) -> tuple[Tensor, list[Tensor]]:
        """f(x), and what came out of each layer before its leaky ReLU."""
        y, kept = 2.0 * x - 1.0, []
        for block in _blocks(network.encoder):
            kept.append(block.conv(y))
            y = F.leaky_relu(kept[-1], LEAK)
        if isinstance(neck, Vector):
            kept.append(neck.to_cells(neck.to_vector(y.flatten(1))))
            y = F.leaky_relu(kept[-1], LEAK).view(-1, neck.channels, *neck.grid)
        for block, doubles in zip(_blocks(network.decoder), network.doubles, strict=True):
            kept.append(block.conv(twice(y) if doubles else y))
            y = F.leaky_relu(kept[-1], LEAK)
        return torch.sigmoid(network.last(y)), kept

    def backward(self, g: Tensor, y: Tensor, kept: list[Tensor], network: Autoencoder, neck: Neck) -> Tensor:
        """The transposed Jacobian of f times g."""
        kept, left = list(kept), len(network.encoder) + len(network.decoder)
        g = F.conv2d(g * y * (1.0 - y), getattr(self, f"back_{left}"), padding=1)
        for doubles in reversed(network.doubles):
            left -= 1
            g = F.conv2d(_leaky(g, kept.pop()), getattr(self, f"back_{left}"), padding=1)
            g = 4.0 * F.avg_pool2d(g, 2) if doubles else g
        if isinstance(neck, Vector):
            g = _leaky(g.flatten(1), kept.pop()) @ neck.to_cells.weight @ neck.to_vector.weight
            g = g.view(-1, neck.channels, *neck.grid)
        for block in reversed(_blocks(network.encoder)):
            left -= 1
            g = F.conv2d(_leaky(g, kept.pop()), getattr(self, f"back_{left}"), padding=1)
            g = F.pixel_shuffle(g, 2) if block.conv.stride[0] == 2 else g
        return 2.0 * g

    def gradient(self, x: Tensor, x0: Tensor, network: Autoencoder, neck: Neck) -> tuple[Tensor, Tensor]:
        """grad E(x), and x - f(x)."""
        y, kept = self.rebuilt(x, network, neck)
        away, moved = x - y, x - x0
        pull = moved / (moved.abs() + PULL)
        return 2.0 * away - self.backward(2.0 * away, y, kept, network, neck) + self.keep * pull, away

    def forward(self, x0: Tensor, network: Autoencoder, neck: Neck) -> Tensor:
        """float32 N x 3 x H x W RGB 0..1 -> the picture that it was moved to."""
        x = x0
        for _ in range(self.moves):
            slope, away = self.gradient(x, x0, network, neck)
            x = (x - self.alpha * slope * away.square()).clamp(0.0, 1.0)
        return x


def _blocks(part: nn.Sequential | nn.ModuleList) -> list[Block]:
    return [block for block in part if isinstance(block, Block)]


def _convs(network: Autoencoder) -> list[nn.Conv2d]:
    return [*(block.conv for block in (*_blocks(network.encoder), *_blocks(network.decoder))), network.last]


def _backward(conv: nn.Conv2d) -> Tensor:
    weight = conv.weight.detach()
    return subpixel(weight) if conv.stride[0] == 2 else flipped(weight)


def _leaky(g: Tensor, p: Tensor) -> Tensor:
    """Back through a leaky ReLU of p."""
    return g * (LEAK + (1.0 - LEAK) * (p / KNEE + 0.5).clamp(0.0, 1.0))
