"""The patch features of many images as one table, within a stated limit of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.backbones import load_backbone
from edgead.models.learning.progress import Progress, silent
from edgead.models.patches import PatchFeatures, build_features
from edgead.models.usual import MAX_ROWS, TRAINED
from edgead.types import Image

MAX_BYTES = 1 << 30
"""Nor may the table be larger than this, whatever the backbone's channels (175,000 rows of WideResNet-50-2)."""

_BATCH = 8


def load_features(backbone: str, layers: Sequence[str] | None, weights: Path | None, kind: str = TRAINED) -> PatchFeatures:
    """Frozen patch features of a kind of `FEATURES` that needs no arguments, or of the one kind that the backbone takes, with its
    published weights (errors as :func:`edgead.models.backbones.load_backbone`, :func:`edgead.models.patches.build_features`)."""
    loaded = load_backbone(backbone, layers, weights)
    wanted = {"kind": loaded.patch_features or kind}
    features = build_features({"backbone": loaded.name, "layers": loaded.layers, "features": wanted}, loaded)
    features.eval()
    return features


def to_pixels(images: Sequence[Image]) -> Tensor:
    """H x W x 3 uint8 BGR each -> float32 N x 3 x H x W RGB 0..255."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).flip(1).float()


@torch.no_grad()
def collect_rows(
    features: PatchFeatures,
    images: Sequence[Image],
    generator: torch.Generator,
    max_rows: int = MAX_ROWS,
    progress: Progress = silent,
) -> tuple[Tensor, int]:
    """The features of all patches of all images.

    Args:
        features: frozen.
        images: at model size, H x W x 3 uint8 BGR.
        generator: picks the rows when there are too many.
        max_rows: at most so many rows are kept (and at most `MAX_BYTES`).
        progress: told the stage "features".

    Returns:
        float32 rows x C in image order, allocated once; and the number of patches there were before subsampling.

    Raises:
        BadInput: the images are so small that there is no patch grid.
    """
    cells = features(to_pixels(images[:1])).shape[2:].numel()
    if cells < 1:
        raise BadInput("the images are too small for this backbone", hint="choose a larger --size")
    limit = min(max_rows, MAX_BYTES // (4 * features.channels))
    per_image = min(cells, max(1, limit // len(images)))
    table = torch.empty(per_image * len(images), features.channels)
    filled = 0
    for start in range(0, len(images), _BATCH):
        for one in features(to_pixels(images[start : start + _BATCH])).flatten(2).transpose(1, 2):
            kept = one if per_image == cells else one[torch.randperm(cells, generator=generator)[:per_image]]
            table[filled : filled + per_image] = kept
            filled += per_image
        progress("features", min(1.0, (start + _BATCH) / len(images)))
    return table, cells * len(images)
