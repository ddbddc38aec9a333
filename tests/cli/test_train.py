import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli._sizing import told
from edgead.cli.main import main
from edgead.models.learning import adversary
from edgead.trained import load_model
from tests.training._parts import draw_part, write_good, write_mvtec

QUICK = ["--size", "64", "--coreset", "100"]


def test_train_tells_what_came_out_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_mvtec(tmp_path / "plate", good=12, test=3), tmp_path / "out"
    assert main(["train", "patchcore", str(root), "-o", str(out), "--name", "bracket", *QUICK]) == 0
    said = capsys.readouterr().out
    for part in ("10 trained on, 2 held out", "threshold", "image AUROC", "PRO", f"edgead export {out}"):
        assert part in said
    assert load_model(out)[1].name == "bracket"


def test_grey_and_16_bit_pictures_and_a_region_are_accepted(tmp_path: Path) -> None:
    folder, out = write_good(tmp_path / "good", 3), tmp_path / "out"
    cv2.imwrite(str(folder / "grey.png"), cv2.cvtColor(draw_part(50), cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "deep.png"), draw_part(51).astype(np.uint16) * 257)
    arguments = ["train", "patchcore", str(folder), "-o", str(out), "--coreset", "50", "--size", "64x48", "--roi", "0,8,64,48"]
    assert main(arguments) == 0
    detector, card = load_model(out)
    assert detector.image_size == (48, 64)
    assert card.preprocess.roi == (0, 8, 64, 48)


def test_a_generator_that_collapses_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes is said to be alike whatever it is."""
    monkeypatch.setattr(adversary, "ALIKE", 1e9)
    monkeypatch.setattr(adversary, "PATIENCE", 1)
    out = tmp_path / "out"
    arguments = ["--size", "64", "--base", "4", "--batch", "2", "--steps", "120"]
    good = write_good(tmp_path / "good", 5)
    assert main(["train", "memgan", str(good), "-o", str(out), "--threshold-from", "heldout", *arguments]) == 2
    said = capsys.readouterr()
    assert re.search(r"the adversarial training collapsed: after 1\d\d steps all that the network makes is one picture", said.err)
    assert "give a smaller --adversary" in said.err
    assert not out.exists()


def test_a_budget_chooses_no_larger_size_than_the_method_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a budget it takes its own, whatever the pictures are."""
    folder, out = tmp_path / "good", tmp_path / "out"
    folder.mkdir()
    for i in range(9):
        cv2.imwrite(str(folder / f"{i}.png"), np.repeat(np.repeat(draw_part(i), 6, 0), 6, 1))
    short = ["--threshold-from", "heldout", "--base", "4", "--steps", "1"]
    for budget, side in (([], 128), (["--budget-ms", "100000"], 128), (["--budget-ms", "0.001"], 64)):
        assert main(["train", "ae", str(folder), "-o", str(out), *short, *budget]) == 0
        assert load_model(out)[0].image_size == (side, side)
        assert ("ms (given)" in capsys.readouterr().out) == bool(budget)


@pytest.mark.parametrize(
    ("count", "broken", "arguments", "said"),
    [
        (0, False, [], "holds no pictures"),
        (1, False, [], "holds 1 different good picture"),
        (5, True, [], "broken.png is not a readable picture"),
        (5, False, ["--size", "big"], "'big' is not a size"),
        (5, False, ["--size", "4"], "not usable"),
        (5, False, ["--size", "64", "--budget-ms", "30"], "--budget-ms chooses the input size, and --size gives it"),
        (5, False, ["--tiles", "32", "--budget-ms", "30"], "--budget-ms chooses the input size, and --tiles gives it"),
        (5, False, ["--budget-ms", "0"], "a budget of 0 ms is not usable"),
        (5, False, ["--budget-ms", "nan"], "--budget-ms: 'nan' is not a number"),
        (5, False, ["--roi", "1,2,3"], "'1,2,3' is not a rectangle"),
        (5, False, ["--roi", "0,0,900,900"], "does not fit"),
        (5, False, ["--layers", "blocks.4,stem"], "no layer 'stem'"),
        (5, False, ["--steps", "7"], "patchcore has no option steps"),
        (5, False, ["--heldout", "2"], "held-out share"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, broken: bool, arguments: list[str], said: str
) -> None:
    folder = write_good(tmp_path / "good", count)
    if broken:
        (folder / "broken.png").write_bytes(b"\x89PNG but not really")
    assert main(["train", "patchcore", str(folder), "-o", str(tmp_path / "out"), *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert len([line for line in message.splitlines() if line.startswith("edgead train:")]) == 1
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_and_a_target_that_is_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "patchcore", str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    good = write_good(tmp_path / "good", 4)
    assert main(["train", "patchcore", str(good), "-o", str(good), *QUICK]) == 2
    assert "exists and is not a trained model" in capsys.readouterr().err
    assert len(list(good.iterdir())) == 4


def trained(capsys: pytest.CaptureFixture[str], folder: Path, out: Path, *more: str) -> str:
    assert main(["train", "patchcore", str(folder), "-o", str(out), *QUICK, *more]) == 0
    return capsys.readouterr().out


def test_twelve_bits_are_found_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model of 12-bit pictures in 16-bit files sees what one of 8-bit pictures of the same light sees."""
    deep, plain = tmp_path / "deep", write_good(tmp_path / "plain", 8)
    deep.mkdir()
    for file in plain.iterdir():
        cv2.imwrite(str(deep / file.name), cv2.imread(str(file)).astype(np.uint16) << 4)
    said = trained(capsys, deep, tmp_path / "a")
    assert "taken as 12 bits" in said
    assert "taken as" not in trained(capsys, plain, tmp_path / "b")
    frames = [sorted((tmp_path / name / "heldout").iterdir())[0].read_bytes() for name in "ab"]
    assert frames[0] == frames[1]
    assert load_model(tmp_path / "a")[1].preprocess.bits == 12


def test_a_given_depth_that_is_too_small_names_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_good(tmp_path / "good", 5)
    for i in range(2):
        cv2.imwrite(str(folder / f"deep{i}.png"), np.full((64, 64), 9000, np.uint16))
    assert main(["train", "patchcore", str(folder), "-o", str(tmp_path / "out"), *QUICK, "--bits", "12"]) == 2
    said = capsys.readouterr().err
    assert "2 good pictures cannot be used" in said
    assert "deep0.png: a value of 9000" in said
    assert "deep1.png: a value of 9000" in said


def test_pictures_of_other_proportions_are_told_and_kept_when_asked_or_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    for i in range(6):
        cv2.imwrite(str(wide / f"{i}.png"), cv2.resize(draw_part(i), (96, 64)))
    said = trained(capsys, wide, tmp_path / "a")
    assert "6 of 6 pictures have other proportions than the model's input and are squeezed in width by up to 1.5" in said
    assert load_model(tmp_path / "a")[1].preprocess.aspect == "stretch"
    assert load_model(tmp_path / "a")[1].preprocess.pictures == (96, 64)
    assert "proportions kept (crop)" in trained(capsys, wide, tmp_path / "b", "--keep-aspect", "crop")
    cv2.imwrite(str(wide / "high.png"), cv2.resize(draw_part(9), (64, 96)))
    assert "proportions kept (letterbox)" in trained(capsys, wide, tmp_path / "c")
    assert "proportions kept" not in trained(capsys, wide, tmp_path / "d", "--keep-aspect", "no")


def test_what_was_read_left_out_and_found_odd_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "part"
    write_good(root / "train/OK/monday", 6)
    write_good(root / "train/OK/tuesday", 6, 100)
    (root / "train/OK/notes.txt").write_text("x")
    write_good(root / "test/OK", 5, 1000)
    (root / "test/NG").mkdir()
    for i in range(5):
        cv2.imwrite(str(root / f"test/NG/{i}.png"), draw_part(2000 + i, True))
    said = trained(capsys, root, tmp_path / "out", "--heldout", "0.3")
    assert "12 pictures, 12 of them in 2 folders below (monday, tuesday)" in said
    assert "left out          1 files that are no pictures (.txt)" in said
    assert "labelled          good: OK (5); defects: NG (5)" in said
    assert "oddest pictures   " in said
    assert "leave-one-out score 12 of 12 good pictures" in said
    assert "; without it the threshold would be " in said


def test_training_over_a_model_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_good(tmp_path / "good", 5), tmp_path / "out"
    assert "is kept as" not in trained(capsys, folder, out)
    before = (out / "model.json").read_bytes()
    assert f"the model that was there is kept as {out}.versions/0001" in trained(capsys, folder, out, "--seed", "3")
    assert main(["bundle", "restore", str(out)]) == 0
    assert (out / "model.json").read_bytes() == before


def test_a_coreset_of_1_0_is_all_patches_and_of_1_one_row(tmp_path: Path) -> None:
    folder = write_good(tmp_path / "good", 5)
    rows = {}
    for asked in ("1.0", "100%", "1"):
        out = tmp_path / asked
        assert main(["train", "patchcore", str(folder), "-o", str(out), "--size", "64", "--coreset", asked]) == 0
        rows[asked] = load_model(out)[0].state_dict()["product.weight"].shape[0]
    assert rows["1"] == 1
    assert rows["1.0"] == rows["100%"] == 3 * 64


def test_bad_labelled_pictures_are_all_named_before_anything_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec(tmp_path / "plate", good=6, test=3)
    for name in ("good/cut1.png", "gash/cut2.png"):
        (root / "test" / name).write_bytes(b"cut")
    assert main(["train", "patchcore", str(root), "-o", str(tmp_path / "out"), *QUICK]) == 2
    said = capsys.readouterr().err
    assert "2 labelled pictures cannot be used" in said
    assert "cut1.png" in said
    assert "cut2.png" in said


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5"])
@pytest.mark.parametrize("command", [["train", "patchcore"], ["distill"]])
def test_a_seed_that_no_generator_takes_is_refused(seed: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "pictures", "-o", "out", "--seed", seed]) == 2
    assert f"--seed: '{seed}' is not a whole number from 0" in capsys.readouterr().err


def test_names_that_are_no_unicode_go_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name from another code page, a line break, an escape sequence: a model of such pictures is exported as others are."""
    folder = write_good(tmp_path / "parts", 6)
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / os.fsdecode(b"latin\xe9\n\x1b[31m%d.png" % i))
    assert "\x1b" not in trained(capsys, folder, tmp_path / "model")
    card = load_model(tmp_path / "model")[1]
    assert {odd.file[:9] for odd in card.oddest} == {"latin\\xe9"}


def test_a_folder_that_is_called_as_one_of_defects_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the folder NOK is called as one of defects" in trained(capsys, write_good(tmp_path / "NOK", 6), tmp_path / "out")


def test_a_size_that_nobody_gave_is_chosen_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_good(tmp_path / "good", 12), tmp_path / "out"
    assert main(["train", "patchcore", str(folder), "-o", str(out), "--budget-ms", "0.001", "--coreset", "100"]) == 0
    said = capsys.readouterr().out
    for part in ("input size", "of pictures of 64 x 64 px: no size keeps the budget", "budget 0.001 ms (given)"):
        assert part in said
    assert "no input size keeps 0.001 ms on this machine" in said.split("warning")[1]
    detector, card = load_model(out)
    assert detector.image_size == (64, 64)
    sizing = card.origin.sizing
    assert sizing is not None and card.origin.arguments is not None
    assert [one["fits"] for one in sizing["tried"]] == [False] * len(sizing["tried"])
    assert card.origin.arguments.rest["coreset"] == 100


def test_a_chosen_size_is_told_with_what_others_bring_and_cost() -> None:
    tried = {"width": 256, "height": 256, "ms": 5.1, "fits": True, "chosen": False, "auroc": 0.71, "error": 0.05, "rows": None,
             "change": -0.2, "change_error": 0.06}  # fmt: skip
    larger = {**tried, "width": 512, "height": 512, "ms": 22.0, "chosen": True, "auroc": 0.91, "change": 0.0, "change_error": 0.0}
    over = {**tried, "width": 768, "height": 768, "ms": 61.0, "fits": False, "auroc": None, "error": None}
    lines = told({
        "why": "most", "budget_ms": 30.0, "given": False, "pictures": [1024, 1024], "share": 0.0012, "counts": [24, 16, 36],
        "took_s": 12.0, "tried": [tried, larger, over],
    })  # fmt: skip
    assert lines[0] == "512 x 512 px, of pictures of 1024 x 1024 px: most"
    assert lines[1] == "AUROC 0.910 ± 0.050 on small drawn defects; about 22 ms"
    assert lines[2] == "256 x 256 px: AUROC 0.710 ± 0.050 on small drawn defects, -0.200 ± 0.060; about 5.1 ms"
    assert lines[3] == "768 x 768 px: about 61 ms, over the 30 ms"
    assert "0.12% of the picture" in lines[4] and "--size N sets a size" in lines[4]


def test_a_picture_that_is_none_is_left_out_by_the_name_it_was_told_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_good(tmp_path / "good", 20), tmp_path / "out"
    cv2.imwrite(str(folder / "odd.png"), draw_part(3000, defect=True))
    said = trained(capsys, folder, out)
    assert "odd pictures      odd.png: a score that chance does not explain; without it the threshold would be" in said
    assert "take them away: --leave-out odd.png" in said
    said = trained(capsys, folder, out, "--leave-out", "odd.png")
    assert "left out          1 as asked for (odd.png)" in said and "odd pictures   " not in said
    assert main(["train", "patchcore", str(folder), "-o", str(out), "--leave-out", "of.png"]) == 2
    assert "of.png is to be left out, and is no picture below" in capsys.readouterr().err


def test_the_held_out_pictures_alone_choose_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = trained(capsys, write_good(tmp_path / "good", 12), tmp_path / "out", "--threshold-from", "heldout")
    assert "exponential tail over 2 good scores held out" in said
    assert "from the held-out pictures alone: asked for" in said
