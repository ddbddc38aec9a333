import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.tiles import Axis, TileGrid


@given(tile=st.integers(8, 96), data=st.data())
def test_tiles_cover_the_side_overlap_as_asked_and_count_one_everywhere(tile: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(tile, 6 * tile))
    overlap = data.draw(st.integers(0, tile // 2))
    axis = Axis.of(length, tile, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] == length - tile
    assert all(after <= before + tile - overlap for before, after in zip(axis.starts, axis.starts[1:], strict=False))
    total = np.zeros(length, np.float32)
    for k, start in enumerate(axis.starts):
        weights = axis.weights(k)
        assert weights.min() >= 0
        total[start : start + tile] += weights
    assert np.allclose(total, 1, atol=1e-6)


def test_no_more_tiles_than_needed() -> None:
    assert Axis.of(256, 256, 32).starts == (0,)
    assert Axis.of(480, 256, 32).starts == (0, 224)
    assert Axis.of(481, 256, 32).starts == (0, 112, 225)
    assert len(TileGrid.of((1024, 1280), (256, 256), 0)) == 20


def test_a_tile_counts_least_at_its_edges() -> None:
    grid = TileGrid.of((100, 100), (64, 64), 16)
    weights = grid.weights(0)
    assert weights[0, 0] == 1
    assert weights[-1, 0] == weights[0, -1] == 0


@pytest.mark.parametrize(
    ("picture", "tile", "overlap", "said"),
    [
        ((100, 100), (128, 64), 0, "100 x 100 px has no tile of 64 x 128"),
        ((100, 100), (64, 64), 33, "cannot overlap by 33"),
        ((100, 100), (64, 64), -1, "cannot overlap by -1"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(picture: tuple[int, int], tile: tuple[int, int], overlap: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        TileGrid.of(picture, tile, overlap)
