from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.models.detector import Detector
from edgead.models.wrappers.coarse import CoarseToFine
from edgead.models.wrappers.tiled import Tiled
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.trained import load_model
from edgead.training.dataset import native_size
from edgead.training.evaluate import answers
from edgead.training.fit import TrainRequest, train
from edgead.training.tiles import Tiling, evidence, fit_shrunk, fit_tiled, join, shrink, tile_scores
from edgead.types import Image
from tests.models._tiled import Bright, big_picture
from tests.training._parts import draw_part

SHEET = (96, 128)
RECIPE = PreprocessRecipe(SHEET[1], SHEET[0])
TILING = Tiling(64, 64, 16)
FEW = {"coreset": 100.0}


def write_sheets(folder: Path, count: int, first_seed: int, defect: bool = False) -> Path:
    """Four drawn parts side by side; one of them has a gash when there is a defect."""
    folder.mkdir(parents=True)
    for i in range(count):
        parts = [draw_part(first_seed + 10 * i + k, defect and k == i % 4) for k in range(4)]
        sheet = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])[: SHEET[0]]
        cv2.imwrite(str(folder / f"{i:03d}.png"), sheet)
    return folder


def write_sheet_set(root: Path) -> Path:
    write_sheets(root / "train/good", 10, 0)
    write_sheets(root / "test/good", 4, 1000)
    write_sheets(root / "test/gash", 2, 2000, defect=True)
    return root


def bright_fit(data: FitData) -> Detector:
    return Bright({}, data.size).eval()


@pytest.mark.parametrize("coarse", [None, 2])
def test_a_model_of_tiles_finds_the_gash_on_whole_sheets(tmp_path: Path, coarse: int | None) -> None:
    root = write_sheet_set(tmp_path / "sheets")
    tiling = Tiling(64, 64, 16, coarse)
    stages: set[str] = set()
    request = TrainRequest("patchcore", root, tmp_path / "out", RECIPE, FEW, heldout=0.3, tiling=tiling)
    result = train(request, lambda stage, done: stages.add(stage))
    detector, card = load_model(tmp_path / "out")
    assert type(detector) is (Tiled if coarse is None else CoarseToFine)
    assert result.metrics["image_auroc"] == 1.0
    assert result.metrics["tiles"] == 6
    assert ("tiles_run_good" in result.metrics, "gate" in stages) == (coarse is not None,) * 2
    assert card.origin.arguments is not None
    assert card.origin.arguments.tiling == {"height": 64, "width": 64, "overlap": 16, "coarse": coarse}
    held = [read_image(p) for p in list_images(tmp_path / "out/heldout")]
    assert all(image.shape == (*SHEET, 3) for image in held)
    score, anomaly_map = answers(detector, read_image(list_images(root / "test/gash")[0]))
    assert score >= card.threshold.value > max(answers(detector, image)[0] for image in held)
    assert anomaly_map.shape == SHEET


def test_the_family_sees_tiles_of_all_places_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Image] = []

    def fit(data: FitData) -> Detector:
        seen[:] = data.images
        return Bright({}, data.size)

    sheets = [big_picture(seed, *SHEET) for seed in range(5)]
    fit_tiled(fit, FitData(sheets, SHEET), TILING)
    assert len(seen) == 30
    assert np.array_equal(seen[5], sheets[0][32:, 64:])
    monkeypatch.setattr("edgead.training.tiles.MAX_TILES", 12)
    fit_tiled(fit, FitData(sheets, SHEET), TILING)
    assert len(seen) == 10
    assert all(tile.shape == (64, 64, 3) for tile in seen)


def test_the_gate_loses_no_drawn_defect_that_the_tiles_find() -> None:
    rng = np.random.default_rng(0)
    sheets = [np.clip(rng.normal(120, 4, (*SHEET, 3)), 0, 255).astype(np.uint8) for _ in range(6)]
    tiled = fit_tiled(bright_fit, FitData(sheets, SHEET), TILING)
    detector, facts = join(tiled, fit_shrunk(bright_fit, FitData(sheets, SHEET), 4), sheets)
    assert 0 < facts.found <= facts.drawn
    gate = detector.gate
    clean = [tile_scores(tiled, sheet, range(6)).max() for sheet in sheets]
    assert gate.cap == pytest.approx(min(clean))
    shares = [np.mean(evidence(detector, sheet) >= gate.level) for sheet in sheets]
    assert np.mean(shares) == pytest.approx(facts.run_share, abs=0.03)
    spoilt = sheets[0].copy()
    spoilt[40:52, 70:74] = 255
    assert answers(detector, spoilt)[0] == pytest.approx(answers(tiled, spoilt)[0], rel=1e-5)
    assert answers(detector, spoilt)[0] > max(clean)


def test_shrinking_is_what_the_graph_does_but_for_rounding() -> None:
    picture = big_picture(0, 90, 122)
    coarse = fit_shrunk(bright_fit, FitData([picture], (90, 122)), 4)
    pixels = torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float()
    inside = coarse.inner_pixels(pixels)[0].permute(1, 2, 0).numpy()
    assert np.abs(shrink(picture, 4) - inside).max() <= 0.501


def test_native_size_is_that_of_the_pictures_or_of_the_region(tmp_path: Path) -> None:
    folder = write_sheets(tmp_path / "good", 3, 0)
    assert native_size(folder) == (128, 96)
    assert native_size(folder, (4, 4, 70, 60)) == (70, 60)
    cv2.imwrite(str(folder / "other.png"), draw_part(0))
    with pytest.raises(BadInput, match=r"no common size: 000.png is 128 x 96 px, other.png 64 x 64"):
        native_size(folder)


@pytest.mark.parametrize(
    ("tiling", "said"),
    [
        (lambda: Tiling(256, 256), "has no tile of 256 x 256"),
        (lambda: Tiling(64, 64, 40), "cannot overlap by 40"),
        (lambda: Tiling(8, 64), "tiles of 64 x 8 px are not usable"),
        (lambda: Tiling(64, 64, 8, 1), "coarse look at 1/1"),
    ],
)
def test_tiles_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path, tiling: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        train(TrainRequest("patchcore", tmp_path / "absent", tmp_path / "out", RECIPE, FEW, tiling=tiling()))  # type: ignore[operator]
    assert not (tmp_path / "out").exists()
