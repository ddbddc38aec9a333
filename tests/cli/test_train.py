from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli.main import main
from edgead.models.detector import load_detector
from tests.training._parts import draw_part, write_good, write_mvtec

QUICK = ["--size", "64", "--coreset", "100"]


def test_train_tells_what_came_out_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_mvtec(tmp_path / "plate", good=12, test=3), tmp_path / "out"
    assert main(["train", "patchcore", str(root), "-o", str(out), "--name", "bracket", *QUICK]) == 0
    said = capsys.readouterr().out
    for part in ("10 trained on, 2 held out", "threshold", "image AUROC", "PRO", f"edgead export {out}"):
        assert part in said
    assert load_detector(out)[1]["name"] == "bracket"


def test_grey_and_16_bit_pictures_and_a_region_are_accepted(tmp_path: Path) -> None:
    folder, out = write_good(tmp_path / "good", 3), tmp_path / "out"
    cv2.imwrite(str(folder / "grey.png"), cv2.cvtColor(draw_part(50), cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "deep.png"), draw_part(51).astype(np.uint16) * 257)
    arguments = ["train", "patchcore", str(folder), "-o", str(out), "--coreset", "50", "--size", "64x48", "--roi", "0,8,64,48"]
    assert main(arguments) == 0
    detector, info = load_detector(out)
    assert detector.image_size == (48, 64)
    assert info["preprocess"]["roi"] == [0, 8, 64, 48]


@pytest.mark.parametrize(
    ("count", "broken", "arguments", "said"),
    [
        (0, False, [], "holds no pictures"),
        (1, False, [], "holds 1 different good picture"),
        (5, True, [], "broken.png is not a readable picture"),
        (5, False, ["--size", "big"], "'big' is not a size"),
        (5, False, ["--size", "4"], "not usable"),
        (5, False, ["--roi", "1,2,3"], "not a region of interest"),
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
