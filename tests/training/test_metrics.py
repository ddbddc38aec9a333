import math

import numpy as np
import pytest

from edgead.training.metrics import auroc, brightness_auroc, pixel_auroc, pro


def test_auroc_is_the_share_of_right_pairs() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auroc(labels, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auroc(labels, np.array([1.0, 1.0, 1.0, 1.0])) == 0.5
    assert math.isnan(auroc(np.ones(3), np.arange(3)))


def test_pixel_auroc_pools_all_pixels() -> None:
    masks = [np.array([[True, False]]), np.array([[False, False]])]
    maps = [np.array([[0.5, 0.1]], np.float32), np.array([[0.9, 0.2]], np.float32)]
    assert pixel_auroc(masks, maps) == pytest.approx(2 / 3)


def test_pro_by_hand() -> None:
    # Two regions: 1 pixel with value 4, 2 pixels with 3 and 1. Ten good pixels: one of value 2, nine of 0.
    mask = np.zeros((1, 15), np.bool_)
    mask[0, [0, 2, 3]] = True
    anomaly_map = np.zeros((1, 15), np.float32)
    anomaly_map[0, [0, 2, 3, 5]] = [4, 3, 1, 2]
    mask, anomaly_map = mask[:, :13], anomaly_map[:, :13]
    # Curve (fpr, overlap): (0, 0) (0, .5) (0, .75) (.1, .75) (.1, 1) (1, 1); up to .3: .1 * .75 + .2 * 1
    assert pro([mask], [anomaly_map], 0.3) == pytest.approx((0.1 * 0.75 + 0.2 * 1.0) / 0.3)


def test_pro_of_perfect_and_blind_maps() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2:4, 2:4] = True
    assert pro([mask], [mask.astype(np.float32)]) == pytest.approx(1.0)
    assert pro([mask], [np.zeros((8, 8), np.float32)]) == pytest.approx(0.15)  # a diagonal from (0, 0) to (1, 1)
    assert pro([mask], [(~mask).astype(np.float32)]) == pytest.approx(0.0)
    assert math.isnan(pro([np.zeros((8, 8), np.bool_)], [np.zeros((8, 8), np.float32)]))


def test_pro_weighs_small_and_large_regions_alike() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[0, 0] = True
    mask[4:9, 4:9] = True
    small_only = np.zeros((10, 10), np.float32)
    small_only[0, 0] = 1.0
    large_only = np.zeros((10, 10), np.float32)
    large_only[4:9, 4:9] = 1.0
    assert pro([mask], [small_only]) == pytest.approx(pro([mask], [large_only]))


def test_brightness_baseline_sees_darker_and_different_parts() -> None:
    def plain(level: int) -> np.ndarray:
        return np.full((4, 4, 3), level, np.uint8)

    good = [plain(100), plain(102), plain(98)]
    labels = np.array([0, 0, 1, 1])
    assert brightness_auroc(labels, [plain(100), plain(101), plain(50), plain(60)], good) == 1.0
    assert brightness_auroc(labels, [plain(100), plain(101), plain(50), plain(160)], good) == 1.0
