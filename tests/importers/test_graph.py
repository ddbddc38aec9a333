"""Foreign ONNX graphs: wrapped to the contract, the same numbers come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgead.errors import BadInput
from edgead.export.graph import write_onnx
from edgead.importers import ImportOptions, import_model
from edgead.importers.graph import GraphOptions
from edgead.trained import load_model
from tests.bundles import saved
from tests.importers import _reference as reference

WEIGHT = np.random.default_rng(0).normal(size=(1, 3, 5, 5)).astype(np.float32)


def write_graph(
    path: Path, outputs: tuple[str, ...] = ("heat", "worst"), shape: tuple[Any, ...] = (1, 3, 48, 64), opset: int = 17
) -> Path:
    """heat = a 5 x 5 convolution of the picture, worst = its largest value, N x 1."""
    heat, worst = (*outputs, "unused")[:2] if outputs[0] != "worst" else ("inner", "worst")
    nodes = [
        helper.make_node("Conv", ["picture", "w"], [heat], pads=[2, 2, 2, 2]),
        helper.make_node("GlobalMaxPool", [heat], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "column"], [worst]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.array([-1, 1], np.int64), "column")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def expected(image: Any, mean: float = 0.0, std: float = 255.0, rgb: bool = True) -> Any:
    x = torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1] if rgb else image)).permute(2, 0, 1)[None].float()
    return torch.nn.functional.conv2d((x - mean) / std, torch.from_numpy(WEIGHT), padding=2)[0, 0].numpy()


IMAGE = reference.pictures(1, 64)[0][:48]


def answer(imported: Any) -> tuple[float, Any]:
    anomaly_map, score = imported.detector(torch.from_numpy(np.ascontiguousarray(IMAGE))[None])
    return float(score[0]), anomaly_map[0].numpy()


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_scores_and_maps_go_through(tmp_path: Path, opset: int) -> None:
    path = write_graph(tmp_path / "m.onnx", opset=opset)
    imported = import_model(path, inputs=GraphOptions(score="worst", map="heat"))
    score, anomaly_map = answer(imported)
    assert np.abs(anomaly_map - expected(IMAGE)).max() < 1e-4
    assert score == pytest.approx(expected(IMAGE).max(), abs=1e-4)
    assert (imported.recipe.width, imported.recipe.height) == (64, 48)


def test_colour_order_and_normalisation_are_the_users(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx")
    options = GraphOptions(map="heat", mean=(127.5,), std=(50.0, 50.0, 50.0), colour="bgr")
    score, anomaly_map = answer(import_model(path, inputs=options))
    wanted = expected(IMAGE, 127.5, 50.0, rgb=False)
    assert np.abs(anomaly_map - wanted).max() < 1e-4
    assert score == pytest.approx(wanted.max(), abs=1e-4)  # no score named: the map's maximum


def test_a_graph_with_a_score_only_and_any_batch_and_size(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", outputs=("worst",), shape=("n", 3, "h", "w"))
    with pytest.raises(BadInput, match="any size"):
        import_model(path, inputs=GraphOptions(score="worst"))
    imported = import_model(path, ImportOptions(size=(64, 48)), GraphOptions(score="worst"))
    score, anomaly_map = answer(imported)
    assert anomaly_map.shape == (1, 1)
    assert anomaly_map[0, 0] == score == pytest.approx(expected(IMAGE).max(), abs=1e-4)


def test_anomalibs_export_is_recognised_and_called_normalised(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", outputs=("anomaly_map", "pred_score"))
    imported = import_model(path)
    assert "anomalib" in imported.source
    assert any("normalised" in line for line in imported.assumptions)
    assert imported.threshold is not None
    assert imported.threshold.value > 0.5 > imported.threshold.value - 1e-6  # anomalib: anomalous above 0.5
    assert imported.recipe.resize == "linear"  # its export shrinks without antialias
    assert answer(imported)[0] == pytest.approx(expected(IMAGE).max(), abs=1e-4)


def test_the_model_is_saved_loaded_and_exported_as_the_same_graph(tmp_path: Path) -> None:
    imported = import_model(write_graph(tmp_path / "m.onnx"), inputs=GraphOptions(score="worst", map="heat"))
    saved(tmp_path / "model", imported.detector)
    detector, _ = load_model(tmp_path / "model")
    write_onnx(detector, tmp_path / "out.onnx")
    assert [value.name for value in onnx.load(tmp_path / "out.onnx").graph.output] == ["anomaly_map", "score"]
    assert np.array_equal(answer(imported)[1], detector(torch.from_numpy(np.ascontiguousarray(IMAGE))[None])[0][0].numpy())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (GraphOptions(), "outputs: heat, worst"),
        (GraphOptions(score="nope"), "nope"),
        (GraphOptions(input="nope", score="worst"), "inputs: picture"),
        (GraphOptions(map="worst"), "no map"),
    ],
)
def test_what_is_missing_is_told_with_what_there_is(tmp_path: Path, options: GraphOptions, says: str) -> None:
    path = write_graph(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=says) as caught:
        import_model(path, inputs=options)
    assert caught.value.hint


def test_a_broken_file_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"junk")
    with pytest.raises(BadInput, match="not a valid ONNX"):
        import_model(tmp_path / "m.onnx")


def write_ir(onnx_file: Path) -> Path:
    """The same graph as OpenVINO IR beside it."""
    target = onnx_file.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(str(onnx_file)), str(target), compress_to_fp16=False)
    return target


@pytest.mark.parametrize(
    "options", [GraphOptions(score="worst", map="heat"), GraphOptions(map="heat", mean=(10.0,), std=(2.0,), colour="bgr")]
)
def test_an_openvino_ir_answers_alike_and_survives_saving(tmp_path: Path, options: GraphOptions) -> None:
    path = write_ir(write_graph(tmp_path / "m.onnx", shape=("n", 3, "h", "w")))
    imported = import_model(path, ImportOptions(size=(64, 48)), options)
    saved(tmp_path / "model", imported.detector)
    for detector in (imported.detector, load_model(tmp_path / "model")[0]):
        anomaly_map, score = detector(torch.from_numpy(np.ascontiguousarray(IMAGE))[None])
        wanted = expected(IMAGE, options.mean[0], options.std[0], rgb=options.colour == "rgb")
        assert np.abs(anomaly_map[0].numpy() - wanted).max() < 1e-4 * max(1.0, np.ptp(wanted))
        assert float(score[0]) == pytest.approx(wanted.max(), rel=1e-4)
    assert {file.name for file in imported.files} == {"m.xml", "m.bin"}


@pytest.mark.parametrize(
    ("options", "says"),
    [(GraphOptions(), "outputs: heat, worst"), (GraphOptions(score="nope"), "nope"), (GraphOptions(map="worst"), "no map")],
)
def test_what_an_ir_lacks_is_told(tmp_path: Path, options: GraphOptions, says: str) -> None:
    path = write_ir(write_graph(tmp_path / "m.onnx"))
    with pytest.raises(BadInput, match=says):
        import_model(path, inputs=options)
    path.with_suffix(".bin").unlink()
    with pytest.raises(BadInput, match=r"m\.bin"):
        import_model(path, inputs=options)
