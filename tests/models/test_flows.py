"""Normalising flows: invertible in what they claim of their volume, and a gradient that is autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgead.models.parts.flows import MapFlow, VectorFlow


def stirred(flow: nn.Module, seed: int = 0) -> nn.Module:
    """A flow that does something: at the start all of them leave everything as it is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return flow


def vector_flow(d: int = 6, depth: int = 2) -> VectorFlow:
    flow = stirred(VectorFlow(d, 3, [8] * depth, torch.Generator().manual_seed(1)))
    assert isinstance(flow, VectorFlow)
    return flow


@pytest.mark.parametrize("depth", [1, 3])
def test_the_volume_of_vectors_is_that_of_the_jacobian(depth: int) -> None:
    flow, y = vector_flow(depth=depth), torch.randn(6, 1, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[:, None])[0][:, 0], y[:, 0])
    assert float(flow(y)[1][0].detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-4)


def test_the_volume_of_maps_is_that_of_the_jacobian() -> None:
    flow = stirred(MapFlow(4, (3, 1), 1.0, torch.Generator().manual_seed(1)))
    x = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v.view(1, 4, 3, 2))[0].flatten(), x.flatten())
    assert float(flow(x)[1].sum().detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-4)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_is_autograds(depth: int, masked: bool) -> None:
    flow = vector_flow(depth=depth)
    y = torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    if masked:
        flow.masked()
    z, volume = flow(y)
    (wanted,) = torch.autograd.grad((z.square().sum(0) * 0.5 - volume).sum(), y)
    with torch.no_grad():
        told, found = flow.gradient(y)
    assert torch.equal(told, z.detach())
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_zeros_written_into_the_weights_change_nothing() -> None:
    flow, y = vector_flow(), torch.randn(6, 5, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        before: Tensor = flow(y)[0]
        assert torch.allclose(flow.masked()(y)[0], before, atol=1e-6)
    assert not any(bool((one.scale.weight.detach() * one.stays[:, None]).any()) for one in flow.steps())


@pytest.mark.parametrize("of", ["vectors", "maps"])
def test_an_untrained_flow_leaves_the_likelihood_as_it_is(of: str) -> None:
    generator = torch.Generator().manual_seed(5)
    flow = VectorFlow(6, 2, [8], generator) if of == "vectors" else MapFlow(6, (3, 1), 1.0, generator)
    x = torch.randn(6, 4) if of == "vectors" else torch.randn(2, 6, 3, 3)
    with torch.no_grad():
        z, volume = flow(x)
    assert float(z.square().sum()) == pytest.approx(float(x.square().sum()), rel=1e-6)
    assert float(volume.abs().max()) == 0.0
