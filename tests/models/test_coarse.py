import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.engines.coarse import Gate
from edgead.models.wrappers.coarse import CoarseToFine, Shrunk
from edgead.models.wrappers.tiled import Tiled
from edgead.trained import load_model
from tests.bundles import Tiny, saved
from tests.models._tiled import ask, big_picture, bright_coarse_to_fine

SIZE = (90, 122)


def test_with_every_tile_run_it_answers_as_the_tiles_do() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    detector.set_gate(Gate(-math.inf, 1.0, 0.0, 5.0))
    picture = big_picture(0, *SIZE)
    for told, wanted in zip(ask(detector, picture), ask(detector.inner, picture), strict=True):
        assert np.abs(told - wanted).max() < 1e-5


def test_what_is_clearly_good_never_tells_more_than_the_cap() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    detector.set_gate(Gate(math.inf, 100.0, 3.0, 7.5))
    (anomaly_map,), (score,) = ask(detector, big_picture(0, *SIZE))
    assert score == pytest.approx(7.5)
    assert anomaly_map.max() <= 7.5


def test_a_suspicious_tile_is_told_by_the_tile_and_the_others_are_not() -> None:
    detector = bright_coarse_to_fine(SIZE, 32, 8, 4)
    picture = big_picture(3, *SIZE)
    with torch.no_grad():
        evidence = detector.evidence(detector.coarse(torch.from_numpy(picture)[None])[0])[0]
        tile_scores = detector.inner.tiles(torch.from_numpy(picture)[None].permute(0, 3, 1, 2).flip(1).float())[1][0]
    level = float(evidence.median())
    detector.set_gate(Gate(level, 0.0, -1.0, 0.0))
    assert 0 < int((evidence < level).sum()) < len(evidence)
    assert ask(detector, picture)[1][0] == pytest.approx(float(tile_scores[evidence >= level].max()), rel=1e-5)


def test_shrinking_averages_boxes_and_repeats_the_last_pixels() -> None:
    detector = bright_coarse_to_fine((10, 14), 8, 2, 4)
    pixels = torch.arange(140, dtype=torch.float32).view(1, 1, 10, 14).expand(1, 3, 10, 14)
    small = detector.coarse.inner_pixels(pixels)
    assert small.shape == (1, 3, 3, 4)
    assert small[0, 0, 0, 0] == pixels[0, 0, :4, :4].mean()
    padded = torch.nn.functional.pad(pixels, (0, 2, 0, 2), mode="replicate")
    assert small[0, 0, 2, 3] == padded[0, 0, 8:, 12:].mean()


def test_a_saved_one_loads_with_its_gate(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny.model("patchcore")
    tiled = Tiled(load_model(model)[0], (128, 96), 16)
    inner = load_model(model)[0]
    coarse = type(inner).build(inner.config, (64, 48))
    coarse.load_state_dict(inner.state_dict())
    detector = CoarseToFine(tiled, Shrunk(coarse, (128, 96), 2)).eval()
    detector.set_gate(Gate(20.0, 1.5, -2.0, 30.0))
    saved(tmp_path, detector)
    loaded, card = load_model(tmp_path)
    assert isinstance(loaded, CoarseToFine)
    assert card.family == "patchcore"
    assert loaded.gate == Gate(20.0, 1.5, -2.0, 30.0)
    picture = big_picture(2, 128, 96)
    assert np.array_equal(ask(loaded, picture)[0], ask(detector, picture)[0])
