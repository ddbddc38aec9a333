"""FCDD and HistoryAD."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import Defect, FitData, Stopped
from edgead.families.oneclass.fit import defect_loss, fit
from edgead.families.oneclass.history import History
from edgead.families.oneclass.network import Head
from edgead.families.oneclass.options import OneClassOptions
from edgead.models.learning.steps import Checkpoint
from tests.bundles import part

SIDE = 64


def good(count: int = 8) -> list[np.ndarray]:
    return [part(i, SIDE) for i in range(count)]


def ringed(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A part with a ring of its own grey, which no made up defect is, and where."""
    y, x = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(y - 20 - 3 * (seed % 8), x - 40 + 3 * (seed % 5))
    mask = np.abs(away - 8) < 2
    image = part(seed, SIDE).copy()
    image[mask] = np.clip(image[mask].astype(int) + 25, 0, 255)
    return image, mask


def test_batch_norm_is_folded_without_a_change() -> None:
    torch.manual_seed(0)
    head = Head((6, 10), 16).with_norms()
    maps = [torch.randn(2, 6, 12, 12), torch.randn(2, 10, 6, 6)]
    for _ in range(3):
        head(maps)
    head.eval()
    with torch.no_grad():
        was = head(maps)
        assert torch.allclose(head.fold()(maps), was, atol=1e-5)
    assert not [module for module in head.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_the_loss_of_a_defect() -> None:
    said = torch.zeros(1, 4, 5)
    said[0, 0, 0], said[0, 3] = 0.7, 0.2
    where = torch.zeros(1, 4, 5)
    where[0, 0, 0] = 1.0
    beside = 5 * 0.2 / 20  # over the whole picture, as the authors do
    assert float(defect_loss(said, where)) == pytest.approx(beside - math.log(1 - math.exp(-0.7)), rel=1e-5)
    everywhere = -math.log(1 - math.exp(-(0.7 + 5 * 0.2) / 20))  # made up: the whole picture is odd, as in the paper
    assert float(defect_loss(said, torch.ones_like(where))) == pytest.approx(everywhere, rel=1e-5)
    nobody_knows = torch.full_like(where, 0.5)  # a twentieth of 20 cells is one: the largest
    assert float(defect_loss(said, nobody_knows)) == pytest.approx(-math.log(1 - math.exp(-0.7)), rel=1e-5)


@pytest.mark.parametrize(("masks", "pool"), [(True, 0), (True, 24), (False, 24)])
def test_a_few_real_defects_are_learned(masks: bool, pool: int) -> None:
    known = [ringed(seed) for seed in range(4)]
    defects = [Defect(image, mask if masks else None) for image, mask in known]
    options = OneClassOptions(steps=40, batch=4, width=16, synthetic=("confetti",), lr=5e-3, pool=pool)
    told = []
    for given in ((), tuple(defects)):
        detector = fit(FitData(good(), (SIDE, SIDE), defects=given), options)
        with torch.no_grad():
            scores = detector(torch.from_numpy(np.stack([ringed(20 + i)[0] for i in range(6)])))[1]
            usual = detector(torch.from_numpy(np.stack([part(40 + i, SIDE) for i in range(6)])))[1]
        told.append(float((scores[:, None] > usual).float().mean()))
    assert told[1] > 0.9  # AUROC on other parts
    assert told[1] >= told[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"history_of": "gan"}, "--history-of is for --network critic, not for head"),
        ({"network": "critic", "pool": 3}, "--pool is for --network head, not for critic"),
        ({"network": "critic", "layers": ("blocks.4",)}, "--layers is for --network head, not for critic"),
        ({"synthetic": ("rust",)}, "rust"),
    ],
)
def test_options_that_do_not_apply_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        OneClassOptions(**options)


@pytest.mark.parametrize("options", [{"pool": 4}, {"pool": 0}, {"network": "critic", "history_steps": 4}])
def test_one_picture_is_enough_to_train(options: dict[str, Any]) -> None:
    detector = fit(FitData(good(1), (SIDE, SIDE)), OneClassOptions(steps=2, batch=2, width=8, **options))
    with torch.no_grad():
        assert bool(torch.isfinite(detector(torch.from_numpy(np.stack(good(2))))[0]).all())


HISTORY = {"network": "critic", "history_steps": 6, "history_width": 4}


@pytest.mark.parametrize(
    ("own", "asked"),  # how often it is asked whether it shall stop: in the history or the features, in the training
    [({**HISTORY, "history_of": "autoencoder"}, (4, 8)), ({**HISTORY, "history_of": "gan"}, (4, 8)), ({"pool": 4}, (5, 12))],
)
def test_an_interrupted_training_goes_on_to_the_same_model(own: dict[str, Any], asked: tuple[int, ...], tmp_path: Path) -> None:
    options = OneClassOptions(**own, steps=4, batch=2, width=8)
    data = FitData([part(i, 32) for i in range(6)], (32, 32))
    whole = fit(data, options).state_dict()
    for last in asked:
        calls: list[None] = []

        def stop(calls: list[None] = calls, last: int = last) -> bool:
            calls.append(None)
            return len(calls) == last

        kept = dataclasses.replace(data, checkpoint=Checkpoint(tmp_path / str(last), "one", every_s=0.0))
        with pytest.raises(Stopped):
            fit(dataclasses.replace(kept, stop=stop), options)
        again = fit(kept, options).state_dict()
        assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_history_goes_from_blurred_to_sharp() -> None:
    options = OneClassOptions(network="critic", history_steps=64, batch=4, snapshots=4, history_lr=5e-3)
    torch.manual_seed(0)
    history = History(FitData(good(), (SIDE, SIDE)), options, range(8))
    pictures = torch.from_numpy(np.stack(good())).permute(0, 3, 1, 2).flip(1).float()
    errors = []
    for state in history._states:
        history.network.load_state_dict(state)
        history._states = [state]
        made = history.pictures(pictures, torch.Generator().manual_seed(0))
        assert made.shape == pictures.shape and float(made.min()) >= 0.0 and float(made.max()) <= 255.0
        errors.append(float((made - pictures).square().mean()))
    assert len(errors) == 4
    assert errors[0] > 1.5 * errors[1] and errors[0] > 3 * errors[-1]


def test_a_generator_that_makes_one_picture_only_is_told() -> None:
    options = OneClassOptions(
        network="critic", history_of="gan", history_steps=80, batch=6, width=8, history_width=4, history_lr=1e-7
    )  # fmt: skip
    apart = list(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8))
    torch.manual_seed(0)
    with pytest.raises(BadInput, match="collapsed") as caught:
        History(FitData(apart, (32, 32)), options, range(8))
    assert "--history" in caught.value.hint
