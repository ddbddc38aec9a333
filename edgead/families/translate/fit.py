"""Fit a translation on good pictures and pictures of defects, by Wasserstein critics with a gradient penalty.

Differences from the paper are in README.md. What is drawn is drawn by one generator from the seed; steps end the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.translate.network import DEFECT, GOOD, Translate
from edgead.families.translate.options import TranslateOptions
from edgead.models.learning.adversary import Adversary
from edgead.models.learning.steps import Stateful, run
from edgead.models.rows import to_pixels
from edgead.types import Image

FEWEST = 4
"""Pictures of defects: of fewer the critic knows each by heart at once."""

NOISE = 0.05
"""Deviation of what is added to pictures before they are translated."""

PENALTY = 0.5
"""Of the gradient, for a Wasserstein loss of 1: 10 for 20 in the authors' code."""


def fit(data: FitData, options: TranslateOptions) -> Translate:
    """It tells the stage "training".

    Raises:
        BadInput: too few pictures of defects, a size that the network does not take, a loss that is no number any more, or a
            training that collapsed.
    """
    if len(data.defects) < FEWEST:
        raise BadInput(
            f"{len(data.defects)} pictures of defects are too few to translate from",
            hint=f"give {FEWEST} or more, better a hundred; or a model that learns from good ones",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = Translate({"base": options.base, "score": options.score_by}, data.size, whole=True).to(data.device)
        detector.train()
        _Training(detector, data, options).run()
    detector.eval()
    detector.fold()
    return detector.cpu().requires_grad_(False)


class _Training:
    """One training: the detector, its pictures, one generator of random numbers."""

    def __init__(self, detector: Translate, data: FitData, options: TranslateOptions) -> None:
        self.detector, self.data, self.options = detector, data, options
        self.random = torch.Generator().manual_seed(data.seed)
        self.device = torch.device(data.device)
        judge = detector.judge
        self.adam = torch.optim.Adam(detector.generator.parameters(), options.lr, betas=(0.5, 0.999))
        named = [*judge.encoder.parameters(), *judge.classes.parameters()]
        self.naming = torch.optim.Adam(named, options.lr, betas=(0.5, 0.999))
        self.adversary = Adversary(judge, "wgan", options.lr, PENALTY, warm_up=max(100, options.steps // 4))
        kinds = (GOOD,) * options.batch, (DEFECT,) * options.batch
        self.own = torch.tensor([*kinds[0], *kinds[1]], device=self.device)
        self.other = torch.tensor([*kinds[1], *kinds[0]], device=self.device)

    def run(self) -> None:
        parts: dict[str, Stateful] = {
            "network": self.detector, "adam": self.adam, "naming": self.naming, "adversary": self.adversary,
        }  # fmt: skip
        run(
            self.step, self.options.steps, parts, self.random, report=self.data.report, checkpoint=self.data.checkpoint, best=(),
            curves=self.data.curves,
        )  # fmt: skip

    def draw(self) -> Tensor:
        """Good pictures and as many of defects, from 0 to 1."""
        defects = [defect.image for defect in self.data.defects]
        return torch.cat([self._some(self.data.images), self._some(defects)])

    def _some(self, images: Sequence[Image]) -> Tensor:
        chosen = torch.randint(len(images), (self.options.batch,), generator=self.random).tolist()
        x = to_pixels([images[i] for i in chosen]) * (1.0 / 255.0)
        if self.options.flips:
            for axis in (2, 3):
                mirrored = torch.rand(len(x), 1, 1, 1, generator=self.random) < 0.5
                x = torch.where(mirrored, x.flip(axis), x)
        return x.to(self.device)

    def translated(self, x: Tensor, kinds: Tensor) -> Tensor:
        """Of pictures with a little noise."""
        noise = NOISE * torch.randn(x.shape, generator=self.random).to(self.device)
        found: Tensor = self.detector.generator(x + noise, kinds)
        return found

    def step(self, i: int) -> float:
        options, judge = self.options, self.detector.judge
        rate = options.lr * 0.5 * (1.0 + math.cos(math.pi * i / options.steps))
        for group in (*self.adam.param_groups, *self.naming.param_groups, *self.adversary.adam.param_groups):
            group["lr"] = rate
        for _ in range(options.critic_steps):
            x = self.draw()
            with torch.no_grad():
                made = self.translated(x, self.other)
            self.adversary.learn((x,), (torch.cat(made.chunk(2)[::-1]),), self.random)
            naming = F.cross_entropy(judge.kinds(x), self.own)
            self.naming.zero_grad()
            naming.backward()  # type: ignore[no-untyped-call]
            self.naming.step()
        x = self.draw()
        made = self.translated(x, self.other)
        back = self.translated(made, self.own)
        same = self.translated(x, self.own)
        loss = options.identity * (same - x).abs().mean() + options.cycle * (back - x).abs().mean()
        seems = self.adversary.loss(torch.cat(made.chunk(2)[::-1]))  # those that are to be good come first
        loss = loss + options.adversary * seems + F.cross_entropy(judge.kinds(made), self.other)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return float(loss.detach()) + float(naming.detach())
