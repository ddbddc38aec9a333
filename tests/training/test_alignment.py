"""What training learns of how a part is found, and that the line then does exactly the same."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.alignment import KINDS
from edgead.budget import LatencyBudget
from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.runtime.loop.inspector import Inspector
from edgead.testing import FakeClock, FakeEngine
from edgead.training.alignment import AlignAsked, alignment_sheet, learn_alignment
from edgead.training.dataset import load_good, load_labelled
from edgead.types import Frame, Image, Verdict
from tests.test_alignment import REGION
from tests.turned import draw_turned, write_turned

RECIPE = PreprocessRecipe(64, 48)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_turned(tmp_path_factory.mktemp("turned") / "good", 12)


@pytest.mark.parametrize("by", KINDS)
def test_part_and_limit_are_found_without_a_word_from_anybody(good: Path, by: str) -> None:
    learned = learn_alignment(list_images(good), RECIPE, AlignAsked(by))
    sides = learned.alignment.region[2:]
    assert min(sides) > 47 and max(sides) < 110  # the part as it lies in the reference, with a little belt
    assert learned.empty + 0.1 < learned.alignment.limit < learned.low - 0.1
    assert learned.crossed == 0
    assert (learned.reference.parent, learned.asked) == (good, 11)


@pytest.mark.promise("Parts that move and turn** are found in the picture and brought to their place")
def test_training_and_line_make_the_same_bytes_of_a_picture(good: Path) -> None:
    images = load_good(good, RECIPE, align=AlignAsked("template", REGION))
    assert images.recipe.align is not None
    assert (images.aligned.reference.name if images.aligned else "") == "000.png"
    assert images.recipe.roi == REGION
    told: list[Image] = []

    def score(image: Image) -> float:
        told.append(image.copy())
        return 0.0

    clock = FakeClock()
    stored = PreprocessRecipe.from_json(json.loads(json.dumps(images.recipe.to_json())))  # as a bundle has it
    line = Inspector(FakeEngine(score, image_size=(48, 64)), stored, 2.0, LatencyBudget(None), clock)
    for file, frame in zip(images.train_files, images.train, strict=True):
        found = line.inspect(1, Frame(read_image(file), "folder", 0, clock.now_ns()))
        assert found.verdict is Verdict.OK
        assert (told[-1] == frame).all()


def test_good_pictures_without_the_part_are_left_out_by_name_and_too_many_are_refused(tmp_path: Path) -> None:
    folder = write_turned(tmp_path / "good", 12)
    cv2.imwrite(str(folder / "zz_empty.png"), draw_turned(77, None))
    images = load_good(folder, RECIPE, align=AlignAsked("template", REGION))
    assert [file.name for file, _ in images.survey.not_found] == ["zz_empty.png"]
    assert "zz_empty.png" not in {file.name for file in (*images.train_files, *images.heldout_files)}
    assert "UNKNOWN(part_not_found)" in images.survey.lines()[-1] and "zz_empty.png" in images.survey.lines()[-1]
    for i in range(4):
        cv2.imwrite(str(folder / f"zz_two{i}.png"), draw_turned(80 + i, (60, 60), second=(180, 120)))
    with pytest.raises(BadInput, match=r"zz_empty\.png.*zz_two0\.png"):
        load_good(folder, RECIPE, align=AlignAsked("template", REGION))


def test_labelled_pictures_without_the_part_are_left_out_and_masks_are_aligned(good: Path, tmp_path: Path) -> None:
    recipe = load_good(good, RECIPE, align=AlignAsked("template", REGION)).recipe
    bad, mask = draw_turned(5, (150.0, 70.0), 77.0, defect=True), tmp_path / "mask.png"
    gash = np.abs(bad.astype(int) - draw_turned(5, (150.0, 70.0), 77.0)).max(2) > 40
    cv2.imwrite(str(mask), gash.astype(np.uint8) * 255)
    cv2.imwrite(str(tmp_path / "bad.png"), bad)
    cv2.imwrite(str(tmp_path / "none.png"), draw_turned(6, None))
    items = list(load_labelled([(tmp_path / "none.png", "gash", None), (tmp_path / "bad.png", "gash", mask)], recipe))
    assert [item.file.name for item in items] == ["bad.png"]
    assert items[0].mask is not None
    red = items[0].image[:, :, 2].astype(int) - items[0].image[:, :, 0] > 40
    assert (red & items[0].mask).sum() > 0.8 * red.sum() > 20


def test_a_part_that_nobody_can_tell_from_its_surroundings_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (120, 160, 3), np.uint8))
    files = list_images(tmp_path)
    with pytest.raises(BadInput, match="no single part stands out"):
        learn_alignment(files, RECIPE, AlignAsked("template"))
    with pytest.raises(BadInput, match="does not stand out"):
        learn_alignment(files, RECIPE, AlignAsked("template", (40, 30, 60, 60)))
    with pytest.raises(BadInput, match="clear outline"):
        learn_alignment(files, RECIPE, AlignAsked("silhouette", (40, 30, 60, 60)))


def test_the_sheet_shows_each_part_upright_and_what_was_not_found_in_red(good: Path, tmp_path: Path) -> None:
    recipe = load_good(good, RECIPE, align=AlignAsked("template", REGION)).recipe
    cv2.imwrite(str(tmp_path / "none.png"), draw_turned(6, None))
    sheet = alignment_sheet([tmp_path / "none.png", *list_images(good)[:2]], recipe)
    assert sheet.shape == (156, 4 * 306, 3)
    red = (np.abs(sheet.astype(int) - [40, 40, 210]).max(2) < 30).any(0)
    assert red[306:612].any() and not red[612:].any()  # after the mean, before the two that were found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--align-angle", "10"], "--align-angle says how parts are found, and they are not looked for"),
        (["--align-region", "1,2,30,40"], "--align-region says how"),
        (["--align-shift", "10"], "--align-shift says how"),
        (["--align", "template", "--align-region", "1,2,3"], "--align-region: '1,2,3' is not a rectangle"),
        (["--align", "template", "--align-region", "200,100,90,90"], "does not lie in a picture of 240 x 180 px"),
        (["--align", "template", "--align-angle", "200"], "cannot be turned by 200 degrees"),
        (["--align", "template", "--align-angle", "nan"], "--align-angle: 'nan' is not a number"),
        (["--align", "template", "--align-shift", "0"], "cannot be shifted by 0 px"),
        (["--align", "template", "--align-reference", "nowhere.png"], "nowhere.png is not a file"),
        (["--align", "template", "--size", "native"], "not known before the part is found"),
        (["--align", "template", "--tiles", "32"], "not known before the part is found"),
        (["--align", "silhouette", "--align-region", "95,75,40,30"], "does not stand out"),
    ],
)
def test_what_cannot_be_aligned_is_told_in_one_line(
    good: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size = [] if "--size" in arguments or "--tiles" in arguments else ["--size", "64"]
    assert main(["train", "patchcore", str(good), "-o", str(tmp_path / "out"), *size, *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_from_turned_pictures_to_verdicts_on_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, export, verify and run: turned good parts are OK, turned defects NG, what shows no part or two is UNKNOWN."""
    root, out, bundle = tmp_path / "set", tmp_path / "model", tmp_path / "part.edgead"
    write_turned(root / "train/good", 20)
    write_turned(root / "test/good", 4, seed=5)
    write_turned(root / "test/gash", 4, seed=7, defect=True)
    cv2.imwrite(str(root / "test/gash/zz_none.png"), draw_turned(6, None))
    train = ["train", "patchcore", str(root), "-o", str(out), "--size", "64", "--coreset", "200", "--keep-aspect", "no"]
    assert main([*train, "--align", "template"]) == 0
    said = capsys.readouterr().out
    assert "by template, anywhere, turned anyhow" in said and str(out / "aligned.png") in said
    assert "1 in which the part is not found: UNKNOWN on the line, e.g. zz_none.png" in said
    assert read_image(out / "aligned.png").shape[1] == 4 * 306
    export = ["export", str(out), "-o", str(bundle), "--precision", "fp32", "--backend", "onnxruntime"]
    assert main(export) == 0
    assert main(["verify", str(bundle)]) == 0
    assert "the recipe makes of 3 of them" in capsys.readouterr().out
    line = tmp_path / "line"
    line.mkdir()
    pictures = {
        "0_ok": draw_turned(900, (70.0, 110.0), 100.0),
        "1_ng": draw_turned(901, (160.0, 80.0), -70.0, defect=True),
        "2_none": draw_turned(902, None),
        "3_two": draw_turned(903, (60, 60), 10.0, second=(180, 120)),
        "4_ok": draw_turned(904, (150.0, 60.0), 10.0),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(line / f"{name}.png"), picture)
    records = tmp_path / "records.jsonl"
    run = ["run", str(bundle), "--camera", str(line), "--records", str(records), "--save-ng", str(tmp_path / "ng")]
    assert main(run) == 0
    told = [json.loads(text) for text in records.read_text().splitlines()]
    assert [one["verdict"] for one in told] == ["OK", "NG", "UNKNOWN", "UNKNOWN", "OK"]
    assert [one["cause"].partition(":")[0] for one in told] == ["", "", "part_not_found", "part_not_found", ""]
    assert len(list((tmp_path / "ng").glob("*.jpg"))) == 3
    bench = ["bench", str(bundle), "--rounds", "1", "--no-cold"]
    assert main(bench) == 0
    assert "of 240 x 180 px" in capsys.readouterr().out
    assert main([*bench, "--frame", "320x240"]) == 0
    assert main(["threshold", str(bundle), "--good", str(root / "test/good"), "--defects", str(root / "test/gash")]) == 0
    assert "zz_none.png" in capsys.readouterr().out
