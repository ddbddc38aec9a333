"""InTra's transformer: a hidden patch is told from the patches in its window, and from nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.models.parts import masks
from edgead.models.parts.inpaint import InpaintingTransformer, window_mask
from tests.models.parts._engines import in_engines

SIZE = (32, 48)


def transformer(blocks: int = 2, window: int = 3) -> InpaintingTransformer:
    torch.manual_seed(0)
    return InpaintingTransformer(SIZE, 4, 16, blocks, 2, window).eval()


def test_cutting_and_joining_are_inverse() -> None:
    x = torch.rand(2, 3, *SIZE)
    model = transformer()
    assert torch.equal(model.joined(model.cut(x)), x)
    assert sorted(model.cut(x)[0, 13].tolist()) == sorted(x[0, :, 4:8, 4:8].flatten().tolist())  # second row, second patch


def test_a_window_is_shifted_inwards_at_the_border() -> None:
    seen = window_mask((5, 6), 3).eq(0)
    assert seen.sum(1).eq(9).all()
    corner = seen[0].view(5, 6)
    assert corner[:3, :3].all() and corner.sum() == 9


def test_a_hidden_patch_does_not_know_itself_nor_what_is_beyond_its_window() -> None:
    model, hidden = transformer(blocks=1), torch.zeros(1, 96, dtype=torch.bool)
    hidden[0, 13] = True
    x = torch.rand(1, 3, *SIZE)
    other, near = x.clone(), x.clone()
    other[..., 4:8, 4:8] = 0.0
    other[..., 16:, 24:] = 1.0
    near[..., 4:8, 8:12] = 0.0
    with torch.no_grad():
        told, same, changed = (model(one, hidden)[..., 4:8, 4:8] for one in (x, other, near))
    torch.testing.assert_close(told, same, rtol=0, atol=1e-6)
    assert (told - changed).abs().max() > 1e-4


def test_groups_as_a_batch_are_one_static_graph(tmp_path: Path) -> None:
    model, hidden = transformer(), masks.groups((8, 12), 4)
    x = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        told = model(x, hidden).numpy()
    assert told.shape == (4, 3, *SIZE)
    for found in in_engines(model, (x, hidden), tmp_path):
        assert np.abs(found - told).max() <= 1e-5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="patches of 5 px do not fill 48 x 32 px"):
        InpaintingTransformer(SIZE, 5)
    with pytest.raises(BadInput, match="3 heads do not share a width of 16"):
        InpaintingTransformer(SIZE, 4, 16, heads=3)
