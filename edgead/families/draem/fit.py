"""Fit DRAEM (Zavrtanik et al. 2021): on half of the pictures something is drawn, a texture seen through a mask of Perlin noise;
one network is to rebuild the picture as it was (squared error and SSIM), the other one to find the mask (focal loss, gamma 2).

Differences from the paper: textures are drawn or come from the picture itself, not from a library of textures, half of them leave
the light as it is (:mod:`edgead.models.learning.synthetic`), and the best state by the held-out good pictures' loss stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import FitData
from edgead.families.draem.network import Draem, Rebuild, Segment
from edgead.families.draem.options import DraemOptions
from edgead.models.learning.steps import Stateful, run, split
from edgead.models.learning.synthetic import perlin
from edgead.models.parts.convnets import fold_norms
from edgead.models.parts.errors import Ssim
from edgead.models.rows import to_pixels

HELD_OUT = 16
"""Pictures whose loss is looked at, at most."""


class Networks(nn.Module):
    """Both, with batch norms."""

    def __init__(self, width: int, segment_width: int) -> None:
        super().__init__()
        self.rebuild, self.segment = Rebuild(width, norm=True), Segment(segment_width, norm=True)
        self.ssim = Ssim()

    def loss(self, good: Tensor, drawn: Tensor, mask: Tensor) -> Tensor:
        """float32 N x 3 x H x W, 0 to 255, the second with something on it where the mask N x 1 x H x W is 1 -> scalar."""
        good, drawn = good / 255.0, drawn / 255.0
        rebuilt = self.rebuild(drawn)
        found = focal(self.segment(drawn, rebuilt), mask)
        loss: Tensor = F.mse_loss(rebuilt, good) + 2.0 * self.ssim(good, rebuilt).mean() + found
        return loss


def focal(said: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over pixels of (1 - p)^gamma times -log p, p the probability of what is right; `said` is above 0 where it says odd."""
    right = said * (2.0 * mask - 1.0)
    return (torch.sigmoid(-right) ** gamma * F.softplus(-right)).mean()


def fit(data: FitData, options: DraemOptions) -> Draem:
    """A DRAEM of good images. It tells the stage "training".

    Raises:
        BadInput: a size that it does not take, or the training diverged.
    """
    detector = Draem(config_of(options), data.size)  # refuses a size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        networks = Networks(options.width, options.segment_width).to(data.device)
    _train(networks, data, options)
    networks.cpu().eval()
    fold_norms(networks)
    detector.rebuild.load_state_dict(networks.rebuild.state_dict())
    detector.segment.load_state_dict(networks.segment.state_dict())
    return detector.eval().requires_grad_(False)


def config_of(options: DraemOptions) -> dict[str, Any]:
    """The detector's configuration."""
    return {"width": options.width, "segment_width": options.segment_width, "smooth": options.smooth}


def _train(networks: Networks, data: FitData, options: DraemOptions) -> None:
    learnt, held = split(len(data.images), data.seed)
    generator = torch.Generator().manual_seed(data.seed)
    adam = torch.optim.Adam(networks.parameters(), lr=options.lr)
    marks = [round(options.steps * share) for share in (0.8, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, marks, gamma=0.2)

    def step(i: int) -> float:
        networks.train()
        chosen = torch.randint(len(learnt), (options.batch,), generator=generator).tolist()
        loss = networks.loss(*_drawn_on(data, [learnt[k] for k in chosen], generator))
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        return float(loss.detach())

    @torch.no_grad()
    def heldout() -> float:
        networks.eval()
        always, total = torch.Generator().manual_seed(data.seed + 1), 0.0
        for k in held[:HELD_OUT]:
            total += float(networks.loss(*_drawn_on(data, [k, k], always)))
        return total

    parts: dict[str, Stateful] = {"networks": networks, "adam": adam, "schedule": schedule}
    run(
        step, options.steps, parts, generator, report=data.report, heldout=heldout if held else None, checkpoint=data.checkpoint,
        curves=data.curves,
    )  # fmt: skip


def _drawn_on(data: FitData, chosen: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Good pictures, the same with something drawn on the first half of them, and where."""
    good = to_pixels([data.images[k] for k in chosen]).to(data.device)
    half = len(good) // 2
    drawn, mask = perlin(good[:half], generator)
    nothing = torch.zeros(len(good) - half, 1, *good.shape[2:], device=good.device)
    return good, torch.cat([drawn, good[half:]]), torch.cat([mask, nothing])
