"""Patch description networks (PDN) of EfficientAD (Batzner, Heckler, König 2024, tables 6 and 7).

Each output vector describes one 33 x 33 pixel patch; outputs lie on a grid of 4 pixels. Without padding a 256 x 256 picture
gives 56 x 56 vectors, and output j is centred on pixel 4 j + 16.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput

TEACHER_CHANNELS = 384
STRIDE = 4


def build_pdn(size: str, out_channels: int = TEACHER_CHANNELS) -> nn.Sequential:
    """PDN-S (4 convolutions, 2.7 M parameters) or PDN-M (6 convolutions, 8.0 M parameters).

    Args:
        size: ``"small"`` or ``"medium"``.
        out_channels: C_out; 384 for a teacher, 768 for a student that also imitates the autoencoder.

    Returns:
        A network from N x 3 x H x W (ImageNet-normalised RGB) to N x C_out x (H/4 - 8) x (W/4 - 8). Its parameter names are
        conv1, conv2, ... as in anomalib's checkpoints.
    """
    if size == "small":
        plan: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(3, 128, 4)), ("relu1", nn.ReLU()), ("pool1", nn.AvgPool2d(2, 2)),
            ("conv2", nn.Conv2d(128, 256, 4)), ("relu2", nn.ReLU()), ("pool2", nn.AvgPool2d(2, 2)),
            ("conv3", nn.Conv2d(256, 256, 3)), ("relu3", nn.ReLU()), ("conv4", nn.Conv2d(256, out_channels, 4)),
        ]  # fmt: skip
    elif size == "medium":
        plan = [
            ("conv1", nn.Conv2d(3, 256, 4)), ("relu1", nn.ReLU()), ("pool1", nn.AvgPool2d(2, 2)),
            ("conv2", nn.Conv2d(256, 512, 4)), ("relu2", nn.ReLU()), ("pool2", nn.AvgPool2d(2, 2)),
            ("conv3", nn.Conv2d(512, 512, 1)), ("relu3", nn.ReLU()),
            ("conv4", nn.Conv2d(512, 512, 3)), ("relu4", nn.ReLU()),
            ("conv5", nn.Conv2d(512, out_channels, 4)), ("relu5", nn.ReLU()),
            ("conv6", nn.Conv2d(out_channels, out_channels, 1)),
        ]  # fmt: skip
    else:
        raise BadInput(f"unknown PDN size {size!r}", hint="choose small or medium")
    return nn.Sequential(OrderedDict(plan))


def pad_map(anomaly_map: Tensor, padding: int = 4) -> Tensor:
    """Surround an unpadded PDN's map by `padding` zero cells, so that it covers the whole picture (56 -> 64 at 256 px)."""
    return F.pad(anomaly_map, (padding,) * 4)
