"""How many operations a graph has, how fast this machine multiplies matrices, and where an engine's time goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgead.optional import require

WHY = "This benchmark"
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_EXECUTED = ("Convolution", "FullyConnected", "MatMul")
"""The same as the CPU plug-in calls them."""
_SHAPES = {"matrix 512": (512, 512, 512), "matrix 1024": (1024, 1024, 1024), "tall matrix": (3136, 1024, 384)}
"""Rows, inner size and columns of the products that are tried for the peak."""
_CONVOLUTIONS = {"convolution 1x1": (256, 64, 1), "convolution 3x3": (256, 64, 3), "convolution 5x5": (256, 64, 5)}
"""Channels, height and width, kernel."""
REPEATED_S = 0.05


@dataclass(frozen=True, slots=True)
class Layer:
    """One executed node of an OpenVINO engine: share of the time of all nodes, and its rate (0: no product in it)."""

    name: str
    kernel: str
    ms: float
    share: float
    gflop_per_s: float

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def gflop(graph: Path) -> float:
    """10^9 multiplications and additions in the convolutions and matrix products of one inference of an ONNX file or IR."""
    return _work(_core().read_model(str(graph)))


def profile(file: Path, feed: Mapping[str, Any], threads: int, runs: int = 10) -> list[Layer]:
    """All executed nodes of an engine, the slowest first."""
    core = _core()
    model = core.read_model(str(file))
    compiled = core.compile_model(model, "CPU", {**_config(threads), "PERF_COUNT": True})
    work = _work_of_nodes(compiled.get_runtime_model(), model)
    request = compiled.create_infer_request()
    took: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        request.infer(dict(feed))
        for seen in request.get_profiling_info():
            took.setdefault((seen.node_name, seen.exec_type), []).append(seen.real_time.total_seconds() * 1e3)
    medians = {node: float(np.median(values)) for node, values in took.items()}
    whole = sum(medians.values()) or 1.0
    layers = []
    for (name, kernel), ms in medians.items():
        layers.append(Layer(name, kernel, ms, ms / whole, work.get(name, 0.0) / ms / 1e6 if ms else 0.0))
    return sorted(layers, key=lambda layer: -layer.ms)


def peak_calls(threads: int, int8: bool) -> dict[str, tuple[Callable[[], object], float]]:
    """Large dense products in OpenVINO, by name: what to call, and 10^9 operations of one call."""
    core = _core()
    calls: dict[str, tuple[Callable[[], object], float]] = {}
    for name, model in _dense(int8):
        work = _work(model)
        request = core.compile_model(model, "CPU", _config(threads)).create_infer_request()
        calls[name] = (request.infer, work)
    return calls


def best_peak(threads: int, int8: bool, seconds: float = 0.4) -> tuple[str, Callable[[], object], float]:
    """The fastest of :func:`peak_calls` on this machine: its name, a call that repeats it for about `REPEATED_S` s, so that a
    cold cache at its start does not count, and the 10^9 operations of that."""
    calls = peak_calls(threads, int8)
    took_s = {name: _median_s(call, seconds) for name, (call, _) in calls.items()}
    name = max(took_s, key=lambda key: calls[key][1] / took_s[key])
    call, work = calls[name]
    times = max(1, round(REPEATED_S / took_s[name]))

    def repeated() -> None:
        for _ in range(times):
            call()

    return name, repeated, work * times


def _dense(int8: bool) -> Iterator[tuple[str, Any]]:
    ov = require("openvino", extra="openvino", why=WHY)
    op = ov.opset13
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return op.constant(rng.standard_normal(shape).astype(np.float32) / 16)

    def eight(node: Any, reach: float) -> Any:
        if not int8:
            return node
        low, high = (op.constant(np.float32(edge)) for edge in (-reach * 128 / 127, reach))
        return op.fake_quantize(node, low, high, low, high, 256)

    for name, (rows, inner, columns) in _SHAPES.items():
        start = op.parameter([rows, inner], np.float32)
        product = op.matmul(eight(start, 4.0), eight(weights(inner, columns), 0.25), False, False)
        yield name, _small_output(ov, op, product, start)
    for name, (channels, side, kernel) in _CONVOLUTIONS.items():
        start = op.parameter([1, channels, side, side], np.float32)
        edge = [kernel // 2] * 2
        wide = eight(weights(channels, channels, kernel, kernel), 0.25)
        product = op.convolution(eight(op.relu(start), 4.0), wide, [1, 1], edge, edge, [1, 1])
        yield name, _small_output(ov, op, product, start)


def _small_output(ov: Any, op: Any, product: Any, start: Any) -> Any:
    return ov.Model([op.result(product)], [start], "peak")


def _work(model: Any) -> float:
    """10^9 operations of all products of an OpenVINO model."""
    return sum(work for _, work, _ in _shaped(model)) / 1e9


def _shaped(model: Any) -> Iterator[tuple[Any, float, tuple[int, ...]]]:
    """Each product: its node, its operations (2 a multiplication), the shape of its output."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in _PRODUCTS:
            output, weight = (tuple(shape) for shape in (node.get_output_shape(0), node.get_input_shape(1)))
            if node.get_type_name() == "MatMul":
                first = tuple(node.get_input_shape(0))
                each = first[-2] if node.get_attributes().get("transpose_a") else first[-1]
            else:  # weights: (groups,) output channels, input channels, kernel
                each = math.prod(weight[2:] if node.get_type_name() == "GroupConvolution" else weight[1:])
            yield node, 2.0 * math.prod(output) * each, output


def _work_of_nodes(executed: Any, model: Any) -> dict[str, float]:
    """Operations of each executed node that is a product: by the name of the node that it was made of, or, where fusion has
    hidden that, by the shape of its output."""
    open_products = {node.get_friendly_name(): (work, shape) for node, work, shape in _shaped(model)}
    found: dict[str, float] = {}
    nodes = [(op, _info(op, "originalLayersNames")) for op in executed.get_ops() if _info(op, "layerType") in _EXECUTED]
    for op, origins in nodes:
        names = {origin.split("/")[0] for origin in (op.get_friendly_name(), *origins.split(","))}
        name = next((name for name in open_products if name.split("/")[0] in names), None)
        if name is not None:
            found[op.get_friendly_name()] = open_products.pop(name)[0]
    for op, _ in nodes:
        shape = tuple(op.get_output_shape(0))
        name = next((name for name, (_, made) in open_products.items() if math.prod(made) == math.prod(shape)), None)
        if op.get_friendly_name() not in found and name is not None:
            found[op.get_friendly_name()] = open_products.pop(name)[0]
    return found


def _info(op: Any, key: str) -> str:
    info = op.get_rt_info()
    return str(info[key].value) if key in info else ""


def _median_s(call: Callable[[], object], seconds: float) -> float:
    call()
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _config(threads: int) -> dict[str, Any]:
    precision: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    precision |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}  # as in edgead.engines.openvino
    return {**precision, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}


def _core() -> Any:
    return require("openvino", extra="openvino", why=WHY).Core()
