"""TensorRT (https://docs.nvidia.com/deeplearning/tensorrt) and TensorRT for RTX on an NVIDIA GPU. The vendor's name appears in
this adapter and its builder (edgead/export/tensorrt.py) only. One class serves both: their Python APIs are nearly the same.

One CUDA stream, page-locked host memory and device buffers that are allocated once. Copy-in, inference and copy-out are recorded
as a CUDA graph when the engine is opened and replayed for each picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgead.bundle import EngineRecord
from edgead.engines._contract import OUTPUT_NAMES, batch_of_one, check_graph, closed, failed
from edgead.engines._tensorrt import FLAVOURS, engine_specs, load_tensorrt, log_of, mismatch
from edgead.engines.cuda import Bytes, Cuda, CudaError, open_cuda
from edgead.errors import BundleMismatch, EngineError
from edgead.types import AnomalyMap, Image

_log = logging.getLogger(__name__)


class TensorRtEngine:
    """Runs a TensorRT plan, one inference at a time, on the GPU that it was built for.

    Opening it runs the network once (which compiles kernels where that is done at run time) and records the CUDA graph.

    Args:
        file: the plan.
        threads: accepted for the sake of the other engines; the GPU does the work.
        graph: replay a recorded CUDA graph instead of launching each kernel.
        cuda: another CUDA, for tests; it is closed with the engine.

    Attributes:
        replays: whether a CUDA graph is replayed; False when the network could not be recorded (a warning is logged then).

    Raises:
        MissingExtra: TensorRT, or PyCUDA and cuda-python, is not installed.
        EngineError: no driver, no memory, or the plan is missing, damaged, of another version or GPU, or breaks the graph
            contract.
    """

    backend: ClassVar[str] = "tensorrt"

    def __init__(self, file: Path, *, threads: int | None = None, graph: bool = True, cuda: Cuda | None = None) -> None:
        del threads
        if not file.is_file():
            raise EngineError(f"there is no engine file {file}", hint="copy or export the bundle again")
        self._file = file
        self._trt: Any = load_tensorrt(self.backend)
        self._log = log_of(self._trt)
        self._cuda = cuda or open_cuda()
        self._held: ExitStack | None = ExitStack()
        self._graph: int | None = None
        self._pending = False
        try:
            with self._cuda.current():
                self._load()
                self._allocate()
                self._enqueue()
                self._wait()
                if graph:
                    self._capture()
        except BaseException:  # Ctrl-C too: the GPU keeps what nobody gives back
            self.close()
            raise

    @property
    def replays(self) -> bool:
        return self._graph is not None

    @classmethod
    def check_record(cls, record: EngineRecord, bundle: Path, cuda: Cuda | None = None) -> None:
        """Refuse a plan that was built for another GPU or version before it is loaded.

        Raises:
            BundleMismatch: naming both sides, with the line that builds it anew.
            MissingExtra, EngineError: TensorRT or CUDA is missing here.
        """
        here = load_tensorrt(cls.backend).__version__
        cuda = cuda or open_cuda()
        try:
            with cuda.current():
                device = cuda.device()
        finally:
            cuda.close()
        if differs := mismatch(record, here, device):
            raise BundleMismatch(f"engine {record.name} was built for {differs}", hint=f"edgead export --on-device {bundle}")

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map (a new array) of one H x W x 3 uint8 BGR picture at model size.

        Raises:
            BadInput: another shape or dtype.
            EngineError: closed, or the GPU failed.
        """
        if self._held is None:
            raise closed(self._file)
        batch = batch_of_one(image, self.inputs[0])
        try:
            with self._cuda.current():
                self._wait()  # only after an interrupted call is anything still under way
                np.copyto(self._views["image"], batch)
                self._pending = True
                if self._graph is not None:
                    self._cuda.launch(self._graph, self._stream)
                else:
                    self._enqueue()
                self._wait()
        except CudaError as error:
            raise failed(self._file, "inference failed with", error) from error
        return float(self._views["score"][0]), self._views["anomaly_map"][0].copy()

    def gpu_ms(self, runs: int) -> float:
        """Mean GPU milliseconds of one inference (copies included) over `runs` back to back, measured with CUDA events."""
        if self._held is None:
            raise closed(self._file)
        cuda = self._cuda
        with cuda.current(), ExitStack() as stack:
            start, end = cuda.event(), cuda.event()
            for event in (start, end):
                stack.callback(cuda.destroy_event, event)
            self._pending = True
            cuda.record(start, self._stream)
            for _ in range(runs):
                if self._graph is not None:
                    cuda.launch(self._graph, self._stream)
                else:
                    self._enqueue()
            cuda.record(end, self._stream)
            self._wait()
            return cuda.elapsed_ms(start, end) / runs

    def information(self) -> str:
        """The engine inspector's JSON about all layers (detailed when built so)."""
        if self._held is None:
            raise closed(self._file)
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Give everything back to the GPU; may be called twice. What the GPU refuses to take back is logged."""
        held, self._held = self._held, None
        if held is None:
            return
        with ExitStack() as last:
            last.callback(_forgiving, self._cuda.close)
            try:
                last.enter_context(self._cuda.current())
            except CudaError as error:
                _log.warning("closing %s: %s", self._file, error)
            last.callback(held.close)
            if self._pending:
                _forgiving(self._wait)

    def _load(self) -> None:
        """Deserialise the plan, check it against the graph contract, make its execution context."""
        mark = self._log.mark()
        plan = self._file.read_bytes()
        self._keep(self._drop)
        self._runtime: Any = self._trt.Runtime(self._log.logger)
        self._refuse_invalid(plan)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise failed(self._file, f"{FLAVOURS[self.backend].title} {self._trt.__version__} cannot load", self._why(mark))
        specs = engine_specs(self._trt, self._engine)
        self.inputs = tuple(spec for spec, is_input in specs if is_input)
        found = {spec.name: spec for spec, is_input in specs if not is_input}
        self.outputs = tuple(found[name] for name in OUTPUT_NAMES if name in found)
        check_graph(self._file, self.inputs, self.outputs)
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise failed(self._file, "no memory on the GPU for", self._why(mark))

    def _refuse_invalid(self, plan: bytes) -> None:
        """TensorRT for RTX reads from a plan's head whether it is for this GPU and version."""
        if not hasattr(self._runtime, "get_engine_validity"):
            return
        validity, _ = self._runtime.get_engine_validity(plan)
        if validity == self._trt.EngineValidity.INVALID:
            title = f"{FLAVOURS[self.backend].title} {self._trt.__version__}"
            raise EngineError(
                f"{self._file} is damaged, or not for this GPU ({self._cuda.device().name}) and {title}",
                hint="edgead export --on-device BUNDLE",
            )

    def _allocate(self) -> None:
        """The stream, and for each tensor a buffer on the device and a page-locked one here."""
        cuda = self._cuda
        self._stream = cuda.stream()
        self._keep(cuda.destroy_stream, self._stream)
        self._views: dict[str, Any] = {}
        self._copies: dict[str, tuple[int, Bytes]] = {}
        for spec in (*self.inputs, *self.outputs):
            size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
            host = cuda.pinned(size)
            self._keep(cuda.free_pinned, host)
            device = cuda.allocate(size)
            self._keep(cuda.free, device)
            self._copies[spec.name] = (device, host)
            self._views[spec.name] = host.view(spec.dtype).reshape(spec.shape)
            bound = self._context.set_tensor_address(spec.name, device)
            if spec in self.inputs:
                bound = self._context.set_input_shape(spec.name, spec.shape) and bound
            if not bound:
                raise EngineError(f"{FLAVOURS[self.backend].title} does not take a buffer for {spec.name} of {self._file}")
        self._views["image"][...] = 0
        self._keep(self._views.clear)  # before the memory under them goes

    def _enqueue(self) -> None:
        """Copy-in, inference and copy-out, put on the stream."""
        mark = self._log.mark()
        self._pending = True
        for spec in self.inputs:
            self._cuda.copy_in(*self._copies[spec.name], self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise CudaError(f"{FLAVOURS[self.backend].title} could not start: {self._log.reason(mark)}", hint="try: nvidia-smi")
        for spec in self.outputs:
            device, host = self._copies[spec.name]
            self._cuda.copy_out(host, device, self._stream)

    def _wait(self) -> None:
        if self._pending:
            self._cuda.synchronize(self._stream)
            self._pending = False

    def _capture(self) -> None:
        """Record the stream's work; a network that cannot be recorded runs without, and the log says so."""
        context = self._context
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self._stream):
            _log.warning("%s cannot be recorded as a CUDA graph: each kernel is launched by itself, which is slower", self._file)
            return
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            except BaseException:
                self._cuda.abort_capture(self._stream)
                raise
            finally:
                self._pending = False  # recorded, not done
            graph = self._cuda.end_capture(self._stream)
        except CudaError as error:
            _log.warning("%s runs without a CUDA graph, which is slower: %s", self._file, error)
            return
        self._keep(self._cuda.destroy_graph, graph)
        self._graph = graph

    def _keep(self, give_back: Callable[..., None], *arguments: Any) -> None:
        """Have something given back at the end."""
        assert self._held is not None
        self._held.callback(_forgiving, give_back, *arguments)

    def _drop(self) -> None:
        """TensorRT's objects hold device memory; a context goes before its engine, an engine before its runtime."""
        self._context = self._engine = self._runtime = None

    def _why(self, mark: int) -> Exception:
        return RuntimeError(self._log.reason(mark))


class TensorRtRtxEngine(TensorRtEngine):
    """The same with TensorRT for RTX, whose plans are built ahead of time for several kinds of GPUs and finished on opening."""

    backend: ClassVar[str] = "tensorrt-rtx"


def _forgiving(function: Callable[..., None], *arguments: Any) -> None:
    """Giving back goes on whatever one call says: on a broken GPU all of them fail."""
    try:
        function(*arguments)
    except CudaError as error:
        _log.warning("giving back to the GPU: %s", error)
