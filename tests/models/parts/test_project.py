"""The written-out backward pass is autograd's."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.project import Chain, Coded, Down, Projection, Up, flipped, subpixel
from tests.models.parts._engines import in_engines


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


def chain() -> Chain:
    torch.manual_seed(1)
    layers = [
        Down(nn.Conv2d(3, 8, 4, 2, 1)),
        Down(nn.Conv2d(8, 16, 4, 2, 1)),
        Coded(nn.Linear(16 * 4 * 6, 10), nn.Linear(10, 16 * 4 * 6), (16, 4, 6)),
        Up(nn.Conv2d(16, 8, 3, 1, 1), last=False),
        Up(nn.Conv2d(8, 3, 3, 1, 1), last=True),
    ]
    return Chain(layers).double()


def energy(f: Chain, x: Tensor, x0: Tensor, keep: float) -> Tensor:
    moved = (x - x0).abs()
    return (x - f(x)[0]).square().sum() + keep * (moved - 1e-3 * torch.log1p(moved / 1e-3)).sum()


def test_the_gradient_is_autograds() -> None:
    f = chain()
    x, x0 = torch.rand(2, 3, 16, 24, dtype=torch.float64), torch.rand(2, 3, 16, 24, dtype=torch.float64)
    x.requires_grad_(True)
    (wanted,) = torch.autograd.grad(energy(f, x, x0, 0.05), x)
    with torch.no_grad():
        told, _ = Projection(f, keep=0.05).gradient(x, x0)
    torch.testing.assert_close(told, wanted, rtol=1e-8, atol=1e-8)


def test_energy_falls_and_what_is_unlike_the_autoencoder_moves_most() -> None:
    f = chain()
    with torch.no_grad():
        y = f(torch.full((1, 3, 16, 24), 0.5, dtype=torch.float64))[0]
        x0 = y.clone()
        x0[:, :, 4:8, 4:8] = 1.0
        x = Projection(f, steps=20, alpha=0.5)(x0)
        assert float(energy(f, x, x0, 0.05)) < float(energy(f, x0, x0, 0.05))
    moved = (x - x0).abs().mean(1)[0]
    assert moved[4:8, 4:8].mean() > 10 * moved[8:, 8:].mean()


@pytest.mark.parametrize("grey", [None, 0.0, 1.0])
def test_unrolled_steps_are_the_same_in_the_engines(grey: float | None, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 16, 24) if grey is None else torch.full((1, 3, 16, 24), grey)
    projection = Projection(chain().float(), steps=5, alpha=2.0)
    with torch.no_grad():
        told = projection(x).numpy()
    for found in in_engines(projection, (x,), tmp_path):
        assert np.abs(found - told).max() <= 1e-5
