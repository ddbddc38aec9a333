"""Real plans, built ahead of time with TensorRT for RTX on this machine's CPU. They cannot be loaded without a driver: what is in
them is checked by the build log, sizes, the parsed network's tensors and literal execution of the graph they were built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgead.bundle import Bundle
from edgead.calibration.int8.half import to_half
from edgead.calibration.int8.lint import lint
from edgead.calibration.int8.targets import target_for
from edgead.calibration.judging.deviation import Limits
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput, EdgeadError, EngineError, MissingExtra
from edgead.export import ExportOptions, export_bundle, tensorrt
from edgead.export.inspected import precisions, read_layers
from edgead.export.tensorrt import BuildOptions, Built, build_engine, parse_capabilities
from edgead.parity import ask, compare
from tests.bundles import FAMILIES, Tiny
from tests.export import _graphs

rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
ADA = BuildOptions(compute_capabilities=("8.9",))
LARGEST_ERROR = {"fp32": 1e-5, "fp16": 0.02, "int8": 0.5}
"""Of map and score relative to the map's range; the tiny models are hardly trained, and INT8 is coarse on them."""


@pytest.fixture(scope="module")
def graph_of(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ONNX graph of a family in a precision."""
    folder = tmp_path_factory.mktemp("half")

    def find(family: str, precision: str) -> Path:
        bundle = tiny.bundle(family)
        if precision != "fp16":
            return bundle / {"fp32": "model.onnx", "int8": "model.int8.onnx"}[precision]
        half = folder / f"{family}.onnx"
        if not half.exists():
            to_half(bundle / "model.onnx", half)
        return half

    return find


def build(graph: Path, target: Path, precision: str = "int8", options: BuildOptions = ADA) -> Built:
    return build_engine(graph, target, "tensorrt-rtx", precision, options)


@pytest.mark.parametrize("precision", tensorrt.PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_builds_in_every_precision(graph_of: Any, family: str, precision: str, tmp_path: Path) -> None:
    graph = graph_of(family, precision)
    built = build(graph, tmp_path / "x.engine", precision)
    size = (tmp_path / "x.engine").stat().st_size
    assert built.warnings == ()  # the build log: nothing but information
    assert built.fallback == ()
    assert built.built_with.pop("build_s")
    assert built.built_with == {
        "tensorrt-rtx": rtx.__version__,
        "size_bytes": str(size),
        "strongly_typed": "yes",
        "compute_capability": "8.9",
        "built": "ahead of time",
    }
    assert graph.stat().st_size / 2 < size < graph.stat().st_size * 6 + 2**20
    assert [p.name for p in tmp_path.iterdir()] == ["x.engine"]  # nothing half-written beside it


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parsed_network_has_the_bundles_tensors(tiny: Tiny, family: str) -> None:
    manifest = Bundle.open(tiny.bundle(family)).manifest
    network = tensorrt._Build(tiny.bundle(family) / "model.int8.onnx", "tensorrt-rtx", "int8", ADA)
    parsed = network._parse()
    assert network._specs(parsed.get_input(i) for i in range(parsed.num_inputs)) == manifest.inputs
    found = {t.name: t for t in network._specs(parsed.get_output(i) for i in range(parsed.num_outputs))}
    assert tuple(found[t.name] for t in manifest.outputs) == manifest.outputs
    assert parsed.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", tensorrt.PRECISIONS)
def test_the_graphs_numbers_hold_when_executed_literally(tiny: Tiny, graph_of: Any, family: str, precision: str) -> None:
    golden = Bundle.open(tiny.bundle(family)).golden()
    engine = OnnxRuntimeEngine(graph_of(family, precision), threads=1, literal=True)
    parity = compare(golden.reference, ask(engine, golden.images), threshold=0.0)
    engine.close()
    assert max(parity.score_error, parity.map_error) <= LARGEST_ERROR[precision]


def test_int8_and_half_plans_of_a_large_model_are_smaller(graph_of: Any, tmp_path: Path) -> None:
    sizes = {}
    for precision in tensorrt.PRECISIONS:
        build(graph_of("efficientad", precision), tmp_path / precision, precision)
        sizes[precision] = (tmp_path / precision).stat().st_size
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


def test_one_plan_serves_several_kinds_of_gpus(graph_of: Any, tmp_path: Path) -> None:
    several = BuildOptions(workspace_mb=256, compute_capabilities=("8.0", "8.9", "12.0"))
    built = build(graph_of("simplenet", "int8"), tmp_path / "x.engine", options=several)
    assert built.built_with["compute_capability"] == "8.0,8.9,12.0"


def test_an_open_batch_takes_a_profile(tmp_path: Path) -> None:
    onnx.save(_graphs.qdq(batch="n"), tmp_path / "batch.onnx")
    with pytest.raises(BadInput, match="takes any number of pictures"):
        build(tmp_path / "batch.onnx", tmp_path / "x.engine")
    build(tmp_path / "batch.onnx", tmp_path / "x.engine", options=BuildOptions(compute_capabilities=("8.9",), batch=(1, 4, 8)))
    assert (tmp_path / "x.engine").is_file()


TAKEN = [
    ("signed and symmetric", _graphs.qdq(), None, "builds"),
    ("one scale for all weights", _graphs.qdq(axis=None), None, "builds"),
    ("opset 23", _graphs.qdq(opset=23), None, "builds"),
    ("uint8 activations", _graphs.qdq(activation=np.uint8), "uint8-activation", "would misread"),
    ("uint8 activations around 128", _graphs.qdq(activation=np.uint8, zero=128), "uint8-activation", "refuses"),
    ("zero point", _graphs.qdq(zero=3), "zero-point", "refuses"),
    ("zero point of weights", _graphs.qdq(weight_zero=1), "zero-point", "refuses"),
    ("uint8 weights", _graphs.qdq(weight=np.uint8), "uint8-weight", "refuses"),
    ("int32 bias", _graphs.qdq(bias="int32"), "int32-bias", "refuses"),
    ("integer operator", _graphs.qlinear(), "integer-operator", "refuses"),
    ("dynamic ranges", _graphs.dynamic(), "integer-operator", "refuses"),
    ("uint8 picture moved before it is cast", _graphs.moved(), "uint8-operator", "refuses"),
]


@pytest.mark.parametrize(("model", "code", "builder"), [c[1:] for c in TAKEN], ids=[c[0] for c in TAKEN])
def test_the_linter_says_what_the_builder_does(
    model: Any, code: str | None, builder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, target = tmp_path / "hand.onnx", tmp_path / "x.engine"
    onnx.save(model, graph)
    errors = [f for f in lint(graph, target_for("tensorrt-rtx")) if f.severity == "error"]
    if code is None:
        assert not errors
        build(graph, target)
        return
    assert code in {error.code for error in errors}
    with pytest.raises(BadInput, match=rf"cannot take hand\.onnx: {errors[0].where}: "):  # by node name
        build(graph, target)
    monkeypatch.setattr(tensorrt, "_lint", lambda *args: None)  # and what the builder itself would have done:
    with pytest.raises(EngineError, match=rf"TensorRT for RTX {builder} hand\.onnx") as caught:
        build(graph, target)
    assert "\n" not in str(caught.value)
    assert builder != "refuses" or "node " in str(caught.value)
    assert not target.exists()


def test_a_misread_graph_would_have_been_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a warning is an error here: without our decision the plan is there."""
    onnx.save(_graphs.qdq(activation=np.uint8), tmp_path / "hand.onnx")
    monkeypatch.setattr(tensorrt, "_lint", lambda *args: None)
    monkeypatch.setattr(tensorrt, "MISREADINGS", ())
    built = build(tmp_path / "hand.onnx", tmp_path / "x.engine")
    assert any("Defaulting to INT8" in warning for warning in built.warnings)


@pytest.mark.parametrize("content", [b"", b"not a model"], ids=["empty", "text"])
def test_a_damaged_graph_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EdgeadError) as caught:
        build(tmp_path / "x.onnx", tmp_path / "x.engine")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.engine").exists()


@pytest.mark.parametrize(
    ("backend", "precision", "options", "said"),
    [
        ("tensorrt-rtx", "bf16", ADA, "no precision 'bf16'"),
        ("tensorrt-rtx", "fp32", BuildOptions(compute_capabilities=("8.7",)), "knows no compute capability 8.7"),
        ("tensorrt-rtx", "fp16", BuildOptions(compute_capabilities=("8.9",), dla_core=0), "has no DLA"),
        ("tensorrt-rtx", "int8", BuildOptions(compute_capabilities=("8.9",), batch=(1, 1, 2)), "is static"),
    ],
)
def test_wrong_options_are_one_clear_line(
    tiny: Tiny, tmp_path: Path, backend: str, precision: str, options: BuildOptions, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        build_engine(tiny.bundle() / "model.int8.onnx", tmp_path / "x.engine", backend, precision, options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "make", [lambda: BuildOptions(workspace_mb=0), lambda: BuildOptions(batch=(2, 1, 4)), lambda: parse_capabilities("8,fast")]
)
def test_unusable_values_are_refused(make: Any) -> None:
    with pytest.raises(BadInput):
        make()


def test_compute_capabilities_are_read_in_every_spelling() -> None:
    assert parse_capabilities("89, SM120,8.6,89") == ("8.9", "12.0", "8.6")


def test_tensorrt_proper_without_the_package_names_the_jetpack_way(tiny: Tiny, tmp_path: Path) -> None:
    if _installed("tensorrt"):
        pytest.skip("TensorRT is installed here")
    with pytest.raises(MissingExtra, match="'tensorrt'") as caught:
        build_engine(tiny.bundle() / "model.onnx", tmp_path / "x.engine", "tensorrt", "fp32")
    assert "python3-libnvinfer" in caught.value.hint


def test_without_a_gpu_somebody_must_say_for_which_one(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu_here", lambda backend: None)
    with pytest.raises(BadInput, match="no GPU here") as caught:
        build(tiny.bundle() / "model.onnx", tmp_path / "x.engine", "fp32", BuildOptions())
    assert "--compute-capability 89" in caught.value.hint


def test_an_export_ahead_of_time_waits_for_its_device(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.export.builds.gpu_here", lambda backend: None)
    monkeypatch.setattr(tensorrt, "gpu_here", lambda backend: None)
    options = ExportOptions(
        backends=("openvino", "tensorrt-rtx"), precisions=("fp32", "fp16"), frames_per_class=12, threads=1, tensorrt=ADA,
        limits=Limits(max_flips=1.0, max_auroc_drop=1.0, max_score_deviation=1e6),
    )  # fmt: skip
    manifest = export_bundle(tiny.model("simplenet"), tmp_path / "a.edgead", options).manifest
    assert [r.name for r in manifest.engines] == ["openvino-fp32", "tensorrt-rtx-fp32", "tensorrt-rtx-fp16"]
    assert manifest.default_engine == "openvino-fp32"  # measured; the others were not
    half = manifest.engine("tensorrt-rtx-fp16")
    assert half.parity is None
    assert half.threshold.value != manifest.engine("openvino-fp32").threshold.value  # its graph's own
    assert half.built_with["compute_capability"] == "8.9"
    assert manifest.measured.literal["tensorrt-rtx-fp16"].map_error < LARGEST_ERROR["fp16"]
    assert {"model.fp16.onnx", "tensorrt-rtx/fp16.engine"} <= manifest.files.keys()


def test_what_cannot_be_built_is_said_before_the_work_begins(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu_here", lambda backend: None)
    steps: list[str] = []
    with pytest.raises(BadInput, match="no GPU here"):
        export_bundle(
            tiny.model("simplenet"),
            tmp_path / "a.edgead",
            ExportOptions(backends=("tensorrt-rtx",), precisions=("fp32",)),
            lambda stage, done: steps.append(stage),
        )
    assert not steps
    assert not list(tmp_path.iterdir())


INSPECTED = """{"Layers": [
 {"Name": "conv1 + relu", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: conv1]\\u001e[ONNX Layer: relu]",
  "Inputs": [{"Name": "a", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}]},
 {"Name": "max", "LayerType": "Reduce", "Inputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}], "Outputs": []},
 "a layer without details"], "Bindings": ["image"]}"""


def test_the_inspectors_json_becomes_layers_with_precisions() -> None:
    layers = read_layers(INSPECTED)
    assert [(layer.name, layer.inputs, layer.outputs, layer.nodes) for layer in layers] == [
        ("conv1 + relu", ("int8",), ("float16",), ("conv1", "relu")),
        ("max", ("float32",), (), ()),
        ("a layer without details", (), (), ()),
    ]
    assert precisions(layers) == "caskconvolution: int8 1; reduce: float32 1; unknown: unknown 1"
    with pytest.raises(EngineError, match="something unexpected"):
        read_layers("no json")


def _installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
