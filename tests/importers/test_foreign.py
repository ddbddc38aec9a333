"""Foreign graphs in shapes that are not edgead's own: cast, converted, or refused with the tensor's name and the reason."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from edgead.cli.main import main
from edgead.errors import BadInput
from edgead.importers import ImportOptions
from edgead.importers.bounded import Bounds
from edgead.importers.graph import import_graph
from edgead.importers.ir import import_ir
from edgead.importers.ports import GraphOptions
from tests.importers import _reference as reference

SIDE = 32
BOTH = GraphOptions(score="score", map="heat")
IMAGE = np.ascontiguousarray(reference.pictures(1, SIDE)[0])


def graph(
    path: Path,
    nodes: list[Any],
    takes: int = T.FLOAT,
    shape: tuple[Any, ...] = ("n", 3, SIDE, SIDE),
    gives: tuple[int, int] = (T.FLOAT, T.FLOAT),
    opset: int = 17,
    constants: tuple[Any, ...] = (),
    more: tuple[Any, ...] = (),
    **saving: Any,
) -> Path:
    """An ONNX file: `picture` -> `nodes` -> `heat`, `score`."""
    outputs = [helper.make_tensor_value_info(n, kind, None) for n, kind in zip(("heat", "score"), gives, strict=True)]
    inputs = [helper.make_tensor_value_info("picture", takes, list(shape)), *more]
    whole = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path), **saving)
    return path


def body(source: str = "picture", heat: str = "heat", score: str = "score") -> list[Any]:
    """heat = mean over the channels, score = its largest value."""
    mean = [helper.make_node("ReduceMean", [source], ["mean"], axes=[1], keepdims=1)]
    return [
        *mean,
        helper.make_node("Identity", ["mean"], [heat]),
        helper.make_node("GlobalMaxPool", ["mean"], ["top"]),
        helper.make_node("Flatten", ["top"], [score]),
    ]


def cast(source: str, target: str, kind: int) -> Any:
    return helper.make_node("Cast", [source], [target], to=kind)


def asked(imported: Any) -> tuple[float, Any]:
    heat, score = imported.detector(torch.from_numpy(IMAGE)[None])
    return float(score[0]), heat[0].numpy()


MEAN = IMAGE.astype(np.float32).mean(2) / 255
KINDS = [T.FLOAT16, T.DOUBLE, T.BFLOAT16, T.UINT8, T.INT32, T.INT64, T.UINT16]


@pytest.mark.parametrize("kind", KINDS, ids=T.DataType.Name)
def test_inputs_and_outputs_of_any_number_type_are_cast(tmp_path: Path, kind: int) -> None:
    """The picture is given in the graph's own type; its answers come back as float32."""
    whole = kind not in (T.FLOAT16, T.DOUBLE, T.BFLOAT16)
    nodes = [cast("picture", "x", T.FLOAT), *body("x", "h32", "s32"), cast("h32", "heat", kind), cast("s32", "score", kind)]
    imported = import_graph(graph(tmp_path / "m.onnx", nodes, kind, gives=(kind, kind)), ImportOptions(), BOTH)
    score, heat = asked(imported)
    wanted = np.floor(MEAN * 255 + 1e-3) if whole else MEAN
    limit = {T.FLOAT16: 2e-3, T.BFLOAT16: 2e-2}.get(kind, 1e-5)
    assert np.abs(heat - wanted).max() <= limit
    assert score == pytest.approx(wanted.max(), abs=limit)
    assert any("cast to float32" in line for line in imported.assumptions)
    assert any("0 to 255" in line and ("divided" in line) != whole for line in imported.assumptions)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [T.FLOAT, T.UINT8])
def test_a_graph_of_one_channel_is_given_grey_made_as_everywhere(tmp_path: Path, layout: str, kind: int) -> None:
    shape = (1, 1, SIDE, SIDE) if layout == "nchw" else (1, SIDE, SIDE, 1)
    turn = [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2] if layout == "nhwc" else [0, 1, 2, 3])]
    path = graph(tmp_path / "m.onnx", [cast("picture", "x", T.FLOAT), *turn, *body("y")], kind, shape)
    imported = import_graph(path, ImportOptions(), BOTH)
    grey = IMAGE.astype(np.float32) @ np.array([0.114, 0.587, 0.299], np.float32)  # of blue, green, red
    wanted = np.rint(grey) if kind == T.UINT8 else grey / 255
    assert np.abs(asked(imported)[1] - wanted).max() < (1e-4 if kind == T.FLOAT else 1.01)
    assert any("one channel" in line for line in imported.assumptions)
    with pytest.raises(BadInput, match="one channel" if kind == T.FLOAT else "whole numbers"):
        import_graph(path, ImportOptions(), GraphOptions(score="score", mean=(1.0, 2.0, 3.0)))


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 12])
def test_old_opsets_are_converted(tmp_path: Path, opset: int) -> None:
    imported = import_graph(graph(tmp_path / "m.onnx", body(), opset=opset), ImportOptions(), BOTH)
    assert np.abs(asked(imported)[1] - MEAN).max() < 1e-5


def test_an_input_that_nothing_reads_is_dropped_and_one_that_is_read_is_named(tmp_path: Path) -> None:
    extra = helper.make_tensor_value_info("limit", T.FLOAT, [1])
    imported = import_graph(graph(tmp_path / "a.onnx", body(), more=(extra,)), ImportOptions(), BOTH)
    assert np.abs(asked(imported)[1] - MEAN).max() < 1e-5
    nodes = [*body(score="raw"), helper.make_node("Sub", ["raw", "limit"], ["score"])]
    with pytest.raises(BadInput, match="also needs the input limit"):
        import_graph(graph(tmp_path / "b.onnx", nodes, more=(extra,)), ImportOptions(), BOTH)


def test_weights_beside_the_graph_are_read_and_missing_ones_are_named_whole(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 3, np.float32), "w")
    nodes = [helper.make_node("Conv", ["picture", "w"], ["heat"]), helper.make_node("GlobalMaxPool", ["heat"], ["score"])]
    saving = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    path = graph(tmp_path / "m.onnx", nodes, constants=(weight,), **saving)
    imported = import_graph(path, ImportOptions(), BOTH)
    assert np.abs(asked(imported)[1] - MEAN).max() < 1e-5
    assert {file.name for file in imported.files} == {"m.onnx", "weights.data"}
    (tmp_path / "weights.data").unlink()
    with pytest.raises(BadInput) as caught:
        import_graph(path, ImportOptions(), BOTH)
    assert str(tmp_path / "weights.data") in str(caught.value)
    os.mkfifo(tmp_path / "weights.data")
    with pytest.raises(BadInput, match="no regular file"):
        import_graph(path, ImportOptions(), BOTH)


def _outside(path: Path) -> Path:
    graph(path, body(), constants=(numpy_helper.from_array(np.zeros(4, np.float32), "w"),))
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = T.EXTERNAL
    weight.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    return path


def _loop(path: Path, count: int) -> Path:
    """x + 1, `count` times."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info(*told) for told in (("i", T.INT64, []), ("go", T.BOOL, []), ("x", T.FLOAT, None))],
        [helper.make_tensor_value_info("on", T.BOOL, []), helper.make_tensor_value_info("y", T.FLOAT, None)],
    )
    nodes = [*body(heat="h", score="s"), helper.make_node("Loop", ["count", "yes", "h"], ["heat"], body=inner)]
    constants = (
        numpy_helper.from_array(np.array(count, np.int64), "count"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
    )
    return graph(path, [*nodes, helper.make_node("Identity", ["s"], ["score"])], constants=constants)


def test_a_loop_that_ends_is_run_and_one_that_does_not_is_stopped(tmp_path: Path) -> None:
    imported = import_graph(_loop(tmp_path / "few.onnx", 5), ImportOptions(), BOTH)
    assert np.abs(asked(imported)[1] - (MEAN + 5)).max() < 1e-5
    with pytest.raises(BadInput, match="within 4 s"):
        import_graph(_loop(tmp_path / "endless.onnx", 1 << 60), ImportOptions(), BOTH, Bounds(time_s=4.0))


def test_a_graph_that_unfolds_to_terabytes_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0),
        *body(score="s"),
        helper.make_node("Add", ["s", "most"], ["score"]),
    ]
    huge = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "huge")
    with pytest.raises(BadInput, match="MiB of memory"):
        import_graph(graph(tmp_path / "m.onnx", nodes, constants=(huge,)), ImportOptions(), BOTH)


def _vector(path: Path) -> Path:
    return graph(path, [*body(score="s"), helper.make_node("Concat", ["s", "s"], ["score"], axis=1)])


def _text(path: Path) -> Path:
    return graph(path, [*body(score="s"), cast("s", "score", T.STRING)], gives=(T.FLOAT, T.STRING))


def _nan(path: Path) -> Path:
    return graph(
        path, [*body(score="s"), helper.make_node("Sub", ["s", "s"], ["z"]), helper.make_node("Div", ["z", "z"], ["score"])]
    )


def _random(path: Path) -> Path:
    nodes = [helper.make_node("RandomNormalLike", ["picture"], ["noise"]), helper.make_node("Add", ["picture", "noise"], ["x"])]
    return graph(path, [*nodes, *body("x")])


REFUSED: dict[str, tuple[Any, str]] = {
    "two scores": (_vector, r"'score' of shape \[1, 2\] holds 2 numbers"),
    "text": (_text, r"'score' is of type tensor\(string\)"),
    "four channels": (lambda p: graph(p, body(), shape=(1, 4, SIDE, SIDE)), "'picture' takes 4 channels"),
    "three dimensions": (lambda p: graph(p, body(), shape=(3, SIDE, SIDE)), "'picture' has 3 dimensions"),
    "truth": (lambda p: graph(p, [cast("picture", "x", T.FLOAT), *body("x")], T.BOOL), "'picture' takes bool"),
    "signed bytes": (lambda p: graph(p, [cast("picture", "x", T.FLOAT), *body("x")], T.INT8), "'picture' takes int8"),
    "too old": (lambda p: graph(p, body(), opset=6), "opset 6"),
    "too new": (lambda p: graph(p, body(), opset=99), "opset 99"),
    "not a number": (_nan, "not finite"),
    "chance": (_random, "differently each time"),
    "outside": (_outside, "outside of its folder"),
    "unknown operator": (lambda p: graph(p, [helper.make_node("Fancy", ["picture"], ["heat"]), *body(heat="h")]), "Fancy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_one_line_with_the_tensor_and_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, says = REFUSED[name]
    path = make(tmp_path / "m.onnx")
    line = ["import", str(path), "-o", str(tmp_path / "out"), "--score", "score", "--map", "heat", "--threshold", "1"]
    assert main(line) == 2
    err = capsys.readouterr().err
    assert re.search(says, err)
    assert "internal error" not in err and "->" in err
    assert len(err) < 600
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("verb", ["import", "export"])
def test_a_threshold_that_is_no_number_is_refused(
    verb: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = graph(tmp_path / "m.onnx", body())
    assert main([verb, str(path), "-o", str(tmp_path / "out"), "--score", "score", f"--threshold={value}"]) == 2
    assert f"--threshold: '{value}' is not a number" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.ckpt", "m.pth", "m.pt"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / name)
    assert main(["import", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
    assert "no regular file" in capsys.readouterr().err


def _as_ir(path: Path) -> Path:
    target = path.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(str(path)), str(target), compress_to_fp16=False)
    return target


@pytest.mark.parametrize("kind", [T.FLOAT16, T.UINT8, T.INT32], ids=T.DataType.Name)
def test_an_ir_of_another_type_or_of_one_channel_is_taken(tmp_path: Path, kind: int) -> None:
    whole = kind != T.FLOAT16
    nodes = [cast("picture", "x", T.FLOAT), *body("x", "h32", "s32"), cast("h32", "heat", kind), cast("s32", "score", kind)]
    path = _as_ir(graph(tmp_path / "m.onnx", nodes, kind, (1, 1, SIDE, SIDE), (kind, kind)))
    score, heat = asked(import_ir(path, ImportOptions(), BOTH))
    grey = IMAGE.astype(np.float32) @ np.array([0.114, 0.587, 0.299], np.float32)
    wanted = grey if whole else grey / 255
    assert np.abs(heat - wanted).max() < (2.01 if whole else 3e-3)
    assert score == pytest.approx(float(heat.max()), abs=1e-3)


@pytest.mark.parametrize(("name", "says"), [("two scores", "holds 2 numbers"), ("not a number", "not finite")])
def test_an_ir_that_cannot_be_taken_says_why(name: str, says: str, tmp_path: Path) -> None:
    path = _as_ir(REFUSED[name][0](tmp_path / "m.onnx"))
    with pytest.raises(BadInput, match=says):
        import_ir(path, ImportOptions(), BOTH)


def test_nothing_in_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph may come in a folder with files that are named as the modules that read it."""
    for name in ("onnx", "numpy", "json", "runpy", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(9)\n", "utf-8")
    graph(tmp_path / "m.onnx", body())
    monkeypatch.chdir(tmp_path)
    assert import_graph(Path("m.onnx"), ImportOptions(), BOTH).detector.image_size == (SIDE, SIDE)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", [3, 14, 99])
def test_a_graph_of_an_older_or_newer_form_of_file_is_taken_when_its_operators_are_known(tmp_path: Path, form: int) -> None:
    """onnx writes newer forms than the ONNX Runtime beside it reads; what counts is the opset."""
    model = onnx.load(str(graph(tmp_path / "m.onnx", body())))
    model.ir_version = form
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    score, _ = asked(import_graph(tmp_path / "m.onnx", ImportOptions(), BOTH))
    assert score == pytest.approx(float(MEAN.max()), abs=1e-5)


@pytest.mark.parametrize("option", ["--size=64x", "--size=x64", "--mean=", "--std="])
def test_half_an_option_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """Not taken as if nothing, or a square, had been asked for."""
    file = graph(tmp_path / "m.onnx", body(), shape=("n", 3, "h", "w"))
    size = [] if option.startswith("--size") else ["--size=64"]
    line = ["import", str(file), "-o", str(tmp_path / "out"), "--score=score", "--map=heat", "--threshold=1", *size, option]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert option.partition("=")[0] in said and ("is not a size" in said or "is empty" in said)
    assert not (tmp_path / "out").exists()
