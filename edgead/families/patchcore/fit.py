"""Fit PatchCore (Roth et al. 2022): collect patch features of good images, keep a greedy coreset of them."""

from __future__ import annotations

import torch

from edgead.families.contract import FitData, on_cpu
from edgead.families.patchcore.coreset import greedy_coreset, project
from edgead.families.patchcore.network import PatchCore
from edgead.families.patchcore.options import PatchCoreOptions, coreset_rows
from edgead.models.patches import TokenFeatures
from edgead.models.rows import collect_rows, load_features

TOKEN_SCORE = {"squared": 1, "top": 0.01}
"""How a model on the tokens of a vision transformer tells its score: AnomalyDINO's mean of the worst hundredth of the patches, by
1 - cosine (times 2) to the nearest row; the paper's re-weighting is for distances of other lengths."""


def fit(data: FitData, options: PatchCoreOptions) -> PatchCore:
    """A PatchCore of good images. It tells the stages "features" and "coreset".

    Raises:
        BadInput: a device that is not the CPU, or weights that do not load.
    """
    on_cpu(data, "PatchCore")
    features = load_features(options.backbone, options.layers, options.weights, options.features)
    generator = torch.Generator().manual_seed(data.seed)
    rows, patches = collect_rows(features, data.images, generator, options.max_rows, data.report)
    points = project(rows, generator, options.projected)
    start = int(torch.randint(len(points), (1,), generator=generator))
    count = coreset_rows(options.coreset, patches)
    chosen = greedy_coreset(points, count, start, lambda done: data.report("coreset", done))
    if features.kind == TokenFeatures.kind:
        return PatchCore.from_bank(features, rows[chosen], 1, data.size, {"nested": True, **TOKEN_SCORE})
    return PatchCore.from_bank(features, rows[chosen], options.neighbours, data.size, {"nested": True})
