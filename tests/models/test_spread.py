"""Cells told in pixels, against the papers' transposed convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edgead.models.parts.spread import BoxUp, GaussUp


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("side", "patch", "stride"), [(64, 32, 4), (64, 16, 16), (61, 32, 4), (40, 8, 12)])
def test_box_up_is_the_mean_of_the_patches_that_hold_a_pixel(side: int, patch: int, stride: int) -> None:
    cells = (side - patch) // stride + 1
    found = drawn(2, cells, cells)
    kernel = torch.ones(1, 1, patch, patch)
    total = F.conv_transpose2d(found[:, None], kernel, stride=stride)[:, 0]
    count = F.conv_transpose2d(torch.ones(1, 1, cells, cells), kernel, stride=stride)[0, 0]
    spread = BoxUp((cells, cells), (side, side), patch, stride)(found)
    assert spread.shape == (2, side, side)
    reach = count.shape[0]
    held = count > 0
    assert torch.allclose(spread[:, :reach, :reach][:, held], (total / count.clamp_min(1))[:, held], atol=1e-6)
    assert bool(torch.isfinite(spread).all())
    assert torch.equal(spread[:, -1, -1], spread[:, reach - 1, reach - 1])  # beyond the last patch its answer goes on


def test_gauss_up_is_the_mean_of_cells_weighed_by_their_distance() -> None:
    found = drawn(1, 8, 6)
    spread = GaussUp((8, 6), (64, 48), 6.0)(found)
    row, column = 20, 31
    y, x = 8 * torch.arange(8) + 3.5, 8 * torch.arange(6) + 3.5
    weight = torch.exp(-((row - y)[:, None] ** 2 + (column - x)[None] ** 2) / 72)
    assert float(spread[0, row, column]) == pytest.approx(float((found[0] * weight).sum() / weight.sum()), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 4.0, 30.0])
def test_an_even_map_stays_even_to_its_edges(sigma: float) -> None:
    even = torch.full((1, 5, 7), 3.0)
    for spread in (GaussUp((5, 7), (40, 56), sigma)(even), BoxUp((5, 7), (50, 60), 20, 6)(even)):
        assert torch.allclose(spread, torch.full_like(spread, 3.0), atol=1e-5)
