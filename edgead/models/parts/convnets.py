"""Networks that rebuild a picture. All keep to what can be quantised: no transposed convolution (nearest, then 3 x 3), and a skip
connection is a second convolution whose answer is added, in place of a concatenation.

A network that rebuilds has, beside its modules:

- ``channels`` and ``stride`` of its code,
- ``encode(x, visible) -> (code, skips)``: x float32 B x 3 x H x W from 0 to 1; `visible` float32, of as many pictures or of one,
  1 x H x W each, 1 where nothing is hidden, or None; the code is B x channels x H / stride x W / stride,
- ``decode(code, skips) -> y``, float32 B x 3 x H x W from 0 to 1.

Most do not ask what is visible. `norm` puts a batch normalisation behind each convolution while it is trained;
:func:`fold_norms` takes it into the convolutions afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LEAK = 0.2

Layer = tuple[int, int, int]
"""Channels, kernel and stride of a convolution."""

Skips = list[Tensor]


class Block(nn.Module):
    """A convolution that keeps the size (or halves it, stride 2 with kernel 4 or 3), perhaps a batch norm, and a leaky ReLU.

    Args:
        slope: of the leaky ReLU below zero; 0: a ReLU, 1: none.
    """

    norm: nn.Module

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        norm: bool = False,
        slope: float = LEAK,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2 * dilation, dilation)
        self.norm = nn.BatchNorm2d(c_out) if norm else nn.Identity()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.active(self.norm(self.conv(x)))

    def active(self, x: Tensor) -> Tensor:
        if self.slope == 1.0:
            return x
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


class Joined(Block):
    """A block on two inputs, as on their concatenation: each has a convolution of its own, and their answers are added."""

    def __init__(self, c_in: int, c_skip: int, c_out: int, kernel: int = 3, *, norm: bool = False, slope: float = LEAK) -> None:
        super().__init__(c_in, c_out, kernel, norm=norm, slope=slope)
        self.skip = nn.Conv2d(c_skip, c_out, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        assert skip is not None
        return self.active(self.norm(self.conv(x) + self.skip(skip)))


def fold_norms(network: nn.Module) -> None:
    """Take every block's batch norm, with the statistics of training, into its convolutions, in place."""
    for block in [module for module in network.modules() if isinstance(module, Block)]:
        if isinstance(norm := block.norm, nn.BatchNorm2d):
            norm.eval()
            assert norm.running_var is not None
            if isinstance(block, Joined):
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                with torch.no_grad():
                    block.skip.weight.mul_(scale[:, None, None, None])
            block.conv.eval()
            block.conv = fuse_conv_bn_eval(block.conv, norm)
            block.norm = nn.Identity()


def twice(x: Tensor) -> Tensor:
    """Each pixel as 2 x 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def to_picture(last: nn.Conv2d, x: Tensor) -> Tensor:
    """The last convolution, and its answer from 0 to 1."""
    return torch.sigmoid(last(x))


class Autoencoder(nn.Module):
    """Strided convolutions, and their mirror image.

    Args:
        image_size: (height, width), multiples of its stride.
        base: channels of the first of four levels (base, 2 base, 4 base, 4 base); each halves the picture.
        layers: in place of those.
        norm: batch norms.
    """

    def __init__(self, image_size: tuple[int, int], base: int = 16, layers: Sequence[Layer] = (), norm: bool = False) -> None:
        super().__init__()
        wanted = layers or [(base * times, 4, 2) for times in (1, 2, 4, 4)]
        self.channels, self.stride = wanted[-1][0], 2 ** sum(stride == 2 for _, _, stride in wanted)
        self.encoder, self.decoder = nn.Sequential(), nn.ModuleList()
        before = [3, *(channels for channels, _, _ in wanted)]
        for c_in, (c_out, kernel, stride) in zip(before, wanted, strict=False):
            self.encoder.append(Block(c_in, c_out, kernel, stride, norm=norm))
        for c_back, (c_out, _, _) in reversed(list(zip([wanted[0][0], *before[1:]], wanted, strict=False))):
            self.decoder.append(Block(c_out, c_back, norm=norm))
        self.doubles = [stride == 2 for _, _, stride in reversed(wanted)]
        self.last = nn.Conv2d(wanted[0][0], 3, 3, padding=1)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Skips]:
        return self.encoder(2.0 * x - 1.0), []

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        for block, doubles in zip(self.decoder, self.doubles, strict=True):
            code = block(twice(code) if doubles else code)
        return to_picture(self.last, code)


class Bergmann(Autoencoder):
    """The autoencoder of Bergmann et al. 2018, whose last layer (8 x 8, d channels) is the neck ``vector``: the code is 8 x 8
    cells at 128 px. From 256 px on there is one more strided layer in front, as in their study of MVTec AD."""

    def __init__(self, image_size: tuple[int, int], norm: bool = False) -> None:
        front = [(32, 4, 2)] * (2 if min(image_size) < 256 else 3)
        super().__init__(
            image_size, layers=[*front, (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2), (64, 3, 1), (32, 3, 1)], norm=norm
        )


class UNet(nn.Module):
    """Two 3 x 3 convolutions a level, down by strides and up by the nearest pixel, with skip connections.

    Args:
        image_size: (height, width), multiples of its stride.
        base: channels of the first level; each has twice those before, up to 8 times.
        levels: that halve the picture, below the first one.
        stem: stride of the first convolution: 2 does everything at half the resolution, for a quarter of the work.
        skips: False: none, so that all goes through the code.
        norm: batch norms.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        base: int = 16,
        levels: int = 4,
        stem: int = 1,
        skips: bool = True,
        norm: bool = False,
    ) -> None:
        super().__init__()
        widths = [min(base * 2**level, 8 * base) for level in range(levels + 1)]
        self.channels, self.stride, self.stem, self.skips = widths[-1], stem * 2**levels, stem, skips
        first = Block(3, base, 4 if stem == 2 else 3, stem, norm=norm, slope=0.0)
        self.down = nn.ModuleList([nn.Sequential(first, Block(base, base, norm=norm, slope=0.0))])
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for c_in, c_out in itertools.pairwise(widths):
            down = (Block(c_in, c_out, 4, 2, norm=norm, slope=0.0), Block(c_out, c_out, norm=norm, slope=0.0))
            self.down.append(nn.Sequential(*down))
        for c_out, c_in in reversed(list(itertools.pairwise(widths))):
            self.up.append(Block(c_in, c_out, norm=norm, slope=0.0))
            joined = Joined(c_out, c_out, c_out, norm=norm, slope=0.0) if skips else Block(c_out, c_out, norm=norm, slope=0.0)
            self.join.append(joined)
        self.last = nn.Conv2d(base, 3, 3, padding=1)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Skips]:
        x, skips = 2.0 * x - 1.0, []
        for level in self.down:
            x = level(x)
            skips.append(x)
        return x, skips[:-1] if self.skips else []

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            code = up(twice(code))
            code = join(code, skips[-1 - i]) if self.skips else join(code)
        return to_picture(self.last, twice(code) if self.stem == 2 else code)


class Residual(nn.Module):
    """7 x 7, strided convolutions, residual blocks with dilation 2, and back (SCADN's generator, after EdgeConnect).

    With batch norms in place of its instance norms, which would need the picture's statistics at run time.

    Args:
        image_size: (height, width), multiples of 8.
        base: channels of the first layer; the code has 8 times as many.
        blocks: residual ones.
        norm: batch norms.
    """

    def __init__(self, image_size: tuple[int, int], base: int = 16, blocks: int = 4, norm: bool = False) -> None:
        super().__init__()
        self.channels, self.stride = 8 * base, 8
        widths = [base, 2 * base, 4 * base, 8 * base]
        down = [Block(c_in, c_out, 4, 2, norm=norm, slope=0.0) for c_in, c_out in itertools.pairwise(widths)]
        self.encoder = nn.Sequential(Block(3, base, 7, norm=norm, slope=0.0), *down)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Block(8 * base, 8 * base, norm=norm, slope=0.0, dilation=2), Block(8 * base, 8 * base, norm=norm, slope=1.0)
            )
            for _ in range(blocks)
        )
        self.up = nn.ModuleList(
            Block(c_in, c_out, norm=norm, slope=0.0) for c_out, c_in in reversed(list(itertools.pairwise(widths)))
        )
        self.last = nn.Conv2d(base, 3, 7, padding=3)

    def encode(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Skips]:
        return self.encoder(2.0 * x - 1.0), []

    def decode(self, code: Tensor, skips: Skips) -> Tensor:
        for block in self.blocks:
            code = code + block(code)
        for up in self.up:
            code = up(twice(code))
        return to_picture(self.last, code)


class Critic(nn.Module):
    """PatchGAN: N x 3 x H x W from 0 to 1 -> how real each cell looks, N x 1 x h x w. Spectral norms bound it (training only).

    Args:
        base: channels of the first of four layers (base, 2 base, 4 base, 8 base).
        code: channels of a code at a sixteenth of the picture that is judged along with it; 0: none.
    """

    def __init__(self, base: int = 64, code: int = 0) -> None:
        super().__init__()
        spectral = torch.nn.utils.parametrizations.spectral_norm
        widths = [3, base, 2 * base, 4 * base, 8 * base]
        strides = (2, 2, 2, 2 if code else 1)
        self.body = nn.ModuleList(
            spectral(nn.Conv2d(c_in, c_out, 4 if stride == 2 else 3, stride, 1))
            for c_in, c_out, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.code = spectral(nn.Conv2d(code, 8 * base, 1)) if code else None
        self.last = spectral(nn.Conv2d(8 * base, 1, 3, 1, 1))

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        x = 2.0 * x - 1.0
        for i, conv in enumerate(self.body):
            x = conv(x)
            if i + 1 == len(self.body) and self.code is not None and code is not None:
                x = x + self.code(code)
            x = F.leaky_relu(x, LEAK)
        found: Tensor = self.last(x)
        return found
