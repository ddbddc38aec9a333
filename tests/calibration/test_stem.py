"""The convolution that reads the picture, and the pools behind: INT8 where it costs nothing, float where it would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgead.calibration.int8.calibrate import CalibrationReport, calibrate
from edgead.calibration.int8.lint import lint
from edgead.calibration.int8.targets import BACKENDS, QuantizeOptions, Target, target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.parity import Answers, ask
from edgead.types import Image
from tests.calibration.graphs import Node, make, small_detector, surface, surfaces

PICTURES = CalibrationSet.of(surfaces(12), [f"{i}.png" for i in range(12)])
TEST = [*surfaces(6, 100), *(surface(seed, defect=True) for seed in range(200, 206))]
EARLY = ("one", "three", "last")
Change = Callable[[list[Node], dict[str, Any]], None]


def attribute(nodes: list[Node], name: str, **values: Any) -> None:
    (node,) = (n for n in nodes if n.name == name)
    kept = [a for a in node.attribute if a.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(key, value) for key, value in values.items())])


def unpadded(nodes: list[Node], weights: dict[str, Any]) -> None:
    """The stem does not pad; colours are turned round and each is normalised by its own mean and deviation."""
    attribute(nodes, "stem", pads=[0, 0, 0, 0])
    attribute(nodes, "three", pads=[2, 2, 2, 2])
    attribute(nodes, "pool", pads=[2, 2, 2, 2], count_include_pad=1)
    weights["shift"] = np.array([104, 116, 124], np.float32).reshape(1, 3, 1, 1)
    weights["spread"] = np.array([57, 58, 61], np.float32).reshape(3, 1, 1)
    weights["turned"] = np.array([2, 1, 0])
    nodes.insert(2, make("Gather", ["bgr", "turned"], ["rgb"], name="turn", axis=1))
    nodes[3].input[0] = "rgb"


def on_the_grid(nodes: list[Node], weights: dict[str, Any]) -> None:
    """The same, with weights whose products with the normalisation are whole numbers of an 8-bit step."""
    unpadded(nodes, weights)
    weights["spread"] = np.array(64, np.float32)
    weights["w.stem"] = (np.rint(weights["w.stem"] / np.abs(weights["w.stem"]).max((1, 2, 3), keepdims=True) * 127) / 256).astype(
        np.float32
    )


def shrinking(nodes: list[Node], weights: dict[str, Any]) -> None:
    """Stem, pool with a stride, then the rest; the map has 17 x 17 px."""
    unpadded(nodes, weights)
    nodes.insert(7, make("AveragePool", ["x0"], ["small"], name="shrink", kernel_shape=[2, 2], strides=[2, 2]))
    nodes[8].input[0] = "small"


def int8(model: Path, target: Path, keep: tuple[str, ...] = (), bits: int = 7) -> CalibrationReport:
    return calibrate(model, PICTURES, target_for("openvino", weight_bits=bits), keep, output=target, threads=1)


def answers(file: Path, images: list[Image] = TEST) -> Answers:
    engine = OnnxRuntimeEngine(file, threads=1, literal=True)
    told = ask(engine, images)
    engine.close()
    return told


def test_nothing_is_lost_at_the_picture(tmp_path: Path) -> None:
    model = small_detector(tmp_path / "float.onnx", on_the_grid)
    report = int8(model, tmp_path / "q.onnx", EARLY, bits=8)
    (row,) = report.layers
    assert (row.node, row.step, row.method, row.clipped_share, row.activation_sqnr_db) == ("stem", 1.0, "exact", 0.0, np.inf)
    assert row.weight_sqnr_db > 100
    pictures = [*TEST, *(np.full((32, 32, 3), grey, np.uint8) for grey in (0, 255))]
    reference = answers(model, pictures)
    assert np.abs(answers(tmp_path / "q.onnx", pictures).maps - reference.maps).max() < 1e-5 * np.ptp(reference.maps)


@pytest.mark.parametrize(("change", "map_size"), [(unpadded, 32), (shrinking, 17)])
def test_the_stem_and_its_pool_become_int8_and_the_engines_answer_as_the_graph_says(
    change: Change, map_size: int, tmp_path: Path
) -> None:
    model = small_detector(tmp_path / "float.onnx", change, map_size)
    assert [row.node for row in int8(model, tmp_path / "q.onnx").layers] == ["stem", "one", "three", "last", "last"]
    written = onnx.load(tmp_path / "q.onnx")
    by_output = {output: node for node in written.graph.node for output in node.output}
    pools = {n.name: by_output[n.input[0]].op_type for n in written.graph.node if n.op_type == "AveragePool"}
    assert pools == ({"pool": "Relu"} if change is unpadded else {"pool": "Relu", "shrink": "DequantizeLinear"})
    assert {backend: lint(tmp_path / "q.onnx", target_for(backend)) for backend in BACKENDS} == {b: [] for b in BACKENDS}
    reference, literal = answers(model), answers(tmp_path / "q.onnx")
    assert np.sqrt(np.mean((literal.maps - reference.maps) ** 2)) < 0.06 * reference.maps.std()
    for engine in (OnnxRuntimeEngine(tmp_path / "q.onnx", threads=1), OpenVinoEngine(tmp_path / "q.onnx", threads=1)):
        told = ask(engine, TEST)
        engine.close()
        assert np.sqrt(np.mean((told.maps - literal.maps) ** 2)) < 0.01 * literal.maps.std()


def test_named_the_stem_or_the_pool_stays_float(tmp_path: Path) -> None:
    model = small_detector(tmp_path / "float.onnx", shrinking, 17)
    for keep, left in (("stem", ["one", "three", "last", "last"]), ("shrink", ["stem", "one", "three", "last", "last"])):
        report = int8(model, tmp_path / "q.onnx", (keep,))
        assert [row.node for row in report.layers] == left
        (pool,) = (n for n in onnx.load(tmp_path / "q.onnx").graph.node if n.name == "shrink")
        assert pool.input[0] == "x0"


def grouped(nodes: list[Node], weights: dict[str, Any]) -> None:
    unpadded(nodes, weights)
    weights["w.stem"], weights["b.stem"] = np.tile(weights["w.stem"], (2, 1, 1, 1))[:18, :1], np.zeros(18, np.float32)
    weights["w.one"] = np.tile(weights["w.one"], (1, 2, 1, 1))[:, :18]
    attribute(nodes, "stem", group=3)


def padded_by_rule(nodes: list[Node], weights: dict[str, Any]) -> None:
    (stem,) = (n for n in nodes if n.name == "stem")
    del stem.attribute[:]
    attribute(nodes, "stem", auto_pad="SAME_UPPER")


def by_pixel(nodes: list[Node], weights: dict[str, Any]) -> None:
    """Each pixel has a normalisation of its own: no weight can take it."""
    unpadded(nodes, weights)
    weights["shift"] = np.random.default_rng(0).uniform(90, 130, (1, 3, 32, 32)).astype(np.float32)


def turned_over(nodes: list[Node], weights: dict[str, Any]) -> None:
    """A constant minus the picture."""
    unpadded(nodes, weights)
    (centre,) = (n for n in nodes if n.name == "centre")
    centre.input[0], centre.input[1] = centre.input[1], centre.input[0]


@pytest.mark.parametrize("change", [grouped, padded_by_rule, by_pixel, turned_over])
def test_a_stem_that_reads_something_else_stays_as_it_is(change: Change, tmp_path: Path) -> None:
    model = small_detector(tmp_path / "float.onnx", change)
    report = int8(model, tmp_path / "q.onnx")
    assert [row.node for row in report.layers] == ["one", "three", "last", "last"]
    before, after = onnx.load(model), onnx.load(tmp_path / "q.onnx")
    (old,), (new,) = ([n for n in m.graph.node if n.name == "stem"] for m in (before, after))
    assert list(old.input) == list(new.input)
    stems = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer}["w.stem"] for m in (before, after)]
    assert np.array_equal(*stems)


def test_its_weights_are_rounded_together_since_neighbouring_pixels_are_alike(tmp_path: Path) -> None:
    model = small_detector(tmp_path / "float.onnx", unpadded)
    reference = answers(model)
    errors = []
    for together in (False, True):
        target = Target("openvino", options=QuantizeOptions(correct_rounding=together))
        calibrate(model, PICTURES, target, EARLY, output=tmp_path / "q.onnx", threads=1)
        errors.append(float(np.sqrt(np.mean((answers(tmp_path / "q.onnx").maps - reference.maps) ** 2))))
    assert errors[1] < 0.7 * errors[0]
