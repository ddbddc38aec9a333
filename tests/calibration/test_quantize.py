"""The INT8 writer: what it may touch, how well it rounds, and that its files mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from edgead.bundle import Bundle
from edgead.calibration.observers import LEVELS, MagnitudeHistogram
from edgead.calibration.quantize import QuantizeOptions, find_products, quantize, quantize_weight
from edgead.calibration.sets import CalibrationSet
from edgead.engines.onnxruntime import Tapped
from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe
from tests.bundles import Tiny, part

Array = np.ndarray[Any, Any]
WEIGHTS = arrays(np.float32, (3, 4, 2, 2), elements=st.floats(-50, 50, width=32))


@settings(deadline=None)
@given(WEIGHTS, st.sampled_from([63, 127]), st.sampled_from([0, None]))
def test_weights_are_rounded_to_the_nearest_step_and_stay_in_range(values: Array, levels: int, axis: int | None) -> None:
    integers, step = quantize_weight(values, axis, levels)
    wide = step if axis is None else step[:, None, None, None]
    assert np.abs(integers.astype(int)).max() <= levels
    assert step.shape == (() if axis is None else (3,))
    assert (np.abs(integers * wide - values) <= 0.5 * wide + 1e-5 * np.abs(values)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=5))
def test_a_histogram_knows_the_largest_magnitude_and_forgets_nothing(tensors: list[Array]) -> None:
    histogram = MagnitudeHistogram()
    for values in tensors:
        histogram.add(values)
    largest = max(float(np.abs(values).max()) for values in tensors)
    assert histogram.largest == pytest.approx(largest)
    assert histogram.scale("minmax") == pytest.approx(largest / LEVELS if largest else 1.0)
    assert 0 < histogram.scale("mse") <= histogram.scale("minmax") * (1 + 1e-9)


def test_mse_clips_a_lonely_outlier_and_minmax_does_not() -> None:
    values = np.random.default_rng(0).normal(0, 1, 190_000).astype(np.float32)
    values[0] = 20.0
    histogram = MagnitudeHistogram()
    histogram.add(values)

    def error(scale: float) -> float:
        return float(np.mean((np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale - values) ** 2))

    assert error(histogram.scale("mse")) < error(histogram.scale("minmax")) * 0.7


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        MagnitudeHistogram().add(np.array([1.0, np.inf], np.float32))


def tensor(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def test_only_large_dense_products_before_the_score_tail_are_chosen() -> None:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem"], ["a"], name="stem"),
        node("Conv", ["a", "dense"], ["b"], name="dense"),
        node("Conv", ["b", "depthwise"], ["c"], name="depthwise", group=16),
        node("MatMul", ["c", "bank"], ["d"], name="distance"),
        node("MatMul", ["d", "d"], ["e"], name="two variables"),
        node("Gemm", ["c", "gemm"], ["f"], name="gemm", transB=1),
        node("Conv", ["b", "last"], ["g"], name="last"),
        node("ReduceMin", ["d"], ["h"]),
        node("MatMul", ["h", "bank"], ["i"], name="after the minimum"),
    ]
    shapes = {"stem": (16, 3, 3, 3), "dense": (16, 16, 1, 1), "depthwise": (16, 1, 3, 3), "bank": (16, 32), "gemm": (32, 16)}
    weights = [tensor(name, *shape) for name, shape in shapes.items()] + [tensor("last", 1, 16, 1, 1)]
    end = helper.make_tensor_value_info("i", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", [], [end], weights))
    chosen = {product.node.name: product.axis for product in find_products(model)}
    assert chosen == {"dense": 0, "distance": None, "gemm": 0}


@pytest.mark.parametrize("bits", [7, 8])
def test_the_file_holds_what_every_backend_accepts(bits: int, tiny: Tiny, tmp_path: Path) -> None:
    source, target = Bundle.open(tiny.bundle()).path / "model.onnx", tmp_path / "int8.onnx"
    done: list[float] = []
    pictures = CalibrationSet.of([part(i, 64) for i in range(3)])
    count = quantize(source, target, pictures, QuantizeOptions(bits), done.append, 1)
    model = onnx.load(target)
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert (count, done[-1]) == (22, 1.0)
    assert all(values[n.input[2]].dtype == np.int8 and not values[n.input[2]].any() for n in pairs)  # symmetric, signed
    weights = [values[n.input[0]] for n in pairs if n.input[0] in values]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == (63 if bits == 7 else 127)
    by_output = {output: n for n in model.graph.node for output in n.output}
    touched = [n for n in model.graph.node if any(by_output.get(i) in pairs for i in n.input) and n not in pairs]
    assert {n.op_type for n in touched} == {"Conv", "Gemm"}  # Gemm: PatchCore's distances
    assert all(values[n.input[2]].dtype == np.float32 for n in touched)  # bias
    assert all(n.input[2].endswith(".corrected") for n in touched)
    assert not [t.name for t in model.graph.initializer if not any(t.name in n.input for n in model.graph.node)]


def test_the_bias_takes_back_what_rounding_the_weights_moved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [("w", rng.normal(0, 1, (16, 16, 1, 1))), ("b", rng.normal(0, 1, 16)), ("to16", np.ones((16, 3, 1, 1)) / 100)]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "to16"], ["x"], name="stem"),
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv"),
    ]
    ends = [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])]
    ends.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 8, 8]))
    tensors = [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in weights]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    picture = np.full((8, 8, 3), 200, np.uint8)
    quantize(tmp_path / "g.onnx", tmp_path / "q.onnx", CalibrationSet.of([picture]))
    outputs = [Tapped((tmp_path / name).read_bytes(), ["y"], 1)(picture)[0] for name in ("g.onnx", "q.onnx")]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-3  # without the correction about 0.1


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8, 3]) for name in ("image", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    with pytest.raises(BadInput, match="holds nothing that may be quantised"):
        quantize(tmp_path / "g.onnx", tmp_path / "q.onnx", CalibrationSet.of([part(0, 8)]))


def test_the_same_pictures_give_the_same_digest(tmp_path: Path) -> None:
    first = CalibrationSet.of([part(0, 32), part(1, 32)])
    assert first.digest == CalibrationSet.of([part(0, 32), part(1, 32)]).digest
    assert first.digest != CalibrationSet.of([part(1, 32), part(0, 32)]).digest
    with pytest.raises(BadInput, match="there are none"):
        CalibrationSet.of([])


def test_a_large_folder_is_used_evenly(tiny: Tiny) -> None:
    chosen = CalibrationSet.from_folder(tiny.model() / "calibration", PreprocessRecipe(32, 32), 4)
    assert [image.shape for image in chosen.images] == [(32, 32, 3)] * 4


@pytest.mark.parametrize("values", [{"weight_bits": 4}, {"method": "entropy"}])
def test_settings_that_do_not_exist_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        QuantizeOptions(**values)  # type: ignore[arg-type]
