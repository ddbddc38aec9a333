"""What every engine promises, run against each backend and precision; those of a GPU are built here, and skipped without one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgead import registry
from edgead.bundle import Bundle
from edgead.engines import infer_many, open_engine
from edgead.errors import BadInput, EngineError
from edgead.types import Engine, Image
from tests.bundles import Tiny, built_here, part

GPU = ("tensorrt", "tensorrt-rtx")
CPU = [backend for backend in registry.ENGINES if backend not in GPU]
NAMES = [f"{backend}-{precision}" for backend in CPU for precision in ("fp32", "int8")] + [
    pytest.param(f"{backend}-{precision}", marks=pytest.mark.gpu) for backend in GPU for precision in ("fp32", "fp16", "int8")
]
BACKENDS = [*CPU, *(pytest.param(backend, marks=pytest.mark.gpu) for backend in GPU)]


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return Bundle.open(tiny.bundle("patchcore"))


@pytest.fixture(scope="module")
def bundle_with(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The bundle that holds an engine."""

    @lru_cache
    def gpu(backend: str) -> Bundle:
        return built_here(tiny.bundle("patchcore"), tmp_path_factory.mktemp(backend), backend)

    def find(name: str) -> Bundle:
        backend = name.rpartition("-")[0]
        return gpu(backend) if backend in GPU else Bundle.open(tiny.bundle("patchcore"))

    return find


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, bundle_with: Callable[[str], Bundle]) -> Iterator[Engine]:
    opened = open_engine(bundle_with(request.param), request.param, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def picture(bundle: Bundle) -> Image:
    return part(100, bundle.manifest.preprocess.width)


def test_it_states_the_graph_contract(engine: Engine) -> None:
    assert [(t.name, t.shape, t.dtype) for t in engine.inputs] == [("image", (1, 64, 64, 3), "uint8")]
    assert [(t.name, t.shape, t.dtype) for t in engine.outputs] == [
        ("anomaly_map", (1, 64, 64), "float32"),
        ("score", (1,), "float32"),
    ]


def test_it_answers_with_a_score_and_a_float_map(engine: Engine, picture: Image) -> None:
    score, anomaly_map = engine.infer(picture)
    assert isinstance(score, float)
    assert np.isfinite(score)
    assert (anomaly_map.shape, anomaly_map.dtype) == ((64, 64), np.float32)
    assert np.isfinite(anomaly_map).all()


def test_the_same_picture_gets_the_same_answer(engine: Engine, picture: Image) -> None:
    first_score, first_map = engine.infer(picture)
    engine.infer(255 - picture)
    score, anomaly_map = engine.infer(picture)
    assert score == first_score
    assert np.array_equal(anomaly_map, first_map)


def test_a_map_does_not_change_with_the_next_picture(engine: Engine, picture: Image) -> None:
    anomaly_map = engine.infer(picture)[1]
    before = anomaly_map.copy()
    engine.infer(255 - picture)
    assert np.array_equal(anomaly_map, before)


def test_the_map_belongs_to_the_caller_and_the_picture_stays_as_it_was(engine: Engine, picture: Image) -> None:
    buffer = picture.copy()
    score, anomaly_map = engine.infer(buffer)
    before = anomaly_map.copy()
    assert np.array_equal(buffer, picture)
    anomaly_map[:] = -1.0  # writing to it disturbs nothing
    buffer[:] = 255 - picture  # the next frame, in the same buffer
    other_score, other_map = engine.infer(buffer)
    assert other_score == engine.infer(255 - picture)[0]
    assert not np.shares_memory(other_map, anomaly_map)
    buffer[:] = picture
    again_score, again = engine.infer(buffer)
    assert again_score == score
    assert np.array_equal(again, before)


def test_many_pictures_get_the_same_answers_in_their_order(engine: Engine, picture: Image) -> None:
    pictures = [np.roll(picture, 5 * i, axis=1) for i in range(7)]
    alone = [engine.infer(p) for p in pictures]
    together = list(infer_many(engine, iter(pictures)))
    assert [score for score, _ in together] == [score for score, _ in alone]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(together, alone, strict=True))
    assert not list(infer_many(engine, []))


def test_many_pictures_may_be_left_in_the_middle(engine: Engine, picture: Image) -> None:
    wanted = engine.infer(picture)[0]
    answers = infer_many(engine, (picture for _ in range(9)))
    assert next(iter(answers))[0] == wanted
    del answers
    with pytest.raises(BadInput, match="takes a 64 x 64"):
        list(infer_many(engine, [picture, picture[:32]]))
    assert engine.infer(picture)[0] == wanted


def test_the_picture_may_change_once_it_is_answered(engine: Engine, picture: Image) -> None:
    buffer = picture.copy()
    wanted = engine.infer(buffer)[0]
    buffer[:] = 255 - picture
    other = engine.infer(buffer)[0]
    buffer[:] = picture
    assert engine.infer(buffer)[0] == wanted
    assert other == engine.infer(255 - picture)[0]


def test_it_takes_views_and_read_only_pictures(engine: Engine, picture: Image) -> None:
    view = np.ascontiguousarray(picture[:, ::-1])[:, ::-1]
    view.setflags(write=False)
    assert engine.infer(view)[0] == engine.infer(picture)[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p[:32],
        lambda p: p[..., 0],
        lambda p: p[None],
        lambda p: p.astype(np.float32),
        lambda p: p[..., :2],
        lambda p: p[:0],
    ],
    ids=["smaller", "grey", "batch", "float", "channels", "empty"],
)
def test_it_refuses_another_size_or_type(engine: Engine, picture: Image, spoil: Callable[[Image], Image]) -> None:
    with pytest.raises(BadInput, match="takes a 64 x 64 x 3 uint8 picture") as caught:
        engine.infer(spoil(picture))
    assert "\n" not in str(caught.value)
    assert engine.infer(picture)


def test_a_closed_engine_says_so(engine: Engine, picture: Image) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(picture)


def test_fifty_inferences_leave_no_threads_and_files_behind(engine: Engine, picture: Image) -> None:
    engine.infer(picture)
    process = psutil.Process()
    before = (process.num_threads(), process.num_fds())
    for _ in range(50):
        engine.infer(picture)
    assert (process.num_threads(), process.num_fds()) <= before


@pytest.mark.parametrize("name", NAMES)
def test_closing_gives_its_threads_back(name: str, bundle_with: Callable[[str], Bundle], picture: Image) -> None:
    bundle = bundle_with(name)

    def use() -> int:
        engine = open_engine(bundle, name, threads=2)
        engine.infer(picture)
        engine.close()
        return psutil.Process().num_threads()

    first = use()
    assert max(use() for _ in range(3)) <= first


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only")
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_to_the_cpus_of_its_process(name: str, bundle_with: Callable[[str], Bundle], picture: Image) -> None:
    allowed = os.sched_getaffinity(0)
    one = {min(allowed)}
    before = {thread.id for thread in psutil.Process().threads()}
    os.sched_setaffinity(0, one)
    try:
        engine = open_engine(bundle_with(name), name, keep=False)
        engine.infer(picture)
        started = {thread.id for thread in psutil.Process().threads()} - before
        assert all(os.sched_getaffinity(thread) == one for thread in started)
        engine.close()
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 500], ids=["empty", "text", "bytes"])
def test_a_damaged_file_is_one_clear_line(
    name: str, content: bytes, bundle_with: Callable[[str], Bundle], tmp_path: Path
) -> None:
    record = bundle_with(name).manifest.engine(name)
    file = tmp_path / Path(record.file).name
    file.write_bytes(content)
    with pytest.raises(EngineError, match=file.name) as caught:
        registry.resolve("engine", record.backend)(file, threads=1)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_short_is_one_clear_line(name: str, bundle_with: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = bundle_with(name)
    record = bundle.manifest.engine(name)
    source = bundle.path / record.file
    for file in (source, source.with_suffix(".bin")):
        if file.is_file():
            content = file.read_bytes()
            (tmp_path / file.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError) as caught:
        registry.resolve("engine", record.backend)(tmp_path / source.name, threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_threads_that_ask_at_once_each_get_their_own_answer(
    name: str, bundle_with: Callable[[str], Bundle], picture: Image
) -> None:
    engine = open_engine(bundle_with(name), name, threads=1)
    pictures = [np.roll(picture, 5 * i, axis=1) for i in range(8)]
    wanted = [engine.infer(p) for p in pictures]

    def ask(i: int) -> bool:
        score, anomaly_map = engine.infer(pictures[i % 8])
        return score == pytest.approx(wanted[i % 8][0], rel=1e-5) and np.allclose(anomaly_map, wanted[i % 8][1], rtol=1e-4)

    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(400)))
    finally:
        engine.close()


def test_an_engine_that_works_on_a_row_refuses_other_questions(bundle: Bundle, picture: Image) -> None:
    engine = open_engine(bundle, "openvino-int8", threads=1, streams=2)
    row = infer_many(engine, [picture] * 4)
    next(row)
    with pytest.raises(EngineError, match="works on a row of pictures"):
        engine.infer(picture)
    assert len(list(row)) == 3
    assert engine.infer(picture)
    engine.close()


def test_streams_work_on_several_pictures_at_once(bundle: Bundle, picture: Image) -> None:
    pictures = [np.roll(picture, 5 * i, axis=1) for i in range(7)]
    alone = open_engine(bundle, "openvino-int8", threads=2)
    wide = open_engine(bundle, "openvino-int8", threads=2, streams=2)
    try:
        wanted = [alone.infer(p)[0] for p in pictures]
        assert [score for score, _ in infer_many(wide, pictures)] == pytest.approx(wanted, rel=1e-4)
        assert wide.infer(pictures[3])[0] == pytest.approx(wanted[3], rel=1e-4)
    finally:
        alone.close()
        wide.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_file_is_named(backend: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nothing\.onnx"):
        registry.resolve("engine", backend)(tmp_path / "nothing.onnx", threads=1)


@pytest.mark.parametrize("backend", CPU)
def test_a_graph_of_something_else_is_refused(backend: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    TensorProto, helper = onnx.TensorProto, onnx.helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "relu.onnx")
    with pytest.raises(EngineError, match="is not an edgead graph: it takes x float32"):
        registry.resolve("engine", backend)(tmp_path / "relu.onnx", threads=1)
