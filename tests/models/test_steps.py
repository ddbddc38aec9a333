"""The loop of trainings: an interruption costs nothing, the best held-out state stays, a training that diverges ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgead.errors import BadInput
from edgead.jobs.train import Looked, train_request
from edgead.models.learning.curve import POINTS, Curve
from edgead.models.learning.steps import Checkpoint, run, split
from tests.bundles import write_parts

STEPS = 30


class Toy:
    """A line fitted to drawn points, with a batch norm and Adam: all kinds of state."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.adam = torch.optim.Adam(self.net.parameters(), 0.01)
        self.generator = torch.Generator().manual_seed(2)

    def step(self, i: int) -> float:
        points = torch.randn(16, 3, generator=self.generator)
        loss = ((self.net(points) - points.sum(1, keepdim=True)) ** 2).mean()
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return loss.item()

    def run(
        self,
        checkpoint: Checkpoint | None = None,
        until: int = STEPS,
        heldout: Callable[[], float] | None = None,
        curves: list[Curve] | None = None,
    ) -> int:
        def report(stage: str, done: float) -> None:
            if round(done * STEPS) == until and until < STEPS:
                raise KeyboardInterrupt

        parts = {"net": self.net, "adam": self.adam}
        now = itertools.count(0.0, 20.0)
        return run(
            self.step, STEPS, parts, self.generator, report=report, heldout=heldout, every=5, checkpoint=checkpoint,
            clock=lambda: next(now), curves=curves,
        )  # fmt: skip


def test_a_training_taken_up_again_gives_the_model_that_it_would_have_given(tmp_path: Path) -> None:
    whole = Toy()
    whole.run()
    checkpoint = Checkpoint(tmp_path / "kept", "this one")
    with pytest.raises(KeyboardInterrupt):
        Toy().run(checkpoint, until=17)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    again = Toy()
    again.run(checkpoint)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_best_held_out_state_stays_also_across_an_interruption(tmp_path: Path) -> None:
    def worse_after_ten(toy: Toy, seen: list[int]) -> Callable[[], float]:
        def heldout() -> float:
            seen.append(len(seen))
            return 1.0 if toy.adam.state_dict()["state"][0]["step"] == 10 else math.nan if len(seen) == 1 else 2.0

        return heldout

    toy = Toy()
    assert toy.run(heldout=worse_after_ten(toy, [])) == 10
    checkpoint, first, second = Checkpoint(tmp_path / "kept", ""), Toy(), Toy()
    with pytest.raises(KeyboardInterrupt):
        first.run(checkpoint, until=22, heldout=worse_after_ten(first, []))
    assert second.run(checkpoint, heldout=worse_after_ten(second, [])) == 10
    for name, value in toy.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name]), name


def test_how_the_losses_went_is_known_also_across_an_interruption(tmp_path: Path) -> None:
    def looks() -> Callable[[], float]:
        told = iter([5.0, math.nan, 3.0, 4.0, 6.0, 7.0])
        return lambda: next(told)

    whole, parts = list[Curve](), list[Curve]()
    assert Toy().run(heldout=looks(), curves=whole) == 15
    assert len(whole[0].loss) == STEPS and whole[0].kept == 15
    assert whole[0].heldout == [(5, 5.0), (15, 3.0), (20, 4.0), (25, 6.0), (30, 7.0)]
    checkpoint, told = Checkpoint(tmp_path / "kept", ""), looks()
    with pytest.raises(KeyboardInterrupt):
        Toy().run(checkpoint, until=15, heldout=told)
    Toy().run(checkpoint, heldout=told, curves=parts)
    assert parts == whole


def test_a_long_curve_is_of_means() -> None:
    curves: list[Curve] = []
    run(float, 2 * POINTS + 2, {}, torch.Generator(), curves=curves)
    assert curves[0].points()[:2] == [(2.0, 1.0), (5.0, 4.0)]  # steps 1, 2, 3 have the losses 0, 1, 2
    assert len(curves[0].loss) <= POINTS and curves[0].loss[-1] == 2 * POINTS + 1  # of the last step alone


def test_a_training_that_diverges_ends_with_its_step() -> None:
    with pytest.raises(BadInput, match="diverged: the loss of step 3 is nan"):
        run(lambda i: math.nan if i == 2 else 1.0, 9, {}, torch.Generator())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02cos\nsystem\nq\x00."])
def test_a_file_that_is_no_checkpoint_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept").write_bytes(content)
    with pytest.raises(BadInput, match="kept is no checkpoint"):
        Toy().run(Checkpoint(tmp_path / "kept", ""))
    assert (tmp_path / "kept").read_bytes() == content


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Toy().run(Checkpoint(tmp_path / "kept", "one"), until=17)
    with pytest.raises(BadInput, match="kept by another training"):
        Toy().run(Checkpoint(tmp_path / "kept", "other"))


def test_a_split_is_by_seed_and_leaves_something_on_both_sides() -> None:
    for count in (2, 3, 10, 81):
        train, held = split(count, 0)
        assert sorted([*train, *held]) == list(range(count))
        assert train and held
    assert split(1, 0) == ([0], [])
    assert split(40, 0) == split(40, 0) != split(40, 1)


def test_what_does_not_apply_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(4), 64)
    good, out = tmp_path / "good", tmp_path / "out"
    with pytest.raises(BadInput, match="PatchCore has no preset paper"):
        train_request("patchcore", good, out, preset="paper")
    with pytest.raises(BadInput, match="PatchCore is trained at one go: it keeps no checkpoint"):
        train_request("patchcore", good, out, checkpoint=tmp_path / "kept")
    with pytest.raises(BadInput, match="this PyTorch has no device 'abacus'"):
        train_request("patchcore", good, out, Looked(size=(64, 64)), device="abacus")
    with pytest.raises(BadInput, match="unknown model 'mona'"):
        train_request("mona", good, out)
