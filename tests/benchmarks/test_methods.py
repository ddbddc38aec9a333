import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import _sets, methods
from benchmarks._methods.page import accuracy, chosen_by_drawn, costs, rtx_builds, summarise, written
from edgead.families import FAMILIES, trained
from tests.training._parts import write_mvtec


@pytest.fixture
def tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_mvtec(tmp_path / "data/magnetic_tile", good=12, test=5)
    monkeypatch.setattr(_sets, "SHARED", tmp_path)
    monkeypatch.setenv("EDGEAD_SHARED", str(tmp_path))
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    kept = ["--json", str(folder / "methods.json"), "--maps", str(folder / "maps")]
    return ["--methods", "patchcore", "--sets", "magnetic_tile,casting", "--seeds", "0", *kept, *more]


def test_a_cell_is_measured_once_and_drawn(tiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert methods.main(arguments(tiles, "--size", "64", "--gallery", str(tiles / "page.png"))) == 0
    told = capsys.readouterr()
    assert "casting left out: no " in told.err
    (cell,) = json.loads((tiles / "methods.json").read_text())["cells"]
    assert cell["image_auroc"] == 1.0 and cell["pixel_auroc"] > 0.8 and 0.3 < cell["pro"] <= 1.0
    assert (cell["train"], cell["good"], cell["defects"], cell["px"]) == (12, 5, 5, 64)
    assert 0.5 < cell["drawn_auroc"] <= 1.0
    assert cell["gflop"] > 0.01 and cell["train_cpu_s"] > 0
    assert cell["fp32_error"] < 1e-4 and cell["fp32_cpu_ms"] > 0
    assert "int8_refused" in cell or (cell["int8_flips"] <= 1 and cell["int8_times_faster"] > 0)
    page = cv2.imread(str(tiles / "page.png"))
    assert page is not None and page[:, 112:].std() > 10  # a map beside the parts
    assert methods.main(arguments(tiles)) == 0
    assert "method" not in capsys.readouterr().err  # nothing is measured twice


def test_a_method_that_fails_is_a_row_with_the_reason(tiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert methods.main(arguments(tiles, "--size", "8")) == 0
    (cell,) = json.loads((tiles / "methods.json").read_text())["cells"]
    assert "8 x 8" in cell["failed"]
    assert "| patchcore | failed |" in capsys.readouterr().out


def test_what_is_not_measured_yet_is_measured_later() -> None:
    judged, failed, whole = {"image_auroc": 0.9}, {"failed": "why"}, {"image_auroc": 0.9, "fp32_error": 1e-6}
    assert not methods.done(None, engines=False, retry=False)
    assert methods.done(judged, engines=False, retry=False) and not methods.done(judged, engines=True, retry=False)
    assert methods.done(whole, engines=True, retry=True)
    assert methods.done(failed, engines=True, retry=False) and not methods.done(failed, engines=True, retry=True)


def test_unknown_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        methods.main(["--methods", "moon"])
    assert "unknown: moon" in capsys.readouterr().err


def cell_of(seed: int, auroc: float, brightness: float = 0.7, **more: Any) -> dict[str, Any]:
    return {
        "method": "patchcore", "set": "elpv", "seed": seed, "image_auroc": auroc, "image_auroc_error": 0.02,
        "brightness_auroc": brightness, "brightness_correlation": -0.25, "train_cpu_s": 4.0, **more,
    }  # fmt: skip


def test_means_stand_beside_brightness() -> None:
    (row,) = summarise([cell_of(0, 0.9), cell_of(1, 0.92), cell_of(2, 0.91)])
    assert row["image_auroc"] == {"mean": 0.91, "half": pytest.approx(4.303 * 0.01 / 3**0.5, abs=1e-4)}
    assert row["brightness"] == "above"
    assert summarise([cell_of(0, 0.72)])[0]["brightness"] == "not told apart"  # one seed: the interval of its pictures
    assert "| patchcore | 0.650 ± 0.039 **below** | -0.25 |" in accuracy(summarise([cell_of(0, 0.65)]))


def test_two_seeds_have_the_interval_of_their_pictures_and_no_less_than_they_differ_by() -> None:
    """Student's of two is 12.7 standard errors: 0.81 ± 1.84 was told of an AUROC."""
    (row,) = summarise([cell_of(0, 0.9), cell_of(1, 0.92, image_auroc_error=0.03)])
    assert row["image_auroc"] == {"mean": 0.91, "half": pytest.approx(1.96 * 0.03, abs=1e-4)}
    (row,) = summarise([cell_of(0, 0.66), cell_of(1, 0.95)])
    assert row["image_auroc"] == {"mean": 0.805, "half": 0.145} and row["brightness"] == "not told apart"


def test_what_int8_did_is_told() -> None:
    engines = {
        "px": 256, "gflop": 0.85, "fp32_error": 1.3e-6, "fp32_cpu_ms": 11.7, "int8_cpu_ms": 7.3, "int8_times_faster": 1.6,
        "int8_flips": 1, "int8_frames": 92, "int8_auroc_change": -0.002, "int8_kept_float": ["a", "b"], "int8_refused": "flips",
    }  # fmt: skip
    line = costs(summarise([cell_of(0, 0.9, **engines)]), {"patchcore": "builds"})[-1]
    told = "| 256 | 4 to 4 | 0.85 | 1e-06 | 11.7 | 7.3 | 1.6 | 1 of 92 | 0.002 | 2 | builds | elpv: INT8 refused (flips) |"
    assert line == f"| patchcore {told}"


def test_what_stops_a_build_stands_in_the_table(tmp_path: Path) -> None:
    kept = tmp_path / "rtx_builds.json"
    assert rtx_builds(kept) == {}
    kept.write_text(json.dumps({"rows": [{"method": "ae", "built": True}, {"method": "vae", "built": False, "why": "node Foo"}]}))
    assert rtx_builds(kept) == {"ae": "builds", "vae": "no: node Foo"}


def test_what_drawn_defects_choose_is_told_by_real_ones() -> None:
    cells = [
        {**cell_of(0, real, drawn_auroc=drawn), "method": name}
        for name, real, drawn in (
            ("patchcore", 0.9, 0.95),
            ("simplenet", 0.8, 0.97),
            ("efficientad", 0.7, 0.6),
            ("fcdd", 0.95, 0.99),
        )
    ]
    assert chosen_by_drawn(summarise(cells))[-1] == "| elpv | 3 | simplenet (0.800) | 0.900 | patchcore (0.900) | +0.50 |"


def test_the_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "docs/methods.md"
    page.parent.mkdir()
    marks = "".join(f"<!-- begin {mark} -->\nold\n<!-- end {mark} -->\n" for mark in ("accuracy", "costs", "drawn", "methods"))
    page.write_text(f"# Methods\n{marks}the end\n")
    written(page, summarise([cell_of(0, 0.9)]))
    text = page.read_text()
    assert text.startswith("# Methods\n") and text.endswith("the end\n") and "\nold\n" not in text
    assert "| patchcore | 0.900 ± 0.039 | -0.25 |" in text
    for name in trained():
        assert f"### {FAMILIES[name].title}\n" in text and f"- **{name}**, " in text and FAMILIES[name].source[:40] in text
