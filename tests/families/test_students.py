"""Uninformed Students: closed form is what least squares says, dense networks are their patches, and defects stand out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.efficientad.network import load_teacher
from edgead.families.efficientad.pdn import build_pdn
from edgead.families.students.fit import fit
from edgead.families.students.moments import Moments, principal
from edgead.families.students.network import Closed, Students
from edgead.families.students.options import StudentsOptions
from edgead.families.students.patchnets import PATCHES, patch_network
from edgead.families.students.teachers import compactness
from edgead.models.rows import to_pixels
from tests.bundles import part

SIDE = 64


def fitted(count: int = 6, seed: int = 0, **options: Any) -> Students:
    pictures = [part(i, SIDE) for i in range(count)]
    return fit(FitData(pictures, (SIDE, SIDE), seed), StudentsOptions(**options))


def answers(detector: Students, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        maps, scores = detector(torch.from_numpy(np.stack(pictures)))
    return maps.numpy(), scores.numpy()


@pytest.mark.parametrize("few", [True, False])
def test_students_are_the_ridge_regression_of_their_teacher(few: bool) -> None:
    g = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(60, 8, generator=g) @ torch.randn(8, 8, generator=g) + 2.0, torch.randn(3, 8, generator=g).double()
    parts = [Moments(8, few) for _ in range(3)]
    for i, block in enumerate(rows.chunk(6)):
        parts[i % 3].add(block)
    moments = Moments.of(parts)
    bias = torch.tensor([1.0, -2.0, 0.5]).double()
    made, shift = moments.imitated(weight, bias, ridge=0.1)
    x = rows.double() - rows.double().mean(0)
    y = x @ weight.T
    level = 0.1 * float(x.square().sum()) / x.shape[1] / len(x)
    wanted = torch.linalg.solve(x.T @ x / len(x) + level * torch.eye(8).double(), x.T @ y / len(x)).T
    assert torch.allclose(made, wanted, rtol=1e-3, atol=1e-5)
    middle = rows.double().mean(0)
    assert torch.allclose(made @ middle + shift, weight @ middle + bias, atol=1e-4)  # right on average


def test_what_the_teacher_says_has_mean_zero_and_its_largest_axes_first() -> None:
    g = torch.Generator().manual_seed(1)
    rows, weight = torch.randn(500, 6, generator=g) + 3.0, torch.randn(4, 6, generator=g).double()
    moments = Moments(6)
    moments.add(rows)
    said, bias = principal(weight, moments, 3)
    told = rows.double() @ said.T + bias
    assert told.mean(0).abs().max() < 1e-4
    spread = told.std(0)
    assert said.shape == (3, 6)
    assert bool((spread[:-1] >= spread[1:]).all())
    assert float((told.T @ told / len(told) - torch.diag(spread**2)).abs().max()) < 0.01  # uncorrelated


def test_error_and_disagreement_of_the_closed_form_are_those_of_separate_networks() -> None:
    """One convolution of differences against teacher and students that are asked one by one."""
    detector = fitted(patches=400, channels=12, students=3)
    scale = detector.scales[0]
    assert isinstance(scale, Closed)
    pdn = build_pdn("small")
    pdn.load_state_dict(load_teacher(None, "small"))
    x = detector.normalize(to_pixels([part(40, SIDE, defect=True)]))
    with torch.no_grad():
        said = scale.apart(pdn[:-1](x)).view(4, 12, *scale.told(x)[0].shape[2:])
        error, disagreement = scale.told(x)
    assert torch.allclose(error[0, 0], said[0].square().mean(0), rtol=1e-4)
    assert torch.allclose(disagreement[0, 0], said[1:].square().mean((0, 1)), rtol=1e-4)
    assert float(said[1:].sum(0).abs().max()) < 1e-3 * float(said[1:].abs().max())  # students around their mean
    assert torch.equal(scale.trunk[0].weight, pdn[0].weight)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("side", sorted(PATCHES))
def test_a_dense_network_says_of_each_patch_what_the_patch_network_says(side: int, stride: int) -> None:
    torch.manual_seed(0)
    alone = patch_network(side, 5, 8).eval()  # all poolings keep their stride: one vector a patch
    dense = patch_network(side, 5, stride).eval()
    dense.load_state_dict(alone.state_dict())
    picture = torch.randn(1, 3, side + 9, side + 13)
    with torch.no_grad():
        told = dense(picture)
        for row, column in ((0, 0), (1, 2), (told.shape[2] - 1, told.shape[3] - 1)):
            top, left = row * stride, column * stride
            patch = picture[:, :, top : top + side, left : left + side]
            patch = torch.nn.functional.pad(patch, (0, side - patch.shape[3], 0, side - patch.shape[2]))
            assert torch.allclose(told[0, :, row, column], alone(patch)[0, :, 0, 0], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"patches": 2000, "channels": 32},
        {"kind": "thin", "steps": 2, "channels": 16, "students": 2, "batch": 2},
        {
            "kind": "patches", "sides": ("33",), "steps": 2, "teacher_steps": 2, "teacher_batch": 4, "channels": 8, "students": 2,
            "batch": 2, "stride": 8,
        },
    ],
    ids=["closed", "thin", "patches"],
)  # fmt: skip
def test_the_same_seed_gives_the_same_students_and_their_map_is_of_the_picture(options: dict[str, Any]) -> None:
    detector, again = fitted(**options), fitted(**options)
    assert all(torch.equal(a, b) for a, b in zip(detector.state_dict().values(), again.state_dict().values(), strict=True))
    maps, scores = answers(detector, [part(30, SIDE), np.zeros((SIDE, SIDE, 3), np.uint8)])
    assert maps.shape == (2, SIDE, SIDE)
    assert np.isfinite(maps).all() and np.isfinite(scores).all()


def test_defects_are_told_and_where_they_are() -> None:
    detector = fitted(16, patches=2000, channels=32)
    good, bad = [part(i, SIDE) for i in range(60, 72)], [part(i, SIDE, defect=True) for i in range(60, 72)]
    maps, scores = answers(detector, good + bad)
    assert np.median(scores[12:]) > scores[:12].max()
    away = np.abs(np.stack(bad).astype(int) - np.stack(good)).sum(3) > 0
    assert np.mean([m[a].max() == m.max() or m[a].mean() > m[~a].mean() for m, a in zip(maps[12:], away, strict=True)]) > 0.9


def test_compactness_is_zero_for_channels_that_do_not_go_together() -> None:
    apart = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(compactness(apart)) == pytest.approx(0.0, abs=1e-6)
    assert float(compactness(apart[:, :1].repeat(1, 3))) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "patches", "sides": ("17", "40")}, "sides 17,40"),
        ({"kind": "patches", "sides": ("17", "17")}, "sides 17,17"),
        ({"kind": "patches", "stride": 3}, "stride of 3 px"),
        ({"stride": 8}, "--stride is for --kind patches, not for closed"),
        ({"kind": "thin", "ridge": 0.1}, "--ridge is for --kind closed, not for thin"),
    ],
)
def test_patches_that_no_network_has_and_options_of_other_kinds_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        StudentsOptions(**options)
    assert caught.value.hint


def test_pictures_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(BadInput, match="32 x 64 px"):
        Students({"kind": "closed", "channels": 4, "students": 2, "score": "max"}, (32, 64))
