import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli import distill as verb
from edgead.cli.main import main
from edgead.models.learning.outside import draw_picture

QUICK = ("--px", "64", "--batch", "1")


@pytest.fixture()
def pictures(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "pictures/deep", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), draw_picture(96, rng))
    (folder / "broken.png").write_text("no picture")
    return folder.parent


def test_two_steps_make_a_teacher(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "teacher.safetensors"
    assert main(["distill", str(pictures), "-o", str(out), "--steps", "2", *QUICK]) == 0
    told = capsys.readouterr()
    assert out.is_file()
    assert "2 steps" in told.out and "edgead train efficientad" in told.out
    assert "3 pictures; 1 files left out" in told.err and "broken.png" in told.err
    assert main(["distill", str(pictures), "-o", str(out), "--steps", "3", *QUICK]) == 0
    told = capsys.readouterr()
    assert "going on after step 2" in told.err and "3 steps" in told.out


def test_interrupted_it_says_how_to_go_on_and_does(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher.safetensors"
    command = [sys.executable, "-c", _INTERRUPTED_AFTER_ONE, "distill", str(pictures), "-o", str(out), "--steps", "2", *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(Path(verb.__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 130, done.stderr
    assert "stopped after step 1; the same command goes on from there" in done.stderr
    assert not out.exists()
    assert main(["distill", str(pictures), "-o", str(out), "--steps", "2", *QUICK]) == 0
    assert out.is_file()


_INTERRUPTED_AFTER_ONE = f"""
import os, sys
from edgead.cli.main import main
from edgead.families.efficientad.distill import Distiller
train_step = Distiller._train_step
def once(self, big, fraction):
    os.kill(os.getpid(), {int(signal.SIGINT)})
    train_step(self, big, fraction)
Distiller._train_step = once
sys.exit(main(sys.argv[1:]))
"""


def test_bad_input_is_one_clear_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.safetensors").write_bytes(b"")
    (tmp_path / "bad.json").write_text("{}")
    out = str(tmp_path / "t.safetensors")
    cases = (
        ([str(tmp_path / "empty"), "-o", out], "no readable picture"),
        ([str(tmp_path / "absent"), "-o", out], "is not a folder"),
        ([str(pictures), "-o", str(tmp_path / "there.safetensors")], "exists"),
        ([str(pictures), "-o", str(tmp_path / "t.pth")], "does not end in .safetensors"),
        ([str(pictures), "-o", out, "--px", "100"], "crops of 100 px"),
        ([str(pictures), "-o", out, "--steps", "0"], "0 steps make no teacher"),
        ([str(pictures), "-o", out, "--minutes", "0"], "minutes must be above 0"),
        ([str(pictures), "-o", out, "--device", "tpu"], "no device 'tpu'"),
        ([str(pictures), "-o", out, "--sources", str(tmp_path / "bad.json")], "holds no list"),
    )
    for arguments, message in cases:
        assert main(["distill", *arguments]) == 2
        assert message in capsys.readouterr().err
