"""The one front door: what becomes INT8, how close it stays, what the report says, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.bundle import Bundle
from edgead.calibration.int8.calibrate import CalibrationReport, calibrate
from edgead.calibration.int8.lint import lint
from edgead.calibration.int8.observe import Ranges, observe
from edgead.calibration.int8.targets import QuantizeOptions, Target, target_for
from edgead.calibration.pictures.screening import Reference
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine, Tapped
from edgead.engines.openvino import OpenVinoEngine
from edgead.errors import BadInput
from edgead.parity import Answers, ask
from tests.bundles import Tiny, part
from tests.calibration.graphs import CHANNELS, Node, make, small_detector, surface, surfaces, write_graph

PICTURES = CalibrationSet.of(surfaces(12), [f"{i}.png" for i in range(12)])
TEST = [*surfaces(8, 100), *(surface(seed, defect=True) for seed in range(200, 208))]
CPU = target_for("openvino")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_detector(tmp_path_factory.mktemp("graphs") / "float.onnx")


@pytest.fixture(scope="module")
def ranges(model: Path) -> Ranges:
    return observe(model, PICTURES, threads=1)


def literal(file: Path) -> Answers:
    engine = OnnxRuntimeEngine(file, threads=1, literal=True)
    answers = ask(engine, TEST)
    engine.close()
    return answers


def deviation(one: Answers, other: Answers) -> float:
    return float(np.sqrt(np.mean((one.maps - other.maps) ** 2)) / one.maps.std())


def int8(model: Path, ranges: Ranges, output: Path, target: Target = CPU, keep: tuple[str, ...] = ()) -> CalibrationReport:
    return calibrate(model, PICTURES, target, keep, output=output, ranges=ranges, threads=1)


def test_large_dense_products_become_int8_and_nothing_else(model: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = int8(model, ranges, tmp_path / "q.onnx")
    assert [row.node for row in report.layers] == ["one", "three", "last", "last"]  # the concatenated one is split
    assert report.kept_float == (("stem", "Conv", "fewer than 8 channels"), ("deep", "Conv", "depthwise or grouped"))
    assert deviation(literal(model), literal(tmp_path / "q.onnx")) < 0.06  # 0.64 with ranges of good pictures only
    written = onnx.load(tmp_path / "q.onnx")
    by_output = {output: node for node in written.graph.node for output in node.output}
    values = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    pairs = [node for node in written.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert all(values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any() for node in pairs)  # symmetric, signed
    touched = {n.op_type for n in written.graph.node if n not in pairs and any(by_output.get(i) in pairs for i in n.input)}
    assert touched == {"Conv"}
    assert not [t.name for t in written.graph.initializer if not any(t.name in n.input for n in written.graph.node)]
    assert lint(tmp_path / "q.onnx", CPU) == []


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_engine_answers_as_the_literal_execution_of_its_graph(
    backend: str, model: Path, ranges: Ranges, tmp_path: Path
) -> None:
    int8(model, ranges, tmp_path / "q.onnx", target_for(backend))
    engine = {"openvino": OpenVinoEngine, "onnxruntime": OnnxRuntimeEngine}[backend](tmp_path / "q.onnx", threads=1)
    assert deviation(literal(tmp_path / "q.onnx"), ask(engine, TEST)) < 0.01  # 0.2 in OpenVINO with pairs behind the Concat
    engine.close()


@pytest.mark.parametrize(("backend", "facts", "bits"), [
    ("openvino", None, 7), ("onnxruntime", {"int8_dot": False}, 7), ("onnxruntime", {"int8_dot": True}, 8), ("tensorrt", None, 8),
    ("tensorrt-rtx", None, 8),
])  # fmt: skip
def test_weights_have_the_bits_that_the_target_takes(
    backend: str, facts: dict[str, bool] | None, bits: int, model: Path, ranges: Ranges, tmp_path: Path
) -> None:
    target = target_for(backend, facts=facts)
    report = int8(model, ranges, tmp_path / "q.onnx", target)
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    weights = [t for name, t in tensors.items() if t.dtype == np.int8 and t.ndim == 4]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == {7: 63, 8: 127}[bits]
    assert min(row.weight_sqnr_db for row in report.layers) > {7: 33, 8: 39}[bits]
    assert target_for("openvino", "gpu").options.weight_bits == 8 == target_for("openvino", weight_bits=8).options.weight_bits


def test_the_report_tells_all_about_every_layer(model: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = int8(model, ranges, tmp_path / "q.onnx", target_for("openvino", method="percentile", percentile=90))
    one = report.layers[0]
    assert (one.op, one.activation, one.method) == ("Conv", "x0", "percentile")
    assert one.clipped_share == pytest.approx(0.1, abs=0.02) and one.bias_shift > 0
    assert one.multiplications == CHANNELS * CHANNELS * 32 * 32
    assert all(0 < row.activation_sqnr_db < 60 for row in report.layers)
    assert (report.products, report.pictures, report.digest) == (4, 12, PICTURES.digest)
    assert [finding.code for finding in report.findings] == ["few-pictures"]
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["target"]["options"]["method"] == "percentile"


def test_named_nodes_stay_float_and_cost_no_second_look_at_the_pictures(model: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = int8(model, ranges, tmp_path / "q.onnx", keep=("three", "last"))
    assert [row.node for row in report.layers] == ["one"]
    assert ("three", "Conv", "asked for") in report.kept_float and ("last", "Conv", "asked for") in report.kept_float
    with pytest.raises(BadInput, match="no node 'thre' to keep float"):
        int8(model, ranges, tmp_path / "p.onnx", keep=("thre",))
    with pytest.raises(BadInput, match="nothing that may be quantised"):
        int8(model, ranges, tmp_path / "p.onnx", keep=("one", "three", "last"))
    assert not (tmp_path / "p.onnx").exists()


def test_corrections_of_bias_and_rounding_each_bring_the_answer_closer(tiny: Tiny, tmp_path: Path) -> None:
    source = Bundle.open(tiny.bundle()).path / "model.onnx"
    pictures = CalibrationSet.of([part(seed, 64) for seed in range(16)])
    found = observe(source, pictures, threads=1)
    test = [part(seed, 64, defect=seed % 2 == 0) for seed in range(300, 310)]
    errors = []
    for bias, rounding in ((False, False), (True, False), (True, True)):
        options = QuantizeOptions(7, correct_bias=bias, correct_rounding=rounding)
        calibrate(source, pictures, Target("openvino", options=options), output=tmp_path / "q.onnx", ranges=found)
        answers = []
        for file in (source, tmp_path / "q.onnx"):
            engine = OnnxRuntimeEngine(file, threads=1, literal=True)
            answers.append(ask(engine, test))
            engine.close()
        errors.append(deviation(*answers))
    assert errors[1] < 0.8 * errors[0] and errors[2] < errors[1], errors


@pytest.mark.parametrize("op", ["Conv", "MatMul", "Gemm"])
def test_the_bias_takes_back_what_rounding_the_weights_moved_even_where_there_was_none(op: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (16, 16, 1, 1) if op == "Conv" else (16, 16)
    weights: dict[str, Any] = {"w": rng.normal(0, 1, shape), "to16": np.ones((16, 3, 1, 1)) / 100, "flat": [-1, 16]}
    weights = {name: np.asarray(v, np.int64 if name == "flat" else np.float32) for name, v in weights.items()}
    nodes = [
        make("Cast", ["image"], ["float"], to=1),
        make("Transpose", ["float"], ["pixels"], perm=[0, 3, 1, 2]),
        make("Conv", ["pixels", "to16"], ["stem"], name="stem"),
        make("Transpose", ["stem"], ["last"], perm=[0, 2, 3, 1]),
        make("Reshape", ["last", "flat"], ["rows"]),
        make(op, ["stem" if op == "Conv" else "rows", "w"], ["y"], name="product", **({"transB": 1} if op == "Gemm" else {})),
    ]
    write_graph(tmp_path / "g.onnx", nodes, weights, [1, 8, 8, 3], {"y": None})
    grey = np.full((8, 8, 3), 200, np.uint8)
    pictures = CalibrationSet.of([grey])
    exact = target_for("openvino", method="percentile", percentile=100)
    calibrate(tmp_path / "g.onnx", pictures, exact, output=tmp_path / "q.onnx", allow_unsafe=True)
    outputs = [Tapped((tmp_path / name).read_bytes(), ["y"], 1)(grey)[0] for name in ("g.onnx", "q.onnx")]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-3  # without the correction about 0.1


def test_what_only_depends_on_single_pixels_has_a_range_for_all_pictures(tmp_path: Path) -> None:
    nodes = [
        make("Cast", ["image"], ["float"], to=1),
        make("Sub", ["float", "mean"], ["centred"]),
        make("Div", ["centred", "std"], ["normal"]),
        make("Transpose", ["normal"], ["pixels"], perm=[0, 3, 1, 2]),
        make("Concat", ["pixels", "pixels", "pixels", "pixels"], ["deep"], axis=1),
        make("Reshape", ["deep", "shape"], ["packed"]),
        make("Conv", ["packed", "w"], ["y"], name="first"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.array([100, 120, 140], np.float32), "std": np.array([50, 60, -70], np.float32), "shape": [1, 12, 8, 8],
        "w": rng.normal(0, 1, (16, 12, 1, 1)).astype(np.float32),
    }  # fmt: skip
    source = write_graph(tmp_path / "g.onnx", nodes, weights, [1, 8, 8, 3], {"y": None})
    grey = [np.full((8, 8, 3), value, np.uint8) for value in range(115, 125)]
    report = calibrate(source, CalibrationSet.of(grey), CPU, output=tmp_path / "q.onnx", threads=1)
    assert report.layers[0].method == "analytic"  # though all pictures are grey
    assert report.layers[0].step * 127 == pytest.approx((255 - 100) / 50)


def test_the_pictures_are_screened_with_the_models_own_scores(model: Path, tmp_path: Path) -> None:
    names = [*(f"good{i}.png" for i in range(39)), "slipped_in.png"]
    planted = CalibrationSet.of([*surfaces(39), surface(5, defect=True)], names)
    report = calibrate(model, planted, CPU, output=tmp_path / "q.onnx", threads=1)
    assert ("odd-score", "slipped_in.png") in [(f.code, f.where) for f in report.findings]
    known = Reference([], ask(OnnxRuntimeEngine(model, threads=1), surfaces(10, 300)).scores)
    defects = CalibrationSet.of([surface(seed, defect=True) for seed in range(32)])
    with pytest.raises(BadInput, match="32 of 32 calibration pictures have scores that no good picture of training has"):
        calibrate(model, defects, CPU, output=tmp_path / "p.onnx", reference=known, threads=1)
    with pytest.raises(BadInput, match="3 different calibration pictures are too few"):
        calibrate(model, CalibrationSet.of(surfaces(3)), CPU, output=tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()
    told = calibrate(model, CalibrationSet.of(surfaces(3)), CPU, output=tmp_path / "p.onnx", allow_unsafe=True, threads=1)
    assert [(f.severity, f.code) for f in told.findings] == [("error", "few-pictures")]


@pytest.mark.parametrize(("place", "words"), [("scale", "tensor 'x0' of the model"), ("max", "the model's score")])
def test_a_model_that_gives_nan_is_refused_in_plain_words(place: str, words: str, tmp_path: Path) -> None:
    def spoil(nodes: list[Node], weights: dict[str, Any]) -> None:
        weights |= {"nothing": np.array(0, np.float32)}
        at = next(i for i, node in enumerate(nodes) if node.name == place)
        output = nodes[at].output[0]
        nodes[at].output[0] = "before"
        nodes[at + 1 : at + 1] = [
            make("Mul", ["before", "nothing"], ["zero"], name="zero"),
            make("Div", ["zero", "zero"], [output], name="nan"),
        ]

    source = small_detector(tmp_path / "nan.onnx", spoil)
    with pytest.raises(BadInput, match=rf"{words} is not finite on calibration picture 0\.png"):
        calibrate(source, PICTURES, CPU, output=tmp_path / "q.onnx", threads=1)
    assert not (tmp_path / "q.onnx").exists()


def test_pictures_of_another_size_and_files_that_are_no_models_are_refused(model: Path, tmp_path: Path) -> None:
    small = CalibrationSet.of([image[:16, :16] for image in surfaces(10)])
    with pytest.raises(BadInput, match="the calibration pictures are 16 x 16 px, the model takes 32 x 32 px"):
        calibrate(model, small, CPU, output=tmp_path / "q.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match=r"broken\.onnx is not a readable ONNX file"):
        calibrate(tmp_path / "broken.onnx", PICTURES, CPU, output=tmp_path / "q.onnx")
    nothing = write_graph(tmp_path / "n.onnx", [make("Cast", ["image"], ["y"], to=1)], {}, [1, 32, 32, 3], {"y": None})
    with pytest.raises(BadInput, match="holds nothing that may be quantised"):
        calibrate(nothing, PICTURES, CPU, output=tmp_path / "q.onnx")


def test_constants_in_nodes_and_nodes_without_names_are_understood(tmp_path: Path) -> None:
    def foreign(nodes: list[Node], weights: dict[str, Any]) -> None:
        value = numpy_helper.from_array(weights.pop("w.one"))
        nodes.insert(0, make("Constant", [], ["w.one"], value=value))
        for node in nodes:
            node.name = ""

    report = calibrate(small_detector(tmp_path / "f.onnx", foreign), PICTURES, CPU, output=tmp_path / "q.onnx", threads=1)
    assert report.products == 4 and len({row.node for row in report.layers}) == 3


@pytest.mark.parametrize("values", [
    {"weight_bits": 4}, {"method": "entropy"}, {"percentile": 50}, {"percentile": 101}, {"tool": "other"},
])  # fmt: skip
def test_settings_that_do_not_exist_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        target_for("openvino", **values)


@pytest.mark.parametrize(("backend", "device"), [("coreml", None), ("onnxruntime", "gpu"), ("tensorrt", "cpu")])
def test_targets_that_do_not_exist_are_refused(backend: str, device: str | None) -> None:
    with pytest.raises(BadInput, match=r"unknown target|does not run on"):
        target_for(backend, device)
