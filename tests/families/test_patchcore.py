from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.families.patchcore.network import PatchCore
from edgead.models.patches import PatchFeatures
from edgead.models.rows import load_features, to_pixels
from edgead.trained import load_model
from tests.bundles import saved

SIZE = (64, 96)


@pytest.fixture(scope="module")
def features() -> PatchFeatures:
    return load_features("efficientnet_lite0", None, None)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return noise(SIZE)


def noise(size: tuple[int, int]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return to_pixels([rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(3)])


def bank_of(features: PatchFeatures, pixels: torch.Tensor, rows: int = 40) -> torch.Tensor:
    return features(pixels).flatten(2).transpose(1, 2).flatten(0, 1)[:rows]


def paper_score(patches: np.ndarray, bank: np.ndarray, b: int) -> float:
    """Equations 6 and 7 to the letter, in float64; patches P x C, bank R x C."""
    table = np.linalg.norm(patches[:, None] - bank[None], axis=2)
    worst = int(table.min(1).argmax())
    star = int(table[worst].argmin())
    s_star = table[worst, star]
    around = np.argsort(np.linalg.norm(bank - bank[star], axis=1))[:b]
    return float((1 - np.exp(s_star) / np.exp(np.linalg.norm(patches[worst] - bank[around], axis=1)).sum()) * s_star)


@pytest.mark.parametrize("size", [SIZE, (136, 176)])  # 8 x 12 and 17 x 22 patches: more than are compared at once
def test_map_and_score_are_those_of_the_paper(features: PatchFeatures, size: tuple[int, int]) -> None:
    pixels = noise(size)
    bank = bank_of(features, pixels[:1])
    detector = PatchCore.from_bank(features, bank, 9, size)
    anomaly_map, score = detector.detect(pixels[1:])
    patches = features(pixels[1:]).double()
    assert anomaly_map.shape == (2, *size)
    assert score.shape == (2,)
    for i in range(2):
        rows = patches[i].flatten(1).T
        assert float(score[i]) == pytest.approx(paper_score(rows.numpy(), bank.double().numpy(), 9), rel=1e-4)
        distance = torch.cdist(rows, bank.double()).amin(1).view(1, 1, *patches.shape[2:])
        wanted = F.interpolate(distance, size, mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(anomaly_map[i].double(), wanted, rtol=1e-4, atol=1e-3)


def test_one_neighbour_turns_the_reweighting_off(features: PatchFeatures, pixels: torch.Tensor) -> None:
    bank = bank_of(features, pixels[:1])
    _, score = PatchCore.from_bank(features, bank, 1, SIZE).detect(pixels[1:])
    rows = features(pixels[1:]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(score, torch.cdist(rows, bank).amin(2).amax(1), rtol=1e-4, atol=1e-3)


def test_huge_distances_do_not_overflow_the_reweighting(features: PatchFeatures, pixels: torch.Tensor) -> None:
    bank = bank_of(features, pixels[:1])
    _, score = PatchCore.from_bank(features, bank * 1e3, 9, SIZE).detect(pixels[1:])
    assert bool(torch.isfinite(score).all())


def test_a_picture_from_the_bank_scores_next_to_nothing(features: PatchFeatures, pixels: torch.Tensor) -> None:
    bank = bank_of(features, pixels[:1], rows=10_000)
    detector = PatchCore.from_bank(features, bank, 9, SIZE)
    anomaly_map, score = detector.detect(pixels[:2])
    known, unknown = anomaly_map.amax((1, 2))
    assert float(known) < 0.05 * float(unknown)
    assert float(score[0]) < 1e-4 * float(score[1])


def test_models_imported_without_a_floor_have_that_of_the_others(features: PatchFeatures, pixels: torch.Tensor) -> None:
    """Else rounding speaks where a patch is in the bank, and an engine is off by more than its export allows."""
    bank = bank_of(features, pixels[:1], rows=10_000)
    wanted = PatchCore.from_bank(features, bank, 9, SIZE).detect(pixels)
    earlier = PatchCore.from_bank(features, bank, 9, SIZE, {"refine": True}, floor=0.0).detect(pixels)
    for mine, other in zip(earlier, wanted, strict=True):
        torch.testing.assert_close(mine, other)


def test_more_neighbours_than_rows_are_as_many_as_there_are(features: PatchFeatures, pixels: torch.Tensor) -> None:
    detector = PatchCore.from_bank(features, bank_of(features, pixels[:1], rows=3), 9, SIZE)
    assert detector.config["neighbours"] == 3
    assert bool(torch.isfinite(detector.detect(pixels)[1]).all())


def test_saved_and_loaded_answers_are_equal(features: PatchFeatures, pixels: torch.Tensor, tmp_path: Path) -> None:
    detector = PatchCore.from_bank(features, bank_of(features, pixels[:1]), 9, SIZE)
    saved(tmp_path, detector, "noise")
    loaded, card = load_model(tmp_path)
    assert (card.name, card.family, loaded.image_size) == ("noise", "patchcore", SIZE)
    for mine, theirs in zip(detector.detect(pixels), loaded.detect(pixels), strict=True):
        assert torch.equal(mine, theirs)
