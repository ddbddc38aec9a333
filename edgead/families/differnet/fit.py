"""Fit a DifferNet: the pooled features of good pictures and of their turns once, then a flow of these vectors.

Loss: (|z|^2 / 2 - log |det dz/dy|) / d. A flow learns some hundred vectors by heart within as many steps, so good pictures that
it does not learn from say which state stays.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.differnet.network import TURNS, DifferNet
from edgead.families.differnet.options import DifferNetOptions
from edgead.models.backbones import Backbone, load_backbone
from edgead.models.learning.steps import run, split
from edgead.models.rows import to_pixels
from edgead.published import published

_BATCH = 8
_LOOKS, _PATIENCE = 40, 10
"""So many looks at held-out pictures in a training, and so many without a better one end it: the best of 80 pictures came
after some twenty steps."""


def fit(data: FitData, options: DifferNetOptions) -> DifferNet:
    """A DifferNet of good images. It tells the stages "features" and "training".

    Raises:
        BadInput: fewer than two pictures, quarter turns of pictures that are not square, a backbone that takes one size only with
            several scales, or weights that do not load.
    """
    if len(data.images) < 2:
        raise BadInput("a DifferNet stops by a good picture that it does not learn from", hint="give at least two good pictures")
    if options.turns == "8" and data.size[0] != data.size[1]:
        raise BadInput(
            f"quarter turns need square pictures, not {data.size[1]} x {data.size[0]} px", hint="give --turns 4, or --size"
        )
    if published(options.backbone).stride > 1 and options.scales > 1:
        raise BadInput(f"{options.backbone} takes pictures of one size only", hint="give --scales 1, or another --backbone")
    backbone = load_backbone(options.backbone, options.layers or published(options.backbone).layers[-1:], options.weights)
    generator = torch.Generator().manual_seed(data.seed)
    detector = DifferNet(config_of(backbone, options), data.size, backbone, generator).to(data.device)
    _train(detector, collected(detector, data), data, options, generator)
    detector.to("cpu").flow.masked()
    detector.requires_grad_(False)
    return detector.eval()


def config_of(backbone: Backbone, options: DifferNetOptions) -> dict[str, Any]:
    """The detector's configuration."""
    return {
        "backbone": backbone.name, "layers": list(backbone.layers), "scales": options.scales, "turns": int(options.turns),
        "blocks": options.blocks, "hidden": options.hidden, "depth": options.depth, "score": options.score_by,
    }  # fmt: skip


@torch.no_grad()
def collected(detector: DifferNet, data: FitData) -> Tensor:
    """The vectors y of all pictures and all turns that they allow: N x T x d."""
    turns = TURNS if data.size[0] == data.size[1] and int(detector.config["turns"]) == 8 else TURNS[:4]
    rows = []
    for start in range(0, len(data.images), _BATCH):
        data.report("features", start / len(data.images))
        pixels = to_pixels(data.images[start : start + _BATCH]).to(data.device)
        seen = [torch.cat([m.mean((2, 3)) for m in detector.maps(turn(pixels))], 1) for turn, _ in turns]
        rows.append(torch.stack(seen, 1))
    data.report("features", 1.0)
    return torch.cat(rows)


def _train(detector: DifferNet, rows: Tensor, data: FitData, options: DifferNetOptions, generator: torch.Generator) -> None:
    learned, held = split(len(rows), data.seed)
    ours, others = (rows[places].flatten(0, 1) for places in (learned, held))
    width = ours.std(0)
    detector.mean.copy_(ours.mean(0))
    detector.width.copy_(torch.maximum(width, 0.01 * width.mean()).clamp_min(1e-6))
    ours, others = (((y - detector.mean) / detector.width).T.contiguous() for y in (ours, others))
    flow = detector.flow.requires_grad_(True)
    adam = torch.optim.Adam(flow.parameters(), lr=options.lr, betas=(0.8, 0.8), eps=1e-4, weight_decay=options.weight_decay)

    def loss(y: Tensor) -> Tensor:
        z, volume = flow(y)
        found: Tensor = (z.square().sum(0) * 0.5 - volume).mean() / len(y)
        return found

    def step(i: int) -> float:
        drawn = torch.randint(ours.shape[1], (min(options.batch, ours.shape[1]),), generator=generator)
        found = loss(ours[:, drawn.to(ours.device)])
        adam.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        adam.step()
        return float(found.detach())

    @torch.no_grad()
    def heldout() -> float:
        return float(loss(others))

    run(
        step, options.steps, {"flow": flow, "adam": adam}, generator, report=data.report, heldout=heldout,
        every=max(5, options.steps // _LOOKS), patience=_PATIENCE, checkpoint=data.checkpoint, curves=data.curves,
    )  # fmt: skip
