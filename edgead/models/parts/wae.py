"""A neck whose vectors are matched to a normal distribution, and that tells how likely they are: scores of generative models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgead.models.parts.necks import Vector

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the kernel's widths, times twice the numbers of a vector."""

_HIDDEN, _STEPS = 64, 400
_HELD = 5
"""Every fifth vector says how well the volume is told."""


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors, N x d and M x d, without bias, by inverse multiquadric kernels of
    several widths (Tolstikhin et al. 2018)."""
    d = a.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squared = (x[:, None] - y[None]).square().sum(2)
        widths = [2.0 * d * scale for scale in SCALES]
        return torch.stack([c / (c + squared) for c in widths]).sum(0)

    def others(k: Tensor) -> Tensor:
        n = max(2, len(k))
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return others(kernel(a, a)) + others(kernel(b, b)) - 2.0 * kernel(a, b).mean()


class Wae(Vector):
    """A vector z that is matched to a normal distribution over the pictures of a batch (WAE-MMD), and says how likely it is.

    With g the decoder and J = dg/dz, -log p(x) = values / 2 (e / s^2) + |z|^2 / 2 + log det(J^T J) / 2 and constants (Šmídl, Bím,
    Pevný 2019), e the error and s^2 its mean over good pictures. Determinants are no part of a static graph: the last term, the
    logarithm of the volume that g gives to a neighbourhood of z, is measured at good pictures and regressed by a small network of
    z, whose share of explained variance is kept as `explained`; where it explains nothing it is a constant.
    """

    relative = True
    explained: Tensor
    middle: Tensor
    width: Tensor

    def __init__(self, channels: int, grid: tuple[int, int], values: int, vector: int = 32, match: float = 1.0) -> None:
        super().__init__(channels, grid, values, vector)
        self.match = match
        self.volume = nn.Sequential(nn.Linear(vector, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1)).requires_grad_(False)
        self.register_buffer("middle", torch.zeros(vector))
        self.register_buffer("width", torch.ones(vector))
        self.register_buffer("explained", torch.zeros(()))

    def learn(self, code: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = self.to_vector(code.flatten(1))
        drawn = torch.randn(z.shape, generator=generator).to(z.device)
        return self.back(z), self.match * discrepancy(z, drawn).clamp_min(0.0)

    def distance(self, code: Tensor) -> Tensor:
        z = self.to_vector(code.flatten(1))
        told = z.square().sum(1) * 0.5 + self.volume((z - self.middle) / self.width).squeeze(1)
        found: Tensor = told.view(-1, 1, 1, 1)
        return found

    @torch.no_grad()
    def measure(self, code: Tensor, decode: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        """Learn the volume around good pictures.

        Args:
            code: of good pictures, N x C x h x w.
            decode: cells -> pictures, as they will be decoded.
            generator: draws the small network's first weights.
        """
        z = self.to_vector(code.flatten(1))
        volumes = torch.stack([log_volume(lambda v: decode(self.back(v)), one) for one in z])
        self.middle.copy_(z.mean(0))
        self.width.copy_(z.std(0).clamp_min(1e-3) if len(z) > 1 else torch.ones_like(self.middle))
        level, reach = volumes.mean(), volumes.std(correction=0).clamp_min(1e-3)
        inputs, wanted = (z - self.middle) / self.width, (volumes - level) / reach
        for layer in self.volume:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * layer.in_features**-0.5)
                layer.bias.zero_()
        held = torch.arange(len(z), device=z.device) % _HELD == 0
        _regress(self.volume, inputs[~held], wanted[~held])
        rest = (self.volume(inputs[held]).squeeze(1) - wanted[held]).square().mean()
        self.explained.copy_(1.0 - rest / wanted[held].var(correction=0).clamp_min(1e-6))
        last = self.volume[2]
        assert isinstance(last, nn.Linear)
        trust = reach if float(self.explained) > 0 else torch.zeros(())
        last.weight.mul_(trust)
        last.bias.mul_(trust).add_(level)


@torch.no_grad()
def log_volume(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """log det(J^T J) / 2 of a decoder at a vector of d numbers, by central differences (the way back needs no graph)."""
    d = len(z)
    step = 1e-2 * torch.eye(d, device=z.device)
    columns = (decode(z + step).flatten(1) - decode(z - step).flatten(1)).double() / 2e-2  # d x values
    gram = columns @ columns.T
    ridge = 1e-9 * gram.diagonal().mean().clamp_min(1e-12)
    volume: Tensor = torch.linalg.slogdet(gram + ridge * torch.eye(d, device=z.device, dtype=gram.dtype))[1].float() * 0.5
    return volume


def _regress(network: nn.Module, inputs: Tensor, wanted: Tensor) -> None:
    if len(inputs) < 2:
        return
    network.requires_grad_(True)
    adam = torch.optim.Adam(network.parameters(), 3e-3, weight_decay=1e-2)
    with torch.enable_grad():
        for _ in range(_STEPS):
            loss = (network(inputs).squeeze(1) - wanted).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    network.requires_grad_(False)
