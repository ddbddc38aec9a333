"""Drawn defects: the same for the same seed, only where the mask says, neither invisible nor everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.calibration.judging.defects import KINDS, STRENGTHS, draw_defect, draw_defects, foreground
from edgead.errors import BadInput
from tests.bundles import part


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_defect_is_seen_where_its_mask_is_and_nowhere_else(kind: str, strength: float) -> None:
    for seed in range(8):
        good = part(seed, 96)
        drawn = draw_defect(good, kind, strength, np.random.default_rng(seed))
        delta = np.abs(drawn.image.astype(int) - good).max(2)
        assert drawn.image.dtype == np.uint8
        assert drawn.image.shape == good.shape
        assert 0.0003 < drawn.mask.mean() < 0.15
        assert delta[drawn.mask].mean() >= 2.5
        assert delta[~drawn.mask].sum() <= 0.15 * delta.sum()  # soft edges only


def test_the_same_seed_draws_the_same_and_the_given_pictures_stay() -> None:
    good = [part(i, 64) for i in range(3)]
    before = [image.copy() for image in good]
    first, second, other = draw_defects(good, 12, 1), draw_defects(good, 12, 1), draw_defects(good, 12, 2)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(first, other, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(good, before, strict=True))
    assert {(d.kind, d.strength) for d in first} == {(kind, strength) for kind in KINDS for strength in STRENGTHS}


def test_stronger_is_plainer() -> None:
    def change(strength: float) -> float:
        drawn = [draw_defect(part(i, 96), "stain", strength, np.random.default_rng(i)) for i in range(12)]
        return float(np.mean([np.abs(d.image.astype(int) - part(i, 96)).sum() for i, d in enumerate(drawn)]))

    assert change(0.3) < change(1.0)


def test_on_an_even_background_defects_lie_on_the_part() -> None:
    image = np.full((96, 96, 3), 30, np.uint8)
    image[30:66, 30:66] = part(0, 36)
    on_part = foreground(image)
    assert on_part[40:56, 40:56].all()
    assert not on_part[:20].any()
    for seed in range(10):
        mask = draw_defect(image, "stain", 0.6, np.random.default_rng(seed)).mask
        assert mask[24:72, 24:72].any()
    assert foreground(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).all()  # no even border: everywhere


def test_unusable_wishes_are_refused() -> None:
    rng, good = np.random.default_rng(0), part(0, 64)
    with pytest.raises(BadInput, match="unknown kind"):
        draw_defect(good, "dent", 0.5, rng)
    with pytest.raises(BadInput, match="strength"):
        draw_defect(good, "stain", 0.0, rng)
    with pytest.raises(BadInput, match="there are none"):
        draw_defects([], 4)


def test_a_flat_picture_gets_defects_as_well() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    for kind in KINDS:
        assert draw_defect(flat, kind, 1.0, np.random.default_rng(0)).mask.any()
