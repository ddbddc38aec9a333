"""Batch norms while a network is trained, and none afterwards: what is stored and exported holds plain convolutions."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn


class SubPixel(nn.Module):
    """Twice as large: a 1 x 1 convolution to four times the channels, whose numbers become 2 x 2 cells.

    It is a transposed convolution of kernel 2 and stride 2, and, unlike that, quantised. Weights of one, I x O x 2 x 2, are taken
    by :meth:`from_transposed`. N x I x h x w -> N x O x 2h x 2w.
    """

    def __init__(self, c_in: int, c_out: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, 4 * c_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), 2)

    @staticmethod
    def from_transposed(weight: Tensor) -> Tensor:
        """I x O x 2 x 2 -> 4O x I x 1 x 1."""
        return weight.permute(1, 2, 3, 0).reshape(-1, len(weight), 1, 1)


class Normed(nn.Module):
    """A convolution (or a :class:`SubPixel`) and the batch norm behind it."""

    def __init__(self, layer: nn.Conv2d | SubPixel) -> None:
        super().__init__()
        conv, each = (layer.conv, 4) if isinstance(layer, SubPixel) else (layer, 1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:  # the norm takes it away
            conv.bias.requires_grad_(False).zero_()
        self.layer, self.each = layer, each
        self.norm = nn.BatchNorm2d(conv.out_channels // each)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.layer(x))
        return out

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """Both as one, as it answers in evaluation."""
        conv = self.layer.conv if isinstance(self.layer, SubPixel) else self.layer
        mean, variance = self.norm.get_buffer("running_mean"), self.norm.get_buffer("running_var")
        gain = (self.norm.weight / torch.sqrt(variance + self.norm.eps)).repeat_interleave(self.each)
        shift = self.norm.bias.repeat_interleave(self.each) - gain * mean.repeat_interleave(self.each)
        conv.weight.mul_(gain.view(-1, 1, 1, 1))
        assert conv.bias is not None
        conv.bias.copy_(gain * conv.bias + shift)
        return self.layer


def with_norms(network: nn.Module, without: Collection[str] = ()) -> None:
    """Put a batch norm behind each convolution of a network, in place, and start it anew.

    Args:
        network: whose convolutions have biases, which the norms end up in.
        without: names of modules (with all that is in them) that get none: those whose output is to be any number.
    """
    for name, child in list(network.named_children()):
        if name in without:
            continue
        if isinstance(child, nn.Conv2d | SubPixel):
            setattr(network, name, Normed(child))
        else:
            with_norms(child, [rest for one in without if (rest := one.removeprefix(f"{name}.")) != one])


def fold_norms(network: nn.Module) -> None:
    """Undo :func:`with_norms`, in place: each norm becomes part of its convolution."""
    for name, child in list(network.named_children()):
        if isinstance(child, Normed):
            setattr(network, name, child.plain())
        else:
            fold_norms(child)
