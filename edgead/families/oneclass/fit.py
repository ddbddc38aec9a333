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

Seen = list[Tensor]
"""What the judge is given of some pictures: their pixels, float32 N x 3 x H x W, 0 to 255, or a backbone's maps."""

Examples = tuple[Seen, Seen, Tensor]
"""Good pictures and odd ones, and where those are odd, N x 1 x H x W: 1 on the defect, else 0; 0.5 all over where nobody
knows."""

HELD_OUT = 16
"""Pictures whose loss is looked at, at most."""


def fit(data: FitData, options: OneClassOptions) -> OneClass:
    """A one-class model of good images, and of defects where there are such. It tells the stages "features" (of a head with a
    pool), "history" (of a critic) and "training".

    Raises:
        BadInput: weights that do not load, the training diverged, or a generator collapsed.
    """
    backbone = load_backbone(options.backbone, options.layers, options.weights) if options.network == "head" else None
    config = config_of(options, backbone)
    learnt, held = split(len(data.images), data.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        detector = OneClass(config, data.size, backbone).to(data.device)
        history = None if options.network == "head" else History(data, options, learnt)
    training = _HeadTraining(detector, data, options) if history is None else _CriticTraining(detector, data, options, history)
    training.train(learnt, held)
    return detector.cpu().eval().requires_grad_(False)


def config_of(options: OneClassOptions, backbone: Backbone | None) -> dict[str, Any]:
    """The detector's configuration.

    Args:
        backbone: of a head.
    """
    config: dict[str, Any] = {name: getattr(options, name) for name in ("network", "width", "sigma")}
    config["score"] = options.score_by
    return config if backbone is None else {**config, "backbone": backbone.name, "layers": list(backbone.layers)}


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

    def loss(self, good: Seen, odd: Seen, mask: Tensor) -> Tensor:
        """Of :data:`Examples` -> scalar."""
        raise NotImplementedError

    def seen(self, pixels: Tensor) -> Seen:
        """What the judge is given of pictures, N x 3 x H x W."""
        return [pixels]

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

        always = torch.Generator().manual_seed(self.data.seed + 1)
        kept = self.examples(held, min(len(held), HELD_OUT), always, real=False) if held else None

        @torch.no_grad()
        def heldout() -> float:
            assert kept is not None
            self.judge.eval()
            return float(self.loss(*kept))

        parts: dict[str, Stateful] = {"judge": self.judge, "adam": adam, "cosine": cosine}
        run(
            step, self.options.steps, parts, self.generator, report=self.data.report, heldout=heldout if kept else None,
            checkpoint=self.data.checkpoint, curves=self.data.curves,
        )  # fmt: skip
        self.judge.eval()
        self.finish()

    def examples(self, chosen: Sequence[int], count: int, generator: torch.Generator, real: bool) -> Examples:
        """Good pictures, as many odd ones and where they are odd: half of them real defects, if there are such and they are asked
        for, on the others something is drawn."""
        pixels = to_pixels([self.data.images[k] for k in picked(chosen, 2 * count, generator)])
        good, other = pixels[:count], pixels[count:]
        odd, mask = self.draw(other, generator)
        if real and self.data.defects:
            half = (count + 1) // 2
            seen, where = self.real(picked(range(len(self.data.defects)), half, generator))
            odd, mask = torch.cat([seen, odd[half:]]), torch.cat([where, mask[half:]])
        device = self.data.device
        return self.seen(good.to(device)), self.seen(odd.to(device)), mask.to(device)

    def real(self, which: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pictures of defects, and where they are (0.5 where nobody knows)."""
        chosen = [self.data.defects[k] for k in which]
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
        self.pool: _Pool | None = None

    def train(self, learnt: Sequence[int], held: Sequence[int]) -> None:
        if self.options.pool:
            self.pool = _Pool(self, learnt)
        super().train(learnt, held)

    def examples(self, chosen: Sequence[int], count: int, generator: torch.Generator, real: bool) -> Examples:
        if self.pool is None or not real:  # held-out ones are of other pictures
            return super().examples(chosen, count, generator, real)
        return self.pool.examples(count, generator)

    @torch.no_grad()
    def seen(self, pixels: Tensor) -> Seen:
        maps: Seen = self.backbone(pixels)
        return maps

    def loss(self, good: Seen, odd: Seen, mask: Tensor) -> Tensor:
        count = len(good[0])
        said: Tensor = self.judge([torch.cat(both) for both in zip(good, odd, strict=True)])
        on_good, on_odd = said[:count], said[count:]
        where = F.adaptive_max_pool2d(mask, said.shape[1:]).squeeze(1)
        return on_good.mean() + defect_loss(on_odd, where)

    def finish(self) -> None:
        self.judge.fold()


class _Pool:
    """What the backbone says of good pictures, of as many as `pool` with made up defects, and of real ones, looked at once: a
    step is ten times as fast, and many steps are what makes the answer hang less on the draw."""

    def __init__(self, of: _HeadTraining, learnt: Sequence[int]) -> None:
        most, images, generator = of.options.pool, of.data.images, of.generator
        few = learnt[:most]
        self._good = _Kept()
        self._odd, self._real = _Kept(), _Kept()
        for k in few:
            of.data.report("features", len(self._good) / (len(few) + most))
            self._good.add(of.seen(to_pixels([images[k]]).to(of.data.device)))
        for i in range(most):
            of.data.report("features", (len(few) + i) / (len(few) + most))
            odd, mask = of.draw(to_pixels([images[few[i % len(few)]]]), generator)
            self._odd.add(of.seen(odd.to(of.data.device)), mask)
        for k in range(min(most, len(of.data.defects))):
            odd, mask = of.real([k])
            self._real.add(of.seen(odd.to(of.data.device)), mask)
        self._device = of.data.device

    def examples(self, count: int, generator: torch.Generator) -> Examples:
        """As :meth:`_Training.examples`."""
        half = (count + 1) // 2 if len(self._real) else 0
        good, _ = self._good.pick(count, generator)
        odd, mask = self._odd.pick(count - half, generator)
        if half:
            real, where = self._real.pick(half, generator)
            odd, mask = [torch.cat(both) for both in zip(real, odd, strict=True)], torch.cat([where, mask])
        return [m.to(self._device) for m in good], [m.to(self._device) for m in odd], mask.to(self._device)


class _Kept:
    """Maps of pictures, as float16 to save memory (some 140 kB a picture of 256 px), and where these are odd."""

    def __init__(self) -> None:
        self._maps: list[Seen] = []
        self._masks: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._maps)

    def add(self, maps: Seen, mask: Tensor | None = None) -> None:
        """Of one picture; its mask as large as the first map."""
        self._maps.append([m.half().cpu() for m in maps])
        none = torch.zeros(1, 1, *maps[0].shape[-2:])
        self._masks.append(none if mask is None else F.adaptive_max_pool2d(mask, maps[0].shape[-2:]))

    def pick(self, count: int, generator: torch.Generator) -> tuple[Seen, Tensor]:
        chosen = picked(range(len(self._maps)), count, generator)
        maps = [torch.cat(level).float() for level in zip(*(self._maps[k] for k in chosen), strict=True)]
        return maps, torch.cat([self._masks[k] for k in chosen])


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
            odd = [torch.cat([odd[0][: count - made], self.history.pictures(good[0][:made], generator)])]
            mask = torch.cat([mask[: count - made], torch.ones_like(mask[:made])])
        return good, odd, mask

    def loss(self, good: Seen, odd: Seen, mask: Tensor) -> Tensor:
        count = len(good[0])
        said: Tensor = self.judge(torch.cat([good[0], odd[0]]))
        on_good, on_odd = said[:count], said[count:]
        where = F.adaptive_max_pool2d(mask, on_odd.shape[1:]).squeeze(1)
        missed: Tensor = (F.relu(1.0 - on_odd) * (where == 1.0)).sum() / (where == 1.0).sum().clamp_min(1)
        return F.relu(1.0 + on_good).mean() + missed


def picked(among: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """So many of these, each as likely as any other every time."""
    return [among[k] for k in torch.randint(len(among), (count,), generator=generator).tolist()]


def defect_loss(said: Tensor, where: Tensor) -> Tensor:
    """-log(1 - exp(-a)) + b, mean over the pictures: a and b are the means of what is said of the cells on the defect and beside
    it, N x h x w each; a is that of the largest twentieth, and b nothing, where nobody knows where the defect is (0.5)."""
    on, beside = (where == 1.0).float(), (where == 0.0).float()
    a = (said * on).sum((1, 2)) / on.sum((1, 2)).clamp_min(1.0)
    count = max(1, round(SOMEWHERE * said[0].numel()))
    a = torch.where((where == 0.5).flatten(1).any(1), said.flatten(1).topk(count, 1).values.mean(1), a)
    b = (said * beside).mean((1, 2))
    return (b - torch.log(-torch.expm1(-a.clamp_min(1e-6)))).mean()
