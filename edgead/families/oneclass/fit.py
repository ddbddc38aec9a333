"""Fit a judge of cells on good pictures and on pictures with defects: made up ones, of a generator's history, or real ones.

The head (FCDD, Liznerski et al. 2021): its anomaly A is to be small on good pictures and around a real defect, and large on it:
mean A, and -log(1 - exp(-mean A)) over the cells of the defect. A picture with a made up one is odd as a whole, as in the paper:
with its cells alone asked for, the answer hung more on the start of the training. The critic
(HistoryAD): hinge loss of each cell.

Differences from the papers. Of a real defect with a mask FCDD takes the mean of A times the mask over all of the picture, so that
a speck must shout louder than a hole; here it is the mean over the defect. Of a real defect without a mask the largest twentieth
of the cells counts. The backbone stays as it is published. The best state stays by the loss of held-out good pictures, as they
are and with made up defects on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import FitData
from edgead.families.oneclass.history import History
from edgead.families.oneclass.network import Critic, Head, OneClass
from edgead.families.oneclass.options import OneClassOptions
from edgead.models.backbones import Backbone, load_backbone
from edgead.models.learning.steps import Stateful, run, split
from edgead.models.learning.synthetic import mixed
from edgead.models.rows import to_pixels

SOMEWHERE = 0.05
"""Share of the cells that a real defect without a mask must be seen in."""

Examples = tuple[Tensor, Tensor, Tensor]
"""Good pictures and odd ones, float32 N x 3 x H x W, 0 to 255, and where those are odd, N x 1 x H x W: 1 on the defect, else 0;
0.5 all over where nobody knows."""

HELD_OUT = 16
"""Pictures whose loss is looked at, at most."""


def fit(data: FitData, options: OneClassOptions) -> OneClass:
    """A one-class model of good images, and of defects where there are such. It tells the stages "history" (of a critic) and
    "training".

    Raises:
        BadInput: weights that do not load, the training diverged, or a generator collapsed.
    """
    config: dict[str, Any] = {name: getattr(options, name) for name in ("network", "width", "sigma")}
    config["score"] = options.score_by
    backbone = None
    if options.network == "head":
        backbone = load_backbone(options.backbone, options.layers, options.weights)
        config |= {"backbone": backbone.name, "layers": list(backbone.layers)}
    learnt, held = split(len(data.images), data.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = OneClass(config, data.size, backbone).to(data.device)
        history = None if options.network == "head" else History(data, options, learnt)
    training = _HeadTraining(detector, data, options) if history is None else _CriticTraining(detector, data, options, history)
    training.train(learnt, held)
    return detector.cpu().eval().requires_grad_(False)


class _Training:
    """The judge, the pictures, and one generator.

    Attributes:
        judge: what is trained.
    """

    judge: nn.Module

    def __init__(self, detector: OneClass, data: FitData, options: OneClassOptions) -> None:
        self.detector, self.data, self.options = detector, data, options
        self.generator = torch.Generator().manual_seed(data.seed)
        self.draw = mixed(options.synthetic)

    def loss(self, good: Tensor, odd: Tensor, mask: Tensor) -> Tensor:
        """Of :data:`Examples` -> scalar."""
        raise NotImplementedError

    def finish(self) -> None:
        """What is left to do with the judge."""

    def train(self, learnt: Sequence[int], held: Sequence[int]) -> None:
        self.judge.requires_grad_(True)
        adam = torch.optim.AdamW(self.judge.parameters(), lr=self.options.lr, weight_decay=1e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.options.steps)

        def step(i: int) -> float:
            self.judge.train()
            loss = self.loss(*self.examples(learnt, self.options.batch, self.generator, real=True))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            cosine.step()
            return float(loss.detach())

        @torch.no_grad()
        def heldout() -> float:
            self.judge.eval()
            always = torch.Generator().manual_seed(self.data.seed + 1)
            return float(self.loss(*self.examples(held, min(len(held), HELD_OUT), always, real=False)))

        parts: dict[str, Stateful] = {"judge": self.judge, "adam": adam, "cosine": cosine}
        run(
            step, self.options.steps, parts, self.generator, report=self.data.report, heldout=heldout if held else None,
            checkpoint=self.data.checkpoint,
        )  # fmt: skip
        self.judge.eval()
        self.finish()

    def examples(self, chosen: Sequence[int], count: int, generator: torch.Generator, real: bool) -> Examples:
        """Good pictures, as many odd ones and where they are odd: half of them real defects, if there are such and they are asked
        for, on the others something is drawn."""
        picked = torch.randint(len(chosen), (2 * count,), generator=generator).tolist()
        pixels = to_pixels([self.data.images[chosen[k]] for k in picked])
        good, other = pixels[:count], pixels[count:]
        odd, mask = self.draw(other, generator)
        if real and self.data.defects:
            half = (count + 1) // 2
            seen, where = self._real(half, generator)
            odd, mask = torch.cat([seen, odd[half:]]), torch.cat([where, mask[half:]])
        return good.to(self.data.device), odd.to(self.data.device), mask.to(self.data.device)

    def _real(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures of defects, and where they are (0.5 where nobody knows)."""
        chosen = [self.data.defects[k] for k in torch.randint(len(self.data.defects), (count,), generator=generator).tolist()]
        nobody_knows = torch.full(self.data.size, 0.5)
        masks = [nobody_knows if one.mask is None else torch.from_numpy(one.mask).float() for one in chosen]
        return to_pixels([one.image for one in chosen]), torch.stack(masks)[:, None]


class _HeadTraining(_Training):
    """FCDD."""

    def __init__(self, detector: OneClass, data: FitData, options: OneClassOptions) -> None:
        super().__init__(detector, data, options)
        assert isinstance(detector.judge, Head) and isinstance(detector.backbone, Backbone)
        self.backbone = detector.backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(data.seed)
            self.judge: Head = detector.judge.with_norms().to(data.device)
        drawn = self.draw

        def everywhere(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            odd, mask = drawn(batch, generator)
            return odd, torch.ones_like(mask)

        self.draw = everywhere

    def loss(self, good: Tensor, odd: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            maps = self.backbone(torch.cat([good, odd]))
        said: Tensor = self.judge(maps)
        on_good, on_odd = said[: len(good)], said[len(good) :]
        where = F.adaptive_max_pool2d(mask, said.shape[1:]).squeeze(1)
        return on_good.mean() + defect_loss(on_odd, where)

    def finish(self) -> None:
        self.judge.fold()


class _CriticTraining(_Training):
    """HistoryAD: half of the odd pictures are of the history of what rebuilds good ones, half have something drawn on them."""

    def __init__(self, detector: OneClass, data: FitData, options: OneClassOptions, history: History) -> None:
        super().__init__(detector, data, options)
        assert isinstance(detector.judge, Critic)
        self.judge, self.history = detector.judge, history

    def examples(self, chosen: Sequence[int], count: int, generator: torch.Generator, real: bool) -> Examples:
        good, odd, mask = super().examples(chosen, count, generator, real)
        made = round((1.0 - self.options.drawn) * count)
        if made:
            odd = torch.cat([odd[: count - made], self.history.pictures(good[:made], generator)])
            mask = torch.cat([mask[: count - made], torch.ones_like(mask[:made])])
        return good, odd, mask

    def loss(self, good: Tensor, odd: Tensor, mask: Tensor) -> Tensor:
        said: Tensor = self.judge(torch.cat([good, odd]))
        on_good, on_odd = said[: len(good)], said[len(good) :]
        where = F.adaptive_max_pool2d(mask, on_odd.shape[1:]).squeeze(1)
        missed: Tensor = (F.relu(1.0 - on_odd) * (where == 1.0)).sum() / (where == 1.0).sum().clamp_min(1)
        return F.relu(1.0 + on_good).mean() + missed


def defect_loss(said: Tensor, where: Tensor) -> Tensor:
    """-log(1 - exp(-a)) + b, mean over the pictures: a and b are the means of what is said of the cells on the defect and beside
    it, N x h x w each; a is that of the largest twentieth, and b nothing, where nobody knows where the defect is (0.5)."""
    on, beside = (where == 1.0).float(), (where == 0.0).float()
    a = (said * on).sum((1, 2)) / on.sum((1, 2)).clamp_min(1.0)
    count = max(1, round(SOMEWHERE * said[0].numel()))
    a = torch.where((where == 0.5).flatten(1).any(1), said.flatten(1).topk(count, 1).values.mean(1), a)
    b = (said * beside).mean((1, 2))
    return (b - torch.log(-torch.expm1(-a.clamp_min(1e-6)))).mean()
