"""Every product of a float graph becomes INT8, or is listed as float with the reason; and what becomes INT8 answers as it did."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgead.calibration.int8.calibrate import calibrate, in_words
from edgead.calibration.int8.targets import target_for
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.engines.openvino import OpenVinoEngine
from edgead.parity import Answers, ask
from edgead.types import Engine
from tests.calibration.graphs import CHANNELS, Node, make, small_detector, surface, surfaces

PICTURES = CalibrationSet.of(surfaces(8), [f"{i}.png" for i in range(8)])
TEST = [*surfaces(4, 100), *(surface(seed, defect=True) for seed in range(200, 204))]
PRODUCTS = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}
Change = Callable[[list[Node], dict[str, Any]], None]


def weight(*shape: int) -> Any:
    return np.random.default_rng(5).normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


def instead(nodes: list[Node], name: str, *new: Node) -> None:
    """Other nodes in the place of one."""
    place = next(i for i, node in enumerate(nodes) if node.name == name)
    nodes[place : place + 1] = list(new)


def transposed(nodes: list[Node], weights: dict[str, Any]) -> None:
    """A stride of 2 back and forth."""
    weights |= {"w.down": weight(CHANNELS, CHANNELS, 4, 4), "w.up": weight(CHANNELS, CHANNELS, 4, 4) * 0.5}
    down = make("Conv", ["x2", "w.down"], ["down.out"], name="down", strides=[2, 2], pads=[1, 1, 1, 1])
    up = make("ConvTranspose", ["down.out", "w.up"], ["three.out"], name="up", strides=[2, 2], pads=[1, 1, 1, 1])
    instead(nodes, "three", down, up)


def grouped(nodes: list[Node], weights: dict[str, Any]) -> None:
    weights["w.three"] = weight(CHANNELS, CHANNELS // 2, 3, 3)
    instead(
        nodes, "three", make("Conv", ["x2", "w.three", "b.three"], ["three.out"], name="three", pads=[1, 1, 1, 1], group=2)
    )  # fmt: skip


def dilated(nodes: list[Node], weights: dict[str, Any]) -> None:
    conv = make("Conv", ["x2", "w.three", "b.three"], ["three.out"], name="three", pads=[4, 4, 4, 4], dilations=[4, 4])
    instead(nodes, "three", conv)


def dilated_on_the_picture(nodes: list[Node], weights: dict[str, Any]) -> None:
    """Without padding, so that the picture itself is its input; the border comes back behind it."""
    stem = make("Conv", ["pixels", "w.stem", "b.stem"], ["stem.small"], name="stem", dilations=[2, 2])
    weights["border"] = np.array([0, 0, 2, 2, 0, 0, 2, 2])
    instead(nodes, "stem", stem, make("Pad", ["stem.small", "border"], ["stem.out"], name="border"))


def split(nodes: list[Node], weights: dict[str, Any]) -> None:
    """As it is: the last convolution reads a concatenation of two large parts."""


def narrow(nodes: list[Node], weights: dict[str, Any]) -> None:
    """A part of the concatenation is too narrow to stand alone."""
    weights["w.few"], weights["w.last"] = weight(3, CHANNELS, 1, 1), weight(CHANNELS, CHANNELS + 3, 1, 1)
    instead(nodes, "pool", make("Conv", ["x1", "w.few"], ["pooled"], name="few"))


def einsum(nodes: list[Node], weights: dict[str, Any]) -> None:
    weights["w.einsum"] = weight(CHANNELS, CHANNELS)
    instead(nodes, "three", make("Einsum", ["x2", "w.einsum"], ["three.out"], name="sum", equation="bchw,dc->bdhw"))


CHANGES: Mapping[str, tuple[Change, dict[str, str], set[str]]] = {
    "transposed": (transposed, {"up": "transposed convolution"}, {"down"}),
    "grouped": (grouped, {"three": "depthwise or grouped"}, set()),
    "dilated": (dilated, {}, {"three"}),
    "dilated on the picture": (dilated_on_the_picture, {}, {"stem"}),
    "split": (split, {}, {"last"}),
    "narrow": (narrow, {"few": "fewer than 8 channels", "last": "behind a concatenation"}, set()),
    "einsum": (einsum, {"sum": "not a plain matrix product"}, set()),
}  # fmt: skip
"""A change of the small detector; what stays float with why, and what becomes INT8, by it."""

PAIRS = [
    (one, other) for one, other in itertools.product(("transposed", "grouped", "dilated"), ("narrow", "dilated on the picture"))
]


def made(names: tuple[str, ...], target: Path) -> Path:
    def change(nodes: list[Node], weights: dict[str, Any]) -> None:
        for name in names:
            CHANGES[name][0](nodes, weights)

    return small_detector(target, change)


def answers(engine: Engine) -> Answers:
    found = ask(engine, TEST)
    engine.close()
    return found


def deviation(one: Answers, other: Answers) -> float:
    return float(np.sqrt(np.mean((one.maps - other.maps) ** 2)) / one.maps.std())


@pytest.mark.parametrize("names", [*((name,) for name in CHANGES), *PAIRS], ids=" and ".join)
def test_each_product_is_int8_or_listed_and_both_engines_answer_as_the_graph(names: tuple[str, ...], tmp_path: Path) -> None:
    model, output = made(names, tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    report = calibrate(model, PICTURES, target_for("openvino"), output=output, allow_unsafe=True, threads=1)
    int8, listed = {row.node for row in report.layers}, {node: why for node, _, why in report.kept_float}
    products = {node.name for node in onnx.load(model).graph.node if node.op_type in PRODUCTS}
    assert int8 | set(listed) == products
    assert not int8 & set(listed)
    for name in names:
        _, stays, becomes = CHANGES[name]
        assert stays.items() <= listed.items()
        assert becomes <= int8
    told = " ".join(in_words(report.kept_float))
    assert all(why in told for why in listed.values())
    exact = answers(OnnxRuntimeEngine(model, threads=1, literal=True))
    graph = answers(OnnxRuntimeEngine(output, threads=1, literal=True))
    assert deviation(exact, graph) < 0.1
    for engine in (OpenVinoEngine(output, threads=1), OnnxRuntimeEngine(output, threads=1)):
        assert deviation(graph, answers(engine)) < 0.02
