"""Fit Patch SVDD (Yi & Yoon 2020): an encoder that can tell where a patch lies to another one, and that says nearly the same of
patches that lie almost at one place; then banks of good patches.

For each of the two sizes K of patches, 64 and 32 px: a classifier tells from h1 - h2 in which of eight directions the second of
two patches lies, 3 K/4 to K away (cross entropy), and lambda times ||h(p) - h(p')||, p' moved by up to K/32 px, is added.

Differences from the paper. Patches are not cut out one by one: windows of pictures are encoded whole, twice, the second time
moved by a pixel or two, in another light and with other noise, and pairs are drawn from what the first says of one place and the
second of another one. The numbers are those of cut out patches, a step costs a tenth. Banks are greedy coresets, not all patches.
The best state by the held-out good pictures' loss stays (the authors report the best epoch of the test set). The encoder is
trained by Muon in place of Adam, with which a CPU needs fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.families.contract import FitData
from edgead.families.patchcore.coreset import greedy_coreset
from edgead.families.patchsvdd.network import PATCH_PX, Encoder, PatchSvdd
from edgead.families.patchsvdd.options import PatchSvddOptions
from edgead.models.learning.muon import MuonTrainer
from edgead.models.learning.steps import run, split
from edgead.models.rows import to_pixels

NOISE = 0.02 * 255
"""Deviation of the noise on each pixel, and of the light of each colour of a window."""

GATHERED = 20_000
"""Patches of each size that a coreset is chosen from."""

LOOKS = 4
"""Batches of held-out windows that a loss is the mean of."""

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Direction(nn.Module):
    """Which of eight directions the second patch lies in, from the difference of two: B x C -> B x 8. The weights of the last
    layer have length 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(channels, 128), nn.LeakyReLU(0.1), nn.Linear(128, 128), nn.LeakyReLU(0.1))
        self.last = nn.Linear(128, len(DIRECTIONS), bias=False)

    def forward(self, difference: Tensor) -> Tensor:
        return F.linear(self.body(difference), F.normalize(self.last.weight, dim=1))


def fit(data: FitData, options: PatchSvddOptions) -> PatchSvdd:
    """A Patch SVDD of good images. It tells the stages "training", "patches" and "coreset".

    Raises:
        BadInput: the pictures are smaller than 64 px, or the training diverged.
    """
    config = {"encoder": options.encoder, "rows": 1, "big_rows": 1, "score": options.score_by}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        encoder = PatchSvdd(config, data.size).encoder
        directions = nn.ModuleList([Direction(encoder.channels) for _ in range(2)])
    learnt, held = split(len(data.images), data.seed)
    training = _Training(encoder, directions, data, options)
    training.train(learnt, held)
    return _with_banks(encoder.cpu().eval(), data, options, config)


class _Training:
    """Encoder and classifiers, the pictures, and one generator."""

    def __init__(self, encoder: Encoder, directions: nn.ModuleList, data: FitData, options: PatchSvddOptions) -> None:
        self.encoder, self.directions = encoder.to(data.device), directions.to(data.device)
        self.data, self.options = data, options
        self.window = min(options.window, *data.size)
        self.generator = torch.Generator().manual_seed(data.seed)

    def train(self, learnt: Sequence[int], held: Sequence[int]) -> None:
        muon = MuonTrainer(self.encoder, self.options.lr)
        adam = torch.optim.Adam(self.directions.parameters(), lr=self.options.classifier_lr)

        def step(i: int) -> float:
            loss = self.loss(muon.weights(), learnt, self.generator)
            fall = 0.5 + 0.5 * math.cos(math.pi * i / self.options.steps)
            adam.param_groups[0]["lr"] = self.options.classifier_lr * fall
            adam.zero_grad()
            muon.step(loss, self.options.lr * fall)
            adam.step()
            return float(loss.detach())

        @torch.no_grad()
        def heldout() -> float:
            always = torch.Generator().manual_seed(self.data.seed + 1)
            return sum(float(self.loss(muon.weights(), held, always)) for _ in range(LOOKS)) / LOOKS

        run(
            step, self.options.steps, {"muon": muon, "directions": self.directions, "adam": adam}, self.generator,
            report=self.data.report, heldout=heldout if held else None, best=("muon", "directions"),
            checkpoint=self.data.checkpoint, curves=self.data.curves,
        )  # fmt: skip
        muon.write_back()

    def loss(self, weights: Mapping[str, Tensor], chosen: Sequence[int], generator: torch.Generator) -> Tensor:
        """With these weights of the encoder, on windows of these pictures -> scalar."""
        first, second = (
            torch.func.functional_call(self.encoder, dict(weights), (view,)) for view in self._views(chosen, generator)
        )
        total = torch.zeros((), device=self.data.device)
        for k, (one, other) in enumerate(zip(first, second, strict=True)):
            pairs, wanted = self._pairs(one, other, PATCH_PX * (k + 1), generator)
            total = total + F.cross_entropy(self.directions[k](pairs), wanted)
            total = total + self.options.together * (one - other).square().sum(1).clamp_min(1e-6).sqrt().mean()
        return total

    def _views(self, chosen: Sequence[int], generator: torch.Generator) -> list[Tensor]:
        """The same windows of some pictures twice, the second moved by up to 2 px: float32 batch x 3 x window x window each."""
        views: list[list[Tensor]] = [[], []]
        for picture in torch.randint(len(chosen), (self.options.batch,), generator=generator).tolist():
            pixels = to_pixels([self.data.images[chosen[picture]]])[0]
            room = [length - self.window for length in pixels.shape[1:]]
            corner = [int(torch.randint(most + 1, (1,), generator=generator)) for most in room]
            moved = [
                min(max(at + int(torch.randint(-2, 3, (1,), generator=generator)), 0), most)
                for at, most in zip(corner, room, strict=True)
            ]
            for view, (top, left) in zip(views, (corner, moved), strict=True):
                window = pixels[:, top : top + self.window, left : left + self.window]
                light = NOISE * torch.randn(3, 1, 1, generator=generator)
                view.append(window + light + NOISE * torch.randn(window.shape, generator=generator))
        return [torch.stack(view).to(self.data.device) for view in views]

    def _pairs(self, one: Tensor, other: Tensor, patch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Differences of patches of which the second lies 3/4 to 1 patch away in one of eight directions: pairs x C, and
        which."""
        count, stride = self.options.pairs, self.encoder.stride
        n, _, h, w = one.shape
        near, far = 3 * patch // 4 // stride, patch // stride
        which = torch.randint(len(DIRECTIONS), (count,), generator=generator)
        way = torch.tensor(DIRECTIONS)[which]
        away = way * torch.randint(near, far + 1, (count, 2), generator=generator)
        sides = torch.tensor([h, w])
        away = torch.minimum(torch.maximum(away, 1 - sides), sides - 1)
        low, high = (-away).clamp_min(0), torch.minimum(sides, sides - away)
        place = low + (torch.rand(count, 2, generator=generator) * (high - low)).long()
        image = torch.randint(n, (count,), generator=generator)
        there = place + away
        p, q = (m.permute(0, 2, 3, 1)[image, at[:, 0], at[:, 1]] for m, at in ((one, place), (other, there)))
        return p - q, which.to(one.device)


@torch.no_grad()
def _with_banks(encoder: Encoder, data: FitData, options: PatchSvddOptions, config: dict[str, Any]) -> PatchSvdd:
    """The detector, with coresets of the patches of all pictures."""
    generator = torch.Generator().manual_seed(data.seed)
    probe = PatchSvdd(config, data.size)
    probe.encoder = encoder
    tables: tuple[list[Tensor], list[Tensor]] = ([], [])
    each = -(-GATHERED // len(data.images))
    for done, image in enumerate(data.images, 1):
        for table, found in zip(tables, probe.patches(to_pixels([image])), strict=True):
            rows = found[0].flatten(1).T
            table.append(rows[torch.randperm(len(rows), generator=generator)[:each]])
        data.report("patches", done / len(data.images))
    banks = []
    for table, count in zip(tables, (options.rows, options.big_rows), strict=True):
        rows = torch.cat(table)
        banks.append(rows[greedy_coreset(rows - rows.mean(0), count, 0, lambda done: data.report("coreset", done))])
    detector = PatchSvdd({**config, "rows": len(banks[0]), "big_rows": len(banks[1])}, data.size)
    detector.encoder = encoder
    detector.bank.fill(banks[0])
    detector.big_bank.fill(banks[1])
    return detector.eval().requires_grad_(False)
