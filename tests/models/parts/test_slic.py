"""Superpixels in the graph: they follow the picture at hand, and engines agree on them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.models.parts.slic import SoftSlic
from tests.models.parts._engines import in_engines

SIZE = (64, 96)


def picture(shift: int = 0) -> Tensor:
    """A bright square on a dark ground, whose edges lie off every grid."""
    x = torch.full((1, 3, *SIZE), 0.2)
    x[:, :, 21 + shift : 45 + shift, 30:59] = 0.8
    return x


def test_superpixels_follow_the_picture() -> None:
    slic = SoftSlic(SIZE)
    made = slic(picture())
    assert made.shape == (1, 9, *SIZE)
    torch.testing.assert_close(made.sum(1), torch.ones(1, *SIZE))
    belongs = slic.membership(picture())[0]
    small = slic.shrink(picture())[0, 0].flatten()
    inside, outside = belongs[small > 0.75].sum(0), belongs[small < 0.25].sum(0)
    both = torch.minimum(inside, outside).sum() / belongs.sum()
    on_a_grid = SoftSlic(SIZE, compact=100.0).membership(picture())[0]
    mixed = torch.minimum(on_a_grid[small > 0.75].sum(0), on_a_grid[small < 0.25].sum(0)).sum() / on_a_grid.sum()
    assert both < mixed / 3  # a cell lies inside or outside of the square


class _Slic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slic = SoftSlic(SIZE)

    def forward(self, x: Tensor) -> Tensor:
        return self.slic(x)


def test_superpixels_are_one_static_graph(tmp_path: Path) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 3, *SIZE), np.float32))
    for x in (0.7 * picture() + 0.3 * noise, torch.zeros(1, 3, *SIZE), torch.ones(1, 3, *SIZE)):
        with torch.no_grad():
            told = _Slic()(x)
        assert bool(torch.isfinite(told).all())
        for found in in_engines(_Slic(), (x,), tmp_path):
            away = np.abs(found - told.numpy())
            assert away.max() <= 3e-4  # where a pixel lies between two cells, sharp as they are
            assert np.sqrt((away**2).mean()) <= 1e-5
