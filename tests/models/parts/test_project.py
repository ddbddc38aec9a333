"""The written-out backward pass is autograd's, and the steps go where they should."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.convnets import LEAK, Autoencoder, Bergmann
from edgead.models.parts.necks import Neck, Vae
from edgead.models.parts.project import PULL, Projection, _leaky, flipped, subpixel
from tests.models.parts._engines import in_engines

SIZE = (32, 48)


def test_a_transposed_convolution_is_a_subpixel_convolution() -> None:
    torch.manual_seed(0)
    weight, g = torch.randn(5, 3, 4, 4), torch.randn(2, 5, 6, 8)
    told = F.pixel_shuffle(F.conv2d(g, subpixel(weight), padding=1), 2)
    torch.testing.assert_close(told, F.conv_transpose2d(g, weight, stride=2, padding=1), rtol=1e-5, atol=1e-5)


def test_a_3x3_convolution_is_transposed_by_turning_it() -> None:
    torch.manual_seed(0)
    weight, g = torch.randn(5, 3, 3, 3), torch.randn(2, 5, 6, 8)
    told = F.conv2d(g, flipped(weight), padding=1)
    torch.testing.assert_close(told, F.conv_transpose2d(g, weight, padding=1), rtol=1e-5, atol=1e-5)


class Moved(nn.Module):
    """An autoencoder with random weights and its projection."""

    def __init__(self, kind: str, **told: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = Bergmann(SIZE) if kind == "bergmann" else Autoencoder(SIZE, 4)
        grid = (SIZE[0] // self.network.stride, SIZE[1] // self.network.stride)
        self.neck = (Vae if kind == "vae" else Neck)(self.network.channels, grid, 3 * SIZE[0] * SIZE[1])
        self.projection = Projection(self.network, **told)
        self.projection.learn(self.network)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x, self.network, self.neck)

    def rebuilt(self, x: Tensor) -> Tensor:
        code, skips = self.network.encode(x)
        return self.network.decode(self.neck(code), skips)

    def energy(self, x: Tensor, x0: Tensor) -> Tensor:
        moved = (x - x0).abs()
        left = moved - PULL * torch.log1p(moved / PULL)  # whose slope is the smooth sign
        return (x - self.rebuilt(x)).square().sum() + self.projection.keep * left.sum()


def test_a_last_bit_turns_no_slope() -> None:
    """Engines and torch differ in it; a unit that switched by it would send the moves elsewhere."""
    p, g = torch.tensor([1e-7, -1e-7]), torch.ones(2)
    slopes = _leaky(g, p)
    assert float((slopes[0] - slopes[1]).abs()) < 1e-3
    torch.testing.assert_close(_leaky(g, torch.tensor([0.1, -0.1])), torch.tensor([1.0, LEAK]))


@pytest.mark.parametrize("kind", ["ae", "vae", "bergmann"])
def test_the_gradient_is_autograds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the knee, which is made sharp here."""
    monkeypatch.setattr("edgead.models.parts.project.KNEE", 1e-15)
    moved = Moved(kind).double().requires_grad_(False)
    x, x0 = (torch.rand(2, 3, *SIZE, dtype=torch.float64) for _ in range(2))
    x.requires_grad_(True)
    (wanted,) = torch.autograd.grad(moved.energy(x, x0), x)
    told, _ = moved.projection.gradient(x, x0, moved.network, moved.neck)
    torch.testing.assert_close(told, wanted, rtol=1e-8, atol=1e-8)


def test_energy_falls_and_what_the_network_cannot_rebuild_moves_most() -> None:
    moved = Moved("vae", moves=20).double().requires_grad_(False)
    x0 = moved.rebuilt(torch.full((1, 3, *SIZE), 0.5, dtype=torch.float64))
    x0[:, :, 4:8, 4:8] = 1.0
    x = moved(x0)
    assert float(moved.energy(x, x0)) < float(moved.energy(x0, x0))
    away = (x - x0).abs().mean(1)[0]
    assert away[4:8, 4:8].mean() > 10 * away[12:, 12:].mean()


@pytest.mark.parametrize("grey", [None, 0.0, 1.0])
def test_unrolled_steps_are_the_same_in_the_engines(grey: float | None, tmp_path: Path) -> None:
    x = torch.rand(1, 3, *SIZE) if grey is None else torch.full((1, 3, *SIZE), grey)
    moved = Moved("vae", moves=4, alpha=2.0).requires_grad_(False)
    for found in in_engines(moved, (x,), tmp_path):
        assert np.abs(found - moved(x).numpy()).max() <= 1e-5
