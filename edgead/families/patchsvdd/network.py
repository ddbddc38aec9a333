"""Patch SVDD (Yi & Yoon 2020): two learned encoders of patches, of 32 and of 64 px, and how far each patch is from good ones.

The paper evaluates patch by patch. Here all patches of a picture are evaluated at once, with the same numbers: convolutions
without padding over the whole picture, and the encoder of 64 px, which reads the four quarters of its patch, as a 2 x 2
convolution dilated by half a patch over what the encoder of 32 px says everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.models.detector import Detector
from edgead.models.parts.bank import Bank
from edgead.models.parts.spread import BoxUp

PATCH_PX = 32
"""Side of the smaller patches; the larger ones have twice that."""
STEP_PX = 4
"""Between two smaller patches that are compared; 16 px between the larger ones."""
BIG_STEP_PX = 16
LEAK = 0.1

ENCODERS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "lite": ((32, 4, 2), (64, 3, 2), (96, 3, 1), (96, 3, 1), (64, 3, 1)),
    "paper": ((32, 3, 2), (64, 3, 1), (128, 3, 1), (128, 3, 1), (64, 3, 1), (32, 3, 1), (32, 3, 1), (64, 3, 1)),
}
"""(channels, kernel, stride) of each convolution. One number of the last is a patch: of 32 px every 4 px, or, in the paper's, of
31 px every 2 px."""


class Encoder(nn.Module):
    """pixels -> what each patch of 32 px is like, and each of 64 px.

    Args:
        kind: of `ENCODERS`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        plan = ENCODERS[kind]
        before = (3, *(channels for channels, _, _ in plan))
        self.small = nn.ModuleList([nn.Conv2d(b, c, k, s) for b, (c, k, s) in zip(before, plan, strict=False)])
        self.channels = plan[-1][0]
        self.stride = 1
        for _, _, stride in plan:
            self.stride *= stride
        self.big = nn.Conv2d(self.channels, 128, 2, dilation=PATCH_PX // self.stride)
        self.mix = nn.Conv2d(128, self.channels, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 N x 3 x H x W, 0 to 255 -> N x C x h x w each, one for every `stride` px; of the larger patches there are
        fewer."""
        small = self.of_small(pixels)
        return small, self.of_big(small, 1)

    def of_small(self, pixels: Tensor) -> Tensor:
        x = (pixels - 127.5) / 127.5
        for conv in self.small[:-1]:
            x = F.leaky_relu(conv(x), LEAK)
        return torch.tanh(self.small[-1](x))

    def of_big(self, small: Tensor, every: int) -> Tensor:
        """Of every so many places down and across."""
        x = F.conv2d(small, self.big.weight, self.big.bias, every, dilation=self.big.dilation)
        return torch.tanh(self.mix(F.leaky_relu(x, LEAK)))


class PatchSvdd(Detector):
    """The anomaly of a pixel is the product of two means: over the smaller patches that hold it, and over the larger ones, of
    their distance to the nearest good patch. The score is the largest one, or the mean.

    Config keys: ``encoder`` of `ENCODERS`, ``rows`` and ``big_rows`` of the banks of good patches, ``score`` ("max", "mean").
    """

    family: ClassVar[str] = "patchsvdd"

    def __init__(self, config: Mapping[str, Any], image_size: tuple[int, int]) -> None:
        super().__init__(config, image_size)
        if min(image_size) < 2 * PATCH_PX:
            raise BadInput(
                f"Patch SVDD compares patches of {2 * PATCH_PX} px: {image_size[1]} x {image_size[0]} px are too small",
                hint=f"choose a --size of {2 * PATCH_PX} or more",
            )
        self.encoder = Encoder(str(config["encoder"]))
        self.bank = Bank(int(config["rows"]), self.encoder.channels)
        self.big_bank = Bank(int(config["big_rows"]), self.encoder.channels)
        grids = [[(px - patch) // step + 1 for px in image_size] for patch, step in _PATCHES]
        self.spread, self.big_spread = (
            BoxUp((grid[0], grid[1]), image_size, patch, step) for grid, (patch, step) in zip(grids, _PATCHES, strict=True)
        )

    @classmethod
    def build(cls, config: Mapping[str, Any], image_size: tuple[int, int]) -> PatchSvdd:
        return cls(config, image_size)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        small, big = self.patches(pixels)
        anomaly_map = self.spread(self.bank(small)) * self.big_spread(self.big_bank(big))
        return anomaly_map, anomaly_map.mean((1, 2)) if self.config["score"] == "mean" else anomaly_map.amax((1, 2))

    def patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Those that are compared: N x C x h x w each."""
        small = self.encoder.of_small(pixels)
        big = self.encoder.of_big(small, BIG_STEP_PX // self.encoder.stride)
        every = STEP_PX // self.encoder.stride
        if every > 1:
            small = small[:, :, ::every, ::every]
        # patches of 31 px have one more place at the end than patches of 32 px
        rows, columns = ((px - PATCH_PX) // STEP_PX + 1 for px in self.image_size)
        return small[:, :, :rows, :columns], big

    def seen(self, pixels: Tensor) -> Tensor:
        return self.patches(pixels)[0]


_PATCHES = ((PATCH_PX, STEP_PX), (2 * PATCH_PX, BIG_STEP_PX))
