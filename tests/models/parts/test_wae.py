"""A neck that tells likelihoods: the discrepancy from a normal distribution, and the volume of a decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgead.models.parts.wae import Wae, discrepancy, log_volume


def drawn(count: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed))


def test_a_normal_sample_is_near_another_one_and_far_from_a_shifted_one() -> None:
    near, far = discrepancy(drawn(200, 4, 0), drawn(200, 4, 1)), discrepancy(drawn(200, 4, 0), drawn(200, 4, 1) + 1.5)
    assert abs(float(near)) < 0.05
    assert float(far) > 0.5


def test_the_volume_of_a_linear_decoder_is_that_of_its_matrix() -> None:
    matrix = drawn(12, 3, 2)
    told = log_volume(lambda z: z @ matrix.T, drawn(1, 3, 3)[0])
    assert float(told) == pytest.approx(0.5 * float(torch.linalg.slogdet(matrix.double().T @ matrix.double())[1]), abs=1e-3)


def test_the_volume_of_a_bent_decoder_is_that_of_its_jacobian() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 20)).requires_grad_(False)
    z = drawn(1, 3, 4)[0]
    jacobian = torch.autograd.functional.jacobian(decoder, z).double()
    assert float(log_volume(decoder, z)) == pytest.approx(0.5 * float(torch.linalg.slogdet(jacobian.T @ jacobian)[1]), abs=1e-3)


def test_a_volume_that_follows_from_the_vector_is_regressed_and_told() -> None:
    """A decoder that stretches what lies to one side: log volume = d z_0 + a constant."""
    torch.manual_seed(0)
    neck = Wae(2, (1, 1), 12, vector=2)
    with torch.no_grad():
        neck.to_vector.weight.copy_(torch.eye(2))
        neck.to_vector.bias.zero_()
        neck.to_cells.weight.copy_(torch.eye(2))
        neck.to_cells.bias.zero_()
    code = drawn(60, 2, 5).abs()[:, :, None, None]  # no leak: cells are the vector

    def decode(cells: torch.Tensor) -> torch.Tensor:
        flat = cells.flatten(1)
        return torch.cat([flat[:, :1].exp(), flat[:, 1:]], 1)

    neck.measure(code, decode, torch.Generator().manual_seed(0))
    assert float(neck.explained) > 0.8
    with torch.no_grad():
        told = neck.distance(code).flatten() - code.flatten(1).square().sum(1) * 0.5
    assert float((told - code[:, 0, 0, 0]).abs().mean()) < 0.2
