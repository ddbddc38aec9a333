"""`edgead export`, `verify` and `inspect` as a user calls them, with good and bad input."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle, write_golden, write_manifest
from edgead.cli.main import main
from edgead.parity import Answers
from tests.bundles import Tiny
from tests.test_bundle import on_a_full_disk

QUICK = ["--backend", "onnxruntime", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Path:
    return shutil.copytree(tiny.bundle(), tmp_path / "part.edgead")


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.strip().splitlines()


def test_export_prints_what_it_measured_and_what_is_next(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "part.edgead"
    assert main(["export", str(tiny.model()), "-o", str(target), *QUICK]) == 0
    out = capsys.readouterr().out
    assert re.search(r"onnxruntime-fp32 \*.*e-0\d.*0 of 28", out)
    assert f"edgead verify {target}" in out
    assert Bundle.open(target)


def test_export_takes_its_name_from_the_models_folder(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(tiny.model()), *QUICK]) == 0
    assert (tmp_path / "patchcore.edgead/manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "nowhere"], 2, "holds no trained model"),
        (["export", "MODEL", "--backend", "abacus"], 2, "cannot export for abacus"),
        (["export", "MODEL", "--report", "r.pdf", *QUICK], 2, "a report is a .html or .md file"),
        (["export", "MODEL", "--report", "no/r.html", *QUICK], 2, "there is no folder no"),
        (["export", "MODEL", "--precision", "fp8"], 2, "cannot export for fp8"),
        (["export", "MODEL", "--threads", "0"], 2, "--threads: '0' is not a whole number from 1"),
        (["export", "MODEL", "--calibration", "nowhere"], 2, "--calibration nowhere does not exist"),
        (["export", "MODEL", "--labelled", "nowhere", *QUICK], 2, "--labelled nowhere does not exist"),
        (["export", "MODEL", "-o", "MODEL"], 2, "exists and is not a bundle"),
        (["export", "MODEL", "--threshold", "3"], 2, "--threshold: for other tools' files only"),
        (["export", "MODEL", "--roi", "0,0,9,9", "--name", "part"], 2, "--name, --roi: for other tools' files only"),
        (["export", "MODEL", "--size", "64"], 2, "--size: for other tools' files only"),
        (["export", "MODEL", "--mean", "0"], 2, "--mean: for other tools' files only"),
        (["export", "MODEL", "--images", "."], 2, "--images: for other tools' files only"),
        (["export", "MODEL", "--no-antialias"], 2, "--antialias: for other tools' files only"),
        (["export", "MODEL", "--precision", "fp32", "--weight-bits", "8"], 2, "--weight-bits: for INT8 only"),
        (["export", "MODEL", "--precision", "fp32", "--calibration", "."], 2, "--calibration: for INT8 only"),
        (
            ["export", "MODEL", "--precision", "fp32", "--allow-unsafe-calibration"],
            2,
            "--allow-unsafe-calibration: for INT8 only",
        ),
        (["export", "MODEL", "--precision", "fp32", "--max-flips", "1%"], 2, "--max-flips: for what answers otherwise"),
        (["export", "MODEL", "--calibration-tool", "nncf", "--observer", "mse"], 2, "--observer: NNCF takes"),
        (["export", "MODEL", "--workspace-mb", "64", "--dla", "0"], 2, "--workspace-mb, --dla: for TensorRT only"),
        (["export", "MODEL", "--compute-capability", "89", "--backend", "openvino"], 2, "and --backend is openvino"),
        (["export", "BUNDLE", "--on-device", "--labelled", "."], 2, "--labelled: nothing that --on-device does"),
        (["verify", "nowhere"], 3, "does not exist"),
        (["verify", "MODEL"], 3, "has no manifest.json"),
        (["inspect", "MODEL"], 3, "has no manifest.json"),
        (["verify", "BUNDLE", "--engine", "abacus"], 2, "holds no engine 'abacus'"),
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
    assert main([str(known.get(a, a)) for a in arguments]) == code
    lines = errors(capsys)
    assert message in lines[0]
    assert len(lines) <= 2
    assert not list(tmp_path.iterdir())


def test_verify_shows_every_engine(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tiny.bundle()), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("same answer") == 4
    assert "8 golden frames" in out


def test_verify_of_a_changed_byte_names_the_file(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bundle / "openvino/int8.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert main(["verify", str(bundle)]) == 3
    assert "openvino/int8.bin has changed" in errors(capsys)[0]


def test_an_engine_that_answers_otherwise_fails_verification(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Bundle.open(bundle)
    golden = opened.golden()
    shutil.rmtree(bundle / "golden")
    moved = Answers(golden.reference.scores + np.float32(2 * np.ptp(golden.reference.maps)), golden.reference.maps)
    write_golden(bundle, golden.images, moved)
    write_manifest(bundle, dataclasses.replace(opened.manifest, golden_camera=()))
    assert main(["verify", str(bundle), "--engine", "onnxruntime-int8", "--threads", "1"]) == 4
    captured = capsys.readouterr()
    assert "DIFFERS" in captured.out
    assert "onnxruntime-int8 of" in captured.err


def test_verify_leaves_out_what_is_not_installed_and_says_so(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["verify", str(bundle), "--threads", "1"]) == 0
    assert capsys.readouterr().out.count("pip install 'edgead[openvino]'") == 1
    assert main(["verify", str(bundle), "--engine", "openvino-fp32"]) == 5
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["verify", str(bundle)]) == 5


@pytest.mark.parametrize("module", ["torch", "onnx", "onnxscript", "safetensors"])
def test_export_without_its_packages_names_the_extra(
    module: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny.model()
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["export", str(model)]) == 5
    lines = errors(capsys)
    assert module in lines[0]
    assert "edgead[export]" in lines[1]


def test_inspect_shows_everything_and_json_is_the_manifest(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny.bundle())]) == 0
    out = capsys.readouterr().out
    for text in ("tiny patchcore", "64 x 64 px (box)", "anomaly_map: float32 1 x 64 x 64", "openvino-int8", "weight_bits 7"):
        assert text in out
    assert main(["inspect", str(tiny.bundle()), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("sha256") == Bundle.open(tiny.bundle()).digest
    assert shown.pop("schema") == "edgead.inspect/1"
    assert {"schema": shown.pop("manifest_schema"), **shown} == json.loads((tiny.bundle() / "manifest.json").read_text())


BLOCKED = """
import sys
for name in ("torch", "onnx", "onnxscript", "safetensors", "sklearn"):
    sys.modules[name] = None
from edgead.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("verb", ["verify", "inspect"])
def test_the_line_box_needs_neither_torch_nor_onnx(verb: str, tiny: Tiny) -> None:
    command = [sys.executable, "-c", BLOCKED, verb, str(tiny.bundle())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


THEN_LISTED = """
import os, sys
from edgead.cli.main import main
code = main(sys.argv[2:])
print(os.listdir(sys.argv[1]))
sys.exit(code)
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_full_disk_is_one_line_and_leaves_nothing(backend: str, tiny: Tiny, tmp_path: Path) -> None:
    target = str(tmp_path / "part.edgead")
    command = [sys.executable, "-c", THEN_LISTED, str(tmp_path), "export", str(tiny.model()), "-o", target, "--threads", "1"]
    size = "4m" if backend == "openvino" else "1m"  # 4 MiB hold model.onnx (3.2 MiB) but not OpenVINO's copy
    done = on_a_full_disk(tmp_path, [*command, "--backend", backend, "--precision", "fp32"], size)
    assert done.returncode == 7, done.stderr
    assert "the disk is full" in done.stderr
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("argument", [["--max-flips", "2"], ["--max-false-reject=-1%"], ["--max-score-deviation", "much"]])
def test_a_limit_that_is_no_share_is_refused(argument: list[str], tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tiny.model()), *argument]) == 2
    assert "is not a" in errors(capsys)[0]


def test_what_the_guard_and_the_calibration_noticed_is_printed(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = Bundle.open(tiny.bundle()).manifest.measured.guard[0].engines["onnxruntime-int8"].score_deviation
    target = tmp_path / "part.edgead"
    arguments = [
        "--backend",
        "onnxruntime",
        "--precision",
        "int8",
        "--frames",
        "6",
        "--threads",
        "1",
        "--allow-unsafe-calibration",
    ]
    limits = ["--max-flips", "100%", "--max-auroc-drop", "1", "--max-score-deviation", f"{97 * wide:.3f}%"]
    assert main(["export", str(tiny.model()), "-o", str(target), *arguments, *limits]) == 0
    out = capsys.readouterr().out
    assert "warning: " in out
    assert "returned to float:" in out
    assert re.search(r"node_\w+: 0\.\d+ alone, costs \d\.\d\d ms; onnxruntime-int8 0\.\d+ -> 0\.\d+ score deviation", out)


def test_labelled_folders_of_any_name_are_taken_for_what_they_are(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OK and its days are good, NG are defects; it is printed, and kept in the bundle."""
    given = tiny.model() / "labelled/test"
    shutil.copytree(given / "good", tmp_path / "test/OK/monday")
    shutil.copytree(given / "scratch", tmp_path / "test/NG")
    target = tmp_path / "part.edgead"
    arguments = ["export", str(tiny.model()), "-o", str(target), "--labelled", str(tmp_path), "--frames", "4", *QUICK]
    assert main(arguments) == 0
    assert "labelled pictures: good: OK (8); defects: NG (8)" in capsys.readouterr().out
    assert Bundle.open(target).manifest.measured.frames["good"] == 4


def test_bad_labelled_pictures_are_all_named_in_one_run(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny.model() / "labelled/test", tmp_path / "test")
    for name in ("good/cut1.png", "scratch/cut2.png"):
        (tmp_path / "test" / name).write_bytes(b"cut")
    assert main(["export", str(tiny.model()), "-o", str(tmp_path / "b"), "--labelled", str(tmp_path), *QUICK]) == 2
    said = "\n".join(errors(capsys))
    assert "2 labelled pictures cannot be used" in said
    assert "cut1.png" in said
    assert "cut2.png" in said


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        ("nowhere", [], "holds no trained model"),
        ("MODEL", ["--calibration", "nowhere"], "--calibration nowhere does not exist"),
        ("MODEL", ["--labelled", "."], "holds no labelled pictures"),
        ("BROKEN", [], "header too small"),
    ],
)
def test_a_report_is_written_whatever_fails(
    model: str, arguments: list[str], reason: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if model == "BROKEN":
        shutil.copytree(tiny.model(), tmp_path / "BROKEN")
        (tmp_path / "BROKEN/model.safetensors").write_bytes(b"no")
    source = tiny.model() if model == "MODEL" else Path(model)
    (tmp_path / "r.md").write_text("of an earlier run")
    assert main(["export", str(source), "-o", "b.edgead", "--report", "r.md", *arguments, *QUICK]) == 2
    page = (tmp_path / "r.md").read_text().replace("\\", "")
    assert "No bundle: " in page
    assert reason in page
    assert not (tmp_path / "b.edgead").exists()


def test_a_model_that_finds_nothing_is_told_at_export_and_by_inspect(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A threshold far above all scores: no defect is caught."""
    model = shutil.copytree(tiny.model(), tmp_path / "model")
    info = json.loads((model / "model.json").read_text())
    info["threshold"] |= {"value": 1e6, "method": "by hand"}
    info["origin"]["data"] = {"path": "/pictures", "images": 20, "digest": "0" * 64}
    (model / "model.json").write_text(json.dumps(info))
    labels = ["--labelled", str(model / "labelled")]
    assert main(["export", str(model), "-o", str(tmp_path / "b.edgead"), *labels, *QUICK]) == 0
    words = "warning: the model catches 0% of the 8 labelled defects at its threshold"
    assert words in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "b.edgead")]) == 0
    assert words in capsys.readouterr().out
