import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgead.errors import BadInput
from edgead.families.contract import FitData
from edgead.families.patchcore.fit import fit
from edgead.families.patchcore.options import MIN_ROWS, PatchCoreOptions, coreset_rows
from edgead.manifest import Data
from edgead.models.rows import collect_rows, load_features
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.trained import load_model
from edgead.training.evaluate import answers, good_scores
from edgead.training.fit import TrainRequest, train
from tests.training._parts import draw_part, write_good, write_mvtec

RECIPE = PreprocessRecipe(64, 64)
QUICK = {"patchcore": {"coreset": 200.0}, "simplenet": {"steps": 100, "batch": 256}}


@pytest.mark.parametrize("family", ["patchcore", "simplenet"])
def test_a_trained_folder_finds_the_gash_and_says_what_it_is(family: str, tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "plate")
    stages: list[str] = []
    request = TrainRequest(family, root, tmp_path / "out", RECIPE, QUICK[family], heldout=0.3)
    result = train(request, lambda stage, done: stages.append(stage))
    detector, card = load_model(tmp_path / "out")

    assert result.metrics["image_auroc"] == 1.0
    assert result.metrics["pixel_auroc"] > 0.8
    assert 0 < result.metrics["pro"] <= 1
    assert {"reading", "features", "evaluating"} <= set(stages)
    defect = draw_part(3000, defect=True)
    (score, anomaly_map), (score_before, map_before) = answers(detector, defect), answers(result.detector, defect)
    assert score == score_before >= card.threshold.value
    assert np.array_equal(anomaly_map, map_before)

    assert (card.name, card.family, card.labelled_root) == ("plate", family, str(root))
    assert card.preprocess == RECIPE
    assert card.origin.data == Data(str(root / "train/good"), 16, result.images.digest)
    assert card.metrics == result.metrics
    held = [read_image(p) for p in list_images(tmp_path / "out/heldout")]
    assert all(np.array_equal(a, b) for a, b in zip(held, result.images.heldout, strict=True))
    assert max(good_scores(detector, held)) < card.threshold.value
    assert len(list_images(tmp_path / "out/calibration")) == 11
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 8)
    made = [train(TrainRequest("patchcore", folder, tmp_path / n, RECIPE, QUICK["patchcore"], seed=5)) for n in "ab"]
    assert all(torch.equal(a, b) for a, b in zip(*(m.detector.state_dict().values() for m in made), strict=True))
    drawn = {"drawn_count", "drawn_auroc", "drawn_caught", "drawn_caught_without"}
    assert set(made[0].metrics) == drawn | {"light", "light_spread", "light_pictures"}
    assert json.loads((tmp_path / "a/model.json").read_text())["labelled_root"] is None


def interrupt(stage: str, done: float) -> None:
    if stage == "coreset":
        raise KeyboardInterrupt


def test_an_interrupted_training_leaves_the_old_model_and_nothing_else(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 8)
    request = TrainRequest("patchcore", folder, tmp_path / "out", RECIPE, QUICK["patchcore"])
    with pytest.raises(KeyboardInterrupt):
        train(request, interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["good"]
    train(request)
    before = (tmp_path / "out/model.json").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        train(request, interrupt)
    assert (tmp_path / "out/model.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good", "out"]


def test_a_target_that_is_no_model_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious.txt").write_text("keep")
    with pytest.raises(BadInput, match="is not a trained model"):
        train(TrainRequest("patchcore", tmp_path / "absent", tmp_path / "out"))
    assert (tmp_path / "out/precious.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("yolo", {}, "unknown model family"),
        ("patchcore", {"steps": 3}, "patchcore has no option steps"),
        ("patchcore", {"backbone": "vgg"}, "unknown backbone"),
        ("patchcore", {"layers": ("blocks.99",)}, "no layer"),
        ("patchcore", {"coreset": 0.0}, "coreset of 0"),
        ("patchcore", {"coreset": 12.5}, "coreset of 12.5"),
        ("simplenet", {"steps": -1}, "-1 training steps"),
        ("simplenet", {"weights": Path("absent.pth")}, "no weight file"),
    ],
)
def test_unusable_requests_are_refused(tmp_path: Path, family: str, options: dict[str, object], said: str) -> None:
    folder = write_good(tmp_path / "good", 4)
    with pytest.raises(BadInput, match=said):
        train(TrainRequest(family, folder, tmp_path / "out", RECIPE, options))
    assert not (tmp_path / "out").exists()


def test_coreset_is_a_share_or_a_number_of_rows() -> None:
    assert coreset_rows(0.01, 300_000) == 3000
    assert coreset_rows(0.01, 1000) == MIN_ROWS
    assert coreset_rows(100.0, 300_000) == 100


def test_rows_stay_within_the_limit_and_take_the_same_from_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    features = load_features("efficientnet_lite0", None, None)
    images = [draw_part(seed) for seed in range(10)]
    generator = torch.Generator().manual_seed(0)
    everything, patches = collect_rows(features, images, generator)
    assert everything.shape == (640, 152)
    limited, all_patches = collect_rows(features, images, generator, max_rows=100)
    assert (limited.shape, patches, all_patches) == ((100, 152), 640, 640)
    for i in range(10):
        mine = everything[64 * i : 64 * (i + 1)]
        assert all(bool((mine == row).all(1).any()) for row in limited[10 * i : 10 * (i + 1)])
    monkeypatch.setattr("edgead.models.rows.MAX_BYTES", 50 * 4 * 152)
    assert len(collect_rows(features, images, generator)[0]) == 50


def test_fit_calls_back_with_growing_shares() -> None:
    told: dict[str, list[float]] = {}

    def report(stage: str, done: float) -> None:
        told.setdefault(stage, []).append(done)

    fit(FitData([draw_part(seed) for seed in range(4)], (64, 64), progress=report), PatchCoreOptions(coreset=100))
    assert list(told) == ["features", "coreset"]
    assert all(shares == sorted(shares) and shares[-1] <= 1.0 for shares in told.values())
