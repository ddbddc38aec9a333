import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.families.patchcore.coreset import greedy_coreset, nearest_rows, project


def brute_force(points: np.ndarray, count: int, start: int) -> list[int]:
    chosen = [start]
    while len(chosen) < count:
        distance = np.linalg.norm(points[:, None] - points[chosen][None], axis=2).min(1)
        chosen.append(int(distance.argmax()))
    return chosen


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 60), dims=st.integers(1, 6))
def test_choice_is_that_of_the_brute_force_greedy(seed: int, n: int, dims: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)
    count = min(n, 12)
    chosen = greedy_coreset(torch.from_numpy(points), count, start=seed % n)
    assert chosen.tolist() == brute_force(points.astype(np.float64), count, seed % n)


def test_a_prefix_is_the_smaller_coreset() -> None:
    points = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    assert greedy_coreset(points, 60)[:20].tolist() == greedy_coreset(points, 20).tolist()


def test_copies_are_never_chosen_twice() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]) + 100.0
    assert sorted(greedy_coreset(points, 4).tolist()) in ([0, 1], [0, 2])


def test_more_rows_than_there_are_gives_all() -> None:
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(2))
    assert sorted(greedy_coreset(points, 100).tolist()) == list(range(7))


def test_projection_keeps_distances_roughly_and_small_rows_exactly() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(50, 400, generator=generator) + 5.0
    projected = project(rows, generator, 128)
    assert projected.shape == (50, 128)
    ratio = torch.pdist(projected) / torch.pdist(rows)
    assert 0.95 < float(ratio.mean()) < 1.05
    assert float(ratio.min()) > 0.7
    assert float(ratio.max()) < 1.3
    small = rows[:, :16]
    torch.testing.assert_close(torch.pdist(project(small, generator, 128)), torch.pdist(small))


def test_neighbours_start_with_the_row_itself_even_among_copies() -> None:
    bank = torch.tensor([[0.0], [0.0], [1.0], [5.0]])
    found = nearest_rows(bank, 3)
    assert found[:, 0].tolist() == [0, 1, 2, 3]
    assert found[3].tolist()[1] == 2
    assert nearest_rows(bank, 9).shape == (4, 4)


def test_features_of_the_default_backbone_are_compared_exactly_and_wide_ones_within_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 152, generator=generator)  # two layers of EfficientNet-Lite0
    torch.testing.assert_close(torch.pdist(project(rows, generator)), torch.pdist(rows))
    assert project(torch.randn(40, 1536, generator=generator), generator).shape == (40, 192)
