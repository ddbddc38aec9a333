"""Fit a FastFlow: features of good pictures once, then a flow of each layer's.

Loss: the mean over places of (|z|^2 / 2 - log |det dz/dx|) / C, and over layers. Good pictures that it does not learn from say
which state stays.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.fastflow.network import FastFlow, Standard
from edgead.families.fastflow.options import FastFlowOptions
from edgead.models.learning.steps import run, split
from edgead.models.patches import PatchFeatures
from edgead.models.rows import load_features, to_pixels

KIND = "paper"
"""Of the patch features: averaged over 3 x 3 cells."""

_BATCH = 8
MOST_BYTES = 2 << 30
"""Of the features that are kept while it is trained; of larger sets some pictures are left out, by the seed."""


def fit(data: FitData, options: FastFlowOptions) -> FastFlow:
    """A FastFlow of good images. It tells the stages "features" and "training".

    Raises:
        BadInput: fewer than two pictures, or weights that do not load.
    """
    if len(data.images) < 2:
        raise BadInput("a FastFlow stops by a good picture that it does not learn from", hint="give at least two good pictures")
    features = load_features(options.backbone, options.layers, options.weights, KIND)
    generator = torch.Generator().manual_seed(data.seed)
    detector = FastFlow(config_of(features, options), data.size, features.backbone, generator).to(data.device)
    _train(detector, collected(detector, data), data, options, generator)
    detector.to("cpu").requires_grad_(False)
    return detector.eval()


def config_of(features: PatchFeatures, options: FastFlowOptions) -> dict[str, Any]:
    """The detector's configuration."""
    return {
        "backbone": features.backbone.name, "layers": list(features.backbone.layers), "features": features.recipe,
        "kernels": [1 if i % 2 else 3 for i in range(options.flow_steps)], "ratio": options.ratio, "score": options.score_by,
    }  # fmt: skip


@torch.no_grad()
def collected(detector: FastFlow, data: FitData) -> list[Tensor]:
    """Features of all pictures, or of as many as `MOST_BYTES` hold: N x C_l x h x w for each layer."""
    pooled = detector.features.pooled
    most = max(2, MOST_BYTES // sum(4 * m.numel() for m in pooled(to_pixels(data.images[:1]).to(data.device))))
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(data.seed))
    kept, maps = sorted(order[:most].tolist()), []
    for start in range(0, len(kept), _BATCH):
        data.report("features", start / len(kept))
        maps.append(pooled(to_pixels([data.images[i] for i in kept[start : start + _BATCH]]).to(data.device)))
    data.report("features", 1.0)
    return [torch.cat(layer) for layer in zip(*maps, strict=True)]


def _train(detector: FastFlow, maps: list[Tensor], data: FitData, options: FastFlowOptions, generator: torch.Generator) -> None:
    learned, held = split(len(maps[0]), data.seed)
    places = torch.tensor(learned)
    for norm, layer in zip(detector.norms, maps, strict=True):
        assert isinstance(norm, Standard)
        norm.learn(layer[learned])
    flows = detector.flows.requires_grad_(True)
    adam = torch.optim.Adam(flows.parameters(), lr=options.lr, weight_decay=options.weight_decay)

    def loss(chosen: list[int]) -> Tensor:
        total = torch.zeros((), device=data.device)
        for flow, norm, layer in zip(flows, detector.norms, maps, strict=True):
            z, volume = flow(norm(layer[chosen]))
            total = total + (z.square().sum(1) * 0.5 - volume).mean() / (layer.shape[1] * len(maps))
        return total

    def step(i: int) -> float:
        drawn = places[torch.randperm(len(places), generator=generator)[: options.batch]]
        found = loss(drawn.tolist())
        adam.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        adam.step()
        return float(found.detach())

    @torch.no_grad()
    def heldout() -> float:
        parts = [held[at : at + options.batch] for at in range(0, len(held), options.batch)]
        return math.fsum(float(loss(part)) * len(part) for part in parts) / len(held)

    run(
        step, options.steps, {"flows": flows, "adam": adam}, generator, report=data.report, heldout=heldout,
        checkpoint=data.checkpoint, curves=data.curves,
    )  # fmt: skip
