"""NNCF as the other tool: an OpenVINO IR that runs, with the score tail and what breaks left float."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.nncf import calibrate_nncf
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput, MissingExtra
from edgead.parity import ask
from tests.calibration.graphs import small_detector, surface, surfaces

PICTURES = CalibrationSet.of(surfaces(12))
TEST = [*surfaces(6, 100), *(surface(seed, defect=True) for seed in range(200, 206))]


@pytest.mark.skipif(find_spec("nncf") is None, reason="NNCF is not installed")
def test_it_writes_an_ir_that_runs_and_leaves_the_tail_float(tmp_path: Path) -> None:
    source = small_detector(tmp_path / "f.onnx")
    target = target_for("openvino", tool="nncf")
    report = calibrate(source, PICTURES, target, ["three"], output=tmp_path / "q.xml", threads=1)
    assert report.products == 2 and report.layers == ()
    layers = {layer.get("name"): layer for layer in ET.parse(tmp_path / "q.xml").getroot().iter("layer")}
    edges = [(e.get("from-layer"), e.get("to-layer")) for e in ET.parse(tmp_path / "q.xml").getroot().iter("edge")]
    quantisers = {layer.get("id") for layer in layers.values() if layer.get("type") == "FakeQuantize"}
    fed = {layer.get("name") for layer in layers.values() if any(a in quantisers and b == layer.get("id") for a, b in edges)}
    kept = {"square", "mean", "max", "pool", "deep", "stem", "three"}
    assert quantisers and not {str(name).removesuffix("/WithoutBiases") for name in fed} & kept
    engines = [OpenVinoEngine(file, threads=1) for file in (source, tmp_path / "q.xml")]
    scores = [ask(engine, TEST).scores for engine in engines]
    assert scores[1][6:].min() > scores[1][:6].max()  # defects still stand out
    for engine in engines:
        engine.close()


def test_it_is_for_openvino_only_and_writes_no_onnx(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="NNCF's graphs are not for tensorrt"):
        target_for("tensorrt", tool="nncf")
    with pytest.raises(BadInput, match=r"NNCF writes an OpenVINO IR, not q\.onnx"):
        calibrate_nncf(tmp_path / "f.onnx", PICTURES, [], target_for("openvino", tool="nncf"), tmp_path / "q.onnx")


def test_without_nncf_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtra, match="Calibrating with NNCF needs the package 'nncf'") as told:
        calibrate_nncf(tmp_path / "f.onnx", PICTURES, [], target_for("openvino", tool="nncf"), tmp_path / "q.xml")
    assert told.value.hint == "pip install 'edgead[nncf]'"
