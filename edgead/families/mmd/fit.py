"""Fit an MMD witness: patches of good pictures, some drawn at random, since their number is to tell how dense they lie."""

from __future__ import annotations

from typing import Any

import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData, on_cpu
from edgead.families.mmd.network import MmdWitness
from edgead.families.mmd.options import MmdOptions
from edgead.models.patches import PatchFeatures
from edgead.models.rows import collect_rows, load_features


def fit(data: FitData, options: MmdOptions) -> MmdWitness:
    """An MMD witness of good images. It tells the stages "features" and "density".

    Raises:
        BadInput: a device that is not the CPU, pictures with one patch in all, or weights that do not load.
    """
    on_cpu(data, "MMD")
    features = load_features(options.backbone, options.layers, options.weights, options.features)
    generator = torch.Generator().manual_seed(data.seed)
    rows, _ = collect_rows(features, data.images, generator, options.max_rows, data.report)
    if len(rows) < 2:
        raise BadInput("one patch in all has no density", hint="give more good pictures, or a larger --size")
    chosen = rows[torch.randperm(len(rows), generator=generator)[: options.rows]]
    detector = MmdWitness(config_of(features, options, len(chosen)), data.size, features.backbone)
    data.report("density", 0.0)
    detector.learn(chosen, options.width)
    data.report("density", 1.0)
    detector.requires_grad_(False)
    return detector.eval()


def config_of(features: PatchFeatures, options: MmdOptions, rows: int) -> dict[str, Any]:
    """The detector's configuration."""
    return {
        "backbone": features.backbone.name, "layers": list(features.backbone.layers), "features": features.recipe,
        "channels": features.channels, "rows": rows, "kernel": options.kernel, "score": options.score_by,
    }  # fmt: skip
