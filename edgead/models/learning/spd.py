"""A backbone that is taught to see small changes on good pictures (Zou et al. 2022, SPot-the-Difference, arXiv:2207.14315).

Of each picture two weak views are taken (crop, flips, light, blur), and from the first one a third: a block of it, in another
light, blended into another place (:func:`edgead.models.learning.synthetic.smooth_blend`). Features of the two views are to be
alike and those with the block apart: loss = cos(z, sg(z-)) - cos(z, sg(z+)), z = a small network on the features' means.

The paper adds this to a contrastive training from a million pictures on eight GPUs. Here the backbone starts from published
weights and must stay near them: plus `anchor` times the mean of (f - f_0)^2 over the features of the first view, each channel in
units of its deviation. Only the later part is trained: its early layers are edges and colours, and cost most of the time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.models.backbones.base import Backbone
from edgead.models.learning.progress import Progress, silent
from edgead.models.learning.steps import Checkpoint, run, split
from edgead.models.learning.synthetic import smooth_blend
from edgead.types import Image

KEPT = ("stem", "blocks.0", "blocks.1", "blocks.2", "conv1", "layer1")
"""Of all backbones: modules that stay as they are."""

WIDTH, HELD = 256, 48
"""Of the network on the features' means; pictures that are held out, at most: each look at them costs."""


@dataclass(frozen=True, slots=True)
class SpdRecipe:
    """How it is taught.

    Attributes:
        steps: of training.
        batch: pictures in a step.
        lr: peak learning rate; it rises for a tenth of the steps and falls on a cosine.
        anchor: weight of staying near the published features.
        px: side of a view.
        seed: of all that is random.
        device: torch device.
    """

    steps: int = 300
    batch: int = 8
    lr: float = 1e-4
    anchor: float = 1.0
    px: int = 224
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Taught:
    """What came of it.

    Attributes:
        backbone: with the weights that did best on the pictures held out, on the CPU.
        step: that they are of, counted from 1.
        apart: held-out pictures, before and after: cos(z, z+) - cos(z, z-) of the features' means themselves, without the small
            network. More is: small changes are seen better.
        moved: how far its features went, in their deviations (root of the mean square).
    """

    backbone: Backbone
    step: int
    apart: tuple[float, float]
    moved: float


def pretrain(
    backbone: Backbone,
    images: Sequence[Image],
    recipe: SpdRecipe,
    *,
    report: Progress = silent,
    checkpoint: Checkpoint | None = None,
) -> Taught:
    """Teach a backbone on good pictures; the one that is given stays as it is.

    Args:
        backbone: with its published weights.
        images: H x W x 3 uint8 BGR, all of one size, `recipe.px` or more a side.
        report: told the stages "features" and "pretraining".

    Raises:
        BadInput: the training diverged, or the checkpoint is of another one.
    """
    device = torch.device(recipe.device)
    before = backbone.freeze().to(device)
    taught = copy.deepcopy(before).train()
    for name, parameter in taught.named_parameters():
        parameter.requires_grad_(not any(name == kept or name.startswith(f"{kept}.") for kept in KEPT))
    learn, held = split(len(images), recipe.seed)
    held = held[:HELD]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).flip(1)
    generator = torch.Generator().manual_seed(recipe.seed)
    looked = _views(pixels[held], torch.Generator().manual_seed(recipe.seed + 1), recipe.px)
    scale = _deviations(before, [v.to(device) for v in _views(pixels[learn[: recipe.batch]], generator, recipe.px)[:1]])
    report("features", 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = nn.Sequential(nn.Linear(sum(backbone.channels), WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)).to(device)
    trained = [p for p in taught.parameters() if p.requires_grad]
    adam = torch.optim.AdamW([*trained, *head.parameters()], recipe.lr, weight_decay=1e-4)
    warm = max(1, recipe.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda i: min((i + 1) / warm, 0.5 + 0.5 * float(np.cos(np.pi * i / recipe.steps)))
    )

    def step(i: int) -> float:
        chosen = torch.randint(len(learn), (recipe.batch,), generator=generator)
        views = _views(pixels[torch.tensor(learn)[chosen]], generator, recipe.px)
        loss = _loss(taught, before, head, [view.to(device) for view in views], scale, recipe.anchor)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        return float(loss.detach())

    @torch.no_grad()
    def heldout() -> float:
        batches = range(0, len(held), recipe.batch)
        some = [[view[i : i + recipe.batch].to(device) for view in looked] for i in batches]
        return float(np.mean([float(_loss(taught, before, head, views, scale, recipe.anchor)) for views in some]))

    at = run(
        step, recipe.steps, {"backbone": taught, "head": head, "adam": adam, "schedule": schedule}, generator,
        report=report, heldout=heldout, stage="pretraining", checkpoint=checkpoint,
    )  # fmt: skip
    shown = [view.to(device) for view in looked]
    apart = (_apart(before, shown), _apart(taught, shown))
    moved = float(_moved(taught, before, shown[0], scale).detach().sqrt())
    return Taught(taught.freeze().cpu(), at, apart, moved)


def _loss(
    taught: Backbone, before: Backbone, head: nn.Module, views: Sequence[Tensor], scale: Sequence[Tensor], anchor: float
) -> Tensor:
    """`views`: float32 N x 3 x h x w each: a view, another, the first one with a block."""
    maps = taught(torch.cat(list(views)))
    z = head(torch.cat([m.mean((2, 3)) / s.flatten() for m, s in zip(maps, scale, strict=True)], 1)).chunk(3)
    spot = F.cosine_similarity(z[0], z[2].detach()) - F.cosine_similarity(z[0], z[1].detach())
    mirrored = F.cosine_similarity(z[2], z[0].detach()) - F.cosine_similarity(z[1], z[0].detach())
    count = len(views[0])
    with torch.no_grad():
        were = before(views[0])
    stayed = [((m[:count] - w) / s).square().mean() for m, w, s in zip(maps, were, scale, strict=True)]
    return 0.5 * (spot + mirrored).mean() + anchor * torch.stack(stayed).mean()


@torch.no_grad()
def _deviations(backbone: Backbone, views: Sequence[Tensor]) -> list[Tensor]:
    """Of each layer's channels: 1 x C x 1 x 1."""
    return [m.std((0, 2, 3), keepdim=True).clamp_min(1e-3) for m in backbone(views[0])]


@torch.no_grad()
def _moved(taught: Backbone, before: Backbone, view: Tensor, scale: Sequence[Tensor]) -> Tensor:
    both = zip(taught(view), before(view), scale, strict=True)
    return torch.stack([((now - was) / s).square().mean() for now, was, s in both]).mean()


@torch.no_grad()
def _apart(backbone: Backbone, views: Sequence[Tensor]) -> float:
    """How much nearer the other view is than the one with a block, by the features' means."""
    means = [torch.cat([m.mean((2, 3)) for m in backbone(view)], 1) for view in views]
    return float((F.cosine_similarity(means[0], means[1]) - F.cosine_similarity(means[0], means[2])).mean())


def _views(pixels: Tensor, generator: torch.Generator, px: int) -> list[Tensor]:
    """uint8 N x 3 x H x W -> three of float32 N x 3 x px x px, 0 to 255."""
    one, other = (torch.stack([_view(picture, generator, px) for picture in pixels]) for _ in range(2))
    return [one, other, smooth_blend(one, generator)[0]]


def _view(picture: Tensor, generator: torch.Generator, px: int) -> Tensor:
    height, width = picture.shape[1:]
    share = 0.7 + 0.3 * float(torch.rand(1, generator=generator))
    h, w = round(share * height), round(share * width)
    top, left = (int(torch.randint(room + 1, (1,), generator=generator)) for room in (height - h, width - w))
    cut = picture[:, top : top + h, left : left + w].float()
    seen = F.interpolate(cut[None], (px, px), mode="bilinear", align_corners=False, antialias=True)[0]
    flips = torch.rand(3, generator=generator)
    seen = seen.flip(2) if flips[0] < 0.5 else seen
    seen = F.avg_pool2d(seen[None], 3, 1, 1, count_include_pad=False)[0] if flips[1] < 0.3 else seen
    gain, shift = (torch.rand(2, generator=generator) * 2 - 1) * torch.tensor([0.15, 15.0])
    middle = seen.mean()
    lit: Tensor = (seen - middle) * (1 + gain) + middle + shift
    return lit.clamp(0, 255)
