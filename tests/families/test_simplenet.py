from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.simplenet.fit import Discriminator, fit, fold, truncated_l1
from edgead.families.simplenet.options import SimpleNetOptions
from edgead.models.rows import to_pixels
from edgead.trained import load_model
from tests.bundles import saved
from tests.training._parts import draw_part


def test_truncated_l1_by_hand() -> None:
    good = torch.tensor([1.0, 0.5, 0.2, -0.5])  # 0, 0, 0.3, 1.0 below the margin
    noisy = torch.tensor([-1.0, -0.5, 0.0, 0.3])  # 0, 0, 0.5, 0.8 above it
    assert float(truncated_l1(good, noisy)) == pytest.approx(1.3 / 4 + 1.3 / 4)
    assert float(truncated_l1(torch.ones(3), -torch.ones(3))) == 0.0


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    adaptor, discriminator = nn.Linear(12, 12), Discriminator(12, 7)
    scale, rows = torch.rand(12) + 0.5, torch.randn(64, 12)
    discriminator(adaptor(rows / scale))  # moves the running statistics of the batch norm
    discriminator.eval()
    weight, bias, tail = fold(scale, adaptor, discriminator)
    folded = F.leaky_relu(rows @ weight.T + bias, 0.2) @ tail.T
    torch.testing.assert_close(folded[:, 0], discriminator(adaptor(rows / scale)), rtol=1e-4, atol=1e-5)


def test_trained_saved_and_loaded_answers_are_equal(tmp_path: Path) -> None:
    images = [draw_part(seed) for seed in range(6)]
    detector = fit(FitData(images, (64, 64)), SimpleNetOptions(steps=5))
    again = fit(FitData(images, (64, 64)), SimpleNetOptions(steps=5))
    saved(tmp_path, detector)
    loaded, _ = load_model(tmp_path)
    pixels = to_pixels(images)
    anomaly_map, score = detector.detect(pixels)
    assert anomaly_map.shape == (6, 64, 64)
    assert bool((score >= anomaly_map.amax((1, 2)) - 1e-5).all())  # the patch maximum, before the map is smoothed
    for other in (loaded, again):
        assert torch.equal(other.detect(pixels)[1], score)


def test_no_steps_are_refused() -> None:
    with pytest.raises(BadInput, match="0 training steps"):
        SimpleNetOptions(steps=0)
