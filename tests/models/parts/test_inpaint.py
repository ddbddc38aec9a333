"""InTra's transformer: a hidden patch is told from the patches in its window, and from nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.parts.inpaint import InpaintingTransformer, window_mask
from edgead.models.parts.masks import Disjoint
from tests.models.parts._engines import Rebuilt, in_engines

SIZE = (32, 48)


def transformer(blocks: int = 2, window: int = 3) -> InpaintingTransformer:
    torch.manual_seed(0)
    return InpaintingTransformer(SIZE, 16, blocks, 4, 2, window).eval().requires_grad_(False)


def test_cutting_and_joining_are_inverse() -> None:
    x, model = torch.rand(2, 3, *SIZE), transformer()
    assert torch.equal(model.joined(model.cut(x)), x)
    assert sorted(model.cut(x)[0, 13].tolist()) == sorted(x[0, :, 4:8, 4:8].flatten().tolist())  # second row, second patch


def test_a_window_is_shifted_inwards_at_the_border() -> None:
    seen = window_mask((5, 6), 3).eq(0)
    assert seen.sum(1).eq(9).all()
    corner = seen[0].view(5, 6)
    assert corner[:3, :3].all() and corner.sum() == 9


def test_a_hidden_patch_does_not_know_itself_nor_what_is_beyond_its_windows() -> None:
    model, visible = transformer(), torch.ones(1, 1, *SIZE)  # two blocks: two windows
    visible[..., 4:8, 4:8] = 0.0
    x = torch.rand(1, 3, *SIZE)
    other, near = x.clone(), x.clone()
    other[..., 4:8, 4:8] = 0.0
    other[..., 16:, 24:] = 1.0
    near[..., 4:8, 8:12] = 0.0

    def told(pictures: Tensor) -> Tensor:
        return model.decode(*model.encode(pictures, visible))[..., 4:8, 4:8]

    torch.testing.assert_close(told(x), told(other), rtol=0, atol=1e-6)
    assert (told(x) - told(near)).abs().max() > 1e-4


def test_groups_as_a_batch_are_one_static_graph(tmp_path: Path) -> None:
    whole, x = Rebuilt(transformer(), Disjoint(SIZE, 0, ("4",), 4).visible()), torch.rand(1, 3, *SIZE)
    told = whole(x).numpy()
    assert told.shape == (4, 3, *SIZE)
    for found in in_engines(whole, (x,), tmp_path):
        assert np.abs(found - told).max() <= 1e-5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="3 heads do not share a width of 16"):
        InpaintingTransformer(SIZE, 16, heads=3)
    with pytest.raises(BadInput, match="5 blocks have no halves"):
        InpaintingTransformer(SIZE, 16, 5)
