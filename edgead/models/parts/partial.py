"""Partial convolutions (Liu et al. 2018): what is hidden counts nowhere, and what is seen counts for it.

Out of a window with some of its inputs hidden comes W (x m) k^2 / sum(m) + b where anything is seen, 0 elsewhere, and what came out
is seen from then on. Where masks are constants, so are all ratios and all masks of the layers behind: a :class:`Folded` layer is an
ordinary convolution and a multiplication by a constant map, with the same numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2


class PartialConv(nn.Module):
    """A partial convolution, batch norm and a leaky ReLU; of one input, or of two that would be concatenated.

    A concatenation is split: W [a; b] = W_a a + W_b b, each part on its own 8-bit grid.

    Args:
        inputs: channels of each input.
        outputs: channels.
        kernel: k, odd.
        stride: of the convolution; its padding is k // 2, and counts as hidden.
        last: no batch norm and no leaky ReLU.
    """

    def __init__(self, inputs: tuple[int, ...], outputs: int, kernel: int = 3, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        self.inputs, self.kernel, self.stride, self.last = inputs, kernel, stride, last
        self.convs = nn.ModuleList([nn.Conv2d(i, outputs, kernel, stride, kernel // 2, bias=False) for i in inputs])
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.norm = nn.Identity() if last else nn.BatchNorm2d(outputs)

    def ratio(self, masks: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """k^2 / the seen share of each window (0 where nothing is seen) and the mask behind, N x 1 x h x w each."""
        ones = torch.ones(1, 1, self.kernel, self.kernel, device=masks[0].device)
        seen = sum(
            channels * F.conv2d(mask, ones, stride=self.stride, padding=self.kernel // 2)
            for channels, mask in zip(self.inputs, masks, strict=True)
        )
        assert isinstance(seen, Tensor)
        some = (seen > 0.5).float()
        return some * self.kernel**2 * sum(self.inputs) / seen.clamp_min(1.0), some

    def forward(self, inputs: tuple[Tensor, ...], masks: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Inputs that are 0 where their masks N x 1 x h x w are -> N x outputs, 0 where nothing was seen, and their mask."""
        ratio, some = self.ratio(masks)
        summed = sum(conv(x) for conv, x in zip(self.convs, inputs, strict=True))
        y = self.norm(summed * ratio + self.bias[:, None, None])
        return (y if self.last else F.leaky_relu(y, LEAK)) * some, some

    def folded(self, masks: tuple[Tensor, ...]) -> tuple[Folded, Tensor]:
        """This layer for these masks alone, and their mask behind."""
        ratio, some = self.ratio(masks)
        return Folded(self, ratio, some), some


class Folded(nn.Module):
    """A :class:`PartialConv` after training, for constant masks: batch norm in the weights, ratio and mask constant maps.

    Attributes:
        ratio, some: n x 1 x h x w; None where every number in it is 1.
    """

    ratio: Tensor | None
    some: Tensor | None

    @torch.no_grad()
    def __init__(self, layer: PartialConv, ratio: Tensor, some: Tensor) -> None:
        super().__init__()
        gain, shift = torch.ones_like(layer.bias), layer.bias.detach().clone()
        if isinstance(layer.norm, nn.BatchNorm2d):
            mean, variance = layer.norm.get_buffer("running_mean"), layer.norm.get_buffer("running_var")
            gain = layer.norm.weight / torch.sqrt(variance + layer.norm.eps)
            shift = layer.norm.bias + gain * (layer.bias - mean)
        self.last = layer.last
        self.convs = nn.ModuleList()
        for conv in layer.convs:
            assert isinstance(conv, nn.Conv2d)
            made = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)  # type: ignore[arg-type]
            made.weight.copy_(conv.weight * gain[:, None, None, None])
            self.convs.append(made)
        self.bias = nn.Parameter(shift[:, None, None].clone())
        self.register_buffer("ratio", None if bool((ratio == 1).all()) else ratio, persistent=False)
        self.register_buffer("some", None if bool((some == 1).all()) else some, persistent=False)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Inputs n x C x h x w, 0 where they are hidden -> n x outputs x h x w, 0 where nothing was seen."""
        y = self.convs[0](inputs[0])
        for conv, x in zip(self.convs[1:], inputs[1:], strict=True):
            y = y + conv(x)
        y = (y if self.ratio is None else y * self.ratio) + self.bias
        y = y if self.last else F.leaky_relu(y, LEAK)
        return y if self.some is None else y * self.some


class PartialUNet(nn.Module):
    """A U-Net of partial convolutions: pictures N x 3 x H x W in 0..1 and masks N x 1 x H x W -> rebuilt pictures in 0..1.

    Args:
        width: channels of the first level, doubled level by level up to four times.
        levels: halvings; H and W are multiples of 2^levels.
    """

    def __init__(self, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        channels = [3] + [width * min(4, 2**level) for level in range(levels)]
        self.down = nn.ModuleList(
            [
                PartialConv((i,), o, 5 if level == 0 else 3, 2)
                for level, (i, o) in enumerate(zip(channels[:-1], channels[1:], strict=True))
            ]
        )
        pairs = list(zip(channels[:-1], channels[1:], strict=True))[::-1]
        ups = [PartialConv((o, i), i if level < levels - 1 else width) for level, (i, o) in enumerate(pairs)]
        self.up = nn.ModuleList(ups)
        self.tail = PartialConv((width,), 3, last=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        kept = [(x * mask, mask)]
        for layer in self.down:
            y, m = layer((kept[-1][0],), (kept[-1][1],))
            kept.append((y, m))
        y, m = kept.pop()
        for layer in self.up:
            skip, seen = kept.pop()
            y, m = layer((_twice(y), skip), (_twice(m), seen))
        return torch.sigmoid(self.tail((y,), (m,))[0])

    def folded(self, masks: Tensor) -> FoldedUNet:
        """This network for the masks n x 1 x H x W alone."""
        return FoldedUNet(self, masks)


class FoldedUNet(nn.Module):
    """A :class:`PartialUNet` after training, for constant masks: pictures n x 3 x H x W, one a mask, hidden already -> rebuilt."""

    @torch.no_grad()
    def __init__(self, network: PartialUNet, masks: Tensor) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        seen = [masks]
        for layer in network.down:
            assert isinstance(layer, PartialConv)
            made, behind = layer.folded((seen[-1],))
            self.down.append(made)
            seen.append(behind)
        m = seen.pop()
        for layer in network.up:
            assert isinstance(layer, PartialConv)
            made, m = layer.folded((_twice(m), seen.pop()))
            self.up.append(made)
        self.tail = network.tail.folded((m,))[0]

    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        for layer in self.down:
            kept.append(layer((kept[-1],)))
        y = kept.pop()
        for layer in self.up:
            y = layer((_twice(y), kept.pop()))
        return torch.sigmoid(self.tail((y,)))


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
