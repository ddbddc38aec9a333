"""The few CUDA calls that a TensorRT engine needs, behind one protocol: PyCUDA where it is installed, else NVIDIA's cuda-python.

Everything is a plain number: device memory, streams, events and graphs are handles that stay valid until they are given back.
Page-locked host memory is a flat uint8 array. The first visible GPU is used (CUDA_VISIBLE_DEVICES chooses it).

Calls follow the CUDA runtime API 12 and 13 (cuda-python, https://nvidia.github.io/cuda-python) and PyCUDA 2024 to 2026
(https://documen.tician.de/pycuda); PyCUDA knows no CUDA graphs, so they go to the driver API (libcuda.so.1) directly.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgead.errors import EngineError, MissingExtra
from edgead.optional import require

Bytes = npt.NDArray[np.uint8]

_NO_BLOCKING = 1  # cudaStreamNonBlocking, CU_STREAM_NON_BLOCKING: the stream does not wait for the default stream
_THREAD_LOCAL = 1  # capture mode: what other threads do meanwhile does not spoil the capture
_NO_DRIVER_CODES = {34, 35, 36, 100}  # stub library, insufficient driver, call requires newer driver, no device
_OUT_OF_MEMORY = 2
WHY = "Running a TensorRT engine"


class CudaError(EngineError):
    """A CUDA call failed; the message names the call and CUDA's reason."""


class NoGpu(EngineError):
    """There is no NVIDIA driver or GPU that this process could use."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """The GPU: `name`, `compute_capability` like ``"8.9"``, `memory_bytes` in all, the newest CUDA that its `driver` knows."""

    name: str
    compute_capability: str
    memory_bytes: int
    driver: str


class Cuda(Protocol):
    """CUDA on one GPU. Every method may raise :class:`CudaError`; all but `current` and `close` are called inside `current`."""

    name: str

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU this thread's own for the block; may be nested."""

    def device(self) -> DeviceInfo:
        """What GPU it is."""

    def free_memory(self) -> int:
        """Bytes of device memory that nobody uses now."""

    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes."""

    def free(self, pointer: int) -> None:
        """Give device memory back."""

    def pinned(self, size: int) -> Bytes:
        """Page-locked host memory of `size` bytes, uint8."""

    def free_pinned(self, memory: Bytes) -> None:
        """Give it back; the array must not be touched afterwards."""

    def stream(self) -> int:
        """A new stream."""

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""

    def synchronize(self, stream: int) -> None:
        """Wait until everything on the stream is done."""

    def copy_in(self, device: int, host: Bytes, stream: int) -> None:
        """Copy a page-locked array to the device, asynchronously."""

    def copy_out(self, host: Bytes, device: int, stream: int) -> None:
        """Fill a page-locked array from the device, asynchronously."""

    def begin_capture(self, stream: int) -> None:
        """From now on what this thread puts on the stream is recorded instead of done."""

    def end_capture(self, stream: int) -> int:
        """End the recording; returns it ready to be replayed."""

    def abort_capture(self, stream: int) -> None:
        """End the recording and forget it; does nothing when there is none."""

    def launch(self, graph: int, stream: int) -> None:
        """Replay a recording."""

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""

    def event(self) -> int:
        """A new event that takes the time."""

    def record(self, event: int, stream: int) -> None:
        """Mark the stream's present end."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds of GPU time between two recorded events; waits for the second."""

    def destroy_event(self, event: int) -> None:
        """Give it back."""

    def close(self) -> None:
        """Let go of the GPU; may be called twice."""


def open_cuda() -> Cuda:
    """CUDA on the first visible GPU, through PyCUDA where it is installed and cuda-python where not.

    Raises:
        MissingExtra: neither is installed.
        NoGpu: no NVIDIA driver or GPU here.
    """
    return PyCuda() if importlib.util.find_spec("pycuda") is not None else CudaPython()


def no_driver(reason: str) -> NoGpu:
    """What every adapter says on a machine without a usable GPU; `reason` is CUDA's own word."""
    hint = "run it on the GPU's own machine (in a container: --gpus all, or --runtime nvidia); edgead doctor shows what is here"
    return NoGpu(f"no NVIDIA driver or GPU is usable here ({reason})", hint=hint)


def _failed(call: str, reason: str, out_of_memory: bool = False) -> CudaError:
    hint = "close other programs on the GPU, or take a smaller model" if out_of_memory else "try: nvidia-smi, then edgead doctor"
    return CudaError(f"CUDA's {call} failed: {reason}", hint=hint)


class CudaPython:
    """NVIDIA's official bindings (``cuda.bindings.runtime``); the device's primary context is shared by all threads.

    Raises:
        MissingExtra: cuda-python is not installed.
        NoGpu: no driver or GPU.
    """

    name = "cuda-python"

    def __init__(self) -> None:
        try:
            self._rt: Any = require("cuda.bindings.runtime", extra="tensorrt", why=WHY)
        except MissingExtra as error:
            hint = "pip install cuda-python; for a driver of CUDA 12 (JetPack 6): 'cuda-python>=12.6,<13'; PyCUDA does as well"
            raise MissingExtra(str(error), hint=hint) from error
        self._held: dict[int, Any] = {}  # handle -> the bindings' object, or the address's owner
        code, *found = self._raw("cudaGetDeviceCount")
        if code in _NO_DRIVER_CODES or (code == 0 and not found[0]):
            raise no_driver(self._reason(code) if code else "no device")
        if code:
            raise _failed("cudaGetDeviceCount", self._reason(code))
        self._call("cudaSetDevice", 0)

    @contextmanager
    def current(self) -> Iterator[None]:
        self._call("cudaSetDevice", 0)
        yield

    def device(self) -> DeviceInfo:
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name.decode("utf-8", "replace") if isinstance(properties.name, bytes) else str(properties.name)
        version = int(self._call("cudaDriverGetVersion"))
        driver = f"{version // 1000}.{version % 1000 // 10}"
        memory = int(properties.totalGlobalMem)
        return DeviceInfo(name.split("\0")[0], f"{properties.major}.{properties.minor}", memory, driver)

    def free_memory(self) -> int:
        free, _total = self._call("cudaMemGetInfo")
        return int(free)

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, pointer: int) -> None:
        self._call("cudaFree", pointer)

    def pinned(self, size: int) -> Bytes:
        address = int(self._call("cudaHostAlloc", size, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_pinned(self, memory: Bytes) -> None:
        self._call("cudaFreeHost", memory.ctypes.data)

    def stream(self) -> int:
        return self._hold(self._call("cudaStreamCreateWithFlags", _NO_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", self._held.pop(stream))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", self._held[stream])

    def copy_in(self, device: int, host: Bytes, stream: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host.ctypes.data, host.nbytes, kind, self._held[stream])

    def copy_out(self, host: Bytes, device: int, stream: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, device, host.nbytes, kind, self._held[stream])

    def begin_capture(self, stream: int) -> None:
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._held[stream], mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", self._held[stream])
        try:
            return self._hold(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def abort_capture(self, stream: int) -> None:
        status = self._call("cudaStreamIsCapturing", self._held[stream])
        if int(status):
            code, *found = self._raw("cudaStreamEndCapture", self._held[stream])  # fails when the capture is spoilt, and ends it
            if not code and int(found[0]):
                self._call("cudaGraphDestroy", found[0])

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", self._held[graph], self._held[stream])

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", self._held.pop(graph))

    def event(self) -> int:
        return self._hold(self._call("cudaEventCreateWithFlags", 0))

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", self._held[event], self._held[stream])

    def elapsed_ms(self, start: int, end: int) -> float:
        self._call("cudaEventSynchronize", self._held[end])
        return float(self._call("cudaEventElapsedTime", self._held[start], self._held[end]))

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", self._held.pop(event))

    def close(self) -> None:
        """The primary context belongs to the process; there is nothing to give back."""

    def _hold(self, handle: Any) -> int:
        """Keep the bindings' object; its number is what the rest of the program and TensorRT use."""
        number = int(handle)
        self._held[number] = handle
        return number

    def _raw(self, call: str, *arguments: Any) -> tuple[Any, ...]:
        """The error code as an int, and what came with it. cuda-python 12 raises when there is no libcuda, 13 answers code 35."""
        try:
            code, *values = getattr(self._rt, call)(*arguments)
        except RuntimeError as error:
            raise no_driver(str(error)) from error
        return int(code), *values

    def _call(self, call: str, *arguments: Any) -> Any:
        code, *values = self._raw(call, *arguments)
        if code:
            raise _failed(call, self._reason(code), code == _OUT_OF_MEMORY)
        return values[0] if len(values) == 1 else tuple(values)

    def _reason(self, code: int) -> str:
        try:
            _, text = self._rt.cudaGetErrorString(self._rt.cudaError_t(code))
        except RuntimeError:  # see _raw
            return f"error {code}"
        return f"{text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}, error {code}"


class PyCuda:
    """PyCUDA (``pycuda.driver``) on the device's primary context, the one that TensorRT uses as well.

    Raises:
        NoGpu: no driver or GPU.
    """

    name = "pycuda"

    def __init__(self) -> None:
        try:
            self._drv: Any = require("pycuda.driver", extra="tensorrt", why=WHY)
        except ImportError as error:  # it is linked to libcuda.so.1
            raise no_driver(str(error)) from error
        self._held: dict[int, Any] = {}
        try:
            self._drv.init()
            if not self._drv.Device.count():
                raise no_driver("no device")
            self._context: Any = self._drv.Device(0).retain_primary_context()
        except self._drv.Error as error:
            raise no_driver(str(error)) from error
        self._graphs = _DriverGraphs()

    @contextmanager
    def current(self) -> Iterator[None]:
        self._guard("cuCtxPushCurrent", self._context.push)
        try:
            yield
        finally:
            self._drv.Context.pop()

    def device(self) -> DeviceInfo:
        device = self._drv.Device(0)
        major, minor = device.compute_capability()
        version = int(self._drv.get_driver_version())
        driver = f"{version // 1000}.{version % 1000 // 10}"
        return DeviceInfo(str(device.name()), f"{major}.{minor}", int(device.total_memory()), driver)

    def free_memory(self) -> int:
        return int(self._guard("cuMemGetInfo", self._drv.mem_get_info)[0])

    def allocate(self, size: int) -> int:
        memory = self._guard("cuMemAlloc", self._drv.mem_alloc, size)
        self._held[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        self._guard("cuMemFree", self._held.pop(pointer).free)

    def pinned(self, size: int) -> Bytes:
        memory: Bytes = self._guard("cuMemHostAlloc", self._drv.pagelocked_empty, (size,), np.uint8)
        return memory

    def free_pinned(self, memory: Bytes) -> None:
        owner: Any = memory.base
        self._guard("cuMemFreeHost", owner.free)

    def stream(self) -> int:
        stream = self._guard("cuStreamCreate", self._drv.Stream, _NO_BLOCKING)
        self._held[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        del self._held[stream]  # PyCUDA destroys it with its object

    def synchronize(self, stream: int) -> None:
        self._guard("cuStreamSynchronize", self._held[stream].synchronize)

    def copy_in(self, device: int, host: Bytes, stream: int) -> None:
        self._guard("cuMemcpyHtoDAsync", self._drv.memcpy_htod_async, device, host, self._held[stream])

    def copy_out(self, host: Bytes, device: int, stream: int) -> None:
        self._guard("cuMemcpyDtoHAsync", self._drv.memcpy_dtoh_async, host, device, self._held[stream])

    def begin_capture(self, stream: int) -> None:
        self._graphs.begin(stream)

    def end_capture(self, stream: int) -> int:
        return self._graphs.end(stream)

    def abort_capture(self, stream: int) -> None:
        self._graphs.abort(stream)

    def launch(self, graph: int, stream: int) -> None:
        self._graphs.launch(graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._graphs.destroy(graph)

    def event(self) -> int:
        event = self._guard("cuEventCreate", self._drv.Event)
        self._held[id(event)] = event
        return id(event)

    def record(self, event: int, stream: int) -> None:
        self._guard("cuEventRecord", self._held[event].record, self._held[stream])

    def elapsed_ms(self, start: int, end: int) -> float:
        self._guard("cuEventSynchronize", self._held[end].synchronize)
        return float(self._guard("cuEventElapsedTime", self._held[start].time_till, self._held[end]))

    def destroy_event(self, event: int) -> None:
        del self._held[event]

    def close(self) -> None:
        """Release the primary context: PyCUDA does it with the last reference."""
        self._context = None

    def _guard(self, call: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._drv.MemoryError as error:
            raise _failed(call, str(error), out_of_memory=True) from error
        except self._drv.Error as error:
            raise _failed(call, str(error)) from error


class _DriverGraphs:
    """Capture and replay through the CUDA driver API (cuda.h of CUDA 11.4 and later), for PyCUDA, which has no such calls."""

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise no_driver(str(error)) from error

    def begin(self, stream: int) -> None:
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), ctypes.c_int(_THREAD_LOCAL))

    def end(self, stream: int) -> int:
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)
        return int(ready.value or 0)

    def abort(self, stream: int) -> None:
        status, graph = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuStreamIsCapturing", ctypes.c_void_p(stream), ctypes.byref(status))
        if status.value:
            failed = self._lib.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
            if not failed and graph.value:
                self._call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _call(self, call: str, *arguments: Any) -> None:
        code = int(getattr(self._lib, call)(*arguments))
        if code:
            raise _failed(call, f"driver error {code}", code == _OUT_OF_MEMORY)
