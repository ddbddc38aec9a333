"""`edgead export --on-device` on a device of ours: ONNX Runtime plays TensorRT, so that what happens to the bundle can be seen
without a GPU. Nothing but the one engine changes, and a failure leaves everything as it was."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import Bundle, EngineRecord, file_digest, write_manifest
from edgead.cli.main import main
from edgead.engines import open_engine
from edgead.engines.cuda import DeviceInfo
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput, BundleError, BundleMismatch, ParityFailed, StorageError
from edgead.export import on_device
from edgead.export.on_device import build_on_device
from edgead.export.tensorrt import BuildOptions, Built
from tests.bundles import Tiny
from tests.conftest import _no_gpu
from tests.engines._fakes import FakeCuda

HERE = DeviceInfo("Orin", "8.7", 8 << 30, "12.6")
BUILT_WITH = {"tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "8.7"}


class Plan(OnnxRuntimeEngine):
    """A plan is a copy of the graph, and its inspector knows one layer."""

    def information(self) -> str:
        return '{"Layers": [{"Name": "conv", "LayerType": "Convolution", "Inputs": [{"Name": "a", "Format/Datatype": "Int8"}]}]}'


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny.bundle("patchcore"), tmp_path / "part.edgead")))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, BuildOptions]]:
    """Builds on the device: (graph, options) of each."""
    builds: list[tuple[str, BuildOptions]] = []

    def build(graph: Path, target: Path, backend: str, precision: str, options: BuildOptions) -> Built:
        builds.append((graph.name, options))
        shutil.copy(graph, target)
        return Built(dict(BUILT_WITH), device=HERE)

    monkeypatch.setattr(on_device, "build_engine", build)
    monkeypatch.setattr(on_device, "resolve", lambda kind, name: Plan)
    monkeypatch.setattr(on_device, "gpu_here", lambda backend: HERE)
    monkeypatch.setattr(on_device, "load_tensorrt", lambda *args: type("trt", (), {"__version__": "10.3.0"}))
    monkeypatch.setattr(on_device, "open_cuda", FakeCuda)
    return builds


def state(bundle: Path) -> dict[str, str]:
    return {p.relative_to(bundle).as_posix(): file_digest(p) for p in sorted(bundle.rglob("*")) if p.is_file()}


def test_engines_are_added_with_the_threshold_of_their_kin(bundle: Bundle, device: Any) -> None:
    before = state(bundle.path)
    outcomes = build_on_device(bundle.path, "tensorrt", ["fp32", "int8"])
    assert [(o.name, o.rebuilt) for o in outcomes] == [("tensorrt-fp32", True), ("tensorrt-int8", True)]
    assert [graph for graph, _ in device] == ["model.onnx", "model.int8.onnx"]
    now = Bundle.open(bundle.path).manifest  # digests are checked
    for precision in ("fp32", "int8"):
        record = now.engine(f"tensorrt-{precision}")
        kin = next(r for r in bundle.manifest.engines if r.precision == precision)
        assert record.threshold.value == kin.threshold.value
        assert record.threshold.method.startswith(f"that of {kin.name}: ")
        assert record.parity is not None
        assert record.parity.frames == now.golden
        assert record.built_with.items() >= BUILT_WITH.items()
        assert record.built_with["layers"] == "convolution: int8 1"
    assert now.engines[: len(bundle.manifest.engines)] == bundle.manifest.engines
    after = state(bundle.path)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: digest for name, digest in before.items() if name != "manifest.json"
    }
    assert len(after) == len(before) + 4  # two plans and what is in them
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_the_timing_cache_lies_beside_the_bundle(bundle: Bundle, device: Any) -> None:
    build_on_device(bundle.path, "tensorrt", ["fp32"], BuildOptions(workspace_mb=64))
    assert device[0][1] == BuildOptions(workspace_mb=64, timing_cache=bundle.path.with_suffix(".timing-cache"))


def test_what_matches_is_left_and_what_does_not_is_rebuilt(bundle: Bundle, device: Any) -> None:
    build_on_device(bundle.path, "tensorrt", ["fp32"])
    first = state(bundle.path)
    assert [o.rebuilt for o in build_on_device(bundle.path)] == [False]
    assert state(bundle.path) == first

    opened = Bundle.open(bundle.path)
    record = opened.manifest.engine("tensorrt-fp32")
    line = record.changed(dataclasses.replace(record.threshold, value=123.0))  # the line has set its own since
    older = dataclasses.replace(line, built_with={**record.built_with, "tensorrt": "8.6.1"})
    write_manifest(bundle.path, opened.manifest.with_engine(older))
    assert [o.rebuilt for o in build_on_device(bundle.path)] == [True]
    now = Bundle.open(bundle.path).manifest.engine("tensorrt-fp32")
    assert now.built_with["tensorrt"] == "10.3.0"
    assert now.threshold.value == 123.0
    assert len(now.history) == 1


def test_the_old_plan_goes_when_the_new_one_is_in(bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build_on_device(bundle.path, "tensorrt", ["fp32"])
    old = Bundle.open(bundle.path).manifest.engine("tensorrt-fp32").file

    def padded(graph: Path, target: Path, *rest: Any) -> Built:
        import onnx

        model = onnx.load(graph)
        model.doc_string = "another build of the same"
        onnx.save(model, target)
        return Built(dict(BUILT_WITH), device=HERE)

    monkeypatch.setattr(on_device, "build_engine", padded)
    build_on_device(bundle.path, "tensorrt", ["fp32"])
    new = Bundle.open(bundle.path).manifest.engine("tensorrt-fp32").file
    assert new != old
    assert not (bundle.path / old).exists()
    assert sorted(p.name for p in (bundle.path / "tensorrt").iterdir()) == sorted(
        [Path(new).name, Path(new).name.replace(".engine", ".layers.json")]
    )


def test_an_engine_that_answers_otherwise_leaves_the_bundle_as_it_was(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_on_device(bundle.path, "tensorrt", ["fp32"])
    before = state(bundle.path)

    def wrong(graph: Path, target: Path, *rest: Any) -> Built:
        shutil.copy(bundle.path / "model.int8.onnx", target)  # INT8 in the place of FP32
        return Built(dict(BUILT_WITH), device=HERE)

    monkeypatch.setattr(on_device, "build_engine", wrong)
    with pytest.raises(ParityFailed, match="the new engine tensorrt-fp32 does not answer as the trained model did") as caught:
        build_on_device(bundle.path, "tensorrt", ["fp32"])
    assert caught.value.exit_code == 4
    assert state(bundle.path) == before
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_a_full_disk_at_the_last_step_leaves_the_bundle_as_it_was(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(bundle.path)

    def full(*args: Any) -> Bundle:
        raise StorageError("cannot write manifest.json: the disk is full")

    monkeypatch.setattr(on_device, "rewrite_manifest", full)
    with pytest.raises(StorageError):
        build_on_device(bundle.path, "tensorrt", ["fp32"])
    assert state(bundle.path) == before
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


@pytest.mark.parametrize(
    ("backend", "wanted", "said"),
    [
        (None, [], "holds no TensorRT engine"),
        ("tensorrt-rtx", [], "holds no tensorrt-rtx engine"),
        ("openvino", ["fp32"], "openvino engines are not built for one device"),
        ("tensorrt", ["fp8"], "no precision fp8"),
    ],
)
def test_wrong_wishes_are_one_clear_line(bundle: Bundle, device: Any, backend: Any, wanted: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        build_on_device(bundle.path, backend, wanted)
    assert caught.value.hint
    assert not device


def test_it_builds_for_the_gpu_that_is_here(bundle: Bundle, device: Any) -> None:
    with pytest.raises(BadInput, match="builds for the GPU that is here"):
        build_on_device(bundle.path, "tensorrt-rtx", ["fp32"], BuildOptions(compute_capabilities=("8.9",)))


def test_without_a_gpu_nothing_happens_to_the_bundle(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """For real."""
    if not _no_gpu():
        pytest.skip("this machine has a GPU")
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings.runtime")
    before = state(bundle.path)
    assert main(["export", "--on-device", str(bundle.path), "--backend", "tensorrt-rtx", "--precision", "fp32"]) == 5
    assert "no NVIDIA driver or GPU is usable here" in capsys.readouterr().err
    assert state(bundle.path) == before
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_the_command_tells_what_it_did(bundle: Bundle, device: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "--on-device", str(bundle.path)]
    assert main([*command, "--backend", "tensorrt", "--precision", "fp32", "--workspace-mb", "128"]) == 0
    said = capsys.readouterr().out
    assert "tensorrt-fp32: built on this device" in said
    assert "same answer" in said
    assert main(command) == 0
    assert "tensorrt-fp32: matches this GPU and version" in capsys.readouterr().out
    assert main([*command, "-o", "elsewhere"]) == 2
    assert main([*command, "--backend", "tensorrt,tensorrt-rtx"]) == 2


def test_a_bundle_without_the_graph_says_which_one_it_lacks(bundle: Bundle, device: Any) -> None:
    (bundle.path / "model.int8.onnx").unlink()
    engines = tuple(r for r in bundle.manifest.engines if r.file != "model.int8.onnx")
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, engines=engines, default_engine=engines[0].name))
    with pytest.raises(BundleError, match=r"holds no model\.int8\.onnx"):
        build_on_device(bundle.path, "tensorrt", ["int8"])


def test_it_needs_neither_torch_nor_onnx() -> None:
    import subprocess
    import sys

    lab = ["torch", "onnx", "onnxscript", "safetensors", "sklearn"]
    code = f"import sys; sys.modules.update(dict.fromkeys({lab})); import edgead.export.on_device, edgead.export.tensorrt"
    subprocess.run([sys.executable, "-c", code], check=True)


def unmeasured(bundle: Bundle, name: str, **values: Any) -> EngineRecord:
    """As if the engine had been built ahead of time for this device."""
    record = dataclasses.replace(bundle.manifest.engine(name), parity=None, **values)
    write_manifest(bundle.path, bundle.manifest.with_engine(record))
    return record


def test_an_engine_that_was_never_measured_is_not_opened_unless_told(bundle: Bundle) -> None:
    unmeasured(bundle, "openvino-fp32")
    opened = Bundle.open(bundle.path)
    with pytest.raises(BundleMismatch, match="openvino-fp32 was built ahead of time and has never been measured") as caught:
        open_engine(opened, "openvino-fp32")
    assert f"edgead verify {bundle.path} --engine openvino-fp32" in caught.value.hint
    open_engine(opened, "openvino-fp32", threads=1, unverified=True).close()
