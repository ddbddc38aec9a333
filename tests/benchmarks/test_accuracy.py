import json
from pathlib import Path

import cv2
import pytest

from benchmarks import _sets, accuracy
from benchmarks._sets import SETS, ImageSet, Sizes
from benchmarks._spread import spread
from edgead.preprocess import PreprocessRecipe
from tests.training._parts import write_mvtec


@pytest.fixture
def plates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mvtec(tmp_path / "data/plates", good=10, test=4)
    monkeypatch.setattr(_sets, "SHARED", tmp_path)
    plates = ImageSet(PreprocessRecipe(64, 64), PreprocessRecipe(32, 32), Sizes(8, 4, 3), _sets._mvtec("plates"), pooled=True)
    absent = ImageSet(PreprocessRecipe(64, 64), PreprocessRecipe(32, 32), Sizes(8, 4, 3), _sets._mvtec("absent"), pooled=False)
    for module in (_sets, accuracy):
        monkeypatch.setattr(module, "SETS", {"plates": plates, "absent": absent})
    monkeypatch.setattr(accuracy, "CHOICES", {"before": {"options": {"features": "paper", "coreset": 100}, "request": {}},
                                              "after": {"options": {"coreset": 100}, "request": {}}})  # fmt: skip


def test_before_and_after_see_the_same_pictures(plates: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "results/accuracy.json"
    options = ["--models", "patchcore", "--size", "64", "--json", str(target), "--gallery", str(tmp_path / "gallery")]
    assert accuracy.main([*options, "--seeds", "0,1"]) == 0
    result = json.loads(target.read_text())
    assert [(run["seed"], run["choice"]) for run in result["runs"]] == [(0, "before"), (0, "after"), (1, "before"), (1, "after")]
    before, after = result["summary"]
    assert after["image_auroc"]["mean"] == 1.0
    assert after["image_auroc_gained"]["mean"] == pytest.approx(1.0 - before["image_auroc"]["mean"], abs=2e-4)
    assert after["pixel_auroc"]["mean"] > 0.8
    assert 0.0 <= after["misses"]["mean"] <= 1.0
    assert "absent" in result["skipped"]
    assert result["machine"]["cores"] >= 1
    assert "skipped absent: no " in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "gallery/plates_patchcore.png"))
    assert picture is not None and picture.std() > 10
    assert accuracy.main([*options, "--seeds", "0,1,2", "--max-minutes", "-1"]) == 0
    assert len(json.loads(target.read_text())["runs"]) == 4  # those that were there are kept


def test_an_interval_is_students() -> None:
    assert spread([0.9]) == {"mean": 0.9}
    assert spread([0.8, 0.9]) == {"mean": 0.85, "half": pytest.approx(12.706 * 0.05, abs=1e-4)}


def test_splits_are_shuffled_and_keep_test_images_out_of_training(plates: None) -> None:
    plates_set = _sets.SETS["plates"]
    first, again, other = plates_set.split(0), plates_set.split(0), plates_set.split(1)
    assert (len(first.train), len(first.test), int(first.labels.sum())) == (8, 7, 3)
    assert [i.file for i in first.test] == [i.file for i in again.test]
    assert [i.file for i in first.test] != [i.file for i in other.test]
    trained = {frame.tobytes() for frame in first.train}
    assert not [item for item in first.test if item.image.tobytes() in trained]


def test_time_limit_and_unknown_names(plates: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["--sets", "plates", "--models", "patchcore", "--max-minutes", "-1"]) == 0
    assert "minutes are over" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        accuracy.main(["--sets", "moon"])


def test_elpv_is_found_when_its_package_is_installed() -> None:
    pytest.importorskip("elpv_dataset", reason="package elpv-dataset is not installed")
    good, entries = SETS["elpv"].find()
    assert (len(good), len(entries)) == (588, 313)
    assert {kind for _, kind, _ in entries} == {"defect"}
