"""The kernel's density and discrepancy, to the letter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgead.families.contract import FitData
from edgead.families.mmd.fit import fit
from edgead.families.mmd.network import MmdWitness
from edgead.families.mmd.options import MmdOptions
from edgead.models.rows import to_pixels
from tests.bundles import part

SIDE = 64
GOOD = [part(seed, SIDE) for seed in range(8)]


def fitted(**options: Any) -> MmdWitness:
    return fit(FitData(GOOD, (SIDE, SIDE)), MmdOptions(rows=60, **options))


def kernel(kind: str, width: float, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    squared = ((p[:, None] - q[None]) ** 2).sum(2)
    return width / (width + squared) if kind == "imq" else np.exp(-squared / (2 * width))


@pytest.mark.parametrize("kind", ["imq", "gauss"])
def test_map_and_score_are_density_and_discrepancy(kind: str) -> None:
    detector = fitted(kernel=kind, score_by="mmd")
    with torch.no_grad():
        features = detector.features(to_pixels([part(50, SIDE)])).flatten(2)[0].T
        p = ((features - detector.centre) / detector.deviation).double().numpy()
        q = (detector.product.weight * -0.5).double().numpy()
        _, score = detector(torch.from_numpy(part(50, SIDE))[None])
        squared = torch.from_numpy(((p[:, None] - q[None]) ** 2).sum(2)).float()
        cells = detector.rarity(squared[None])[0].numpy()
    width = float(detector.width)
    assert cells == pytest.approx(-np.log(kernel(kind, width, p, q).mean(1)), rel=1e-3, abs=1e-3)
    wanted = kernel(kind, width, p, p).mean() - 2 * kernel(kind, width, p, q).mean() + kernel(kind, width, q, q).mean()
    assert float(score[0]) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["imq", "gauss"])
def test_the_density_of_what_lies_far_away_is_still_a_number(kind: str) -> None:
    with torch.no_grad():
        told = fitted(kernel=kind).rarity(torch.full((1, 2, 60), 1e6))
    assert bool(torch.isfinite(told).all()) and float(told.min()) > 3.0


def test_what_is_wrong_everywhere_is_told_by_the_discrepancy() -> None:
    detector = fitted(score_by="mmd")
    noise = np.random.default_rng(0).normal(0, 25, (SIDE, SIDE, 3))
    grained = np.clip(part(60, SIDE) + noise, 0, 255).astype(np.uint8)
    with torch.no_grad():
        good, bad = detector(torch.from_numpy(np.stack([part(60, SIDE), grained])))[1]
    assert bad > 2 * good
