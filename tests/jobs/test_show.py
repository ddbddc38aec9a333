"""`edgead show`, and results in a notebook: what a bundle says of pictures, drawn, escaped and small."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.cli.main import main
from edgead.jobs.evaluate import evaluate
from edgead.jobs.score import Judge
from edgead.preprocess import read_image
from tests.jobs.test_evaluate import bundle, picture

EVIL = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle at 100, and pictures on both sides of it."""
    root = tmp_path_factory.mktemp("show")
    bundle(root / "part.edgead", 100.0)
    for name, value in (("dark.png", 40), ("bright.png", 180), (EVIL, 180)):
        picture(root / "in" / name, value)
    (root / "in/broken.png").write_bytes(b"no picture")
    return root


class Tags(HTMLParser):
    """The tags and the sources of pictures in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]


def test_verdicts_scores_and_a_drawn_picture_of_each(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    out = tmp_path / "new/shown"
    assert main(["show", "part.edgead", "in/dark.png", "in", "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["threshold"]) == ("edgead.show/1", 100)
    said = {Path(one["file"]).name: one["verdict"] for one in found["pictures"]}
    assert said == {"dark.png": "OK", "bright.png": "NG", EVIL: "NG", "broken.png": "UNKNOWN"}
    assert len(found["pictures"]) == 5
    files = [one["drawn"] for one in found["pictures"] if one["drawn"] is not None]
    assert len(files) == len(set(files)) == 4  # the same picture twice has two
    drawn = read_image(Path(files[0]))
    assert drawn.shape[1] >= 480
    green, red = ([int(value) for value in read_image(Path(files[i]))[2, 2]] for i in (0, 1))
    assert green != red  # the banner has the verdict's colour
    sheet = Tags((out / "index.html").read_text("utf-8"))
    assert sheet.tags.count("img") == 4 and "script" not in sheet.tags
    assert all(source.startswith("data:image/jpeg;base64,") for source in sheet.sources)


def test_without_a_folder_it_is_a_line_each_and_nothing_is_written(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(made.rglob("*"))
    assert main(["show", str(made / "part.edgead"), str(made / "in/bright.png"), str(made / "in/broken.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("NG ") and "bright.png" in lines[1]
    assert lines[2].startswith("UNKNOWN ") and "not a readable picture" in lines[2]
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["part.edgead", "in/none.png"], 2, "there is no picture"),
        (["part.edgead"], 2, "IMAGES... is missing"),
        (["in", "in/dark.png"], 3, "in"),
        (["part.edgead", "in/dark.png", "--engine", "none"], 2, "none"),
        (["part.edgead", "in/dark.png", "-o", "in"], 2, "among those"),
        (["part.edgead", "in/dark.png", "-o", "in/dark.png"], 2, "is not a folder"),
        (["part.edgead", "in/dark.png", "-o", "/proc/sys/shown"], 7, "cannot write"),
    ],
)
def test_what_is_wrong_is_one_line(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(made)
    assert main(["show", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0] and len(lines) == 2


def test_a_judgement_in_a_notebook_is_its_picture_and_what_was_decided(made: Path) -> None:
    large = np.full((3000, 4000, 3), 180, np.uint8)
    with Judge.open(made / "part.edgead") as judge:
        found = [judge(made / "in" / EVIL), judge(large), judge(made / "in/broken.png"), judge(np.zeros((3, 3), np.float32))]
    htmls = [one._repr_html_() for one in found]  # type: ignore[attr-defined]
    assert [Tags(html).tags.count("img") for html in htmls] == [1, 1, 0, 0]
    assert all(set(Tags(html).tags) <= {"img", "table", "tbody", "tr", "th", "td"} for html in htmls)
    assert all(len(html) < 100_000 for html in htmls)
    assert "NG" in htmls[0] and "&lt;img src=x" in htmls[0]
    assert "not a readable picture" in htmls[2]


def test_an_evaluation_in_a_notebook_is_its_table(made: Path, tmp_path: Path) -> None:
    picture(tmp_path / "p/good/1.png", 40)
    cv2.imwrite(str(tmp_path / "p/good/2.png"), np.full((16, 16, 3), 60, np.uint8))
    html = evaluate([made / "part.edgead"], tmp_path / "p")._repr_html_()
    assert "part.edgead" in html and "AUROC" in html and Tags(html).tags.count("tr") == 2
