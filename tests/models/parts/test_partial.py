"""Partial convolutions: what is hidden counts nowhere; with constant masks they are convolutions with the same numbers."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgead.models.parts.convnets import fold_norms
from edgead.models.parts.partial import Partial, PartialUNet, _maps
from edgead.models.parts.patterns import windows
from tests.models.parts._engines import Rebuilt, in_engines

SIZE = (32, 48)


def visible() -> Tensor:
    return 1.0 - windows(SIZE, 8)[0][:, None]  # 4 x 1 x H x W


def trained() -> PartialUNet:
    """With batch norms that have seen something."""
    torch.manual_seed(0)
    network = PartialUNet(SIZE, 8, 3, norm=True)
    for module in network.modules():
        if isinstance(module, Partial):
            nn.init.normal_(module.conv.bias, std=0.3)
    for _ in range(3):
        network.decode(*network.encode(torch.rand(4, 3, *SIZE), visible()))
    return network.eval().requires_grad_(False)


def test_by_hand() -> None:
    layer = Partial(1, 1, slope=1.0)
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        layer.conv.bias.fill_(0.5)
        x, mask = torch.full((1, 1, 5, 5), 2.0), torch.zeros(1, 1, 5, 5)
        mask[..., :2, :2] = 1.0
        maps = _maps(layer.shares(mask))
        y = layer(x * mask, maps)
    assert y[0, 0, 1, 1] == 18.5  # four of nine are seen: 8 * 9 / 4 + 0.5
    assert maps[1][0, 0, :3, :3].all() and maps[1].sum() == 9
    assert y[0, 0, 3:].abs().sum() == 0  # nothing was seen there: no bias either


def test_what_is_hidden_counts_nowhere() -> None:
    network, seen = trained(), visible()
    x = torch.rand(4, 3, *SIZE)
    other = torch.where(seen > 0, x, torch.rand(4, 3, *SIZE))
    one, two = (network.decode(*network.encode(pictures, seen)) for pictures in (x, other))
    assert torch.equal(one, two)


def test_with_constant_masks_and_norms_folded_it_is_the_same_network() -> None:
    network, seen = trained(), visible()
    folded = copy.deepcopy(network)
    fold_norms(folded)
    folded.fix(seen)
    assert folded.ratio_2 is not None and folded.seen_2 is None  # deep down all is seen, but for the border
    x = torch.rand(2, 3, *SIZE).repeat_interleave(4, 0)  # two pictures, four masks each
    wanted = network.decode(*network.encode(x, seen.repeat(2, 1, 1, 1)))
    torch.testing.assert_close(folded.decode(*folded.encode(x, seen)), wanted, rtol=1e-4, atol=1e-6)


def test_with_constant_masks_it_is_one_static_graph(tmp_path: Path) -> None:
    network = trained()
    fold_norms(network)
    network.fix(visible())
    whole = Rebuilt(network, visible())
    for x in (torch.rand(1, 3, *SIZE), torch.zeros(1, 3, *SIZE)):
        for found in in_engines(whole, (x,), tmp_path):
            assert np.abs(found - whole(x).numpy()).max() <= 1e-5
