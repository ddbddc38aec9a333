"""The history of a network that learns to make pictures of good parts: states of it from its first steps, when they are hardly
any, to its last ones, when they are nearly right (HistoryAD).

``autoencoder``: it rebuilds good pictures, from blurred to sharp. ``gan``: as in the paper it makes them from noise, against a
critic, which needs many steps and pictures; that it makes one and the same picture at the end is noticed
(:class:`edgead.models.learning.adversary.Adversary`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.oneclass.network import Critic
from edgead.families.oneclass.options import OneClassOptions
from edgead.models.learning.adversary import Adversary
from edgead.models.learning.steps import Stateful, run
from edgead.models.parts.convnets import Autoencoder
from edgead.models.rows import to_pixels

STRIDE = 16
"""Of the autoencoder; what it makes is as large as a multiple of it allows, and the rest is left as it is."""

NOISE = 8
"""Numbers for each cell that a picture is made from, and as many for all of it."""

PENALTY = 10.0
"""Weight of the gradient penalty (Gulrajani et al. 2017)."""


class Maker(nn.Module):
    """Noise -> a picture: a learned code, moved by noise for all of it and for each cell, through a decoder."""

    def __init__(self, decoder: Autoencoder, size: tuple[int, int]) -> None:
        super().__init__()
        self.decoder = decoder
        self.cells = size[0] // STRIDE, size[1] // STRIDE
        self.start = nn.Parameter(torch.randn(1, decoder.channels, *self.cells))
        self.whole, self.each = nn.Conv2d(NOISE, decoder.channels, 1), nn.Conv2d(NOISE, decoder.channels, 1)

    def forward(self, count: int, generator: torch.Generator) -> Tensor:
        """N x 3 x H x W, 0 to 1."""
        device = self.start.device
        whole = torch.randn(count, NOISE, 1, 1, generator=generator).to(device)
        each = torch.randn(count, NOISE, *self.cells, generator=generator).to(device)
        return self.decoder.decode(F.leaky_relu(self.start + self.whole(whole) + self.each(each), 0.2), [])


class History:
    """States of the network, and pictures of theirs.

    Args:
        learnt: which of the good pictures it learns from.

    Raises:
        BadInput: the training diverged or collapsed.
    """

    def __init__(self, data: FitData, options: OneClassOptions, learnt: Sequence[int]) -> None:
        self.size = data.size[0] // STRIDE * STRIDE, data.size[1] // STRIDE * STRIDE
        if min(self.size) < STRIDE:
            raise BadInput(f"pictures of {data.size[1]} x {data.size[0]} px have no history", hint=f"--size {STRIDE} or more")
        self._data, self._options, self._learnt = data, options, learnt
        network = Autoencoder(self.size, options.history_width)
        self.made = options.history_of == "gan"
        self.network: nn.Module = (Maker(network, self.size) if self.made else network).to(data.device)
        self._states: list[dict[str, Tensor]] = []
        self._learn()

    def pictures(self, good: Tensor, generator: torch.Generator) -> Tensor:
        """One for each of some good ones, float32 N x 3 x H x W, 0 to 255, of one state that is drawn."""
        self.network.load_state_dict(self._states[int(torch.randint(len(self._states), (1,), generator=generator))])
        height, width = self.size
        found = good.clone()
        with torch.no_grad():
            found[:, :, :height, :width] = 255.0 * self._made_from(good[:, :, :height, :width] / 255.0, generator).to(good.device)
        return found

    def _made_from(self, good: Tensor, generator: torch.Generator) -> Tensor:
        if self.made:
            made: Tensor = self.network(len(good), generator)
            return made
        assert isinstance(self.network, Autoencoder)
        return self.network.decode(*self.network.encode(good.to(self._data.device)))

    def _learn(self) -> None:
        """Train, and keep states after 1, 2, 4, ... shares of the steps: most of the change is in the beginning."""
        steps, generator = self._options.history_steps, torch.Generator().manual_seed(self._data.seed)
        kept = {max(1, round(steps / 2**k)) for k in range(self._options.snapshots)}
        adam = torch.optim.Adam(self.network.parameters(), lr=self._options.history_lr, betas=(0.5, 0.999))
        adversary = None
        if self.made:
            critic = Critic(self._options.width).to(self._data.device)
            adversary = Adversary(critic, "wgan", self._options.history_lr, PENALTY, warm_up=min(100, steps // 4))

        def step(i: int) -> float:
            chosen = torch.randint(len(self._learnt), (self._options.batch,), generator=generator).tolist()
            good = to_pixels([self._data.images[self._learnt[k]] for k in chosen])[:, :, : self.size[0], : self.size[1]]
            good = good.to(self._data.device)
            made = 255.0 * self._made_from(good / 255.0, generator)
            if adversary is not None:
                try:
                    adversary.learn((good,), (made,), generator)
                except BadInput as collapsed:
                    hint = "give a smaller --history-lr, more pictures, or --history-of autoencoder"
                    raise BadInput(str(collapsed), hint=hint) from collapsed
                loss = adversary.loss(made)
            else:
                loss = F.mse_loss(made, good) / 255.0
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if i + 1 in kept:
                self._states.append(copy.deepcopy(self.network.state_dict()))
            return float(loss.detach())

        parts: dict[str, Stateful] = {"network": self.network, "adam": adam, "history": self}
        if adversary is not None:
            parts["adversary"] = adversary
        run(
            step, steps, parts, generator, report=self._data.report, stage="history", checkpoint=self._data.checkpoint,
            curves=self._data.curves,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What a training goes on from."""
        return {"states": list(self._states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._states = list(state["states"])
