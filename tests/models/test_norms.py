"""Batch norms of a training become part of the convolutions, and transposed convolutions what INT8 takes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgead.models.backbones import build_backbone
from edgead.models.parts.norms import Normed, SubPixel, fold_norms, with_norms


def test_a_transposed_convolution_of_kernel_two_is_a_convolution_and_a_shuffle() -> None:
    g = torch.Generator().manual_seed(0)
    weight, x = torch.randn(5, 3, 2, 2, generator=g), torch.randn(2, 5, 4, 6, generator=g)
    ours = SubPixel(5, 3, bias=False)
    with torch.no_grad():
        ours.conv.weight.copy_(SubPixel.from_transposed(weight))
        assert torch.allclose(ours(x), F.conv_transpose2d(x, weight, stride=2), atol=1e-5)


@pytest.mark.parametrize("enlarges", [False, True])
def test_what_is_stored_answers_as_what_was_trained(enlarges: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), SubPixel(8, 4) if enlarges else nn.Conv2d(8, 4, 1), nn.Conv2d(4, 2, 1))
    with_norms(network, ("3",))
    assert [isinstance(one, Normed) for one in network] == [True, False, True, False]
    network.train()
    for _ in range(5):  # running statistics of their own
        network(3.0 + 2.0 * torch.randn(4, 3, 9, 9))
    network.eval()
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        trained = network(x)
        fold_norms(network)
        assert not any(isinstance(one, nn.BatchNorm2d) for one in network.modules())
        assert torch.allclose(network(x), trained, atol=1e-5)


def test_names_reach_into_parts_and_a_backbone_is_trained_too() -> None:
    backbone = build_backbone("efficientnet_lite0", ("blocks.1",))
    names = list(backbone.state_dict())
    with_norms(backbone, ("blocks.0.project",))
    assert not isinstance(backbone.blocks[0].project, Normed)
    assert isinstance(backbone.blocks[1].project, Normed)
    backbone.eval()
    x = torch.rand(1, 3, 32, 32) * 255
    with torch.no_grad():
        trained = backbone(x)[0]
        fold_norms(backbone)
        assert torch.allclose(backbone(x)[0], trained, atol=1e-4)
    assert list(backbone.state_dict()) == names  # what is stored is the plain network
