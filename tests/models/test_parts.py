"""Errors, networks, necks and masks that several families are made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.errors import BadInput
from edgead.models.parts.convnets import Autoencoder, Bergmann, Joined, Residual, UNet, fold_norms
from edgead.models.parts.errors import ERRORS, Msgms, Smooth, Ssim, WeightedError, odd_side
from edgead.models.parts.masks import Disjoint, Masking
from edgead.models.parts.necks import Convex, Memory, Neck, Prototypes, Vae


def pictures(count: int = 2, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def textbook_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Wang et al. 2004 as printed, in double precision."""
    steps = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-0.5 * (steps / 1.5) ** 2)
    window = torch.outer(window, window) / window.sum() ** 2

    def mean(z: Tensor) -> Tensor:
        padded = F.pad(z, (5, 5, 5, 5), mode="reflect")
        return F.conv2d(padded, window.expand(3, 1, 11, 11), groups=3)

    x, y = x.double(), y.double()
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))


def test_ssim_is_the_textbooks() -> None:
    x, y = pictures(seed=1), (pictures(seed=1) + 0.1 * pictures(seed=2)).clamp(0, 1)
    torch.testing.assert_close(Ssim()(x, y).double(), (0.5 * (1 - textbook_ssim(x, y))).mean(1, keepdim=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ERRORS)
def test_nothing_differs_from_itself_and_something_from_what_it_is_not(name: str) -> None:
    error, x = ERRORS[name](), pictures()
    assert float(error(x, x).abs().max()) <= 1e-6
    assert error(x, x.flip(3)).shape == (2, 1, 32, 32)
    assert float(error(x, x.flip(3)).mean()) > 0.01


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_flat_pictures_can_be_learned_from(name: str, grey: float) -> None:
    x = torch.full((1, 3, 32, 32), grey)
    y = x.clone().requires_grad_(True)
    ERRORS[name]()(x, y).mean().backward()
    assert y.grad is not None and bool(torch.isfinite(y.grad).all())


def test_gradients_see_an_edge_that_is_gone() -> None:
    x = torch.zeros(1, 3, 32, 32)
    x[..., 16:] = 0.8
    away = Msgms()(x, torch.full_like(x, 0.4))
    assert float(away[..., 14:18].min()) > 5 * float(away[..., :4].max())


def test_errors_are_added_by_their_weights() -> None:
    x, y = pictures(seed=3), pictures(seed=4)
    told = WeightedError({"l2": 1.0, "ssim": 0.5})(x, y)
    torch.testing.assert_close(told, ERRORS["l2"]()(x, y) + 0.5 * ERRORS["ssim"]()(x, y))


def test_smoothing_keeps_even_maps_and_is_a_mean_of_a_square() -> None:
    torch.testing.assert_close(Smooth(5)(torch.full((1, 1, 16, 12), 0.3)), torch.full((1, 1, 16, 12), 0.3))
    spot = torch.zeros(1, 1, 16, 16)
    spot[0, 0, 8, 8] = 1.0
    smoothed = Smooth(5)(spot)
    assert float(smoothed[0, 0, 6:11, 6:11].min()) == pytest.approx(1 / 25)
    assert float(smoothed.sum()) == pytest.approx(1.0)
    assert Smooth(1)(spot) is spot


@pytest.mark.parametrize(("px", "side"), [(0.4, 1), (1, 1), (10.5, 11), (21, 21), (5.5, 5), (90, 31)])
def test_a_side_is_odd_and_within_the_picture(px: float, side: int) -> None:
    assert odd_side(px, 32) == side


NETWORKS = [
    lambda norm: Autoencoder((32, 48), base=4, norm=norm),
    lambda norm: Bergmann((32, 48), norm=norm),
    lambda norm: UNet((32, 48), base=4, levels=2, norm=norm),
    lambda norm: UNet((32, 48), base=4, levels=2, stem=2, norm=norm),
    lambda norm: UNet((32, 48), base=4, levels=2, skips=False, norm=norm),
    lambda norm: Residual((32, 48), base=4, blocks=2, norm=norm),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_networks_rebuild_at_the_pictures_size_and_folding_their_norms_changes_nothing(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network, x = make(True), torch.rand(3, 3, 32, 48)
    for _ in range(3):
        network.decode(*network.encode(x))  # moves the statistics of the norms
    network.eval()
    with torch.no_grad():
        code, skips = network.encode(x)
        assert code.shape == (3, network.channels, 32 // network.stride, 48 // network.stride)
        before = network.decode(code, skips)
        assert before.shape == x.shape and float(before.min()) >= 0 and float(before.max()) <= 1
        fold_norms(network)
        torch.testing.assert_close(network.decode(*network.encode(x)), before, rtol=1e-4, atol=1e-5)
    assert set(network.state_dict()) == set(make(False).state_dict())


def test_a_joined_block_is_a_convolution_on_both() -> None:
    torch.manual_seed(0)
    block, x, skip = Joined(5, 3, 4), torch.randn(2, 5, 8, 8), torch.randn(2, 3, 8, 8)
    weight = torch.cat([block.conv.weight, block.skip.weight], 1)
    torch.testing.assert_close(
        block(x, skip), F.leaky_relu(F.conv2d(torch.cat([x, skip], 1), weight, block.conv.bias, padding=1), 0.2)
    )


# --- masks


def test_each_pixel_is_guessed_once_by_a_pass_that_does_not_see_it() -> None:
    masking = Disjoint((32, 32), 5, ("4", "8"), 3)
    visible = masking.visible()
    assert visible.shape == (6, 1, 32, 32)
    assert torch.equal((1 - visible).unflatten(0, (2, 3)).sum(1), torch.ones(2, 1, 32, 32))
    x, other = pictures(1, seed=1), pictures(1, seed=2)
    for one in range(6):
        changed = torch.where(visible[one] > 0, x, other)
        assert torch.equal(masking.see(changed)[one], masking.see(x)[one])


def test_a_network_that_guesses_all_finds_nothing_and_one_that_misses_a_place_finds_it() -> None:
    masking, x = Disjoint((32, 32), 0, ("4", "8"), 3), pictures(2)
    rebuilt = x.repeat_interleave(6, 0)
    error = ERRORS["l2"]()
    assert float(masking.tell(x, rebuilt, error).max()) == 0.0
    rebuilt = rebuilt.clone()
    rebuilt[6:, :, 10:14, 20:24] += 0.5  # of the second picture
    told = masking.tell(x, rebuilt, error)
    assert float(told[0].max()) == 0.0
    assert torch.equal(told[1, 0] > 0, F.pad(torch.ones(4, 4), (20, 8, 10, 18)) > 0)


def test_a_training_step_hides_what_it_asks_for() -> None:
    masking, x, generator = Disjoint((32, 32), 0, ("8",), 2), pictures(2), torch.Generator().manual_seed(3)
    task = masking.draw(x, generator)
    assert task.inputs.shape == (4, 3, 32, 32) and task.visible is not None
    hidden = (task.visible == 0).expand_as(task.inputs)
    assert bool((task.inputs[hidden] == 0.5).all())
    assert torch.equal(task.inputs[~hidden], x.repeat_interleave(2, 0)[~hidden])
    torch.testing.assert_close(task.join(x.repeat_interleave(2, 0)), x)
    assert not torch.equal(masking.draw(x, generator).inputs, task.inputs)


def test_cells_that_do_not_fill_the_picture_are_refused() -> None:
    with pytest.raises(BadInput, match="cells of 12 px do not fill pictures of 32 x 32 px"):
        Disjoint((32, 32), 0, ("4", "12"))


def test_without_a_masking_the_network_sees_the_picture() -> None:
    masking, x = Masking((32, 32)), pictures()
    assert torch.equal(masking.see(x), x) and masking.visible() is None
    assert torch.equal(masking.draw(x, torch.Generator()).inputs, x)


# --- necks


def test_a_memory_gives_back_rows_and_nothing_else() -> None:
    torch.manual_seed(0)
    memory = Memory(8, (2, 3), 100, rows=5, temperature=200.0)
    code = 3.0 * memory.rows.detach()[[0, 4, 2, 2, 1, 3]].T.reshape(1, 8, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(memory(code), code / 3.0, rtol=1e-3, atol=1e-3)
        assert float(memory.distance(code).abs().max()) < 1e-5
        odd = torch.randn(1, 8, 2, 3)
        weights = memory.address(odd)
        torch.testing.assert_close(weights.sum(1), torch.ones(1, 6))
        assert float(memory.distance(odd).min()) > 0.05
        assert bool(torch.isfinite(memory(torch.zeros_like(odd))).all())


def test_a_last_bit_brings_no_remembered_row_and_leaves_none_out() -> None:
    torch.manual_seed(0)
    memory = Memory(8, (1, 1), 100, rows=5, temperature=1.0)
    code = torch.randn(1, 8, 1, 1)
    with torch.no_grad():
        before = (memory.temperature * memory.cosines(code)).softmax(1)
        memory.threshold = float(before[0, 2, 0])  # a row on the edge
        for noise in (1e-5, -1e-5):
            assert float((memory(code * (1.0 + noise * torch.arange(8.0).view(1, 8, 1, 1))) - memory(code)).abs().max()) < 1e-3


def test_a_vae_draws_in_training_only_and_is_paid_for_what_it_says() -> None:
    torch.manual_seed(0)
    neck, code = Vae(4, (2, 2), 100, vector=6), torch.randn(3, 4, 2, 2)
    one, penalty = neck.learn(code, torch.Generator().manual_seed(0))
    other, _ = neck.learn(code, torch.Generator().manual_seed(1))
    assert not torch.equal(one, other)
    assert torch.equal(neck(code), neck(code))
    assert float(penalty.detach()) > 0
    with torch.no_grad():
        for layer in (neck.to_vector, neck.log_variance):
            layer.weight.zero_()
            layer.bias.zero_()
    assert float(neck.learn(code, torch.Generator())[1].detach()) == pytest.approx(0.0, abs=1e-7)  # it says nothing


def test_prototypes_move_in_training_only_towards_their_cells() -> None:
    torch.manual_seed(0)
    neck, code, generator = Prototypes(6, (4, 4), 100, rows=3), torch.randn(2, 6, 4, 4), torch.Generator()
    before, away = neck.rows.clone(), float(neck.distance(code).detach().mean())
    neck.eval()
    neck.learn(code, generator)
    neck(code)
    assert torch.equal(neck.rows, before)
    neck.train()
    for _ in range(5):
        neck.learn(code, generator)
    torch.testing.assert_close(neck.rows.norm(dim=1), torch.ones(3))
    assert float(neck.distance(code).detach().mean()) < away


def test_the_decoder_gets_cell_and_prototype_as_if_they_were_joined() -> None:
    torch.manual_seed(0)
    neck, code = Prototypes(6, (4, 4), 100, rows=3), torch.randn(2, 6, 4, 4)
    q = neck.queries(code)
    read = ((q.transpose(1, 2) @ neck.rows.T).softmax(2) @ neck.rows).transpose(1, 2)
    weight = torch.cat([neck.of_query.weight, neck.of_row.weight], 1)
    joined = F.conv2d(torch.cat([q, read], 1).unflatten(2, (4, 4)), weight, neck.of_query.bias)
    torch.testing.assert_close(neck(code), joined)


def test_a_convex_neck_hands_on_mixtures_of_its_rows() -> None:
    torch.manual_seed(0)
    neck, code = Convex(4, (2, 2), 100, vector=6, rows=3), torch.randn(5, 4, 2, 2)
    z, projected = neck.vectors(code)
    weights = torch.linalg.lstsq(neck.rows.T, projected.T).solution
    assert float(weights.detach().min()) > -1e-4
    torch.testing.assert_close(weights.sum(0), torch.ones(5), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(neck.distance(code).flatten(), (z - projected).square().mean(1))
    drawn, vectors = neck.draw(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(vectors, drawn @ neck.rows)


@pytest.mark.parametrize("kind", [Neck, Vae, Memory, Convex, Prototypes])
def test_a_neck_says_whether_it_tells_a_distance(kind: type[Neck]) -> None:
    neck, code = kind(4, (2, 2), 12), torch.randn(1, 4, 2, 2)
    assert neck.tells == bool((neck.distance(code) != 0).any())
