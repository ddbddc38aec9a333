"""What an export puts beside golden frames, so that a box can check recipe and threshold; from training alone, without labels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.export import ExportOptions, export_bundle
from edgead.golden import camera_pngs
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.training.fit import TrainRequest, train
from tests.training._parts import draw_part

RECIPE = PreprocessRecipe(64, 64, roi=(30, 20, 120, 120))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PatchCore of parts in the middle of larger pictures, nobody has a defect."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "good").mkdir()
    for i in range(16):
        picture = np.full((160, 200, 3), 40 + i, np.uint8)
        picture[20:140, 30:150] = draw_part(i, px=120)
        cv2.imwrite(str(folder / "good" / f"{i:03d}.png"), picture)
    train(TrainRequest("patchcore", folder / "good", folder / "model", RECIPE, {"coreset": 200.0}, heldout=0.4))
    return folder / "model"


def test_training_keeps_some_held_out_pictures_as_the_camera_gave_them(model: Path) -> None:
    kept = list_images(model / "camera")
    assert 1 <= len(kept) <= 3
    for file in kept:
        picture = read_image(file)
        assert picture.shape == (160, 200, 3)
        assert np.array_equal(RECIPE.apply(picture), read_image(model / "heldout" / file.name))


def test_an_export_without_labels_checks_its_region_and_its_threshold(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "part.edgead"
    options = ExportOptions(backends=("onnxruntime",), precisions=("fp32",), rewrites={}, threads=1)
    manifest = export_bundle(model, target, options).manifest
    assert set(manifest.golden_kinds) == {"good"}  # nothing lossy: no defects are drawn
    assert manifest.golden_camera
    assert main(["verify", str(target)]) == 0
    assert "the recipe makes of" in " ".join(capsys.readouterr().out.split())
    data = json.loads((target / "manifest.json").read_text())
    data["preprocess"]["roi"] = [34, 20, 120, 120]
    (target / "manifest.json").write_text(json.dumps(data))
    assert main(["verify", str(target)]) == 4
    data["preprocess"]["roi"] = [30, 20, 120, 120]
    data["engines"][0]["threshold"]["value"] = data["measured"]["threshold"]["value"] = 1e9
    (target / "manifest.json").write_text(json.dumps(data))
    assert main(["verify", str(target)]) == 4
    assert "far beyond all golden answers" in " ".join(capsys.readouterr().err.split())


def test_a_model_trained_before_pictures_were_kept_exports_without_them(model: Path, tmp_path: Path) -> None:
    import shutil

    old = Path(shutil.copytree(model, tmp_path / "old"))
    shutil.rmtree(old / "camera")
    options = ExportOptions(backends=("onnxruntime",), precisions=("fp32",), threads=1)
    bundle = export_bundle(old, tmp_path / "old.edgead", options)
    assert bundle.manifest.golden_camera == ()
    assert main(["verify", str(bundle.path)]) == 0


def test_a_model_card_with_nan_among_its_metrics_still_exports(model: Path, tmp_path: Path) -> None:
    """Older edgeads wrote it where a set of labelled pictures had only one kind."""
    import shutil

    old = Path(shutil.copytree(model, tmp_path / "old"))
    card = json.loads((old / "model.json").read_text())
    (old / "model.json").write_text(json.dumps({**card, "metrics": {"caught": float("nan"), "image_auroc": 0.5}}))
    options = ExportOptions(backends=("onnxruntime",), precisions=("fp32",), threads=1)
    assert export_bundle(old, tmp_path / "old.edgead", options).manifest.measured.training["image_auroc"] == 0.5


def test_few_large_pictures_are_kept_and_the_first_in_any_case(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2200, 3), np.uint8)  # 13 MB as PNG
    files = {i: tmp_path / f"{i}.bmp" for i in range(3)}
    for file in files.values():
        cv2.imwrite(str(file), noise)
    assert list(camera_pngs(files)) == [0]
    small = {i: tmp_path / f"small{i}.png" for i in range(5)}
    for file in small.values():
        cv2.imwrite(str(file), noise[:100, :100])
    assert list(camera_pngs(small)) == [0, 1, 2]


def test_an_opened_bundle_tells_what_its_golden_frames_show(tiny: object) -> None:
    from tests.bundles import Tiny

    assert isinstance(tiny, Tiny)
    golden = Bundle.open(tiny.bundle()).golden()
    assert [golden.kinds[i] for i in golden.defects(0.0)] == ["defect"] * 4
