from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.trained import load_model
from tests.training._parts import write_good
from tests.training.test_tiles import write_sheet_set, write_sheets


def test_tiles_are_cut_at_native_resolution_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = write_sheet_set(tmp_path / "sheets"), tmp_path / "out"
    arguments = ["train", "patchcore", str(root), "-o", str(out), "--tiles", "64", "--coarse", "2", "--coreset", "100"]
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "patchcore, 128 x 96 px" in said
    assert "6 of 64 x 64 px, overlapping by 8 px or more" in said
    assert "run on good pictures, none lost of" in said
    recipe = load_model(out)[1].preprocess
    assert (recipe.width, recipe.height) == (128, 96)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--overlap", "8"], "--overlap and --coarse say how tiles are used"),
        (["--coarse", "4"], "--overlap and --coarse say how tiles are used"),
        (["--tiles", "wide"], "'wide' is not a size"),
        (["--tiles", "256"], "a picture of 128 x 96 px has no tile of 256 x 256 px"),
        (["--tiles", "64", "--overlap", "33"], "cannot overlap by 33 px"),
        (["--tiles", "64", "--coarse", "1"], "a coarse look at 1/1"),
        (["--tiles", "64", "--size", "32"], "a picture of 32 x 32 px has no tile"),
    ],
)
def test_tiles_that_make_no_sense_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    folder = write_sheets(tmp_path / "good", 4, 0)
    assert main(["train", "patchcore", str(folder), "-o", str(tmp_path / "out"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_of_two_sizes_have_no_native_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sheets(tmp_path / "good", 2, 0)
    write_good(tmp_path / "other", 1).joinpath("000.png").rename(folder / "x.png")
    assert main(["train", "patchcore", str(folder), "-o", str(tmp_path / "out"), "--tiles", "32"]) == 2
    assert "no common size" in capsys.readouterr().err
