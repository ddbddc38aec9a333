"""`edgead bench` on a tiny bundle: two engines of one graph that takes the largest colour value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import EngineRecord, Manifest, Threshold, new_bundle, write_golden, write_manifest
from edgead.cli.main import main
from edgead.export.figures import latency_distribution
from edgead.jobs.doctor.box import PROBE
from edgead.manifest import Origin
from edgead.measured import Measured
from edgead.parity import Answers, ParityReport
from edgead.preprocess import PreprocessRecipe
from edgead.types import TensorSpec


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bench") / "tiny.edgead"
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    reference = Answers(np.array([image.max()], np.float32), image.max(axis=2)[None].astype(np.float32))
    parity = ParityReport(1, 0.0, 0.0, 0.0, 0)
    engines = tuple(
        EngineRecord(f"{backend}-fp32", backend, "fp32", "model.onnx", Threshold(200.0, "given"), parity)
        for backend in ("onnxruntime", "openvino")
    )
    manifest = Manifest(
        name="tiny",
        family="patchcore",
        model={},
        origin=Origin(),
        preprocess=PreprocessRecipe(16, 16),
        inputs=(TensorSpec("image", (1, 16, 16, 3), "uint8"),),
        outputs=(TensorSpec("anomaly_map", (1, 16, 16), "float32"), TensorSpec("score", (1,), "float32")),
        engines=engines,
        default_engine="onnxruntime-fp32",
        calibration=None,
        golden=1,
        measured=Measured(),
        tools={},
        machine={},
        created_at="2026-01-01T00:00:00+00:00",
    )
    with new_bundle(target) as folder:
        (folder / "model.onnx").write_bytes(PROBE)
        write_golden(folder, [image], reference)
        write_manifest(folder, manifest)
    return target


QUICK = ["--rounds", "1", "--warmup", "1", "--frame", "64x48"]


def test_every_engine_is_measured_side_by_side(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_bundle), *QUICK, "--no-cold"]) == 0
    shown = capsys.readouterr().out
    assert "openvino-fp32" in shown
    assert "p99" in shown
    assert "10 parts per engine of 64 x 48 px" in shown


def test_json_holds_everything_that_was_measured(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_bundle), *QUICK, "--no-cold", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "edgead.bench/1"
    assert [result["engine"] for result in report["results"]] == ["onnxruntime-fp32", "openvino-fp32"]
    for result in report["results"]:
        assert set(result["stages"]) == {"resize", "inference", "decision", "total"}
        assert set(result["stages"]["total"]) == {"n", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms", "min_ms"}
        total = result["stages"]["total"]
        assert 0 < total["min_ms"] <= total["p50_ms"] <= total["p95_ms"] <= total["p99_ms"] <= total["max_ms"]
        assert result["samples"] == 10
        assert result["cold_start_ms"] is None
        assert result["many_per_s"] is None
    assert report["machine"]["cores"] >= 1
    assert report["settings"]["frame"] == [64, 48]


def test_a_file_behind_json_is_told_where_it_goes(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_bundle), "--json", "bench.json"]) == 2
    assert "--json > bench.json" in capsys.readouterr().err


def test_an_engine_that_is_not_in_the_bundle_is_bad_input(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_bundle), "--engine", "tensorrt"]) == 2
    assert "it holds: onnxruntime-fp32, openvino-fp32" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path)]) == 3
    assert "is not a bundle" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1920", "0x10", "axb", "1920x", "-5x20", "99999x20"])
def test_frame_sizes_that_make_no_sense_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "x.edgead", "--frame", text]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


@pytest.fixture(scope="module")
def fonts() -> None:
    """matplotlib keeps the fonts that it has used open, for good."""
    latency_distribution({"a": [1.0, 2.0, 30.0]}, "png")


@pytest.mark.usefixtures("fonts")
@pytest.mark.parametrize("name", ["times.svg", "times.png"])
def test_how_many_parts_take_how_long_is_drawn(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    assert main(["bench", str(tiny_bundle), *QUICK, "--no-cold", "--plot", str(tmp_path / name)]) == 0
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["times.pdf", "times", "none/times.svg", "."])
def test_a_plot_that_cannot_be_is_refused_before_anything_is_measured(
    tiny_bundle: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tiny_bundle), *QUICK, "--plot", str(tmp_path / name)]) == 2
    assert "--plot" in capsys.readouterr().err.splitlines()[0]


def test_a_plot_needs_matplotlib_and_no_torch(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["bench", str(tiny_bundle), *QUICK, "--no-cold", "--plot", str(tmp_path / "times.svg")]
    for missing, code in (("torch", 0), ("matplotlib", 5)):
        program = f"import sys; sys.modules[{missing!r}] = None; from edgead.cli.main import main; sys.exit(main({arguments!r}))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "pip install 'edgead[report]'" in done.stderr
