"""A GPU of ours: counts what is held, does asynchronous work only when it is waited for, and can fail at any call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgead.engines.cuda import Bytes, CudaError, DeviceInfo

SIZE = 8
SHAPES = {"image": ((1, SIZE, SIZE, 3), "uint8"), "anomaly_map": ((1, SIZE, SIZE), "float32"), "score": ((1,), "float32")}
RELEASES = {"free", "free_pinned", "destroy_stream", "destroy_graph", "destroy_event", "close", "abort_capture"}


class FakeCuda:
    """See the module. `fail_at` is the number of the call (releases are not counted) that raises `error`."""

    name = "fake"

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.held: dict[int, Any] = {}
        self.calls: list[str] = []
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.recording: int | None = None
        self.closed = False
        self.releases_fail = False
        self._inside = 0
        self._numbers = itertools.count(1000)
        self._fail_at, self._error = fail_at, error or CudaError("CUDA's test failed: on purpose", hint="none")

    @contextmanager
    def current(self) -> Iterator[None]:
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def device(self) -> DeviceInfo:
        return DeviceInfo("Fake RTX", "8.9", 1 << 30, "13.0")

    def free_memory(self) -> int:
        return (1 << 30) - sum(memory.nbytes for memory in self.held.values() if isinstance(memory, np.ndarray))

    def allocate(self, size: int) -> int:
        return self._take("allocate", np.full(size, 7, np.uint8))

    def free(self, pointer: int) -> None:
        self._give("free", pointer)

    def pinned(self, size: int) -> Bytes:
        memory = np.full(size, 9, np.uint8)
        self._take("pinned", memory, memory.ctypes.data)
        return memory

    def free_pinned(self, memory: Bytes) -> None:
        self._give("free_pinned", memory.ctypes.data)

    def stream(self) -> int:
        number = self._take("stream", "stream")
        self.queues[number] = []
        return number

    def destroy_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream), "a stream was destroyed with work under way"
        self._give("destroy_stream", stream)

    def synchronize(self, stream: int) -> None:
        self._call("synchronize")
        work, self.queues[stream][:] = list(self.queues[stream]), []
        for task in work:
            task()

    def copy_in(self, device: int, host: Bytes, stream: int) -> None:
        self._call("copy_in")
        self._put(stream, lambda: np.copyto(self.held[device], host))

    def copy_out(self, host: Bytes, device: int, stream: int) -> None:
        self._call("copy_out")
        self._put(stream, lambda: np.copyto(host, self.held[device]))

    def run(self, stream: int, task: Callable[[], None]) -> None:
        """What a kernel does."""
        self._call("run")
        self._put(stream, task)

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        assert not self.queues[stream]
        self.recording = stream

    def end_capture(self, stream: int) -> int:
        work, self.queues[stream][:], self.recording = list(self.queues[stream]), [], None
        return self._take("end_capture", work)

    def abort_capture(self, stream: int) -> None:
        if self.recording == stream:
            self.queues[stream].clear()
            self.recording = None

    def launch(self, graph: int, stream: int) -> None:
        self._call("launch")
        self.queues[stream].extend(self.held[graph])

    def destroy_graph(self, graph: int) -> None:
        self._give("destroy_graph", graph)

    def event(self) -> int:
        return self._take("event", [0.0])

    def record(self, event: int, stream: int) -> None:
        self._call("record")
        self._put(stream, lambda: self.held[event].append(float(len(self.calls))))

    def elapsed_ms(self, start: int, end: int) -> float:
        self._call("elapsed_ms")
        return float(self.held[end][-1] - self.held[start][-1] + 4.0)

    def destroy_event(self, event: int) -> None:
        self._give("destroy_event", event)

    def close(self) -> None:
        self.closed = True

    def _call(self, name: str) -> None:
        assert self._inside, f"{name} outside of current()"
        self.calls.append(name)
        if len(self.calls) == self._fail_at:
            raise self._error

    def _take(self, name: str, thing: Any, number: int | None = None) -> int:
        self._call(name)
        number = next(self._numbers) if number is None else number
        self.held[number] = thing
        return number

    def _give(self, name: str, number: int) -> None:
        assert self._inside, f"{name} outside of current()"
        if self.releases_fail:
            raise CudaError(f"CUDA's {name} failed: the GPU has fallen off the bus")
        del self.held[number]  # KeyError: given back twice

    def _put(self, stream: int, task: Callable[[], None]) -> None:
        self.queues[stream].append(task)


def fake_tensorrt(cuda: FakeCuda, shapes: dict[str, Any] | None = None, capturable: bool = True, starts: bool = True) -> Any:
    """Something like TensorRT's module whose only network gives the largest colour value of each pixel, and the largest of those.

    Args:
        shapes: other tensors than the graph contract's.
        capturable: what the context says about CUDA graphs.
        starts: whether inference can be started.
    """
    tensors = shapes or SHAPES
    severity = SimpleNamespace(ERROR=SimpleNamespace(name="ERROR"))
    trt = SimpleNamespace(__name__="fake_tensorrt", __version__="9.8.7", ILogger=type("ILogger", (), {}))
    trt.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    trt.LayerInformationFormat = SimpleNamespace(JSON="json")
    names = {"uint8": "UINT8", "float32": "FLOAT"}

    class Context:
        def __init__(self) -> None:
            self.addresses: dict[str, int] = {}

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return address in cuda.held

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            return name == "image" and tuple(shape) == SHAPES["image"][0]

        def is_stream_capturable(self, stream: int) -> bool:
            return capturable

        def execute_async_v3(self, stream: int) -> bool:
            if not starts:
                logger.log(severity.ERROR, "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (no kernel. In x)")
                return False
            cuda.run(stream, self.compute)
            return True

        def compute(self) -> None:
            image = cuda.held[self.addresses["image"]].reshape(SHAPES["image"][0])
            anomaly_map = image.max(axis=3).astype(np.float32)
            cuda.held[self.addresses["anomaly_map"]].view(np.float32)[:] = anomaly_map.ravel()
            cuda.held[self.addresses["score"]].view(np.float32)[:] = anomaly_map.max()

    class Engine:
        num_io_tensors = len(tensors)

        def get_tensor_name(self, i: int) -> str:
            return list(tensors)[i]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tensors[name][0]

        def get_tensor_dtype(self, name: str) -> Any:
            return SimpleNamespace(name=names[tensors[name][1]])

        def get_tensor_mode(self, name: str) -> str:
            return "in" if name == "image" else "out"

        def create_execution_context(self) -> Context:
            return Context()

        def create_engine_inspector(self) -> Any:
            return SimpleNamespace(get_engine_information=lambda kind: '{"Layers": ["conv"]}')

    class Runtime:
        def __init__(self, log: Any) -> None:
            nonlocal logger
            logger = log

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if plan == b"plan":
                return Engine()
            reason = "Serialization assertion header.magicTag failed"
            logger.log(severity.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({reason}. In x)")
            return None

    logger: Any = None
    trt.Runtime = Runtime
    return trt
