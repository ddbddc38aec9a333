"""Frozen backbones: EfficientNet-Lite0 (offline default), 1 and 2, ResNet-18, WideResNet-50-2, DINOv2 ViT-S/14 and ViT-B/14.

Every network here is inference-only: batch normalisation is folded into its convolution when the weights are read, and LayerScale
into its linear layer, so that the exported graph holds nothing but what must be computed. Only blocks up to the deepest wanted
layer exist.

All take *pixels*: float32, N x 3 x H x W, RGB, 0 to 255, and normalise themselves as their training did.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.models.backbones import efficientnet, resnet, vit
from edgead.models.backbones.base import TORCHVISION_MEAN, TORCHVISION_STD, Backbone
from edgead.models.backbones.files import read_state, weights_of
from edgead.published import DEFAULT, published

__all__ = ["TORCHVISION_MEAN", "TORCHVISION_STD", "Backbone", "build_backbone", "load_backbone", "read_state"]


def build_backbone(name: str, layers: Sequence[str] | None = None) -> Backbone:
    """The architecture without weights.

    Raises:
        BadInput: unknown backbone or layer.
    """
    chosen = tuple(layers or published(name).layers)
    if name in efficientnet.PLANS:
        return efficientnet.EfficientNetLite(name, chosen)
    return resnet.ResNet(name, chosen) if name in resnet.PLANS else vit.DinoV2(name, chosen)


def load_backbone(name: str = DEFAULT, layers: Sequence[str] | None = None, weights: Path | None = None) -> Backbone:
    """The frozen backbone with its published weights.

    Args:
        name: of :data:`edgead.published.PUBLISHED`.
        layers: feature layers; None takes the usual ones.
        weights: a weight file (``.pth`` or ``.safetensors``); None takes what lies on this machine, or fetches it when its
            publisher tells a checksum (:func:`edgead.models.backbones.files.weights_of`).

    Raises:
        BadInput: the file is missing, damaged, or of another network.
        MissingExtra: the package with the weights is not installed.
        WeightsMissing: they are not on this machine and cannot be fetched.
    """
    backbone = build_backbone(name, layers)
    backbone.load_published(read_state(weights_of(published(name)) if weights is None else weights))
    return backbone.freeze()
