"""Fit a student that rebuilds a frozen backbone's feature maps on good pictures only (STFPM; Reverse Distillation).

The teacher's maps are kept in memory where they fit. A share of the pictures is held out: by their loss the best state is
chosen, and by their distances the layers are balanced.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from edgead.families.contract import FitData
from edgead.families.distillation.network import Distillation, distance
from edgead.families.distillation.options import DistillationOptions
from edgead.families.patches import FINE_LAYERS
from edgead.models.backbones import Backbone, load_backbone
from edgead.models.learning.steps import run, split
from edgead.models.parts.norms import fold_norms, with_norms
from edgead.models.rows import MAX_BYTES, to_pixels

WIDTHS = {"small": 32, "reverse": 64}
"""Channels, where nobody chooses them."""

SMOOTH = {"plain": (0.0, 0), "smoothed": (4.0, 16)}
"""Deviation and radius of the Gaussian, px."""


def fit(data: FitData, options: DistillationOptions) -> Distillation:
    """A student of good images. It tells the stages "features" and "training".

    Raises:
        BadInput: unusable backbone, layers or weights.
    """
    layers = options.layers or FINE_LAYERS.get(options.backbone)
    teacher = load_backbone(options.backbone, layers, options.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = Distillation(config_of(teacher, options), data.size, teacher)
        with_norms(detector.rebuilder, detector.rebuilder.unbounded)
        detector.to(data.device)
        _Fit(detector, data, options).train()
    return detector.cpu().eval()


def config_of(teacher: Backbone, options: DistillationOptions) -> dict[str, Any]:
    """The detector's configuration."""
    rebuilder: dict[str, Any] = {"kind": options.rebuilder}
    if options.rebuilder in WIDTHS:
        rebuilder["width"] = options.width or WIDTHS[options.rebuilder]
    told = {
        "backbone": teacher.name, "layers": list(teacher.layers), "rebuilder": rebuilder, "combine": options.combine,
    }  # fmt: skip
    if options.at_picture == "none":
        return {**told, "score": options.score_by}
    sigma, radius = SMOOTH[options.at_picture]
    corners = options.at_picture == "smoothed"
    return {**told, "picture": {"corners": corners, "sigma": sigma, "radius": radius}}


class _Fit:
    """One training."""

    def __init__(self, detector: Distillation, data: FitData, options: DistillationOptions) -> None:
        self.detector, self.data, self.options = detector, data, options
        self.train_on, self.held = split(len(data.images), data.seed)
        self.held = self.held or self.train_on
        self.cache = self._cached()

    @torch.no_grad()
    def _cached(self) -> list[list[Tensor]]:
        """The teacher's maps of each picture; empty where they would not fit into memory."""
        kept: list[list[Tensor]] = []
        for i in range(len(self.data.images)):
            kept.append([one[0].cpu() for one in self.detector.teacher(self.pixels([i]))])
            if i == 0 and len(self.data.images) * sum(4 * one.numel() for one in kept[0]) > MAX_BYTES:
                return []
            self.data.report("features", (i + 1) / len(self.data.images))
        return kept

    def pixels(self, chosen: list[int]) -> Tensor:
        return to_pixels([self.data.images[i] for i in chosen]).to(self.data.device)

    def distances(self, chosen: list[int]) -> list[Tensor]:
        """Of each layer: of cells N x h x w, or of `whole` maps N."""
        pixels = self.pixels(chosen)
        with torch.no_grad():
            if self.cache:
                maps = [torch.stack(layer).to(self.data.device) for layer in zip(*(self.cache[i] for i in chosen), strict=True)]
            else:
                maps = self.detector.teacher(pixels)
        rebuilt = self.detector.rebuilder(pixels, maps)
        if self.options.whole:
            maps, rebuilt = [m.flatten(1) for m in maps], [r.flatten(1) for r in rebuilt]
        return [distance(m, r) for m, r in zip(maps, rebuilt, strict=True)]

    def train(self) -> None:
        options, student = self.options, self.detector.rebuilder
        batch = min(options.batch, len(self.train_on))
        count = options.epochs * math.ceil(len(self.train_on) / batch) or options.steps
        generator = torch.Generator().manual_seed(self.data.seed)
        wanted = [p for p in student.parameters() if p.requires_grad]
        optimizer: torch.optim.Optimizer
        if options.optimizer == "sgd":
            optimizer = torch.optim.SGD(wanted, options.lr, 0.9, weight_decay=options.weight_decay)
        else:
            betas = (options.beta, 0.999)
            optimizer = torch.optim.Adam(wanted, options.lr, betas, weight_decay=options.weight_decay)

        def step(i: int) -> float:
            student.train()
            for group in optimizer.param_groups:
                group["lr"] = options.lr * (0.5 * (1.0 + math.cos(math.pi * i / count)) if options.falls else 1.0)
            chosen = [self.train_on[n] for n in torch.randperm(len(self.train_on), generator=generator)[:batch].tolist()]
            found = self.distances(chosen)
            loss = sum((one.mean() for one in found[1:]), found[0].mean())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return float(loss.detach())

        run(
            step, count, {"student": student, "optimizer": optimizer}, generator, report=self.data.report,
            heldout=self._heldout, checkpoint=self.data.checkpoint, curves=self.data.curves,
        )  # fmt: skip
        student.eval()
        fold_norms(student)
        self.detector.requires_grad_(False)
        if options.balanced or options.combine == "product":
            self._balance()

    @torch.no_grad()
    def _heldout(self) -> float:
        self.detector.rebuilder.eval()
        return sum(float(one.mean()) for i in self.held for one in self.distances([i])) / len(self.held)

    @torch.no_grad()
    def _balance(self) -> None:
        """Each layer's map has the mean 1 on held-out good pictures; of a product this changes a factor only, and keeps it from
        numbers that half precision does not have."""
        found = [self.detector.distances(self.pixels([i])) for i in self.held]
        for layer, ones in enumerate(zip(*found, strict=True)):
            self.detector.scale[layer] = 1.0 / max(1e-6, float(torch.stack([one.mean() for one in ones]).mean()))
