"""A critic that learns along, and the look at what is made for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgead.errors import BadInput
from edgead.models.learning.adversary import LOSSES, PATIENCE, Adversary
from edgead.models.parts.convnets import Critic


def pictures(mean: float, seed: int) -> torch.Tensor:
    return (mean + 0.1 * torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def small() -> nn.Module:
    torch.manual_seed(0)
    return Critic(4)


@pytest.mark.parametrize("kind", LOSSES)
def test_the_critic_learns_to_tell_and_what_looks_real_costs_less(kind: str) -> None:
    adversary = Adversary(small(), kind, lr=1e-2, penalty=1.0 if kind == "wgan" else 0.0)
    generator = torch.Generator().manual_seed(0)
    told = [adversary.learn((pictures(0.7, i),), (pictures(0.3, 100 + i),), generator) for i in range(40)]
    assert told[-1] < told[0]
    assert float(adversary.loss(pictures(0.7, 200)).detach()) < float(adversary.loss(pictures(0.3, 200)).detach())


def test_the_network_learns_through_the_critic_and_the_critic_does_not() -> None:
    critic = small()
    made = pictures(0.3, 0).requires_grad_(True)
    Adversary(critic).loss(made).backward()
    assert made.grad is not None and float(made.grad.abs().max()) > 0
    assert all(p.grad is None for p in critic.parameters())


def test_a_network_that_makes_one_and_the_same_picture_ends_the_training_with_a_message() -> None:
    adversary, generator = Adversary(small(), warm_up=3), torch.Generator().manual_seed(0)
    same = pictures(0.5, 0)[:1].repeat(4, 1, 1, 1)
    with pytest.raises(BadInput, match=f"adversarial training collapsed: after {3 + PATIENCE} steps") as told:
        for i in range(3 + PATIENCE):
            adversary.learn((pictures(0.5, i),), (same,), generator)
    assert "--adversary" in str(told.value.hint)


def test_one_step_that_varies_again_is_no_collapse() -> None:
    adversary, generator = Adversary(small(), warm_up=0), torch.Generator().manual_seed(0)
    same = pictures(0.5, 0)[:1].repeat(4, 1, 1, 1)
    for i in range(2 * PATIENCE):
        made = pictures(0.5, 500 + i) if i == PATIENCE - 1 else same
        if i < 2 * PATIENCE - 1:
            adversary.learn((pictures(0.5, i),), (made,), generator)


def test_a_batch_that_holds_one_real_picture_several_times_does_not_hide_a_collapse() -> None:
    """Of few pictures and small batches every second one does."""
    adversary, generator = Adversary(small(), warm_up=0), torch.Generator().manual_seed(0)
    same = pictures(0.5, 0)[:1].repeat(4, 1, 1, 1)
    with pytest.raises(BadInput, match="adversarial training collapsed"):
        for i in range(2 * PATIENCE):
            adversary.learn((pictures(0.5, i) if i % 2 else same,), (same,), generator)


def test_real_pictures_that_are_all_alike_are_no_collapse() -> None:
    adversary, generator = Adversary(small(), warm_up=0), torch.Generator().manual_seed(0)
    same = pictures(0.5, 0)[:1].repeat(4, 1, 1, 1)
    for _ in range(PATIENCE + 1):
        adversary.learn((same,), (same,), generator)


def test_an_adversary_goes_on_from_its_state() -> None:
    generator = torch.Generator().manual_seed(0)
    whole, first = Adversary(small()), Adversary(small())
    for i in range(4):
        whole.learn((pictures(0.7, i),), (pictures(0.3, i),), generator)
    for i in range(2):
        first.learn((pictures(0.7, i),), (pictures(0.3, i),), generator)
    second = Adversary(Critic(4))
    second.load_state_dict(first.state_dict())
    for i in range(2, 4):
        second.learn((pictures(0.7, i),), (pictures(0.3, i),), generator)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.critic.state_dict().values(), second.critic.state_dict().values(), strict=True)
    )
