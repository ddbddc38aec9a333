"""DifferNet: the score is the authors', and the map what each place adds to the likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.differnet.fit import fit
from edgead.families.differnet.network import TURNS, DifferNet
from edgead.families.differnet.options import DifferNetOptions
from edgead.models.rows import to_pixels
from tests.bundles import part

SIDE = 64
QUICK = {"steps": 10, "blocks": 2, "hidden": 16, "scales": 2}


def fitted(size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> DifferNet:
    good = [np.ascontiguousarray(part(seed, max(size))[: size[0], : size[1]]) for seed in range(8)]
    return fit(FitData(good, size), DifferNetOptions(**{**QUICK, **options}))


def test_score_is_the_mean_of_z_squared_and_the_map_its_likelihoods_gradient() -> None:
    detector = fitted()
    pixels = to_pixels([part(50, SIDE, defect=True)])
    with torch.no_grad():
        maps = detector.maps(pixels)
        whole, score = detector.detect(pixels)
    leaves = [m.clone().requires_grad_(True) for m in maps]
    y = (torch.cat([m.mean((2, 3)) for m in leaves], 1) - detector.mean) / detector.width
    z, volume = detector.flow(y.T)
    assert float(score[0]) == pytest.approx(float(z.detach().square().mean()), rel=1e-5)
    gradients = torch.autograd.grad((z.square().sum() * 0.5 - volume.sum()), leaves)
    first, wanted = 0, torch.zeros(1, 1, *maps[0].shape[2:])
    for m, gradient in zip(maps, gradients, strict=True):
        mean = detector.mean[first : first + m.shape[1]].view(1, -1, 1, 1)
        share = ((m - mean) * gradient * m.shape[2:].numel()).sum(1, keepdim=True).relu()  # pooling divided by the places
        wanted = wanted + torch.nn.functional.interpolate(share, wanted.shape[2:], mode="bilinear")
        first += m.shape[1]
    with torch.no_grad():
        assert torch.allclose(detector.to_model_size(wanted[:, 0]), whole, rtol=1e-3, atol=1e-3 * float(whole.max()))


@pytest.mark.parametrize("turn", range(len(TURNS)))
def test_a_turn_and_its_inverse_leave_a_picture_as_it_was(turn: int) -> None:
    there, back = TURNS[turn]
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    assert torch.equal(back(there(x)), x)
    assert turn == 0 or not torch.equal(there(x), x)


def test_judged_with_its_turns_a_turned_picture_has_the_same_score_and_the_turned_map() -> None:
    detector = fitted(turns="8")
    image = part(51, SIDE, defect=True)
    with torch.no_grad():
        maps, scores = detector(torch.from_numpy(np.stack([image, np.ascontiguousarray(image.transpose(1, 0, 2))])))
    assert float(scores[0]) == pytest.approx(float(scores[1]), rel=1e-4)
    assert torch.allclose(maps[0], maps[1].T, rtol=1e-3, atol=1e-3 * float(maps.max()))


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ((64, 96), {"turns": "8"}, "quarter turns need square pictures, not 96 x 64"),
        ((56, 56), {"backbone": "dinov2_vits14_reg"}, "takes pictures of one size only"),
    ],
)
def test_what_does_not_go_together_is_told(size: tuple[int, int], options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        fitted(size, **options)
    assert caught.value.hint
