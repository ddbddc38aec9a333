"""The report is one file that needs nothing else, tells what was measured, and shows text as text."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.bundle import Bundle, Chosen, Threshold
from edgead.calibration.judging.deviation import Deviation, Limits
from edgead.calibration.judging.guard import GuardReport, Step
from edgead.calibration.judging.layers import Layer, LayerError
from edgead.cli.main import main
from edgead.engines.verify import verify_engine
from edgead.errors import BadInput, MissingExtra, ParityFailed
from edgead.export import ExportOptions, export_bundle, figures
from edgead.export.pages import Heading, Table, Text, write_html, write_markdown
from edgead.export.report import EngineRow, ReportData, check_report, oddest_of, write_report
from edgead.parity import Answers
from edgead.trained import OddPicture, read_card
from tests.bundles import Tiny, part
from tests.export.test_export import strict

NASTY = '<script>alert("$x_1$")</script> | `a` & b'


class Page(HTMLParser):
    """Its text, pictures, and everything that it would load."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.pictures, self.loads, self.tags = "", [], [], set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"src", "href"}:
                (self.pictures if str(value).startswith("data:image/") else self.loads).append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module", autouse=True)
def fonts() -> None:
    """matplotlib keeps the fonts that it has used open, for good."""
    figures.latency_bars({"bold and plain-fp32": 1.0})
    figures.score_histograms([("bold", np.arange(3, dtype=np.float32), 1.0)], np.array([False, True, True]), "d")


@pytest.fixture
def data() -> ReportData:
    rng = np.random.default_rng(0)
    frames = [part(i, 48, defect=i >= 8) for i in range(12)]
    scores = np.linspace(1, 5, 12, dtype=np.float32)
    maps = rng.random((12, 16, 16), np.float32)
    told = Answers(scores + np.float32(0.1), maps + np.float32(0.05))
    deviation = Deviation(12, 0.31, 0.2, 0.98, 1, 0.97, -0.02)
    chosen = Chosen("edgead export", "2026-11-22T00:00:00+00:00", 8, 0, 0.01, None, None, False, 1 / 9, 0.31)
    threshold = Threshold(3.0, "good score 8 of 8", chosen=chosen)
    layers = tuple(LayerError(Layer(name, (name,)), e, e, e / 2, e / 2) for name, e in (("worst layer", 0.3), (NASTY, 0.01)))
    guard = GuardReport(
        deviations={"openvino-int8": deviation}, from_literal={"openvino-int8": 0.01}, literal=0.3,
        broken={"openvino-int8": ("score deviation 0.31 (allowed 0.2)",)}, layers=layers, layer_engine="openvino-int8",
        steps=(Step("worst layer", 1, 0.3, 0.25, "openvino-int8", 0.4, 0.31, True),), keep_float=("worst layer",),
        simulated=(), answers={"openvino-int8": told}, seconds=1.0,
    )  # fmt: skip
    return ReportData(
        name=NASTY, family="patchcore", bundle="", failure="too far off", frames=frames, kinds=["good"] * 8 + ["defect"] * 4,
        reference=Answers(scores, maps), threshold=threshold, auroc=0.99, drawn=False, limits=Limits(),
        engines=[
            EngineRow("openvino-fp32", "fp32", threshold, dataclasses.replace(deviation, score_deviation=0.0), 9.0, 0),
            EngineRow("openvino-int8", "int8", threshold, deviation, 4.5, 1),
            EngineRow("tensorrt-fp16", "fp16", None, None, None, 0),
        ],
        answers={"openvino-int8": told}, guards=[guard], calibrations=[], machine={"cpu": "abacus", "cores": 2},
    )  # fmt: skip


def test_an_html_report_is_one_page_with_everything_in_it(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "out.html", data)
    assert [p.name for p in tmp_path.iterdir()] == ["out.html"]
    page = Page((tmp_path / "out.html").read_text())
    assert page.loads == []
    assert "script" not in page.tags
    for text in (
        NASTY,
        "No bundle: too far off",
        "worst layer",
        "31 %",
        "0.9700",
        "abacus",
        "guarantee needs 99",
    ):
        assert text in page.text, text
    kinds = [re.match(r"data:image/([a-z+]+);base64,(.*)", picture) for picture in page.pictures]
    assert [kind[1] for kind in kinds if kind] == ["svg+xml", "svg+xml", "svg+xml", "jpeg", "svg+xml"]
    jpeg = base64.b64decode(kinds[3][2])  # type: ignore[index]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[1] > 1000
    for kind in kinds:
        if kind and kind[1] == "svg+xml":
            assert io.BytesIO(base64.b64decode(kind[2])).read(5) == b"<?xml"


def test_a_markdown_report_has_its_pictures_beside_it(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "out.md", data)
    text = (tmp_path / "out.md").read_text()
    links = re.findall(r"!\[[^]]*\]\((out_files/[^)]+)\)", text)
    assert len(links) == 5
    assert all((tmp_path / link).stat().st_size > 1000 for link in links)
    assert "\\<script\\>" in text
    assert re.search(r"\| openvino-int8 \| 4\.5 ms \| 0\.9700 \| 1 of 12 \| 31 % ", text)


def test_an_engine_for_another_machine_is_told_as_such(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "out.md", dataclasses.replace(data, bundle="part.edgead", failure=""))
    text = (tmp_path / "out.md").read_text()
    assert re.search(r"\| tensorrt-fp16 \| not run here \|", text)
    assert "Bundle written: part.edgead" in text


def test_the_same_report_twice_is_the_same_file(data: ReportData, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, data)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_text_is_shown_as_text(tmp_path: Path) -> None:
    blocks = [Heading(NASTY), Text(NASTY, "bad"), Table((NASTY, "b"), [(NASTY, "1")])]
    write_html(tmp_path / "x.html", NASTY, NASTY, blocks)
    page = Page((tmp_path / "x.html").read_text())
    assert page.text.count(NASTY) == 7  # the title twice
    assert "script" not in page.tags
    write_markdown(tmp_path / "x.md", "a", "b", blocks)
    assert all(line.count(" | ") == 1 for line in (tmp_path / "x.md").read_text().splitlines() if line.startswith("| \\<"))


@pytest.mark.parametrize(
    ("name", "words"), [("r.pdf", ".html or .md"), ("nowhere/r.html", "no folder"), ("folder.html", "is a folder")]
)
def test_a_report_that_could_not_be_written_is_refused_first(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(BadInput, match=words):
        check_report(tmp_path / name)


def test_without_matplotlib_nothing_is_begun(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = ExportOptions(("onnxruntime",), report=tmp_path / "r.html", threads=1)
    with pytest.raises(MissingExtra, match="matplotlib") as caught:
        export_bundle(tmp_path / "not even a model", tmp_path / "part.edgead", options)
    assert "edgead[report]" in caught.value.hint


def test_control_characters_in_a_files_name_are_shown_as_such(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "oddest").mkdir()
    cv2.imwrite(str(tmp_path / "oddest/0000.png"), part(0, 48))
    told = OddPicture("a\x1b[31m\n\tb.png", times=2.0, odd=True, heldout=False, score=1.0)
    ((caption, image),) = oddest_of(tmp_path, replace(read_card(tiny.model()), oddest=(told,)))
    assert caption.splitlines()[0] == r"a\x1b[31m\n\tb.png"
    assert figures.thumbnails([image], [caption])  # a warning of a missing glyph would be an error here


def test_a_failed_export_still_tells_why(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ParityFailed):
        export_bundle(tiny.model(), tmp_path / "part.edgead", strict(report=tmp_path / "why.html"))
    page = Page((tmp_path / "why.html").read_text())
    assert "No bundle: onnxruntime-int8: score deviation" in page.text
    assert len(page.pictures) == 5 - 1  # no latency was measured
    assert [p.name for p in tmp_path.iterdir()] == ["why.html"]


def test_a_report_of_int8_leaves_a_bundle_that_runs(tiny: Tiny, tmp_path: Path) -> None:
    wide = strict(limits=Limits(1.0, 1.0, 1e6), report=tmp_path / "r.html")
    bundle = export_bundle(tiny.model(), tmp_path / "part.edgead", wide)
    assert bundle.manifest.engine().file == "model.int8.onnx"
    assert verify_engine(bundle, "onnxruntime-int8", threads=1).passed
    assert bundle.manifest.measured.guard[0].rest["layer_engine"] == "onnxruntime-int8"
    page = Page((tmp_path / "r.html").read_text())
    assert f"Bundle written: {bundle.path}" in page.text
    assert len(page.pictures) == 4  # one engine has no latency to compare


def test_export_writes_the_report_beside_the_bundle(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(tiny.model()), "-o", str(tmp_path / "part.edgead"), "--report", str(tmp_path / "r.md")]
    quick = ["--backend", "onnxruntime", "--precision", "fp32", "--threads", "1", "--frames", "4"]
    assert main([*arguments, *quick]) == 0
    assert f"report: {tmp_path / 'r.md'}" in capsys.readouterr().out
    assert f"Bundle written: {tmp_path / 'part.edgead'}" in (tmp_path / "r.md").read_text().replace("\\_", "_")
    assert Bundle.open(tmp_path / "part.edgead")
