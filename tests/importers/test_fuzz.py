"""Files with something wrong in them, thousands of ways: a documented exit code, never a bare trace and never code 1."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgead.cli.main import main
from edgead.errors import BadInput, EdgeadError
from edgead.importers import ImportOptions
from edgead.importers.bounded import Bounds
from edgead.importers.graph import GraphOptions, import_graph
from edgead.models.streams import read_stream
from edgead.models.torchfile import read_torch_file
from tests.importers import _reference as reference
from tests.importers.test_anomalib import _preprocessing
from tests.importers.test_graph import write_graph

ALLOWED = {0, 2, 3, 4, 5, 7}
QUIET = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}

JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([1 << 40, 1 << 70, -(1 << 63), 10**6]), st.floats(),
        st.sampled_from(["", "x", "resnet18", "layer2", "torchvision.transforms.v2.Resize", "a" * 5000, "%s{}\x1b[31m"]),
        st.sampled_from([torch.zeros(0), torch.zeros(()), torch.ones(3), torch.full((2, 2), float("nan")), torch.ones(1, 3, 5)]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["size", "mean", "class_path"]), inner)),
    max_leaves=4,
)  # fmt: skip


def _content() -> dict[str, Any]:
    state = {f"model.feature_extractor.feature_extractor.{k}": v for k, v in reference.resnet18_state().items()}
    bank = torch.rand(20, 384, generator=torch.Generator().manual_seed(0))
    steps = _preprocessing(
        ("Resize", {"size": [32, 48], "antialias": True}), ("CenterCrop", {"size": [32, 32]}),
        ("Normalize", {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}),
    )  # fmt: skip
    return {
        "state_dict": {"model.memory_bank": bank, "post_processor._image_threshold": torch.tensor(3.0), **state},
        "hyper_parameters": {"backbone": "resnet18", "layers": ["layer2", "layer3"], "num_neighbors": 2, "precision": "float32"},
        "anomalib_pre_processor_config": steps,
        "anomalib_post_processor_config": {"image_sensitivity": 0.5},
    }


CONTENT = _content()


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from _places(inner, (*at, key))


PLACES = [place for place in _places(CONTENT) if len(place) < 2 or "feature_extractor" not in str(place[1])]
PLACES += [("state_dict", name) for name in list(CONTENT["state_dict"])[2:8]]


def _run(*line: str) -> tuple[int, str]:
    """Exit code and what was said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(list(line))
    return code, said.getvalue()


def _one_line(code: int, said: str) -> None:
    assert code in ALLOWED, said
    assert "internal error" not in said
    assert len(said) < 1500
    assert "\x1b" not in said


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=60, **QUIET)
@given(place=st.sampled_from(PLACES), value=JUNK, drop=st.sampled_from([False, False, False, True]))
def test_a_checkpoint_with_one_value_changed(work: Path, place: tuple[Any, ...], value: Any, drop: bool) -> None:
    content = copy.copy(CONTENT)
    target: Any = content
    for key in place[:-1]:
        target[key] = copy.copy(target[key])
        target = target[key]
    if drop:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    torch.save(content, work / "m.ckpt")
    shutil.rmtree(work / "out", ignore_errors=True)
    _one_line(*_run("import", str(work / "m.ckpt"), "-o", str(work / "out"), "--threshold", "1"))


def _changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Bytes replaced: (where, how many, by what)."""
    for where, count, new in changes:
        at = where % (len(data) + 1)
        data = data[:at] + new + data[at + count :]
    return data


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4)
STREAM = pickle.dumps({"a": [1, 2.5, "x", (1, [2, {"b": None}])], "c": {"d": [True] * 5}, "e": b"raw"}, 2)


@settings(max_examples=400, **QUIET)
@given(changes=CHANGES)
def test_a_stream_with_bytes_changed_is_read_or_refused(changes: list[tuple[int, int, bytes]]) -> None:
    with contextlib.suppress(BadInput):
        read_stream(_changed(STREAM, changes))


@settings(max_examples=200, **QUIET)
@given(changes=CHANGES)
def test_a_file_of_torch_save_with_bytes_changed_is_read_or_refused(work: Path, changes: list[tuple[int, int, bytes]]) -> None:
    plain = work / "plain.pth"
    if not plain.exists():
        torch.save({"discriminator": {"w": torch.ones(2, 3), "h": torch.ones(2).half()}, "n": [1, "a"]}, plain)
    (work / "changed.pth").write_bytes(_changed(plain.read_bytes(), changes))
    with contextlib.suppress(BadInput):
        read_torch_file(work / "changed.pth")


def _imported(work: Path, *options: str) -> tuple[int, str]:
    shutil.rmtree(work / "out", ignore_errors=True)
    line = ["import", str(work / "m.onnx"), "-o", str(work / "out"), "--score", "worst", "--map", "heat", "--threshold", "1"]
    return _run(*line, *options)


@settings(max_examples=20, **QUIET)
@given(changes=CHANGES, option=st.sampled_from(["", "--layout=nhwc", "--size=33", "--mean=nan", "--colour=bgr"]))
def test_an_onnx_file_with_bytes_changed(work: Path, changes: list[tuple[int, int, bytes]], option: str) -> None:
    plain = write_graph(work / "plain.onnx", shape=(1, 3, 32, 32))
    (work / "m.onnx").write_bytes(_changed(plain.read_bytes(), changes))
    _one_line(*_imported(work, *filter(None, [option])))


NUMBERS = st.sampled_from([-(1 << 40), -1, 0, 1, 2, 3, 7, 1 << 20, 1 << 40])


@settings(max_examples=20, **QUIET)
@given(
    field=st.sampled_from(["dim", "kind", "opset", "operator", "input", "pads", "weight", "lost"]),
    number=NUMBERS,
    where=st.integers(0, 3),
)
def test_an_onnx_graph_with_one_field_changed(work: Path, field: str, number: int, where: int) -> None:
    model = onnx.load(write_graph(work / "plain.onnx", shape=(1, 3, 32, 32)))
    graph, small = model.graph, max(-(1 << 31), min(number, (1 << 31) - 1))
    node = graph.node[where % len(graph.node)]
    if field == "dim":
        graph.input[0].type.tensor_type.shape.dim[where].dim_value = number
    elif field == "kind":
        graph.input[0].type.tensor_type.elem_type = small
    elif field == "opset":
        model.opset_import[0].version = number
    elif field == "operator":
        node.op_type = ["Loop", "If", "Nothing", "Upsample"][where]
    elif field == "input":
        node.input[0] = ["", "heat", "worst", "nowhere"][where]  # also one that is made later: a circle
    elif field == "pads":
        graph.node[0].attribute[0].ints[where] = number
    elif field == "weight":
        graph.initializer[0].dims[where] = number
    else:
        del graph.initializer[where % 2]
    (work / "m.onnx").write_bytes(model.SerializeToString())
    try:
        import_graph(
            work / "m.onnx", ImportOptions(), GraphOptions(score="worst", map="heat"), Bounds(time_s=5.0, memory_mb=1024)
        )
    except EdgeadError as error:
        _one_line(error.exit_code, str(error))
