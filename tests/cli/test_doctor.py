"""`edgead doctor` tries things, tells what is missing, and its exit code says whether a bundle could run here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgead.cli.main import main
from edgead.engines.cuda import no_driver
from edgead.errors import MissingExtra
from edgead.jobs.doctor import box
from edgead.jobs.doctor.check import Check


def _engines(found: dict) -> dict[str, str]:
    """The states of the engines that need no GPU."""
    return {c["name"]: c["state"] for c in found["checks"] if c["group"] == "engine" and not c["name"].startswith("tensorrt")}


def test_engines_that_answer_right_are_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert _engines(found) == {"onnxruntime": "ok", "openvino": "ok"}
    assert found["machine"]["cores"] >= 1


def test_without_any_engine_the_exit_code_is_5_and_the_hint_installs_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    assert main(["doctor"]) == 5
    out = capsys.readouterr().out
    assert "No engine works here" in out
    assert "pip install 'edgead[openvino]'" in out
    assert "pip install 'edgead[onnxruntime]'" in out


def test_one_engine_is_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert main(["doctor", "--json"]) == 0
    assert _engines(json.loads(capsys.readouterr().out)) == {"onnxruntime": "ok", "openvino": "missing"}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_probe_says_what_it_saw(name: str) -> None:
    assert "answered right" in box.try_engine(name)


def test_a_probe_of_a_missing_engine_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra) as caught:
        box.try_engine("openvino")
    assert caught.value.hint == "pip install 'edgead[openvino]'"


def test_tensorrt_without_a_gpu_is_a_note_and_without_the_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def checks() -> dict[str, Check]:
        return {check.name: check for check in box._engines()}

    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr("edgead.engines.cuda.CudaPython", _no_gpu)
    monkeypatch.setattr("edgead.engines.cuda.PyCuda", _no_gpu)
    found = checks()["tensorrt-rtx"]
    assert (found.state, found.detail) == (
        "note",
        "installed, builds ahead of time; no NVIDIA driver or GPU is usable here (a test)",
    )
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    found = checks()["tensorrt-rtx"]
    assert found.state == "missing"
    assert "edgead[tensorrt-rtx]" in found.hint


def _no_gpu() -> None:
    raise no_driver("a test")


def test_cameras_that_need_no_hardware_always_work(tmp_path: Path) -> None:
    states = {check.name: check.state for check in box.examine().checks if check.group == "camera"}
    assert states["simulated"] == "ok"
    assert states["video file"] == "ok"
