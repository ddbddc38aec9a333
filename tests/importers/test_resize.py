"""The resize rules that imported models need, against torch's own resize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe
from tests.importers import _reference as reference


@pytest.mark.parametrize(("width", "height"), [(64, 64), (57, 101), (200, 150), (320, 40)])
def test_antialias_is_torchs_resize_rounded_once(width: int, height: int) -> None:
    image = reference.pictures(1, 160)[0][:120]
    resized = PreprocessRecipe(width, height, resize="antialias").apply(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    wanted = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    assert np.abs(resized - wanted).max() < 0.502


def test_the_middle_is_cut_out_of_a_fixed_size_or_of_the_pictures_proportions() -> None:
    image = reference.pictures(1, 160)[0][:120]
    whole = PreprocessRecipe(96, 80, resize="antialias").apply(image)
    fixed = PreprocessRecipe(64, 48, resize="antialias", crop_from=(96, 80))
    assert np.array_equal(fixed.apply(image), whole[16:64, 16:80])
    kept = PreprocessRecipe(48, 48, resize="antialias", crop_from=(60, 0))  # the shorter side of 160 x 120 becomes 60: 80 x 60
    whole = PreprocessRecipe(80, 60, resize="antialias").apply(image)
    assert np.array_equal(kept.apply(image), whole[6:54, 16:64])
    assert PreprocessRecipe.from_json(kept.to_json()) == kept


def test_a_crop_larger_than_the_picture_is_told() -> None:
    with pytest.raises(BadInput, match="cannot be cut"):
        PreprocessRecipe(64, 64, crop_from=(48, 0))
