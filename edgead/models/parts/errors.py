"""How far a picture is from one that was rebuilt: float32 N x C x H x W each, 0 to 1 -> an error of each pixel, N x 1 x H x W.

They stay float in INT8 (their convolutions have one channel each, `depthwise or grouped` or `fewer than 8 channels` in the
report),
and are written so that engines agree: no small epsilon is added, and no ratio close to 1 is taken from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.parts.structure import Structure

C1, C2 = 0.01**2, 0.03**2
"""Of SSIM, for pictures from 0 to 1."""

WINDOW, SIGMA = 11, 1.5
"""Side, px, and deviation of SSIM's Gaussian."""

GRADIENT_C = 0.0026
"""c of the gradient magnitude similarity (Xue et al. 2014: 170 for pictures from 0 to 255)."""

SCALES = 4
"""Of the multi-scale gradient magnitude similarity, each half of the one before (RIAD)."""


class L1(nn.Module):
    """|x - y|, mean of the channels."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean(1, keepdim=True)


class L2(nn.Module):
    """(x - y)^2, mean of the channels."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean(1, keepdim=True)


class Ssim(nn.Module):
    """(1 - S) / 2 with the structural similarity S (Wang et al. 2004), mean of the channels.

    S = [1 - (mx - my)^2 / (mx^2 + my^2 + C1)] [1 - var(x - y) / (var x + var y + C2)] is the usual product, without its two
    ratios close to 1. So 1 - S = a + b - a b with the two fractions a and b. Variances are taken around the picture's own mean,
    as differences of small numbers.
    """

    gaussian: Tensor

    def __init__(self) -> None:
        super().__init__()
        steps = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        weights = torch.exp(-0.5 * (steps / SIGMA) ** 2)
        self.register_buffer("gaussian", (weights / weights.sum()).float(), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        centre = x.mean((2, 3), keepdim=True)
        x, y = x - centre, y - centre
        blurred = self.blur(torch.cat([x, y, x.square() + y.square(), (x - y).square()], 1))
        mean_x, mean_y, squares, apart = blurred.chunk(4, 1)
        difference = (mean_x - mean_y).square()
        a = difference / ((mean_x + centre).square() + (mean_y + centre).square() + C1)
        spread = (squares - mean_x.square() - mean_y.square()).clamp_min(0.0)
        b = (apart - difference).clamp_min(0.0) / (spread + C2)
        return 0.5 * (a + b - a * b).mean(1, keepdim=True)

    def blur(self, x: Tensor) -> Tensor:
        """Each channel by the Gaussian, its border mirrored."""
        channels, half = x.shape[1], WINDOW // 2
        x = F.pad(x, (half, half, half, half), mode="reflect")
        rows = self.gaussian.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        return F.conv2d(F.conv2d(x, rows, groups=channels), rows.transpose(2, 3), groups=channels)


class Msgms(nn.Module):
    """1 - gradient magnitude similarity of the grey pictures, mean of :data:`SCALES` scales (Zavrtanik et al. 2021)."""

    prewitt: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0.0, -1.0]] * 3) / 3.0
        self.register_buffer("prewitt", torch.stack([across, across.T])[:, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        size = x.shape[2:]
        x, y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        found = []
        for scale in range(SCALES):
            if scale:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            one = self.one_scale(x, y)
            found.append(F.interpolate(one, size, mode="bilinear", align_corners=False) if scale else one)
        return sum(found[1:], found[0]) / SCALES

    def one_scale(self, x: Tensor, y: Tensor) -> Tensor:
        """(gx - gy)^2 / (gx^2 + gy^2 + c) with the gradients' magnitudes."""
        g_x, g_y = self.gradient(x), self.gradient(y)
        return (g_x - g_y).square() / (g_x.square() + g_y.square() + GRADIENT_C)

    def gradient(self, grey: Tensor) -> Tensor:
        both = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.prewitt)
        return (both.square().sum(1, keepdim=True) + 1e-6).sqrt()  # without it the square root has no gradient in flat places


ERRORS: Mapping[str, type[nn.Module]] = {"l1": L1, "l2": L2, "ssim": Ssim, "msgms": Msgms, "structure": Structure}
"""By name. One that is added here can be trained and told by (options `loss` and `error`)."""


class WeightedError(nn.Module):
    """The sum of errors by their weights.

    Args:
        weights: of :data:`ERRORS`, by name; at least one.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.errors = nn.ModuleDict({name: ERRORS[name]() for name in weights})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(())
        for name, error in self.errors.items():
            total = total + self.weights[name] * error(x, y)
        return total


class Smooth(nn.Module):
    """A mean of k x k pixels around each, of those that are there; k = 1: as it is. N x 1 x H x W."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, error: Tensor) -> Tensor:
        if self.k == 1:
            return error
        half = self.k // 2
        tall = F.avg_pool2d(error, (self.k, 1), 1, (half, 0), count_include_pad=False)
        return F.avg_pool2d(tall, (1, self.k), 1, (0, half), count_include_pad=False)


def odd_side(px: float, most: int) -> int:
    """The odd number of pixels next to `px`, at least 1 and at most `most`."""
    nearest = max(1, 2 * math.floor(px / 2) + 1)
    return min(nearest, most - 1 + most % 2)
