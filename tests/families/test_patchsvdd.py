"""Patch SVDD: the whole picture at once gives what each patch alone gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData, Stopped
from edgead.families.patchsvdd.fit import fit
from edgead.families.patchsvdd.network import ENCODERS, Encoder, PatchSvdd
from edgead.families.patchsvdd.options import PatchSvddOptions
from edgead.models.learning.steps import Checkpoint
from edgead.models.parts.bank import Bank
from tests.bundles import part

QUICK = PatchSvddOptions(steps=4, batch=2, pairs=16, rows=30, big_rows=15)


def pixels(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_picture_at_once_is_encoded_as_its_patches_one_by_one(kind: str) -> None:
    torch.manual_seed(0)
    encoder, x = Encoder(kind).requires_grad_(False), pixels(128, 160)
    small, big = encoder(x)
    for row, column in ((0, 0), (3, 5), (6, 2)):
        top, left = row * encoder.stride, column * encoder.stride
        one = encoder.of_small(x[:, :, top : top + 32, left : left + 32])
        assert torch.allclose(one[0, :, 0, 0], small[0, :, row, column], atol=1e-6)
        patch = x[:, :, top : top + 64, left : left + 64]
        assert torch.allclose(encoder(patch)[1][0, :, 0, 0], big[0, :, row, column], atol=1e-6)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_pixel_is_told_the_product_of_the_means_over_the_patches_that_hold_it(kind: str) -> None:
    torch.manual_seed(0)
    detector = PatchSvdd({"encoder": kind, "rows": 12, "big_rows": 7, "score": "max"}, (96, 112)).requires_grad_(False)
    rows, big_rows = torch.randn(12, 64), torch.randn(7, 64)
    detector.bank.fill(rows)
    detector.big_bank.fill(big_rows)
    x = pixels(96, 112)
    anomaly_map, score = detector.detect(x)
    assert float(score) == float(anomaly_map.max())
    y, x_ = 50, 70

    def mean(patch: int, step: int, bank: torch.Tensor) -> float:
        found = []
        for top in range(0, 96 - patch + 1, step):
            for left in range(0, 112 - patch + 1, step):
                if top <= y < top + patch and left <= x_ < left + patch:
                    cut = x[:, :, top : top + patch, left : left + patch]
                    code = detector.encoder.of_small(cut) if patch == 32 else detector.encoder(cut)[1]
                    found.append(float(torch.cdist(code[:, :, 0, 0], bank).min()))
        return sum(found) / len(found)

    wanted = mean(32, 4, rows) * mean(64, 16, big_rows)
    assert float(anomaly_map[0, y, x_]) == pytest.approx(wanted, rel=1e-4)


def test_a_bank_keeps_small_distances_between_large_numbers() -> None:
    torch.manual_seed(0)
    rows = 50.0 + 0.1 * torch.randn(40, 64)
    bank = Bank(40, 64).requires_grad_(False)
    bank.fill(rows)
    asked = rows[:6] + 0.05 * torch.randn(6, 64)
    told = bank(asked.T[None, :, :, None])
    assert torch.allclose(told.flatten(), torch.cdist(asked.double(), rows.double()).amin(1).float(), rtol=1e-3)
    assert float(bank(rows[:1].T[None, :, :, None])) == pytest.approx(float(bank.floor.sqrt()))  # itself: the floor, not noise


def test_pictures_without_a_larger_patch_are_refused() -> None:
    with pytest.raises(BadInput, match="60 x 64 px are too small") as caught:
        PatchSvdd({"encoder": "lite", "rows": 1, "big_rows": 1, "score": "max"}, (64, 60))
    assert "--size" in caught.value.hint


def test_an_interrupted_training_goes_on_to_the_same_model(tmp_path: Path) -> None:
    data = FitData([part(i, 64) for i in range(8)], (64, 64))
    whole = fit(data, QUICK).state_dict()
    calls: list[None] = []

    def stop() -> bool:
        calls.append(None)
        return len(calls) == 3

    kept = dataclasses.replace(data, checkpoint=Checkpoint(tmp_path / "kept", "one", every_s=0.0))
    with pytest.raises(Stopped):
        fit(dataclasses.replace(kept, stop=stop), QUICK)
    again = fit(kept, QUICK).state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
