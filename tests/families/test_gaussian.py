"""Gaussians of good features: the distances of the papers, whatever is shared, on any grid, in every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.gaussian.cells import Cells, grid_of
from edgead.families.gaussian.fit import fit
from edgead.families.gaussian.network import Gaussian
from edgead.families.gaussian.options import GaussianOptions
from edgead.models.rows import load_features, to_pixels
from tests.bundles import part

SIZE = (64, 96)


def pictures(seeds: range) -> list[np.ndarray]:
    return [np.ascontiguousarray(part(seed, 96)[:64]) for seed in seeds]


def fitted(**options: Any) -> Gaussian:
    return fit(FitData(pictures(range(12)), SIZE), GaussianOptions(**options))


def distances(rows: np.ndarray, asked: np.ndarray, ridge: float) -> np.ndarray:
    """Mahalanobis distances to the Gaussian of rows n x d, to the letter: m x d -> m."""
    covariance = np.cov(rows.T) + ridge * np.eye(rows.shape[1])
    away = asked - rows.mean(0)
    return np.sqrt(np.einsum("md,de,me->m", away, np.linalg.inv(covariance), away))


def test_padim_is_the_mahalanobis_distance_of_each_place() -> None:
    detector = fitted(channels=20)
    cells = Cells(detector.features.features, (8, 12), detector.config["picked"])
    with torch.no_grad():
        rows = cells(to_pixels(pictures(range(12)))).double().flatten(2).numpy()  # n x d x P
        asked = cells(to_pixels(pictures(range(50, 53)))).flatten(2)
        found = detector.distances(asked).numpy()
    level = np.mean([np.var(rows[:, :, p], axis=0, ddof=1) for p in range(96)])
    for p in range(96):
        wanted = distances(rows[:, :, p], asked[:, :, p].double().numpy(), 0.01 * level)
        assert found[:, p] == pytest.approx(wanted, rel=1e-3)


def test_one_gaussian_for_all_places_is_that_of_all_cells() -> None:
    detector = fitted(channels=0, means="shared", covariance="shared")
    assert detector.mean.shape == (176, 1)
    with torch.no_grad():
        rows = detector.features(to_pixels(pictures(range(12)))).double().transpose(0, 1).flatten(1).T.numpy()
        asked = detector.features(to_pixels(pictures(range(50, 51)))).flatten(2)
        found = detector.distances(asked)[0].numpy()
    wanted = distances(rows, asked[0].T.double().numpy(), 0.01 * np.var(rows, axis=0, ddof=1).mean())
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_mean_of_each_place_with_one_covariance_sees_a_part_in_the_wrong_place() -> None:
    detector = fitted(means="own", covariance="shared")
    good, moved = pictures(range(60, 61))[0], np.roll(pictures(range(60, 61))[0], 30, 1)
    with torch.no_grad():
        scores = detector(torch.from_numpy(np.stack([good, moved])))[1]
    assert scores[1] > 1.5 * scores[0]


@pytest.mark.parametrize(("cell", "grid"), [(4, (16, 24)), (8, (8, 12)), (9, (4, 6)), (16, (4, 6)), (64, (1, 2))])
def test_the_grid_is_the_finest_with_such_cells(cell: int, grid: tuple[int, int]) -> None:
    features = load_features("efficientnet_lite0", ("blocks.2", "blocks.4", "blocks.10"), None, "paper")
    assert grid_of(features, SIZE, cell) == grid
    with torch.no_grad():
        assert Cells(features, grid)(torch.zeros(1, 3, *SIZE)).shape == (1, 176, *grid)


def test_a_defect_is_found_where_it_is() -> None:
    detector = fitted()
    image = pictures(range(70, 71))[0]
    image[30:36, 40:60] = (10, 20, 220)
    with torch.no_grad():
        found, score = detector(torch.from_numpy(np.stack([pictures(range(70, 71))[0], image])))
    y, x = divmod(int(found[1].argmax()), SIZE[1])
    assert 22 <= y <= 44 and 32 <= x <= 68
    assert score[1] > 1.5 * score[0]


def test_a_smoothed_maps_worst_pixel_is_the_score() -> None:
    detector = fitted(channels=10, sigma=4.0)
    with torch.no_grad():
        found, score = detector(torch.from_numpy(np.stack(pictures(range(80, 82)))))
        plain = fitted(channels=10)(torch.from_numpy(np.stack(pictures(range(80, 82)))))[0]
    assert torch.equal(score, found.amax((1, 2)))
    assert found.std() < plain.std()
    assert detector.unenlarged() is None  # a smaller map would have another score


def test_pictures_that_are_all_the_same_are_no_fault() -> None:
    detector = fit(FitData([pictures(range(1))[0]] * 3, SIZE), GaussianOptions(channels=10))
    with torch.no_grad():
        found, score = detector(torch.from_numpy(np.stack(pictures(range(2)))))
    assert bool(torch.isfinite(found).all()) and score[1] > score[0]


@pytest.mark.parametrize(
    ("options", "count", "says"),
    [
        ({"means": "shared"}, 4, "about one mean"),
        ({}, 1, "one good picture has no covariance"),
        ({"channels": 0, "cell": 1, "layers": ("blocks.0", "blocks.4")}, 2, "more than a file holds"),
    ],
)
def test_what_cannot_be_fitted_is_told(options: dict[str, Any], count: int, says: str) -> None:
    size = (512, 768) if "cell" in options else SIZE
    images = [np.zeros((*size, 3), np.uint8)] * count
    with pytest.raises(BadInput, match=says) as caught:
        fit(FitData(images, size), GaussianOptions(**{**options, **({"channels": 100} if "cell" in options else {})}))
    assert caught.value.hint
