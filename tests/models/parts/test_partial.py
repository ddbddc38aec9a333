"""Partial convolutions: what is hidden counts nowhere; folded for constant masks they give the same numbers."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.models.parts import masks
from edgead.models.parts.partial import FoldedUNet, PartialConv, PartialUNet
from tests.models.parts._engines import in_engines


def trained() -> PartialUNet:
    """With batch norms that have seen something."""
    torch.manual_seed(0)
    network, hidden = PartialUNet(8, 3), masks.windows((32, 48), 8)[:, 0:1].flatten(0, 1)[:, None]
    for module in network.modules():
        if isinstance(module, PartialConv):
            nn.init.normal_(module.bias, std=0.3)
    for _ in range(3):
        network(torch.rand(2, 3, 32, 48), hidden)
    return network.eval()


def test_by_hand() -> None:
    layer = PartialConv((1,), 1, last=True)
    with torch.no_grad():
        layer.convs[0].weight.fill_(1.0)
        layer.bias.fill_(0.5)
    x, mask = torch.full((1, 1, 5, 5), 2.0), torch.zeros(1, 1, 5, 5)
    mask[..., :2, :2] = 1.0
    y, seen = layer((x * mask,), (mask,))
    assert y[0, 0, 1, 1] == 18.5  # four of nine are seen: 8 * 9 / 4 + 0.5
    assert seen[0, 0, :3, :3].all() and seen.sum() == 9
    assert y[0, 0, 3:].abs().sum() == 0  # nothing was seen there: no bias either


def test_what_is_hidden_counts_nowhere() -> None:
    network = trained()
    mask = masks.windows((32, 48), 16)[0, :1][None, 0]
    mask = mask.view(1, 1, 32, 48)
    x = torch.rand(1, 3, 32, 48)
    other = torch.where(mask > 0, x, torch.rand(1, 3, 32, 48))
    with torch.no_grad():
        assert torch.equal(network(x, mask), network(other, mask))


def test_folded_is_the_dynamic_layer() -> None:
    network, hidden = trained(), masks.windows((32, 48), 8)[0][:, None]
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        wanted = network(x.expand(4, -1, -1, -1), hidden)
        torch.testing.assert_close(network.folded(hidden)(x * hidden), wanted, rtol=1e-4, atol=1e-6)


class _Inpainted(nn.Module):
    def __init__(self, folded: FoldedUNet, hidden: Tensor) -> None:
        super().__init__()
        self.folded, self.masks = folded, hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.folded(x * self.masks)


def test_folded_is_one_static_graph(tmp_path: Path) -> None:
    network, hidden = trained(), masks.windows((32, 48), 8)[0][:, None]
    for x in (torch.rand(1, 3, 32, 48), torch.zeros(1, 3, 32, 48)):
        with torch.no_grad():
            told = network(x.expand(4, -1, -1, -1), hidden).numpy()
        for found in in_engines(_Inpainted(network.folded(hidden), hidden), (x,), tmp_path):
            assert np.abs(found - told).max() <= 1e-5
