"""TensorRT on a real GPU; everything here is skipped without one. Which of the two products is installed decides what runs."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.bundle import Bundle, EngineRecord
from edgead.cli.main import main
from edgead.engines import open_engine
from edgead.engines.cuda import Cuda, CudaError, CudaPython, PyCuda, open_cuda
from edgead.engines.onnxruntime import OnnxRuntimeEngine
from edgead.errors import BadInput, BundleMismatch, EngineError
from edgead.export.inspected import Layer, read_layers
from edgead.export.tensorrt import BuildOptions, build_engine
from edgead.parity import ask, compare
from edgead.registry import resolve
from edgead.types import Image
from tests.bundles import FAMILIES, Tiny, built_here, part

pytestmark = pytest.mark.gpu

INSTALLED = [
    b for b, m in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")) if importlib.util.find_spec(m) is not None
]
LIMITS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.05}
"""Of map and score against the same graph in ONNX Runtime, executed literally, relative to the map's range."""


@pytest.fixture(params=INSTALLED)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def built(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Bundle]:
    """A bundle of a family with engines of a backend, built on this GPU once."""

    @lru_cache
    def make(family: str, backend: str) -> Bundle:
        return built_here(tiny.bundle(family), tmp_path_factory.mktemp(f"{backend}-{family}"), backend)

    return make


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    opened = open_cuda()
    with opened.current():
        yield opened
    opened.close()


def pictures(bundle: Bundle, count: int = 6) -> list[Image]:
    return [part(seed, bundle.manifest.preprocess.width, defect=seed % 2 == 1) for seed in range(400, 400 + count)]


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_those_of_the_graph(built: Any, backend: str, family: str, precision: str) -> None:
    bundle = built(family, backend)
    images = pictures(bundle)
    file = {"fp32": "model.onnx", "fp16": "model.onnx", "int8": "model.int8.onnx"}[precision]
    literal = OnnxRuntimeEngine(bundle.path / file, literal=True)
    engine = open_engine(bundle, f"{backend}-{precision}")
    parity = compare(ask(literal, images), ask(engine, images), threshold=0.0)
    engine.close()
    literal.close()
    assert max(parity.score_error, parity.map_error) < LIMITS[precision]


def test_a_thousand_inferences_take_no_more_device_memory(built: Any, backend: str, cuda: Cuda) -> None:
    bundle = built("patchcore", backend)
    engine = open_engine(bundle, f"{backend}-fp16")
    images = pictures(bundle)
    engine.infer(images[0])
    before = cuda.free_memory()
    for i in range(1000):
        engine.infer(images[i % len(images)])
    assert cuda.free_memory() >= before - 2**20
    engine.close()


def test_opening_and_closing_gives_the_memory_back(built: Any, backend: str, cuda: Cuda) -> None:
    bundle = built("simplenet", backend)
    open_engine(bundle, f"{backend}-fp16").close()  # the first one loads the kernels' code, which stays
    before = cuda.free_memory()
    for _ in range(10):
        engine = open_engine(bundle, f"{backend}-fp16")
        engine.infer(pictures(bundle, 1)[0])
        engine.close()
    assert cuda.free_memory() >= before - 8 * 2**20


def test_graph_on_and_off_give_equal_answers(built: Any, backend: str) -> None:
    bundle = built("patchcore", backend)
    file = bundle.path / bundle.manifest.engine(f"{backend}-fp16").file
    on, off = (resolve("engine", backend)(file, graph=graph) for graph in (True, False))
    assert on.replays
    assert not off.replays
    for image in pictures(bundle):
        (score, anomaly_map), (other_score, other_map) = on.infer(image), off.infer(image)
        assert score == other_score
        assert np.array_equal(anomaly_map, other_map)
    assert on.gpu_ms(20) > 0
    on.close()
    off.close()


def test_errors_in_the_middle_leave_the_engine_right(built: Any, backend: str, cuda: Cuda) -> None:
    bundle = built("patchcore", backend)
    engine = open_engine(bundle, f"{backend}-int8")
    image = pictures(bundle, 1)[0]
    score, anomaly_map = engine.infer(image)
    with pytest.raises(BadInput):
        engine.infer(image[:10])
    with pytest.raises(CudaError, match="out of memory"):
        cuda.allocate(1 << 50)
    again, map_again = engine.infer(image)
    assert again == score
    assert np.array_equal(map_again, anomaly_map)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(image)


def test_two_engines_at_once_answer_as_each_alone(built: Any, backend: str) -> None:
    bundles = [built(family, backend) for family in ("patchcore", "simplenet")]
    engines = [open_engine(bundle, f"{backend}-fp16") for bundle in bundles]
    images = pictures(bundles[0])
    alone = [[engine.infer(image)[0] for image in images] for engine in engines]
    together: list[list[float]] = [[], []]

    def work(i: int) -> None:
        for _ in range(20):
            together[i] = [engines[i].infer(image)[0] for image in images]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    for engine in engines:
        engine.close()


def test_an_engine_runs_in_another_thread_than_it_was_opened_in(built: Any, backend: str) -> None:
    bundle = built("patchcore", backend)
    engine = open_engine(bundle, f"{backend}-fp32")
    image, answers = pictures(bundle, 1)[0], []
    thread = threading.Thread(target=lambda: answers.append(engine.infer(image)[0]))
    thread.start()
    thread.join()
    assert answers == [engine.infer(image)[0]]
    engine.close()


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is None, reason="PyCUDA is not installed")
def test_pycuda_and_cuda_python_give_the_same(built: Any, backend: str) -> None:
    bundle = built("patchcore", backend)
    file = bundle.path / bundle.manifest.engine(f"{backend}-fp16").file
    image = pictures(bundle, 1)[0]
    scores = set()
    for make in (PyCuda, CudaPython):
        engine = resolve("engine", backend)(file, cuda=make())
        assert engine.replays
        scores.add(engine.infer(image)[0])
        engine.close()
    assert len(scores) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_convolutions_run_in_int8_without_float_islands(built: Any, backend: str, family: str) -> None:
    import onnx

    bundle = built(family, backend)
    engine: Any = open_engine(bundle, f"{backend}-int8")
    layers = read_layers(engine.information())
    engine.close()
    model = onnx.load(bundle.path / "model.int8.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    quantised = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and all(makers.get(n, node).op_type == "DequantizeLinear" for n in node.input[:2])
    ]
    islands = [name for name in quantised if not any(_has(layer, name) and "int8" in layer.inputs for layer in layers)]
    assert quantised
    assert not islands


def _has(layer: Layer, node: str) -> bool:
    return node in layer.nodes or node in layer.name.split(" + ") or node in layer.name


def test_the_manifest_tells_what_it_was_built_with_and_its_layers(built: Any, backend: str, cuda: Cuda) -> None:
    bundle = built("patchcore", backend)
    record = bundle.manifest.engine(f"{backend}-int8")
    assert record.built_with["gpu"] == cuda.device().name
    assert record.built_with["compute_capability"] == cuda.device().compute_capability
    assert "int8" in record.built_with["layers"]
    assert (bundle.path / record.file).with_suffix(".layers.json").is_file()
    assert record.parity is not None


def test_a_plan_of_another_gpu_is_refused_with_the_line_that_mends_it(built: Any, backend: str) -> None:
    bundle = built("patchcore", backend)

    def other(record: EngineRecord) -> EngineRecord:
        return dataclasses.replace(record, built_with={**record.built_with, "compute_capability": "3.5"})

    manifest = dataclasses.replace(bundle.manifest, engines=tuple(map(other, bundle.manifest.engines)))
    with pytest.raises(BundleMismatch, match=r"was built for compute capability 3\.5, and here is") as caught:
        open_engine(Bundle(bundle.path, manifest), f"{backend}-fp16")
    assert caught.value.hint == f"edgead export --on-device {bundle.path}"


def test_built_ahead_of_time_verified_here_then_taken(built: Any, tiny: Tiny, tmp_path: Path, cuda: Cuda) -> None:
    if "tensorrt-rtx" not in INSTALLED:
        pytest.skip("TensorRT for RTX is not installed")
    bundle = Bundle.open(Path(shutil.copytree(built("patchcore", "tensorrt-rtx").path, tmp_path / "a.edgead")))
    record = bundle.manifest.engine("tensorrt-rtx-fp32")
    here = BuildOptions(compute_capabilities=(cuda.device().compute_capability,))
    ahead = build_engine(bundle.path / "model.onnx", tmp_path / "ahead.engine", "tensorrt-rtx", "fp32", here)
    shutil.copy(tmp_path / "ahead.engine", bundle.path / record.file)
    from edgead.bundle import write_manifest

    unmeasured = dataclasses.replace(record, parity=None, built_with=ahead.built_with)
    write_manifest(bundle.path, bundle.manifest.with_engine(unmeasured))
    with pytest.raises(BundleMismatch, match="has never been measured"):
        open_engine(Bundle.open(bundle.path), record.name)
    assert main(["verify", str(bundle.path), "--engine", record.name]) == 0
    open_engine(Bundle.open(bundle.path), record.name).close()
