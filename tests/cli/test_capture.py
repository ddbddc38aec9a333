"""`edgead capture` as people use it: keys on a terminal, broken off, with and without the preview."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.preprocess import read_image
from tests.bundles import write_parts
from tests.terminal import Terminal
from tests.waiting import PATIENCE_S, until

LIVE = "sim:fps=20,defect_rate=0,width=96,height=96"


def test_a_folder_of_pictures_becomes_a_folder_of_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parts(tmp_path / "in", range(12), 96)
    assert main(["capture", "--camera", str(tmp_path / "in"), "-o", str(tmp_path / "good"), "--count", "10"]) == 0
    shown = capsys.readouterr()
    assert "10 pictures saved, 10 of 10 in" in shown.out and "still missing: all were taken within 1 min" in shown.out
    assert "5 of 10 pictures" in shown.err
    assert main(["capture", "--camera", str(tmp_path / "in"), "-o", str(tmp_path / "good"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["saved"], found["copies"], found["ended"]) == ("edgead.capture/1", 2, 10, "end")


def test_space_takes_one_and_q_ends(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "capture", "--camera", LIVE, "-o", "good", "--by-hand", "--preview=127.0.0.1:0")
    terminal.wait_for("preview: http://127.0.0.1:")
    good = tmp_path / "good"
    for count in (1, 2):
        until(lambda: good.is_dir())
        terminal.say(" ")
        until(lambda count=count: len(list(good.glob("*.png"))) == count)
    terminal.say("q")
    code, told = terminal.end()
    assert code == 0, told
    assert "2 pictures saved, 2 of 100 in good, stopped" in told


def test_control_c_leaves_whole_pictures_and_says_what_there_is(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "capture", "--camera", LIVE, "-o", "good", "--every-ms", "1")
    until(lambda: len(list(tmp_path.glob("good/*.png"))) >= 3)
    terminal.process.send_signal(signal.SIGINT)
    code, told = terminal.end()
    assert code == 130, told
    files = list((tmp_path / "good").iterdir())
    assert f"{len(files)} pictures saved" in told and "stopped" in told and "Traceback" not in told
    assert all(read_image(file).shape == (96, 96, 3) for file in files)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--camera", "99", "-o", "good"], 6, "camera 99 does not open"),
        (["--camera", "no/such", "-o", "good"], 2, "no/such does not exist"),
        (["--camera", "sim", "-o", "/proc/sys/good"], 7, "cannot write"),
        (["--camera", LIVE, "-o", "good", "--by-hand"], 2, "nobody can press a key here"),
        (["--camera", "sim", "-o", "good", "--preview", "0.0.0.0:80"], 2, "only this machine may see it"),
        (["--camera", "sim"], 2, "--out is missing"),
        (["--camera", "sim", "-o", "good", "--count", "0"], 2, "--count"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["capture", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0] and len(lines) <= 2


def test_without_its_packages_the_preview_names_the_extra_and_the_rest_works(tmp_path: Path) -> None:
    write_parts(tmp_path / "in", range(2), 96)
    for more, code in ((["--preview"], 5), ([], 0)):
        arguments = ["capture", "--camera", "in", "-o", "good", *more]
        program = f"import sys; sys.modules['starlette'] = None; from edgead.cli.main import main; sys.exit(main({arguments!r}))"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == code, done.stderr
        assert ("pip install 'edgead[dashboard]'" in done.stderr) == (code == 5)
