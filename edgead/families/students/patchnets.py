"""Networks that describe one patch each, and their dense form, which describes all patches of a picture at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgead.errors import BadInput

LEAK = 0.005
"""Slope of the patch networks' leaky ReLU below zero, as in the paper."""

PATCHES: dict[int, tuple[tuple[int, int, bool], ...]] = {
    17: ((6, 128, False), (5, 256, False), (5, 256, False), (4, 0, False)),
    33: ((5, 128, True), (5, 256, True), (2, 256, False), (4, 0, False)),
    65: ((5, 128, True), (5, 128, True), (5, 256, True), (4, 256, False), (1, 0, False)),
}
"""(kernel, channels, pooling behind it) of Bergmann et al. 2020 by the patch's side, px; 0 channels: as many as are told."""

THIN = (48, 96, 96)
"""Channels of a thin student of a PDN's form."""


@dataclass(frozen=True, slots=True)
class Form:
    """Where the cells of a dense network lie.

    Attributes:
        side: of the patch that each describes, px.
        stride: from one cell to the next, px.
    """

    side: int
    stride: int


def patch_network(side: int, channels: int, stride: int) -> nn.Sequential:
    """The patch network of the paper, without padding: N x 3 x H x W (normalised) -> N x channels x h x w.

    Args:
        side: 17, 33 or 65 px.
        stride: of its cells, px, a power of two. Poolings keep their stride as long as that allows it; from there on they have
            none, and what follows is dilated instead: what a cell says is of its patch alone, whatever the stride.

    Raises:
        BadInput: there is no network of this side, or for this stride.
    """
    if side not in PATCHES or stride not in (1, 2, 4, 8):
        raise BadInput(
            f"there is no network for patches of {side} px every {stride} px", hint="sides 17, 33, 65; strides 1, 2, 4, 8"
        )
    layers: list[nn.Module] = []
    c_in, step, dilation = 3, 1, 1
    plan = PATCHES[side]
    for i, (kernel, c_out, pooled) in enumerate(plan):
        last = i + 1 == len(plan)
        left = stride // step if last else 1  # what no pooling took
        layers.append(nn.Conv2d(c_in, c_out or channels, kernel, left, dilation=dilation))
        if not last:
            layers.append(nn.LeakyReLU(LEAK))
        if pooled:
            kept = step < stride
            layers.append(_pool(2 if kept else 1, dilation))
            step, dilation = (2 * step, dilation) if kept else (step, 2 * dilation)
        c_in = c_out
    return nn.Sequential(*layers)


def thin_pdn(channels: int) -> nn.Sequential:
    """A network of PDN-S's form (stride 4, patches of 33 px) with an eighth of its width to a third."""
    one, two, three = THIN
    return nn.Sequential(
        nn.Conv2d(3, one, 4), nn.ReLU(), nn.AvgPool2d(2, 2), nn.Conv2d(one, two, 4), nn.ReLU(), nn.AvgPool2d(2, 2),
        nn.Conv2d(two, three, 3), nn.ReLU(), nn.Conv2d(three, channels, 4),
    )  # fmt: skip


def _pool(stride: int, dilation: int) -> nn.Module:
    return nn.MaxPool2d(2, stride, dilation=dilation)
