"""Fit PatchCore (Roth et al. 2022): collect patch features of good images, keep a greedy coreset of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgead.errors import BadInput
from edgead.families.patchcore.coreset import PROJECTED, greedy_coreset, project
from edgead.families.patchcore.network import PatchCore
from edgead.models.learning.progress import Progress, silent
from edgead.models.patches import TRAINED, TokenFeatures
from edgead.models.rows import MAX_ROWS, collect_rows, load_features
from edgead.types import Image

MIN_ROWS = 512
"""A coreset given as a share is not made smaller than this: with few images it costs nothing and accuracy much."""

TOKEN_SCORE = {"squared": 1, "top": 0.01}
"""How a model on the tokens of a vision transformer tells its score: AnomalyDINO's mean of the worst hundredth of the patches, by
1 - cosine (times 2) to the nearest row; the paper's re-weighting is for distances of other lengths."""


@dataclass(frozen=True, slots=True)
class PatchCoreOptions:
    """How to fit.

    Attributes:
        backbone, layers, weights: see :func:`edgead.models.backbones.load_backbone`.
        coreset: up to 1.0 the share of all patches that is kept (at least `MIN_ROWS`); above, or the whole number 1, the number
            of rows.
        neighbours: b of the score's re-weighting; 1 turns it off. Not for the tokens of a vision transformer (`TOKEN_SCORE`).
        seed: of projection, first row and subsampling.
        features: of :data:`edgead.models.patches.FEATURES`; "paper" before 30 November 2026, "quiet_border" for hours then.
        projected: dimensions in which the coreset is chosen (:func:`edgead.families.patchcore.coreset.project`); 64 before 30
        November 2026.
        max_rows: candidates for the coreset (see :data:`edgead.models.rows.MAX_ROWS`).
    """

    backbone: str = "efficientnet_lite0"
    layers: tuple[str, ...] | None = None
    weights: Path | None = None
    coreset: float | int = 0.01
    neighbours: int = 9
    seed: int = 0
    max_rows: int = MAX_ROWS
    features: str = TRAINED
    projected: int = PROJECTED


def coreset_rows(coreset: float | int, patches: int) -> int:
    """How many rows `coreset` asks for when there are so many patches: 1.0 is all of them, 1 is one.

    Raises:
        BadInput: not above 0, or a number of rows that is not whole.
    """
    if not coreset > 0 or (coreset > 1 and coreset != int(coreset)):
        raise BadInput(f"a coreset of {coreset:g} is not usable", hint="give a share such as 0.01, or a whole number of rows")
    if coreset > 1 or isinstance(coreset, int):
        return int(coreset)
    return max(MIN_ROWS, round(coreset * patches))


def fit_patchcore(
    images: Sequence[Image], image_size: tuple[int, int], options: PatchCoreOptions, progress: Progress = silent
) -> PatchCore:
    """A PatchCore of these good images.

    Args:
        images: H x W x 3 uint8 BGR at model size.
        image_size: (H, W).
        options: see :class:`PatchCoreOptions`.
        progress: told the stages "features" and "coreset".

    Raises:
        BadInput: unusable options, or weights that do not load.
    """
    coreset_rows(options.coreset, 1)
    features = load_features(options.backbone, options.layers, options.weights, options.features)
    generator = torch.Generator().manual_seed(options.seed)
    rows, patches = collect_rows(features, images, generator, options.max_rows, progress)
    points = project(rows, generator, options.projected)
    start = int(torch.randint(len(points), (1,), generator=generator))
    count = coreset_rows(options.coreset, patches)
    chosen = greedy_coreset(points, count, start, lambda done: progress("coreset", done))
    if features.kind == TokenFeatures.kind:
        return PatchCore.from_bank(features, rows[chosen], 1, image_size, {"nested": True, **TOKEN_SCORE})
    return PatchCore.from_bank(features, rows[chosen], options.neighbours, image_size, {"nested": True})
