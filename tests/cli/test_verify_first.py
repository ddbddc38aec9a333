"""Engines that were built ahead of time: `edgead verify` measures them first and notes it, and `edgead run` waits for that."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle, EngineRecord, write_manifest
from edgead.cli.main import main
from edgead.export.tensorrt import BuildOptions, build_engine
from tests.bundles import Tiny
from tests.conftest import _no_gpu

RUN = ["--camera", "sim:parts=2", "--records", "-", "--threads", "1"]


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Path:
    """A bundle whose OpenVINO engines nobody has measured yet."""
    path = Path(shutil.copytree(tiny.bundle("patchcore"), tmp_path / "part.edgead"))
    manifest = Bundle.open(path).manifest
    for record in manifest.engines:
        if record.backend == "openvino":
            manifest = manifest.with_engine(dataclasses.replace(record, parity=None))
    write_manifest(path, dataclasses.replace(manifest, default_engine="openvino-int8"))
    return path


@pytest.mark.promise("an engine that was never measured does not run before `edgead verify` has measured it on the device")
def test_run_waits_for_verify_and_verify_notes_what_it_finds(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), *RUN]) == 3
    said = capsys.readouterr().err
    assert "openvino-int8 was built ahead of time and has never been measured" in said
    assert f"-> edgead verify {bundle} --engine openvino-int8" in said
    assert main(["verify", str(bundle), "--threads", "1"]) == 0
    assert "measured for the first time, noted in the bundle: openvino-fp32, openvino-int8" in " ".join(
        capsys.readouterr().out.split()
    )
    parity = Bundle.open(bundle).manifest.engine("openvino-int8").parity
    assert parity is not None
    assert parity.frames == Bundle.open(bundle).manifest.golden
    assert main(["run", str(bundle), *RUN]) == 0
    assert main(["verify", str(bundle), "--threads", "1"]) == 0  # a second time there is nothing to note
    assert "first time" not in capsys.readouterr().out


def test_who_insists_may_run_it_unmeasured(bundle: Path) -> None:
    assert main(["run", str(bundle), *RUN, "--allow-unverified"]) == 0
    assert Bundle.open(bundle).manifest.engine("openvino-int8").parity is None


def test_an_engine_that_fails_stays_unmeasured(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    stored = np.load(bundle / "golden/reference.npz")
    scores, maps = stored["scores"] + np.ptp(stored["maps"]), stored["maps"]
    with (bundle / "golden/reference.npz").open("wb") as file:
        np.savez_compressed(file, scores=scores, maps=maps)
    write_manifest(bundle, manifest)
    assert main(["verify", str(bundle), "--engine", "openvino-fp32", "--threads", "1"]) == 4
    assert Bundle.open(bundle).manifest.engine("openvino-fp32").parity is None


def test_a_plan_for_a_gpu_is_left_out_here_or_refused_by_name(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real plan, built here ahead of time; the machine has no GPU for it."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings.runtime")
    if not _no_gpu():
        pytest.skip("this machine has a GPU")
    manifest = Bundle.open(bundle).manifest
    target = bundle / "tensorrt-rtx/fp32.engine"
    built = build_engine(bundle / "model.onnx", target, "tensorrt-rtx", "fp32", BuildOptions(compute_capabilities=("8.9",)))
    threshold = manifest.engine("onnxruntime-fp32").threshold
    record = EngineRecord(
        "tensorrt-rtx-fp32", "tensorrt-rtx", "fp32", "tensorrt-rtx/fp32.engine", threshold, None, None, built.built_with
    )
    write_manifest(bundle, dataclasses.replace(manifest, engines=(*manifest.engines, record)))
    assert main(["verify", str(bundle), "--threads", "1"]) == 0
    assert "left out: no NVIDIA driver or GPU is usable here" in capsys.readouterr().out
    for command in (["verify", str(bundle)], ["run", str(bundle), *RUN]):
        assert main([*command, "--engine", "tensorrt-rtx-fp32"]) == 5
        said = capsys.readouterr().err
        assert "no NVIDIA driver or GPU is usable here" in said
        assert said.count("\n") == 2  # one line and its hint
    assert main(["inspect", str(bundle)]) == 0
    assert "not measured" in capsys.readouterr().out
