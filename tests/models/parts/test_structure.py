"""Soft edges, and a picture rebuilt from its content and its structure."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.models.parts.structure import SoftEdges, Structure, StructureNet
from tests.models.parts._engines import Rebuilt, in_engines


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
    network = StructureNet((32, 48), 8, 3)
    code, levels = network.encode(torch.rand(2, 3, 32, 48))
    assert [tuple(level.shape[2:]) for level in (code, *levels)] == [(4, 6), (8, 12), (4, 6)]  # not 16 x 24
    assert network.decode(code, levels).shape == (2, 3, 32, 48)


class _Whole(Rebuilt):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(StructureNet((32, 32), 8, 3).eval())
        self.error = Structure()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.error(x, super().forward(x))


def test_the_error_of_the_structure_is_one_static_graph(tmp_path: Path) -> None:
    whole = _Whole().requires_grad_(False)
    for x in (torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), step()):
        for found in in_engines(whole, (x,), tmp_path):
            assert np.abs(found - whole(x).numpy()).max() <= 1e-4
