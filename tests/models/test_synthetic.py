"""Defects made up for training."""

from __future__ import annotations

import pytest
import torch

from edgead.errors import BadInput
from edgead.models.learning.synthetic import KINDS, mixed
from edgead.models.rows import to_pixels
from tests.bundles import part

every = pytest.mark.parametrize("kind", KINDS)


def pictures(count: int = 8, side: int = 64) -> torch.Tensor:
    return to_pixels([part(seed, side) for seed in range(count)])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every
def test_the_mask_tells_where_and_the_rest_stays(kind: str) -> None:
    batch = pictures()
    was = batch.clone()
    changed, mask = KINDS[kind](batch, seeded())
    assert torch.equal(batch, was)
    assert changed.shape == batch.shape and mask.shape == (8, 1, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert float(changed.min()) >= 0.0 and float(changed.max()) <= 255.0
    moved = (changed - batch).abs().amax(1, keepdim=True)
    assert float((moved * mask).flatten(1).amax(1).min()) > 1.0  # on each picture something is to be seen
    outside = (moved * (1 - mask)).amax()
    assert float(outside) < (0.0 if kind != "smooth_blend" else 30.0) + 1e-3  # where it fades it is not called a defect


@every
def test_the_same_seed_draws_the_same_and_another_something_else(kind: str) -> None:
    batch = pictures()
    one, two, other = (KINDS[kind](batch, seeded(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@every
def test_many_leave_the_mean_so_that_light_alone_does_not_give_them_away(kind: str) -> None:
    grey = torch.full((1, 3, 128, 128), 120.0) + 10 * torch.rand(1, 3, 128, 128, generator=seeded())
    even = 0
    for seed in range(60):
        changed, mask = KINDS[kind](grey, seeded(seed))
        even += abs(float(((changed - grey) * mask).sum() / (3 * mask.sum()))) < 3.0
    assert even >= 10


@every
def test_a_grey_picture_stays_grey(kind: str) -> None:
    grey = pictures().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    changed, _ = KINDS[kind](grey, seeded())
    assert float((changed - changed.mean(1, keepdim=True)).abs().max()) < 1e-3


def test_kinds_are_mixed_and_unknown_ones_refused_by_name() -> None:
    batch = pictures(24)
    changed, mask = mixed(["confetti", "perlin"])(batch, seeded())
    assert changed.shape == batch.shape and bool(mask.flatten(1).any(1).all())
    with pytest.raises(BadInput, match="unknown synthetic defects 'rust'"):
        mixed(["confetti", "rust"])
    with pytest.raises(BadInput, match="no kind"):
        mixed([])
    with pytest.raises(BadInput, match="8 x 8 px"):
        mixed(["stripes"])(torch.zeros(1, 3, 8, 8), seeded())
