"""The simulated conveyor: deterministic, and honest about where a defect is."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.errors import BadInput
from edgead.runtime.cameras.conveyor import DEFECTS, draw_part

SIZE = (256, 256)


def _pair(seed: int, defect: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same part without and with the defect, and the mask."""
    good, _ = draw_part(np.random.default_rng(seed), None, size=SIZE)
    bad, mask = draw_part(np.random.default_rng(seed), defect, size=SIZE)
    return good.astype(int), bad.astype(int), mask


def test_the_same_seed_gives_the_same_picture() -> None:
    first, _ = draw_part(np.random.default_rng(4), "scratch", size=SIZE)
    second, _ = draw_part(np.random.default_rng(4), "scratch", size=SIZE)
    assert np.array_equal(first, second)


def test_every_part_is_another_part() -> None:
    rng = np.random.default_rng(4)
    assert not np.array_equal(draw_part(rng, size=SIZE)[0], draw_part(rng, size=SIZE)[0])


def test_a_good_part_has_an_empty_mask_and_fills_8_bits_without_clipping() -> None:
    image, mask = draw_part(np.random.default_rng(1), size=(240, 320))
    assert image.shape == (240, 320, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (240, 320)
    assert not mask.any()
    assert (image == 255).mean() < 0.001
    assert np.ptp(image) > 120


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_visible_and_the_mask_covers_what_changed(defect: str) -> None:
    for seed in range(6):
        good, bad, mask = _pair(seed, defect)
        change = np.abs(bad - good).max(axis=2)
        marked = mask > 0
        assert 20 <= marked.sum() <= 0.1 * mask.size, f"seed {seed}: {marked.sum()} px"
        assert np.percentile(change[marked], 90) > 10, f"seed {seed}: barely visible"
        assert change[~marked].mean() < 0.5, f"seed {seed}: changes outside of the mask"
        assert not (set(np.unique(mask)) - {0, 255})


def test_light_changes_the_brightness_in_proportion() -> None:
    dim, _ = draw_part(np.random.default_rng(2), light=0.8, size=SIZE)
    bright, _ = draw_part(np.random.default_rng(2), light=1.0, size=SIZE)
    assert dim.mean() / bright.mean() == pytest.approx(0.8, abs=0.02)


def test_the_sensor_has_noise_that_grows_with_the_signal() -> None:
    pairs = [draw_part(np.random.default_rng(3), light=light, size=SIZE)[0].astype(float) for light in (0.3, 1.0)]
    local = [np.std(np.diff(image[2:30, 2:30, 1], axis=1)) for image in pairs]
    assert local[1] > local[0] > 0.3


def test_unknown_defects_and_tiny_pictures_are_refused() -> None:
    with pytest.raises(BadInput, match="unknown defect 'rust'"):
        draw_part(np.random.default_rng(0), "rust")
    with pytest.raises(BadInput, match="too small"):
        draw_part(np.random.default_rng(0), size=(20, 20))
