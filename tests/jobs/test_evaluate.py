"""`edgead evaluate`: bundles on labelled and unlabelled pictures, what they get wrong, and where they differ."""

from __future__ import annotations

import base64
import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from edgead.bundle import Bundle, rewrite_manifest
from edgead.cli.main import main
from edgead.jobs.evaluate import auroc, average_precision, evaluate
from edgead.training.metrics import auroc as trained_auroc
from tests.cli.test_run import write_bundle


def bundle(path: Path, threshold: float) -> Path:
    """Scores are the largest value of a picture; at and above the threshold is NG."""
    made = Bundle.open(write_bundle(path))
    record = made.manifest.engines[0]
    rewrite_manifest(made, made.manifest.with_engine(record.changed(replace(record.threshold, value=threshold))))
    return path


def picture(file: Path, value: int, square: bool = False) -> Path:
    """16 x 16, as the model sees it: grey, with a bright square where a defect is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((16, 16, 3), 10 if square else value, np.uint8)
    if square:
        image[4:8, 4:8] = value
    assert cv2.imwrite(str(file), image)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures of 50 to 150, defects of 120, 180 and 220; masks."""
    root = tmp_path_factory.mktemp("pictures")
    for value in (50, 60, 70, 150):
        picture(root / "test/good" / f"{value}.png", value)
    for value in (120, 180, 220):
        picture(root / "test/scratch" / f"{value}.png", value, square=True)
        mask = np.zeros((16, 16), np.uint8)
        mask[4:8, 4:8] = 255
        (root / "ground_truth/scratch").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "ground_truth/scratch" / f"{value}_mask.png"), mask)
    return root


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return bundle(root / "strict.edgead", 100.0), bundle(root / "loose.edgead", 200.0)


def test_labelled_pictures_tell_misses_false_rejects_and_where_bundles_differ(
    folder: Path, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *map(str, bundles), str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    strict, loose = told["bundles"]
    assert (told["schema"], told["pictures"]) == ("edgead.evaluate/1", 7)
    assert (strict["good"], strict["defects"]) == ({"OK": 3, "NG": 1}, {"NG": 3})
    assert (loose["good"], loose["defects"]) == ({"OK": 4}, {"OK": 2, "NG": 1})
    assert (strict["false_rejects"]["events"], strict["misses"]["events"]) == (1, 0)
    assert (loose["misses"]["events"], loose["misses"]["n"]) == (2, 3)
    assert 0 < strict["false_rejects"]["low"] < 0.25 < strict["false_rejects"]["high"] < 1
    assert strict["auroc"] == loose["auroc"] == pytest.approx(11 / 12)
    assert strict["ap"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert strict["pro"] is not None and strict["pro"] > 0.5
    assert sorted(Path(file).name for file in told["differ"]) == ["120.png", "150.png", "180.png"]


def test_a_person_reads_which_pictures_are_wrong(
    folder: Path, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *map(str, bundles), str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "loose.edgead, missed: 120.png, 180.png" in shown and "strict.edgead, false reject: 150.png" in shown
    assert "they differ on 3 pictures" in shown and "good: good (4); defects: scratch (3)" in shown


@pytest.mark.parametrize("columns", ["80", "200"])
def test_no_word_of_the_table_is_broken(
    columns: str, folder: Path, bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["evaluate", *map(str, bundles), str(folder)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("defects UNKNOWN", "strict.edgead ", "1 of 4 (", "AUROC", "p50 ms"))


def test_tables_have_a_row_a_picture_and_bundle(folder: Path, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    files = tmp_path / "a.csv", tmp_path / "a.parquet"
    assert main(["evaluate", *map(str, bundles), str(folder), "--csv", str(files[0]), "--parquet", str(files[1])]) == 0
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(files[1]).to_pylist()
    assert len(rows) == len(table) == 14
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in table]
    one = next(row for row in table if row["file"].endswith("scratch/120.png") and row["bundle"].endswith("loose.edgead"))
    assert (one["kind"], one["verdict"], one["score"], one["level"]) == ("scratch", "OK", 120.0, 120.0)


def test_pictures_without_labels_are_judged(tmp_path: Path, bundles: tuple[Path, Path]) -> None:
    for value in (50, 150):
        picture(tmp_path / "shift" / f"{value}.png", value)
    (tmp_path / "shift" / "torn.png").write_bytes(b"\x89PNG torn")
    found = evaluate(bundles[:1], tmp_path)
    (figures,) = found.bundles
    assert (found.labels, figures.verdicts) == ("", {"OK": 1, "NG": 1, "UNKNOWN": 1})
    assert (figures.auroc, figures.misses, figures.false_rejects, figures.good) == (None, None, None, {})
    assert {one.verdict for one in found.answers[0] if one.file.endswith("torn.png")} == {"UNKNOWN"}


def test_the_gallery_has_its_pictures_inside_no_script_and_shows_mistakes_first(
    tmp_path: Path, bundles: tuple[Path, Path]
) -> None:
    evil = "<script>alert(1)</script>&\"'"
    picture(tmp_path / "p/good/calm.png", 50)
    picture(tmp_path / "p" / evil.replace("/", "-") / "x.png", 60, square=True)
    file = tmp_path / "gallery.html"
    assert main(["evaluate", *map(str, bundles), str(tmp_path / "p"), "--html", str(file)]) == 0
    text = file.read_text("utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert re.search(r"(src|href)=\"(?!data:)", text) is None and "default-src 'none'" in text
    images = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", text)
    assert len(images) == 4
    assert all(cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR) is not None for one in images)
    assert text.index("missed") < text.index("calm.png")


def test_pictures_of_the_training_are_left_out(tmp_path: Path, folder: Path) -> None:
    from edgead.bundle import TRAINED_ON, write_manifest
    from edgead.preprocess import frame_digest, read_image

    made = Bundle.open(bundle(tmp_path / "b.edgead", 100.0))
    seen = made.manifest.preprocess.apply(read_image(folder / "test/good/150.png"))
    (made.path / TRAINED_ON).write_text(frame_digest(seen) + "\n")
    (made.path / "manifest.json").unlink()
    write_manifest(made.path, made.manifest)
    (figures,) = evaluate([made.path], folder).bundles
    assert (figures.trained_on, figures.good) == (1, {"OK": 3})


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["B"], "bundles and a folder of pictures are needed", 2),
        (["B", "B", "P"], "given twice", 2),
        (["B", "nowhere"], "is not a folder", 2),
        (["P", "P"], "is not a bundle", 3),
        (["B", "P", "--engine", "x"], "x", 2),
        (["B", "P", "--csv", "/no/such/folder/a.csv"], "cannot be written", 2),
        (["B", "P", "--html", "P"], "cannot be written", 2),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, bundles: tuple[Path, Path], arguments: list[str], says: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"B": str(bundles[0]), "P": str(folder)}
    assert main(["evaluate", *(names.get(word, word) for word in arguments)]) == code
    shown = capsys.readouterr().err
    assert says in shown and shown.count("\n") <= 2


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 2.0])), min_size=2, max_size=30))
def test_the_figures_are_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    truth, values = np.array([a for a, _ in pairs], bool), np.array([b for _, b in pairs])
    if truth.all() or not truth.any():
        assert np.isnan(auroc(truth, values))
        return
    assert auroc(truth, values) == pytest.approx(trained_auroc(truth, values))
    assert average_precision(truth, values) == pytest.approx(sklearn.metrics.average_precision_score(truth, values))
