"""How pictures are hidden: what a pass sees, what is told of it, and what a training step asks."""

import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.parts.errors import L2
from edgead.models.parts.hiding import Puzzle, Stripes, Superpixels, Ways, Windows
from edgead.models.parts.masks import Masking

SIZE = (48, 64)
MADE = {
    "stripes": lambda: Stripes(SIZE, 0, ("16", "32")),
    "windows": lambda: Windows(SIZE, 0, ("64",)),
    "soft": lambda: Superpixels(SIZE),
    "mean": lambda: Superpixels(SIZE, 0, "mean"),
    "jitter": lambda: Superpixels(SIZE, 0, "jitter"),
}
every = pytest.mark.parametrize("kind", MADE)


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@every
def test_a_pass_says_nothing_of_what_it_hides(kind: str) -> None:
    """Whatever it rebuilds, the network does not see the hidden part, and of it alone the error is told."""
    masking, x = MADE[kind](), pictures()
    seen = masking.see(x).unflatten(0, (2, masking.passes))
    hidden = masking.of(x)
    assert seen.shape == (2, masking.passes, 3, *SIZE)
    torch.testing.assert_close(seen, x[:, None] * (1 - hidden) + masking.fill * hidden)
    perfect = x.repeat_interleave(masking.passes, 0)
    assert float(masking.tell(x, perfect, L2()).max()) <= 1e-9
    where_seen = perfect + 5.0 * (hidden < 1e-3).expand(2, -1, -1, -1, -1).flatten(0, 1)
    assert float(masking.tell(x, where_seen, L2()).max()) <= (1e-4 if kind == "soft" else 1e-9)
    assert float(masking.tell(x, perfect + 0.5, L2()).min()) >= 0.2


@every
def test_a_step_hides_one_mask_of_each_picture(kind: str) -> None:
    masking, x = MADE[kind](), pictures(4)
    task, again = (masking.draw(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(task.inputs, again.inputs)
    assert task.visible is not None and task.weight is not None
    torch.testing.assert_close(task.inputs, x * task.visible + masking.fill * (1 - task.visible))
    assert (task.weight * (1 - task.visible)).sum() > (task.weight * task.visible).sum() / 8
    assert task.visible.flatten(1).mean(1).min() > 0.4


def test_stripes_are_told_against_their_own_error_on_good_pictures() -> None:
    masking, x = Stripes(SIZE, 0, ("16", "32")), pictures(1)
    masking.usual.copy_(torch.tensor([1.0, 1.0, 4.0, 4.0]))
    rebuilt = x.repeat_interleave(masking.passes, 0)
    rebuilt[4:] += 1.0  # the wide stripes are rebuilt badly, as they always are
    assert float(masking.tell(x, rebuilt, L2()).max()) == pytest.approx(0.25, rel=1e-4)


def test_cells_of_the_mean_follow_what_good_pictures_have_in_common() -> None:
    masking = Superpixels(SIZE, 0, "mean")
    x = torch.full((1, 3, *SIZE), 0.1)
    x[..., 13:35, 21:43] = 0.9
    irregular = masking.hidden.clone()
    masking.measure([x, x])
    assert not torch.equal(masking.hidden, irregular)
    assert masking.hidden.sum(0).eq(1).all()
    inside = masking.hidden[:, 0, 16:32, 24:40].flatten(1).any(1)
    assert torch.equal(masking.state_dict()["hidden"], masking.hidden)  # it is part of the model
    assert inside.sum() <= 9


def test_windows_and_stripes_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="windows of 64 px in 5 sets"):
        Windows(SIZE, 0, ("64",), 5)
    with pytest.raises(BadInput, match="stripes of 8, 9 px of 256 are the same"):
        Stripes(SIZE, 0, ("8", "9"))


def test_a_puzzle_is_solved_by_who_puts_the_quarters_back() -> None:
    masking, x = Puzzle(SIZE, 0, 3), pictures()
    assert masking.see(x).shape == (6, 3, *SIZE)
    assert float(masking.tell(x, x.repeat_interleave(3, 0), L2()).max()) == 0.0
    assert float(masking.tell(x, masking.see(x), L2()).max()) > 0.1
    task = masking.draw(x, torch.Generator().manual_seed(0))
    assert torch.equal(task.wanted, x)
    quarters = task.inputs.unfold(2, 24, 24).unfold(3, 32, 32).flatten(2, 3)  # N x 3 x 4 x h x w
    grey = (quarters.std(1) < 1e-6).flatten(2).all(2)
    assert grey.sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("kind", [*MADE, "puzzle"])
def test_nothing_is_drawn_when_it_is_asked(kind: str) -> None:
    make = MADE.get(kind, lambda: Puzzle(SIZE, 5))
    one, two, x = make(), make(), pictures()
    assert isinstance(one, Masking)
    assert torch.equal(one.see(x), two.see(x)) and torch.equal(one.see(x), one.see(x))


def test_visible_is_what_the_network_is_told() -> None:
    for kind in ("stripes", "windows", "jitter"):
        masking = MADE[kind]()
        assert isinstance(masking, Ways)
        torch.testing.assert_close(masking.visible(), 1 - masking.hidden)
    assert Superpixels(SIZE).visible() is None  # differs from picture to picture
