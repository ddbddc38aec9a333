"""The linter finds, by node name, what a backend would refuse or misread, and nothing in what edgead writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.lint import lint
from edgead.calibration.int8.targets import BACKENDS, target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput
from tests.calibration.graphs import make, small_detector, surfaces

Model = Any
TARGETS = {name: target_for(name) for name in BACKENDS}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lint")
    source = small_detector(folder / "float.onnx")
    calibrate(source, CalibrationSet.of(surfaces(12)), TARGETS["openvino"], output=folder / "clean.onnx", threads=1)
    return folder / "clean.onnx"


def node(model: Model, name: str) -> Any:
    return next(n for n in model.graph.node if n.name == name)


def replace(model: Model, name: str, values: Any) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def insert_pair(model: Model, tensor: str, name: str) -> None:
    """Quantise a tensor for all its users, behind its maker."""
    for n in model.graph.node:
        n.input[:] = [f"{tensor}.dq" if i == tensor else i for i in n.input]
    pair = [
        make("QuantizeLinear", [tensor, "x0.scale", "x0.zero"], [f"{tensor}.s"], name=name),
        make("DequantizeLinear", [f"{tensor}.s", "x0.scale", "x0.zero"], [f"{tensor}.dq"], name=f"{name}.back"),
    ]
    at = next(i for i, n in enumerate(model.graph.node) if tensor in n.output)
    nodes = [type(n).FromString(n.SerializeToString()) for n in model.graph.node]
    nodes[at + 1 : at + 1] = pair
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def uint8_activation(model: Model) -> None:
    replace(model, "x0.zero", np.zeros((), np.uint8))


def no_zero_point(model: Model) -> None:  # ONNX then takes uint8
    for name in ("x0.quantize", "x0.dequantize"):
        del node(model, name).input[2:]


def zero_point(model: Model) -> None:
    replace(model, "x0.zero", np.int8(3))


def int32_bias(model: Model) -> None:
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.ones(16, np.int32), "bias.s32"), numpy_helper.from_array(np.float32(0.1), "bias.scale")]
    )
    model.graph.node.insert(0, make("DequantizeLinear", ["bias.s32", "bias.scale"], ["bias.float"], name="bias.back"))
    node(model, "one").input[2] = "bias.float"


def uint8_weight(model: Model) -> None:
    replace(model, "w.one.s8", np.full((16, 16, 1, 1), 128, np.uint8))
    replace(model, "w.one.zero", np.full(16, 128, np.uint8))


def other_axis(model: Model) -> None:
    next(a for a in node(model, "w.one.dequantize").attribute if a.name == "axis").i = 1


def channel_activation(model: Model) -> None:
    replace(model, "x0.scale", np.full(16, 0.1, np.float32))
    replace(model, "x0.zero", np.zeros(16, np.int8))


def integer_operator(model: Model) -> None:
    model.graph.node.append(make("DynamicQuantizeLinear", ["x0"], ["a", "b", "c"], name="dynamic"))


def unpaired(model: Model) -> None:
    model.graph.node.append(make("Cast", ["x0.s8"], ["loose"], name="loose", to=1))


def int16(model: Model) -> None:
    replace(model, "x0.zero", np.zeros((), np.int16))


def computed_scale(model: Model) -> None:
    model.graph.node.insert(0, make("Identity", ["x0.scale"], ["made"], name="made"))
    node(model, "x0.quantize").input[1] = "made"


def uint8_operator(model: Model) -> None:
    model.graph.node.insert(0, make("Transpose", ["image"], ["turned"], name="turn", perm=[0, 3, 1, 2]))
    node(model, "cast").input[0] = "turned"


def wide_weights(model: Model) -> None:
    replace(model, "w.one.s8", np.full((16, 16, 1, 1), 100, np.int8))


def bad_scale(model: Model) -> None:
    replace(model, "x0.scale", np.float32(0))


def tail(model: Model) -> None:
    insert_pair(model, "anomaly_map", "late")


def depthwise(model: Model) -> None:
    insert_pair(model, "x1", "early")


def behind_concat(model: Model) -> None:
    model.graph.node.append(make("Concat", ["x3", "pooled"], ["joined"], name="join", axis=1))
    model.graph.node.append(make("Identity", ["joined"], ["end"], name="end"))
    insert_pair(model, "joined", "behind")


RT = {"tensorrt", "tensorrt-rtx"}
CASES: list[tuple[Callable[[Model], None], str, str, set[str]]] = [
    (uint8_activation, "x0.quantize", "uint8-activation", RT),
    (no_zero_point, "x0.quantize", "uint8-activation", RT),
    (zero_point, "x0.quantize", "zero-point", RT),
    (int32_bias, "bias.back", "int32-bias", RT),
    (uint8_weight, "w.one.dequantize", "uint8-weight", RT),
    (other_axis, "w.one.dequantize", "weight-axis", RT),
    (channel_activation, "x0.quantize", "channel-activation", RT),
    (integer_operator, "dynamic", "integer-operator", RT),
    (unpaired, "x0.quantize", "unpaired", RT),
    (int16, "x0.quantize", "other-type", RT),
    (computed_scale, "x0.quantize", "dynamic-scale", RT),
    (uint8_operator, "turn", "uint8-operator", RT),
    (wide_weights, "w.one.dequantize", "wide-weights", {"openvino", "onnxruntime"}),
    (bad_scale, "x0.quantize", "bad-scale", set(BACKENDS)),
    (tail, "late", "quantised-tail", set()),
    (behind_concat, "behind", "behind-concat", {"openvino"}),
]


def test_what_edgead_writes_is_clean_for_all(clean: Path) -> None:
    assert {name: lint(clean, target) for name, target in TARGETS.items()} == {name: [] for name in TARGETS}


@pytest.mark.parametrize(("spoil", "where", "code", "targets"), CASES, ids=[case[0].__name__ for case in CASES])
def test_each_fault_is_found_by_name_for_the_targets_that_mind(
    spoil: Callable[[Model], None], where: str, code: str, targets: set[str], clean: Path, tmp_path: Path
) -> None:
    model = onnx.load(clean)
    spoil(model)
    onnx.save(model, tmp_path / "bad.onnx")
    for name, target in TARGETS.items():
        found = {(f.where, f.code) for f in lint(tmp_path / "bad.onnx", target) if f.severity == "error" or f.code == "unpaired"}
        if spoil is tail:  # the pair feeds the maximum that makes the score
            assert {f[1] for f in found} == {"quantised-tail"}
        else:
            assert ((where, code) in found) == (name in targets), (name, found)


def test_quantised_depthwise_convolutions_and_pools_are_warned_about(clean: Path, tmp_path: Path) -> None:
    model = onnx.load(clean)
    depthwise(model)
    onnx.save(model, tmp_path / "bad.onnx")
    found = {(f.where, f.code, f.severity) for f in lint(tmp_path / "bad.onnx", TARGETS["onnxruntime"])}
    assert found == {("deep", "quantised-depthwise", "warning"), ("pool", "quantised-pool", "warning")}


def test_weights_of_8_bits_pass_where_the_cpu_is_known_to_take_them(clean: Path, tmp_path: Path) -> None:
    model = onnx.load(clean)
    wide_weights(model)
    onnx.save(model, tmp_path / "wide.onnx")
    (finding,) = lint(tmp_path / "wide.onnx", TARGETS["openvino"])
    assert str(finding) == "w.one.dequantize: 8-bit weights (up to 100) saturate on x86 CPUs without VNNI: use 7 bits (-63 to 63)"
    assert lint(tmp_path / "wide.onnx", target_for("openvino", facts={"int8_dot": True})) == []


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a readable ONNX file"):
        lint(tmp_path / "absent.onnx", TARGETS["openvino"])
