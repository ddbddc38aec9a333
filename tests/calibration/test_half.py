"""Half precision by graph conversion: close to float, nothing overflows, the contract at the ends stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgead.calibration.int8.calibrate import calibrate
from edgead.calibration.int8.half import to_half
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput
from edgead.parity import Answers, ask
from tests.calibration.graphs import SIZE, Node, make, small_detector, surface, surfaces, write_graph

PICTURES = CalibrationSet.of(surfaces(8))
TEST = [*surfaces(4, 100), *(surface(seed, defect=True) for seed in range(200, 204))]


def answers(file: Path) -> Answers:
    engine = OnnxRuntimeEngine(file, threads=1)  # checks types and names of inputs and outputs
    told = ask(engine, TEST)
    engine.close()
    return told


def map_error(one: Answers, other: Answers) -> float:
    return float(np.abs(one.maps - other.maps).max() / np.ptp(one.maps))


def kinds(file: Path) -> dict[str, int]:
    """Element type of each node's first output, by node name."""
    model = onnx.shape_inference.infer_shapes(onnx.load(file), strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    return {node.name: types[node.output[0]] for node in model.graph.node}


def test_the_network_becomes_half_and_its_ends_stay(tmp_path: Path) -> None:
    source = small_detector(tmp_path / "f.onnx")
    assert to_half(source, tmp_path / "h.onnx", PICTURES) == []
    found = kinds(tmp_path / "h.onnx")
    assert all(found[name] == TensorProto.FLOAT16 for name in ("cast", "stem", "one", "deep", "three", "pool", "concat", "last"))
    assert all(found[name] == TensorProto.FLOAT for name in ("square", "mean", "max"))  # the way to the score
    assert 0 < map_error(answers(source), answers(tmp_path / "h.onnx")) < 0.01
    assert (tmp_path / "h.onnx").stat().st_size < 0.7 * source.stat().st_size


def test_an_int8_graph_becomes_half_around_its_integers(tmp_path: Path) -> None:
    source = small_detector(tmp_path / "f.onnx")
    calibrate(source, PICTURES, target_for("tensorrt"), output=tmp_path / "q.onnx", allow_unsafe=True, threads=1)
    assert to_half(tmp_path / "q.onnx", tmp_path / "h.onnx") == []
    model = onnx.load(tmp_path / "h.onnx")
    scales = [n.input[1] for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert {types[name] for name in scales} == {TensorProto.FLOAT16}
    assert map_error(answers(tmp_path / "q.onnx"), answers(tmp_path / "h.onnx")) < 0.03


def test_weight_channels_of_next_to_nothing_do_not_get_a_step_of_zero(tmp_path: Path) -> None:
    def fade(nodes: list[Node], weights: dict[str, Any]) -> None:
        weights["w.one"][3] *= 1e-7

    source = small_detector(tmp_path / "f.onnx", fade)
    calibrate(source, PICTURES, target_for("tensorrt"), output=tmp_path / "q.onnx", allow_unsafe=True, threads=1)
    assert to_half(tmp_path / "q.onnx", tmp_path / "h.onnx") == []
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "h.onnx").graph.initializer}
    assert tensors["w.one.scale.half"].min() == np.float16(2.0**-14) and not tensors["w.one.s8"][3].any()
    assert map_error(answers(tmp_path / "q.onnx"), answers(tmp_path / "h.onnx")) < 0.03


def test_what_grows_too_large_on_pictures_stays_float_and_is_named(tmp_path: Path) -> None:
    def grow(nodes: list[Node], weights: dict[str, Any]) -> None:
        weights["w.one"] *= 100_000
        weights["w.deep"] /= 100_000
        nodes[next(i for i, n in enumerate(nodes) if n.name == "pool")].input[0] = "x2"

    source = small_detector(tmp_path / "f.onnx", grow)
    named = {finding.where for finding in to_half(source, tmp_path / "h.onnx", PICTURES)}
    assert {"one", "relu1", "deep"} <= named and not {"stem", "three", "last"} & named
    assert map_error(answers(source), answers(tmp_path / "h.onnx")) < 0.02
    to_half(source, tmp_path / "blind.onnx")  # without pictures nobody can know
    with np.errstate(all="ignore"):
        assert not map_error(answers(source), answers(tmp_path / "blind.onnx")) < 0.02


def test_constants_that_half_precision_cannot_hold_stay_float(tmp_path: Path) -> None:
    def extremes(nodes: list[Node], weights: dict[str, Any]) -> None:
        weights |= {"huge": np.array(1e6, np.float32), "epsilon": np.array(1e-12, np.float32)}
        at = next(i for i, n in enumerate(nodes) if n.name == "stem")
        nodes[at : at + 1] = [
            make("Mul", ["pixels", "huge"], ["large"], name="grow"),
            make("Div", ["large", "huge"], ["again"], name="shrink"),
            make("Add", ["again", "epsilon"], ["safe"], name="guard"),
            make("Conv", ["safe", "w.stem", "b.stem"], ["stem.out"], name="stem", pads=[1, 1, 1, 1]),
        ]

    source = small_detector(tmp_path / "f.onnx", extremes)
    findings = to_half(source, tmp_path / "h.onnx")
    assert [(f.where, f.code) for f in findings] == [(n, "unfit-constant") for n in ("grow", "shrink", "guard")]
    assert map_error(answers(source), answers(tmp_path / "h.onnx")) < 0.01


def test_nearest_neighbour_distances_stay_float(tmp_path: Path) -> None:
    """|a|^2 + |b|^2 - 2ab of rows that are far from the origin and near to each other."""
    rng = np.random.default_rng(0)
    bank = (rng.normal(0, 0.3, (64, 3)) + 30).astype(np.float32)
    nodes = [
        make("Cast", ["image"], ["float"], name="cast", to=1),
        make("Div", ["float", "four"], ["rows4"], name="scale"),
        make("Reshape", ["rows4", "flat"], ["rows"], name="rows"),
        make("Mul", ["rows", "rows"], ["squares"], name="squares"),
        make("ReduceSum", ["squares", "last"], ["norms"], name="norms"),
        make("MatMul", ["rows", "minus2bank"], ["products"], name="distance"),
        make("Add", ["products", "bank.norms"], ["partly"], name="partly"),
        make("ReduceMin", ["partly", "last"], ["nearest"], name="nearest"),
        make("Add", ["norms", "nearest"], ["squared"], name="squared"),
        make("Reshape", ["squared", "map"], ["anomaly_map"], name="map"),
        make("ReduceMax", ["anomaly_map", "both"], ["score"], name="score", keepdims=0),
    ]
    weights = {
        "four": np.float32(4), "flat": np.array([-1, 3]), "last": np.array([1]), "minus2bank": -2 * bank.T,
        "bank.norms": (bank**2).sum(1), "map": np.array([1, SIZE, SIZE]), "both": np.array([1, 2]),
    }  # fmt: skip
    outputs: dict[str, list[int] | None] = {"anomaly_map": [1, SIZE, SIZE], "score": [1]}
    source = write_graph(tmp_path / "f.onnx", nodes, weights, [1, SIZE, SIZE, 3], outputs)
    to_half(source, tmp_path / "h.onnx")
    found = kinds(tmp_path / "h.onnx")
    assert all(found[name] == TensorProto.FLOAT for name in ("squares", "norms", "distance", "partly", "nearest", "squared"))
    assert map_error(answers(source), answers(tmp_path / "h.onnx")) < 0.01


def test_nodes_may_be_kept_float_by_name(tmp_path: Path) -> None:
    source = small_detector(tmp_path / "f.onnx")
    to_half(source, tmp_path / "h.onnx", keep_float=["three"])
    assert kinds(tmp_path / "h.onnx")["three"] == TensorProto.FLOAT
    with pytest.raises(BadInput, match="no node 'nine' to keep float"):
        to_half(source, tmp_path / "n.onnx", keep_float=["nine"])
    assert not (tmp_path / "n.onnx").exists()


def test_operators_nobody_knows_are_refused(tmp_path: Path) -> None:
    model = onnx.load(small_detector(tmp_path / "f.onnx"))
    model.graph.node.append(make("Mystery", ["x0"], ["secret"], name="mystery", domain="com.example"))
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(BadInput, match="the type of 'secret' is not known"):
        to_half(tmp_path / "f.onnx", tmp_path / "h.onnx")
