"""A refusal leaves something: engines that keep their limits are written, the others are named and leave no file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgead.bundle import Bundle
from edgead.calibration.judging.deviation import Limits
from edgead.calibration.judging.guard import GuardOptions
from edgead.cli.main import main
from edgead.engines import choice
from edgead.engines.verify import verify_engine
from edgead.errors import ParityFailed
from edgead.export import ExportOptions, export_bundle
from edgead.export.builds import BUILDS, Build
from edgead.export.tensorrt import BuildOptions
from tests.bundles import SIZES, Tiny
from tests.export.test_report import fonts  # noqa: F401 - matplotlib keeps them open, for good

NO_INT8 = {"limits": Limits(1.0, 1.0, 0.0), "guard": GuardOptions(max_layers=1, sensitivity_s=0.5), "frames_per_class": 4}
COMMAND = ["--threads", "1", "--frames", "4", "--allow-unsafe-calibration", "--max-score-deviation", "0", "--max-flips", "100%"]
FLOAT_FILES = {"manifest.json", "model.onnx", "golden"}


def options(*backends: str, precisions: tuple[str, ...] = ("fp32", "int8"), **more: object) -> ExportOptions:
    """INT8 that cannot be within its limits, with next to no search."""
    return ExportOptions(backends, precisions, allow_unsafe=True, threads=1, **{**NO_INT8, **more})  # type: ignore[arg-type]


@pytest.fixture
def model(tiny: Tiny) -> Path:
    return tiny.model()


@pytest.mark.promise("No agreement, no engine")
def test_int8_over_its_limits_leaves_the_float_engines_and_not_a_file_of_its_own(model: Path, tmp_path: Path) -> None:
    report = tmp_path / "why.md"
    bundle = export_bundle(model, tmp_path / "part.edgead", options("onnxruntime", "openvino", report=report))
    manifest = bundle.manifest
    assert [record.name for record in manifest.engines] == ["onnxruntime-fp32", "openvino-fp32"]
    assert manifest.default_engine.endswith("fp32")
    assert {path.name for path in bundle.path.iterdir()} == {*FLOAT_FILES, "openvino"}
    assert {path.name for path in (bundle.path / "openvino").iterdir()} == {"fp32.xml", "fp32.bin"}
    assert manifest.calibration is None
    refused = manifest.measured.refused
    assert [told.engine for told in refused] == ["onnxruntime-int8", "openvino-int8"]
    for told in refused:
        assert "score deviation" in told.why
        assert "(allowed 0); 1 of 22 layers tried in float" in told.why
        assert told.figures is not None and told.figures.score_deviation > 0.0
        assert told.figures.frames == 12
    assert set(manifest.measured.deviations) == set(manifest.measured.latency_ms) == {r.name for r in manifest.engines}
    assert all(verify_engine(bundle, record.name, threads=1).passed for record in manifest.engines)
    assert choice.choose(bundle, choice.measure(bundle, [r.name for r in manifest.engines], 1)).manifest.default_engine
    page = report.read_text().replace("\\", "")
    assert f"Bundle written: {bundle.path}" in page
    assert "Refused: openvino-int8: score deviation" in page
    assert "| onnxruntime-int8 | refused |" in page


def test_a_float_engine_that_is_off_does_not_take_the_others_with_it(
    model: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine of another model in place of its own."""
    assert SIZES["patchcore"] == SIZES["simplenet"]
    other = tiny.bundle("simplenet") / "openvino"

    def wrong(graph: Path, folder: Path, options: BuildOptions) -> Path:
        (folder / "openvino").mkdir(exist_ok=True)
        for name in ("fp32.bin", "fp32.xml"):
            made = shutil.copy(other / name, folder / "openvino" / name)
        return Path(made)

    monkeypatch.setitem(BUILDS, ("openvino", "fp32"), Build("float", wrong))
    wanted = options("openvino", "onnxruntime", precisions=("fp32",))
    bundle = export_bundle(model, tmp_path / "part.edgead", wanted)
    assert [record.name for record in bundle.manifest.engines] == ["onnxruntime-fp32"]
    assert {path.name for path in bundle.path.iterdir()} == FLOAT_FILES
    (told,) = bundle.manifest.measured.refused
    assert told.why.startswith("openvino-fp32 is off by ")
    with pytest.raises(ParityFailed, match=r"^openvino-fp32 is off by .*; no bundle written$"):
        export_bundle(model, tmp_path / "none.edgead", options("openvino"))  # INT8 of it is not even tried
    assert not (tmp_path / "none.edgead").exists()


@pytest.mark.parametrize(
    ("named", "code"),
    [
        (["--backend", "onnxruntime"], 0),  # there is an engine of it
        (["--backend", "onnxruntime", "--precision", "fp32,int8"], 4),  # INT8 was wanted by name
    ],
)
def test_the_exit_code_tells_whether_something_asked_for_is_missing(
    named: list[str], code: int, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "part.edgead"
    assert main(["export", str(model), "-o", str(target), *named, *COMMAND]) == code
    said = capsys.readouterr()
    assert "refused, not in the bundle: onnxruntime-int8: score deviation" in said.out
    assert "returned to float" not in said.out
    assert f"wrote {target}" in said.out
    if code:
        first, hint = said.err.strip().splitlines()
        assert first == f"edgead export: refused, though asked for: onnxruntime-int8; {target} is written without"
        assert "it holds onnxruntime-fp32" in hint
    else:
        assert said.err.strip() == ""
    assert [record.name for record in Bundle.open(target).manifest.engines] == ["onnxruntime-fp32"]
    assert main(["inspect", str(target)]) == 0
    assert "refused, not in the bundle: onnxruntime-int8: score deviation" in capsys.readouterr().out
    assert main(["verify", str(target), "--threads", "1"]) == 0
    assert main(["verify", str(target), "--engine", "onnxruntime-int8"]) == 2
    assert "no engine 'onnxruntime-int8': the export refused it (score deviation" in capsys.readouterr().err


def test_when_nothing_is_left_nothing_is_written(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "part.edgead"
    assert main(["export", str(model), "-o", str(target), "--backend", "onnxruntime", "--precision", "int8", *COMMAND]) == 4
    assert "; no bundle written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_thresholds_tuned_on_an_engine_outlive_a_bundle_without_it(model: Path, tmp_path: Path) -> None:
    """INT8 tuned on the line, then FP32 alone, then INT8 again: its thresholds are those of the line."""
    target, name = tmp_path / "part.edgead", "onnxruntime-int8"
    wide = {"limits": Limits(1.0, 1.0, 1e6)}
    export_bundle(model, target, options("onnxruntime", **wide))
    assert main(["threshold", str(target), "--engine", name, "--set", "17.5"]) == 0
    without = export_bundle(model, target, options("onnxruntime", precisions=("fp32",)))
    assert "they are kept" in (without.manifest.measured.carried or {})[name]
    again = export_bundle(model, target, options("onnxruntime", **wide))
    assert again.manifest.measured.carried == {name: ""}
    assert again.manifest.engine(name).threshold.value == 17.5
    assert json.loads(json.dumps(again.manifest.to_json()))
