"""The two ways to CUDA without a GPU: cuda-python by the signatures of the real package, PyCUDA by a stand-in, and for real what
is said on a machine that has no driver."""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead.engines import cuda
from edgead.engines.cuda import Cuda, CudaError, CudaPython, NoGpu, PyCuda
from edgead.engines.tensorrt import TensorRtEngine, TensorRtRtxEngine
from edgead.errors import EngineError, MissingExtra


def gpu_is_here() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_gpu = pytest.mark.skipif(gpu_is_here(), reason="this machine has an NVIDIA driver")


def runtime() -> Any:
    return pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")


class Signatures:
    """The real bindings' names and numbers of arguments, without their effects; every call succeeds, unless `fails` names it."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.called: list[str] = []
        self.fails: dict[str, int] = {}
        self.memory: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)  # AttributeError: no such call
        if inspect.isclass(real):
            return real
        return lambda *arguments: self._answer(name, real, arguments)

    def _answer(self, name: str, real: Any, arguments: tuple[Any, ...]) -> Any:
        if name == "cudaGetErrorString":
            return real(*arguments)
        signature = re.match(rf"{name}\((.*?)\)", inspect.getdoc(real) or "")
        assert signature, f"{name} has no documented signature"
        wanted = [part for part in signature[1].split(",") if part.strip()]
        assert len(arguments) == len(wanted), f"{name} takes {wanted}"
        self.called.append(name)
        if name in self.fails:
            return (self._real.cudaError_t(self.fails[name]), None)
        ok = self._real.cudaError_t(0)
        answers: dict[str, tuple[Any, ...]] = {
            "cudaGetDeviceCount": (1,),
            "cudaGetDeviceProperties": (SimpleNamespace(name=b"RTX\0\0", major=8, minor=9, totalGlobalMem=1 << 34),),
            "cudaDriverGetVersion": (12060,),
            "cudaMemGetInfo": (100, 200),
            "cudaMalloc": (4096,),
            "cudaStreamCreateWithFlags": (self._real.cudaStream_t(11),),
            "cudaEventCreateWithFlags": (self._real.cudaEvent_t(12),),
            "cudaStreamEndCapture": (self._real.cudaGraph_t(13),),
            "cudaGraphInstantiate": (self._real.cudaGraphExec_t(14),),
            "cudaStreamIsCapturing": (self._real.cudaStreamCaptureStatus(1),),
            "cudaEventElapsedTime": (1.5,),
        }
        if name == "cudaHostAlloc":
            self.memory.append(ctypes.create_string_buffer(arguments[0]))
            return ok, ctypes.addressof(self.memory[-1])
        return (ok, *answers.get(name, ()))


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    fake = Signatures(runtime())
    monkeypatch.setattr(cuda, "require", lambda *args, **kwargs: fake)
    return fake


def use(device: Cuda) -> None:
    """Every call of the protocol once."""
    with device.current():
        assert device.device().compute_capability == "8.9"
        assert device.free_memory() == 100
        stream, memory, host = device.stream(), device.allocate(16), device.pinned(16)
        assert (host.shape, host.dtype) == ((16,), np.uint8)
        host[:] = 3
        device.copy_in(memory, host, stream)
        device.copy_out(host, memory, stream)
        device.begin_capture(stream)
        graph = device.end_capture(stream)
        device.launch(graph, stream)
        device.abort_capture(stream)
        start, end = device.event(), device.event()
        device.record(start, stream)
        assert device.elapsed_ms(start, end) == 1.5
        device.synchronize(stream)
        device.destroy_event(start)
        device.destroy_graph(graph)
        device.free_pinned(host)
        device.free(memory)
        device.destroy_stream(stream)
    device.close()


def test_cuda_python_is_called_by_its_real_signatures(bindings: Signatures) -> None:
    use(CudaPython())
    assert {"cudaMalloc", "cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGraphExecDestroy"} <= set(bindings.called)
    assert bindings.called.count("cudaGraphDestroy") == 2  # the recordings themselves are not kept


def test_out_of_memory_is_one_clear_line(bindings: Signatures) -> None:
    device = CudaPython()
    bindings.fails["cudaMalloc"] = 2
    with pytest.raises(CudaError, match="cudaMalloc failed: out of memory, error 2") as caught, device.current():
        device.allocate(1 << 40)
    assert "smaller model" in caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("code", [35, 100])
def test_a_driver_without_a_gpu_is_no_gpu(bindings: Signatures, code: int) -> None:
    bindings.fails["cudaGetDeviceCount"] = code
    with pytest.raises(NoGpu, match="no NVIDIA driver or GPU"):
        CudaPython()


@without_gpu
def test_cuda_python_without_a_driver_says_so_for_real() -> None:
    runtime()
    with pytest.raises(NoGpu, match="no NVIDIA driver or GPU is usable here") as caught:
        CudaPython()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


class FakeDriver(types.ModuleType):
    """What `pycuda.driver` of PyCUDA 2026.1 offers (src/wrapper/wrap_cudadrv.cpp), without a GPU."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self, devices: int = 1) -> None:
        super().__init__("pycuda.driver")
        driver = self
        self.depth, self.devices, self.full = 0, devices, False

        class Context:
            def push(self) -> None:
                driver.depth += 1

            @staticmethod
            def pop() -> None:
                driver.depth -= 1

        class Device:
            def __init__(self, number: int) -> None:
                self.name, self.total_memory = (lambda: "RTX"), (lambda: 1 << 34)
                self.compute_capability = lambda: (8, 9)
                self.retain_primary_context = Context

            @staticmethod
            def count() -> int:
                return driver.devices

        class Allocation:
            def __init__(self, size: int) -> None:
                self.size = size

            def __int__(self) -> int:
                return 4096

            def free(self) -> None:
                self.size = 0

        class Stream:
            def __init__(self, flags: int = 0) -> None:
                self.handle = 11

            def synchronize(self) -> None:
                pass

        class Event:
            def record(self, stream: Stream | None = None) -> Event:
                return self

            def synchronize(self) -> Event:
                return self

            def time_till(self, other: Event) -> float:
                return 1.5

        class Pinned(np.ndarray):
            pass

        def pagelocked_empty(shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
            owner = SimpleNamespace(free=lambda: None, __array_interface__=None)
            block = (ctypes.c_uint8 * shape[0])()
            owner.__array_interface__ = {"shape": shape, "typestr": "|u1", "data": (ctypes.addressof(block), False), "version": 3}
            owner.block = block
            return np.asarray(owner)

        def mem_alloc(size: int) -> Allocation:
            if driver.full:
                raise driver.MemoryError("cuMemAlloc failed: out of memory")
            return Allocation(size)

        self.Context, self.Device, self.Stream, self.Event = Context, Device, Stream, Event
        self.pagelocked_empty, self.mem_alloc = pagelocked_empty, mem_alloc
        self.init, self.get_driver_version, self.mem_get_info = (lambda: None), (lambda: 12060), (lambda: (100, 200))
        self.memcpy_htod_async = self.memcpy_dtoh_async = lambda dest, src, stream: None


DRIVER_CALLS = [
    "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuStreamIsCapturing", "cuGraphInstantiateWithFlags", "cuGraphLaunch",
    "cuGraphExecDestroy", "cuGraphDestroy",
]  # fmt: skip


@pytest.fixture
def pycuda(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver()
    monkeypatch.setattr(cuda, "require", lambda *args, **kwargs: driver)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: SimpleNamespace(**dict.fromkeys(DRIVER_CALLS, lambda *arguments: 0)))
    return driver


def test_pycuda_is_used_in_the_same_way(pycuda: FakeDriver) -> None:
    use(PyCuda())
    assert pycuda.depth == 0  # as many contexts popped as pushed


def test_pycuda_out_of_memory_is_one_clear_line(pycuda: FakeDriver) -> None:
    pycuda.full = True
    device = PyCuda()
    with pytest.raises(CudaError, match="out of memory") as caught, device.current():
        device.allocate(1 << 40)
    assert "smaller model" in caught.value.hint


def test_pycuda_without_a_gpu_is_no_gpu(pycuda: FakeDriver) -> None:
    pycuda.devices = 0
    with pytest.raises(NoGpu):
        PyCuda()


def test_pycuda_without_libcuda_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ImportError("libcuda.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(cuda, "require", broken)
    with pytest.raises(NoGpu, match=r"libcuda\.so\.1"):
        PyCuda()


def test_pycuda_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    for installed, expected in ((True, "PyCuda"), (False, "CudaPython")):
        monkeypatch.setattr(cuda, "PyCuda", lambda: "PyCuda")
        monkeypatch.setattr(cuda, "CudaPython", lambda: "CudaPython")
        found = (lambda name: object()) if installed else (lambda name: None if name == "pycuda" else real(name))
        monkeypatch.setattr(cuda.importlib.util, "find_spec", found)
        assert cuda.open_cuda() == expected


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [(TensorRtEngine, "tensorrt", "edgead[tensorrt]"), (TensorRtRtxEngine, "tensorrt_rtx", "edgead[tensorrt-rtx]")],
)
def test_without_the_package_the_extra_and_the_jetpack_way_are_named(
    engine: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "x.engine").write_bytes(b"plan")
    with pytest.raises(MissingExtra, match=module) as caught:
        engine(tmp_path / "x.engine")
    assert extra in caught.value.hint
    assert "Jet" in caught.value.hint
    assert caught.value.exit_code == 5


def test_without_cuda_bindings_the_package_for_each_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(MissingExtra, match="cuda") as caught:
        CudaPython()
    assert "cuda-python>=12.6,<13" in caught.value.hint  # JetPack 6


def test_a_missing_plan_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no engine file .*nothing\.engine"):
        TensorRtEngine(tmp_path / "nothing.engine")


def test_nothing_of_nvidias_is_imported_with_the_engines() -> None:
    names = "'cuda', 'tensorrt', 'tensorrt_rtx', 'pycuda'"
    code = f"import sys, edgead.engines.tensorrt; print([m for m in sys.modules if m.split('.')[0] in ({names})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
