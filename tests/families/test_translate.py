"""DeScarGAN: what is folded away answers the same, what it refuses, and that a collapse ends with a message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgead.errors import BadInput
from edgead.families import find, method
from edgead.families.contract import Defect, FitData
from edgead.families.translate.fit import _Training, fit
from edgead.families.translate.network import DEFECT, GOOD, Generator, Judge, Translate
from edgead.families.translate.options import TranslateOptions
from edgead.models.learning import adversary
from edgead.models.learning.steps import Checkpoint
from tests.bundles import part

SIZE = 48
QUICK = TranslateOptions(base=4, steps=3, batch=2)


def data(defects: int = 4, **more: object) -> FitData:
    return FitData(
        [part(seed, SIZE) for seed in range(6)], (SIZE, SIZE),
        defects=[Defect(part(100 + seed, SIZE, defect=True)) for seed in range(defects)], **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_folded_generator_answers_as_the_whole_one_did_for_good_up_to_the_border() -> None:
    torch.manual_seed(0)
    generator = Generator(4, whole=True)
    x = torch.rand(4, 3, SIZE, SIZE)
    generator.train()
    for _ in range(3):
        generator(torch.rand(4, 3, SIZE, SIZE), torch.tensor([GOOD, DEFECT, GOOD, DEFECT]))
    generator.eval()
    with torch.no_grad():
        whole = generator(x, torch.full((4,), GOOD))
        other = generator(x, torch.full((4,), DEFECT))
        generator.fold()
        assert torch.allclose(generator(x), whole, atol=1e-5)
    assert not torch.allclose(whole, other, atol=1e-3)  # it does make a difference which kind is asked for


def test_each_half_goes_to_the_critic_of_its_kind() -> None:
    torch.manual_seed(0)
    judge, x = Judge(4, whole=True), torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        before = judge(x)
        judge.critics[DEFECT].weight.zero_()  # type: ignore[union-attr]
        after = judge(x)
    assert torch.equal(before[GOOD], after[GOOD])
    assert not torch.equal(before[DEFECT], after[DEFECT])


def test_what_is_only_for_training_is_not_in_the_model() -> None:
    detector = fit(data(), QUICK)
    names = set(detector.state_dict())
    assert names == set(Translate.build(detector.config, detector.image_size).state_dict())
    assert not [name for name in names if "critics" in name or "branches.1" in name or "norm" in name]


def test_the_class_head_tells_the_defects_that_it_learned() -> None:
    detector = fit(data(6), TranslateOptions(base=4, steps=60, batch=3, lr=2e-3))
    with torch.no_grad():
        good, bad = (
            detector(torch.stack([torch.from_numpy(part(seed, SIZE, defect=defect)) for seed in seeds]))[1]
            for defect, seeds in ((False, range(6)), (True, range(100, 106)))
        )
    assert float(good.mean()) < float(bad.mean())


def test_going_on_from_a_checkpoint_gives_the_same_model(tmp_path: Path) -> None:
    whole = fit(data(), QUICK).state_dict()

    class Stop(Exception):
        pass

    def stop(stage: str, done: float) -> None:
        if done > 0.5:
            raise Stop

    checkpoint = Checkpoint(tmp_path / "state", "this one", every_s=0.0)
    with pytest.raises(Stop):
        fit(data(progress=stop, checkpoint=checkpoint), QUICK)
    again = fit(data(checkpoint=checkpoint), QUICK).state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_too_few_defects_and_unfitting_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="3 pictures of defects are too few to translate from"):
        fit(data(3), QUICK)
    with pytest.raises(BadInput, match="cannot take pictures of 48 x 50 px"):
        Translate({"base": 4, "score": "class"}, (48, 50))


def test_a_collapse_ends_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator whose last layers say nothing makes one picture of all."""
    monkeypatch.setattr(adversary, "PATIENCE", 3)
    detector = Translate({"base": 4, "score": "class"}, (SIZE, SIZE), whole=True).train()
    for branch in detector.generator.branches:
        torch.nn.init.zeros_(branch[1].weight)  # type: ignore[index, arg-type]
        torch.nn.init.zeros_(branch[1].bias)  # type: ignore[index, arg-type]
    training = _Training(detector, data(), TranslateOptions(base=4, steps=20, batch=2, lr=1e-9))
    training.adversary.warm_up = 0
    with pytest.raises(BadInput, match="the adversarial training collapsed"):
        training.run()


def test_it_needs_defects_and_says_so() -> None:
    family, preset = method("descargan")
    assert family.name == "translate"
    assert find("translate").needs_defects
    with pytest.raises(BadInput, match="needs pictures of defects too"):
        family.check_defects(False)
    family.options_type().of("translate", preset.values("paper"))
