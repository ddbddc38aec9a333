"""The outermost cells of a picture: neither deaf nor the loudest."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgead.errors import BadInput
from edgead.families import find
from edgead.families.contract import FitData
from edgead.families.patchcore.network import PatchCore
from edgead.models.patches import build_features
from edgead.models.rows import collect_rows, load_features, to_pixels
from edgead.trained import load_model
from edgead.training.evaluate import good_scores
from edgead.types import Image
from tests.bundles import saved

SIZE = 128
CELLS = SIZE // 8
RING = 4 * (CELLS - 1) / CELLS**2
"""Share of the cells that are outermost."""


def sheet(seed: int) -> Image:
    """Unlike any other sheet by a cloudy texture, and by nothing else: SIZE x SIZE x 3 uint8 BGR."""
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    clouds = cv2.GaussianBlur(noise, (0, 0), 5)
    grey = 120 + 25 * clouds / clouds.std() + 4 * noise
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)


def scratched(image: Image, x: int) -> Image:
    """A dark scratch, upright, two pixels wide, around column x."""
    out = image.copy()
    cv2.line(out, (x, SIZE // 2 - 14), (x, SIZE // 2 + 14), (15, 15, 15), 2)
    return out


GOOD = [sheet(seed) for seed in range(24)]
HELD = [sheet(100 + seed) for seed in range(12)]


@pytest.mark.parametrize(
    ("features", "low", "high"), [("own_cell", 0.0, 2 * RING), ("quiet_border", 0.0, 2 * RING), ("paper", 2 * RING, 1.0)]
)
def test_the_coreset_is_not_made_of_the_border(features: str, low: float, high: float) -> None:
    """Trained as before 30 November 2026 it is: so the bound means something."""
    made = find("patchcore").bound({"coreset": 128, "features": features})(FitData(GOOD, (SIZE, SIZE)))
    assert isinstance(made, PatchCore)
    rows, _ = collect_rows(load_features("efficientnet_lite0", None, None, features), GOOD, torch.Generator().manual_seed(0))
    owner = torch.cdist(made.bank() + made.centre, rows).argmin(1) % CELLS**2
    y, x = owner // CELLS, owner % CELLS
    outermost = (y == 0) | (y == CELLS - 1) | (x == 0) | (x == CELLS - 1)
    assert low <= float(outermost.float().mean()) <= high


@pytest.mark.parametrize("family", ["patchcore", "simplenet"])
def test_a_defect_at_the_edge_is_still_seen(family: str) -> None:
    options = {"coreset": 256} if family == "patchcore" else {"steps": 150}
    made = find(family).bound(options)(FitData(GOOD, (SIZE, SIZE)))
    assert made.config["features"]["weight"] == 0.8
    good = good_scores(made, HELD)
    for x in (3, SIZE // 2, SIZE - 4):
        found = good_scores(made, [scratched(image, x) for image in HELD])
        assert np.mean(found > good.max()) >= 0.75, f"column {x}: {found.round(1)} against {good.max():.1f}"


def test_a_model_that_names_no_features_answers_as_it_was_trained(tmp_path: Path) -> None:
    """Until 30 November 2026 none did, and the mean was of the cells that are there."""
    features = load_features("efficientnet_lite0", None, None, "paper")
    with torch.no_grad():
        rows = features(to_pixels(GOOD[:2])).flatten(2).transpose(1, 2).flatten(0, 1)[::8]
    made = PatchCore.from_bank(features, rows, 1, (SIZE, SIZE))
    saved(tmp_path, made)
    file = tmp_path / "model.json"
    info = json.loads(file.read_text("utf-8"))
    assert info["config"].pop("features") == {"kind": "paper"}
    file.write_text(json.dumps(info), "utf-8")
    old, _ = load_model(tmp_path)
    with torch.no_grad():
        maps = [F.avg_pool2d(m, 3, 1, 1, count_include_pad=False) for m in features.backbone(to_pixels(HELD[:1]))]
        fine = torch.cat([maps[0], F.interpolate(maps[1], maps[0].shape[2:], mode="bilinear")], 1).flatten(2)[0].T
        _, score = old.detect(to_pixels(HELD[:1]))
    assert float(score) == pytest.approx(float(torch.cdist(fine, rows).amin(1).max()), rel=1e-4)


@pytest.mark.parametrize(
    ("wanted", "own"),
    [({"kind": "quiet_border", "weight": 0.8}, 0.0), ({"kind": "own_cell", "weight": 0.8, "own": 0.5}, 0.5)],
)
def test_a_model_answers_as_its_features_say(wanted: dict[str, object], own: float) -> None:
    """Those of "quiet_border" are of 29 November 2026."""
    features = build_features({"backbone": "efficientnet_lite0", "layers": ["blocks.4"], "features": wanted})
    assert features.recipe == wanted
    with torch.no_grad():
        (found,), (cells,) = features.pooled(to_pixels(HELD[:1])), features.backbone(to_pixels(HELD[:1]))
    for y, x, weight in ((5, 7, 1.0), (0, 7, 0.8), (0, 0, 0.64)):
        around = cells[0, :, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean((1, 2))
        torch.testing.assert_close(found[0, :, y, x], weight * (own * cells[0, :, y, x] + (1 - own) * around))


def test_a_nick_of_a_few_pixels_stands_out_more_than_from_means_alone() -> None:
    def stands_out(features: str) -> float:
        made = find("patchcore").bound({"coreset": 256, "features": features})(FitData(GOOD, (SIZE, SIZE)))
        nicked = [image.copy() for image in HELD]
        for image in nicked:
            image[60:63, 64:67] = 20
        good = good_scores(made, HELD)
        return float((good_scores(made, nicked).mean() - good.mean()) / good.std())

    assert stands_out("own_cell") > 1.1 * stands_out("quiet_border")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"kind": "loud"}, "unknown patch features 'loud'"),
        ({"kind": "quiet_border", "weight": "much"}, "cannot be weighed 'much'"),
        ({"kind": "quiet_border", "weight": -1}, "cannot be weighed -1"),
        ({"kind": "own_cell", "own": "half"}, "own share cannot be 'half'"),
        ({"kind": "own_cell", "own": 1.5}, "own share cannot be 1.5"),
    ],
)
def test_unusable_features_are_one_clear_line(features: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build_features({"backbone": "efficientnet_lite0", "layers": ["blocks.4"], "features": features})
