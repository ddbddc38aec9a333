"""`edgead export --budget-ms` and `--like` as a user calls them, with good and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.export import figures
from edgead.export.search.bench import Bench
from edgead.measured import Candidate, Search, SearchAccuracy, SearchTrained, Timed
from tests.bundles import Tiny

QUICK = ["--backend", "onnxruntime", "--threads", "1", "--frames", "6", "--frame", "320x240", "--allow-unsafe-calibration"]
WIDE = ["--max-flips", "1", "--max-auroc-drop", "1", "--max-score-deviation", "1000000"]
ENOUGH = ["--budget-ms", "10000000", *QUICK, *WIDE]


@pytest.fixture(scope="module", autouse=True)
def fonts() -> None:
    """matplotlib keeps the fonts that it has used open, for good."""
    row = Candidate("a", True, SearchAccuracy(1.0, 0.0), Timed(1.0, 1.0), "a", front=True)
    found = Search(1.0, candidates=(row,), trained=SearchTrained(1.0, True), limits={"max_auroc_drop": 0.1})
    figures.latency_bars({"bold and plain-fp32": 1.0})
    figures.score_histograms([("bold", np.arange(3, dtype=np.float32), 1.0)], np.array([False, True, True]), "d")
    for kind in ("svg", "png"):
        figures.latency_against_auroc(found, kind)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few parts are timed."""
    monkeypatch.setattr("edgead.export.search.bench.FULL_ROUNDS", 4)


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.strip().splitlines()


def test_a_budget_is_shown_written_inspected_and_made_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    report = ["--report", "page.html", "-o", "part.edgead"]
    assert main(["export", str(tiny.model()), "--precision", "int8", "--rewrite", "rows=32", *ENOUGH, *report]) == 0
    out = capsys.readouterr().out
    assert "onnxruntime-int8 1 thread" in out
    assert "chosen: onnxruntime-int8 1 thread: p50" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "part.edgead", "part.edgead.search"]
    assert (tmp_path / "part.edgead.search/search.png").stat().st_size > 10_000
    assert "latency against accuracy of all candidates" in Path("page.html").read_text("utf-8")
    assert main(["inspect", "part.edgead"]) == 0
    assert "of 1e+07 ms, AUROC" in capsys.readouterr().out

    assert main(["export", str(tiny.model()), "--like", "part.edgead", "-o", "again.edgead", "--allow-unsafe-calibration"]) == 0
    assert "the same graphs as in part.edgead, byte for byte" in capsys.readouterr().out
    one, other = (Bundle.open(Path(name)).manifest for name in ("part.edgead", "again.edgead"))
    assert {name: other.files[name] for name in ("model.onnx", "model.int8.onnx")} == {
        name: one.files[name] for name in ("model.onnx", "model.int8.onnx")
    }
    assert other.measured.search == one.measured.search
    assert other.default_engine == one.default_engine


def test_of_several_models_the_best_stays(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "best.edgead"
    models = [str(tiny.model("patchcore")), str(tiny.model("simplenet"))]
    words = ["export", *models, "--precision", "fp32", *ENOUGH, "--search-minutes", "0.001", "-o", str(target)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["model"] for one in told["models"]} == set(models)
    best, other = told["models"]
    assert best["chosen"] and not other["chosen"]
    assert (best["auroc"], -best["p99_ms"]) >= (other["auroc"], -other["p99_ms"]) or best["auroc"] > other["auroc"] - 0.002
    manifest = Bundle.open(target).manifest
    assert manifest.family == best["family"]
    assert manifest.measured.search.budget_ms == 10000000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.edgead", "best.edgead.search"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert f"{best['model']} *" in captured.out
    assert "rough comparison" in captured.out  # each tiny model has labelled pictures of its own
    assert "kept as" in captured.out


def test_of_several_models_none_may_keep_the_budget(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(tiny.model("patchcore")), str(tiny.model("simplenet"))]
    words = ["--budget-ms", "0.001", "--precision", "fp32", *QUICK, *WIDE, "--search-minutes", "0.001"]
    assert main(["export", *models, *words, "-o", str(tmp_path / "p.edgead")]) == 8
    told = capsys.readouterr().err
    assert all(f"{model}: no engine answers within 0.001 ms" in told.replace("\n", " ") for model in models)
    assert not (tmp_path / "p.edgead").exists()


def test_a_budget_that_nothing_keeps_ends_with_8_and_its_table(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--budget-ms", "0.001", "--precision", "fp32", *QUICK, *WIDE, "--search-minutes", "0.001"]
    assert main(["export", str(tiny.model()), *arguments, "-o", str(tmp_path / "p.edgead")]) == 8
    captured = capsys.readouterr()
    assert "onnxruntime-fp32 1 thread" in captured.out
    assert "no engine answers within 0.001 ms at p99" in captured.err
    assert not (tmp_path / "p.edgead").exists()


def test_an_interrupted_search_says_how_to_go_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Bench, choice: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "answers", interrupted)
    target = tmp_path / "p.edgead"
    assert main(["export", str(tiny.model()), "--precision", "fp32", *ENOUGH, "-o", str(target)]) == 130
    assert "p.edgead.search: the same command goes on" in errors(capsys)[-1]
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["MODEL", "MODEL"], 2, "2 models: only a budget chooses among them"),
        (["MODEL", "MODEL", "--budget-ms", "9"], 2, "2 models: only a budget chooses among them"),
        (["MODEL", "MODEL", "--budget-ms", "9", "-o", "b.edgead"], 2, "a model is named twice"),
        (["MODEL", "MODEL", "--budget-ms", "9", "-o", "b.edgead", "--report", "r.md"], 2, "--report: for one model"),
        (["MODEL", "--budget-ms", "0"], 2, "a budget of 0 ms is not usable"),
        (["MODEL", "--budget-ms", "-3"], 2, "a budget of -3 ms is not usable"),
        (["MODEL", "--budget-ms", "9", "--search-minutes", "0"], 2, "0 minutes of search"),
        (["MODEL", "--budget-ms", "9", "--frame", "big"], 2, "--frame: 'big' is not WIDTHxHEIGHT"),
        (["MODEL", "--budget-ms", "9", "--frame", "8x8"], 2, "--frame: '8x8' is not WIDTHxHEIGHT"),
        (["MODEL", "--budget-ms", "9", "--backend", "abacus"], 2, "cannot export for abacus"),
        (["MODEL", "--budget-ms", "9", "--backend", "openvino", "--device", "gpu"], 2, "openvino does not run on the gpu"),
        (["MODEL", "--budget-ms", "9", "-o", "MODEL"], 2, "exists and is not a bundle"),
        (["BUNDLE", "--budget-ms", "9", "--on-device"], 2, "--on-device: does not go with --budget-ms"),
        (["MODEL", "--budget-ms", "9", "--like", "BUNDLE"], 2, "--like: does not go with --budget-ms"),
        (["MODEL", "--search-minutes", "3"], 2, "--search-minutes: for a search only"),
        (["MODEL", "--restart-search"], 2, "--restart-search: for a search only"),
        (["MODEL", "--like", "BUNDLE", "--precision", "fp32"], 2, "--precision: does not go with --like"),
        (["MODEL", "--budget-ms", "nan"], 2, "--budget-ms: 'nan' is not a number"),
        (["MODEL", "--budget-ms", "9", "--device", "tpu"], 2, "--device: 'tpu' is not one of cpu, gpu"),
        (["MODEL", "--like", "MODEL"], 3, "has no manifest.json"),
        (["MODEL", "--rewrite", "magic=3"], 2, "there is no rewrite 'magic'"),
        (["MODEL", "--rewrite", "rows=few"], 2, "'rows=few' is not usable"),
        (["MODEL", "--no-rewrite", "magic"], 2, "there is no rewrite 'magic'"),
        (["nowhere", "--budget-ms", "9"], 2, "holds no trained model"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(
    arguments: list[str],
    code: int,
    message: str,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"MODEL": tiny.model(), "BUNDLE": tiny.bundle()}
    assert main(["export", *(str(known.get(a, a)) for a in arguments)]) == code
    lines = errors(capsys)
    assert message in lines[0]
    assert len(lines) <= 2
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_one_line_says_so(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("edgead.export.builds.gpu_here", lambda backend: None)
    assert main(["export", str(tiny.model()), "--budget-ms", "9", "--device", "gpu", "-o", str(tmp_path / "p.edgead")]) == 5
    lines = errors(capsys)
    assert "--device gpu: " in lines[0]
    assert len(lines) == 2
