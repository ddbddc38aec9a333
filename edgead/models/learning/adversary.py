"""A critic that learns along with a network, to tell what it makes from real pictures; the network learns to be taken for real.

Such trainings can collapse: what the network makes becomes one and the same, or no number at all. :class:`Adversary` looks, and a
collapse ends the training with a message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import BadInput

ALIKE = 0.05
"""What is made has collapsed when its deviation from one picture to the next is below this share of the real pictures'."""

ONE = 1e-6
"""Real pictures with a deviation below this are one and the same."""

PATIENCE = 50
"""Steps in a row that it must be so."""

Loss = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]
"""Of a critic, from its answers on real and made pictures; of what makes them, from the critic's answers on them."""


def _hinge(real: Tensor, made: Tensor) -> Tensor:
    return F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean()


def _nsgan(real: Tensor, made: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(made).mean()


def _wasserstein(real: Tensor, made: Tensor) -> Tensor:
    return made.mean() - real.mean()


LOSSES: Mapping[str, Loss] = {
    "hinge": (_hinge, lambda made: -made.mean()),
    "nsgan": (_nsgan, lambda made: F.softplus(-made).mean()),
    "wgan": (_wasserstein, lambda made: -made.mean()),
}
"""Hinge (Lim & Ye 2017), non-saturating (Goodfellow et al. 2014), Wasserstein (Arjovsky et al. 2017; wants a `penalty`)."""


class Adversary:
    """A critic, its optimizer, and a look at what the network makes.

    Args:
        critic: module; its first input is pictures N x 3 x H x W, others go along.
        loss: of :data:`LOSSES`.
        lr: of its Adam.
        penalty: weight of the gradient penalty (|gradient| - 1)^2 between real and made (Gulrajani et al. 2017); 0: none.
        warm_up: steps before a collapse is looked for: in the beginning, everything that is made is alike.
    """

    def __init__(
        self, critic: nn.Module, loss: str = "hinge", lr: float = 2e-4, penalty: float = 0.0, warm_up: int = 100
    ) -> None:
        self.critic, self.penalty, self.warm_up = critic, penalty, warm_up
        self._of_critic, self._of_maker = LOSSES[loss]
        self.adam = torch.optim.Adam(critic.parameters(), lr, betas=(0.5, 0.999))
        self._steps, self._alike = 0, 0

    def learn(self, real: tuple[Tensor, ...], made: tuple[Tensor, ...], generator: torch.Generator) -> float:
        """A step of the critic on its inputs, which are not learned through -> its loss.

        Raises:
            BadInput: what is made has collapsed.
        """
        real, made = tuple(one.detach() for one in real), tuple(one.detach() for one in made)
        self._look(real[0], made[0])
        self.critic.requires_grad_(True)
        loss = self._of_critic(self.critic(*real), self.critic(*made))
        if self.penalty:
            loss = loss + self.penalty * self._steepness(real, made, generator)
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return float(loss.detach())

    def loss(self, *made: Tensor) -> Tensor:
        """What is taken for real costs nothing: of the network, which learns through it; the critic does not."""
        self.critic.requires_grad_(False)
        return self._of_maker(self.critic(*made))

    def _steepness(self, real: tuple[Tensor, ...], made: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        share = torch.rand(len(real[0]), 1, 1, 1, generator=generator).to(real[0].device)
        between = []
        for a, b in zip(real, made, strict=True):
            weight = share.view(-1, *[1] * (a.ndim - 1))
            between.append((weight * a + (1.0 - weight) * b).requires_grad_(True))
        slopes = torch.autograd.grad(self.critic(*between).sum(), between, create_graph=True)
        length = (torch.cat([slope.flatten(1) for slope in slopes], 1).square().sum(1) + 1e-6).sqrt()
        return (length - 1.0).square().mean()

    def _look(self, real: Tensor, made: Tensor) -> None:
        """Raises BadInput: what is made has been alike for long, and the real pictures are not."""
        self._steps += 1
        if len(real) < 2 or self._steps <= self.warm_up:
            return
        varies, own = (float(one.std(0).mean()) for one in (real, made))
        if varies < ONE:  # one picture, drawn several times: nothing can be told by it
            return
        self._alike = self._alike + 1 if own < ALIKE * varies else 0
        if self._alike >= PATIENCE:
            raise BadInput(
                f"the adversarial training collapsed: after {self._steps} steps all that the network makes is one picture"
                f" (deviation {own:.2g} of 1, of real ones {varies:.2g})",
                hint="give a smaller --adversary, a smaller --lr, or more pictures",
            )

    def state_dict(self) -> dict[str, Any]:
        return {"critic": self.critic.state_dict(), "adam": self.adam.state_dict(), "steps": self._steps, "alike": self._alike}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        self.adam.load_state_dict(state["adam"])
        self._steps, self._alike = int(state["steps"]), int(state["alike"])
