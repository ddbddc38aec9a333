"""`edgead train --report`: how the loss went, the scores, and the oddest good pictures, on one page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edgead.cli.main import main
from edgead.export.figures import losses
from edgead.models.learning.curve import Curve
from edgead.trained import CURVES
from tests.jobs.test_show import Tags
from tests.training._parts import draw_part, write_good

QUICK = ["--size", "64", "--threshold-from", "heldout"]


@pytest.fixture(scope="module")
def fonts() -> None:
    """matplotlib keeps the fonts that it has used open, for good."""
    losses([Curve("a", loss=[2.0, 1.0])])


@pytest.mark.usefixtures("fonts")
def test_a_training_in_steps_shows_its_losses_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, out, page = write_good(tmp_path / "good", 8), tmp_path / "out", tmp_path / "seen.html"
    assert main(["train", "fastflow", str(good), "-o", str(out), *QUICK, "--steps", "30", "--report", str(page)]) == 0
    assert f"report            {page}" in capsys.readouterr().out
    (kept,) = json.loads((out / CURVES).read_text("utf-8"))["curves"]
    assert len(kept["loss"]) == 30 and kept["loss"][-1] < kept["loss"][0]
    assert kept["kept"] in [step for step, _ in kept["heldout"]]
    text = page.read_text("utf-8")
    for part in ("Learning", "Scores and threshold", "The oddest good pictures"):
        assert f"<h2>{part}</h2>" in text


@pytest.mark.usefixtures("fonts")
def test_a_method_without_steps_shows_the_oddest_and_no_name_becomes_a_tag(tmp_path: Path) -> None:
    good, out, page = write_good(tmp_path / "good", 9), tmp_path / "out", tmp_path / "seen.html"
    evil = "<script>alert(1)<b>.png"
    cv2.imwrite(str(good / evil), draw_part(70, defect=True))
    arguments = ["train", "patchcore", str(good), "-o", str(out), *QUICK, "--coreset", "50", "--name", "<script>x", "--report"]
    assert main([*arguments, str(page)]) == 0
    text, seen = page.read_text("utf-8"), Tags(page.read_text("utf-8"))
    assert "<h2>Learning</h2>" not in text and not (out / CURVES).exists()
    assert "script" not in seen.tags and "b" in seen.tags  # of the tiles, and not of the name:
    assert "<b>.png" not in text and "&lt;b&gt;.png" in text
    assert len(seen.sources) == 2 and all(source.startswith("data:image/") for source in seen.sources)
    named = json.loads((out / "model.json").read_text("utf-8"))["oddest"]
    assert named[0]["file"] == evil
    assert seen.tags.count("tr") == 1 + len(named)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["patchcore", "--report", "seen.pdf"], "a report is a .html or .md file, not 'seen.pdf'"),
        (["patchcore", "--report", "nowhere/seen.html"], "there is no folder nowhere"),
        (["auto", "--report", "seen.html"], "--report: for one method, and auto tries several"),
    ],
)
def test_a_report_that_cannot_be_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_good(tmp_path / "good", 4)
    assert main(["train", *arguments[:1], "good", "-o", "out", *arguments[1:]]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_needs_matplotlib_and_says_so_before_the_training(tmp_path: Path) -> None:
    good, out = write_good(tmp_path / "good", 4), tmp_path / "out"
    arguments = ["train", "patchcore", str(good), "-o", str(out), *QUICK, "--report", str(tmp_path / "seen.html")]
    program = f"import sys; sys.modules['matplotlib'] = None; from edgead.cli.main import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install 'edgead[report]'" in done.stderr
    assert not out.exists()
