"""Every way of hiding a picture hides each of its pixels exactly once."""

import pytest
import torch

from edgead.errors import BadInput
from edgead.models.parts import patterns

SIZE = (64, 96)

WAYS = {
    "stripes": lambda: patterns.stripes(SIZE, (4, 16)),
    "windows": lambda: patterns.windows(SIZE, 16),
    "three phases": lambda: patterns.windows(SIZE, 8, 3),
    "jittered": lambda: patterns.coloured(patterns.jittered(SIZE), 8),
}


@pytest.mark.parametrize("kind", WAYS)
def test_each_way_hides_every_pixel_once(kind: str) -> None:
    made = WAYS[kind]()
    assert made.shape[2:] == SIZE
    assert bool((made.eq(0) | made.eq(1)).all())
    assert bool((made.sum(1) == 1).all())
    assert torch.equal(made, WAYS[kind]())  # nothing is drawn anew


def test_stripes_are_of_their_width_lying_then_standing() -> None:
    made = patterns.stripes((8, 8), (2,))
    assert made[0, 0, :, 3].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert made[1, 1, 5].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_hidden_windows_do_not_touch() -> None:
    hidden = patterns.windows((64, 64), 16)[0, 0]
    assert hidden[:16, :16].all() and hidden[32:48, 32:48].all()
    assert hidden.sum() == 4 * 16 * 16


def test_cells_of_one_colour_are_no_neighbours() -> None:
    labels = patterns.jittered((64, 64), 8)
    colour = labels // 8 % 3 * 3 + labels % 8 % 3
    below = (labels[1:] != labels[:-1]) & (colour[1:] == colour[:-1])
    beside = (labels[:, 1:] != labels[:, :-1]) & (colour[:, 1:] == colour[:, :-1])
    assert not below.any() and not beside.any()


def test_orders_of_quarters() -> None:
    orders = patterns.permutations(23)
    assert len(set(orders)) == 23 and (0, 1, 2, 3) not in orders
    assert all(place != tile for order in orders[:4] for place, tile in enumerate(order))
    x = torch.arange(16.0).view(1, 1, 4, 4)
    moved = patterns.reordered(x, (3, 1, 0, 2))
    assert moved[0, 0].tolist() == [[10, 11, 2, 3], [14, 15, 6, 7], [0, 1, 8, 9], [4, 5, 12, 13]]
    with pytest.raises(BadInput, match="24 orders of four quarters"):
        patterns.permutations(24)
