"""Soft edges, and a picture rebuilt from its content and its structure."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.models.parts.structure import SoftEdges, StructureNet
from tests.models.parts._engines import in_engines


def step(height: float = 0.6) -> torch.Tensor:
    x = torch.full((1, 3, 32, 32), 0.2)
    x[..., 16:] += height
    return x


def test_an_edge_is_an_edge_whatever_the_light() -> None:
    edges = SoftEdges()
    edges.measure([step()])
    found, brighter = edges(step()), edges(step() + 0.15)
    torch.testing.assert_close(found, brighter, rtol=0, atol=1e-5)
    assert found[0, :, 16, 15:17].min() > 0.9
    assert found[0, :, 16, :13].max() < 0.25
    assert bool((found >= 0).all() and (found <= 1).all())


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_picture_without_edges_has_none_that_is_not_finite(grey: float) -> None:
    edges = SoftEdges()
    edges.measure([torch.full((1, 3, 32, 32), grey)])
    assert bool(torch.isfinite(edges(torch.full((1, 3, 32, 32), grey))).all())


def test_the_finest_edges_do_not_reach_the_decoder_on_a_short_way() -> None:
    torch.manual_seed(0)
    network = StructureNet(8, 3).eval()
    levels = [type(skip).__name__ for skip in network.skip]
    assert levels == ["Conv2d", "Identity"]
    assert network(torch.rand(2, 3, 32, 48), torch.rand(2, 2, 32, 48)).shape == (2, 3, 32, 48)


class _Whole(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.edges, self.network = SoftEdges(), StructureNet(8, 3).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.edges(self.network(x, self.edges(x)))


def test_both_are_one_static_graph(tmp_path: Path) -> None:
    whole = _Whole()
    for x in (torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), step()):
        with torch.no_grad():
            told = whole(x).numpy()
        for found in in_engines(whole, (x,), tmp_path):
            assert np.abs(found - told).max() <= 1e-4
