"""OpenVINO on the CPU (https://docs.openvino.ai). The vendor's name appears only here."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from edgead import machine
from edgead.engines._contract import OUTPUT_NAMES, batch_of_one, check_graph, closed, failed, in_use
from edgead.engines.cache import Kept, Mapped
from edgead.errors import EngineError
from edgead.optional import require
from edgead.types import AnomalyMap, Image, TensorSpec

_DTYPES = {"u8": "uint8", "f32": "float32"}


class OpenVinoEngine:
    """Runs an IR (``.xml`` beside its ``.bin``) or an ``.onnx`` file on the CPU, for low latency: one picture over all cores.

    Float layers run in f32: left to itself the plug-in chooses bf16 on CPUs that have it, and answers differ. Threads are bound
    to no core: the plug-in binds those of each engine from the first core on, so that two engines of one thread each shared a
    core and took 15.5 ms instead of 6.7; `cpus` of a station.yaml binds all threads of the process.

    Any thread may ask; one is served at a time (a request has one set of buffers: two threads in it got each other's answers).

    Args:
        file: the model file.
        threads: CPU threads of the engine; None takes all cores that this process may use.
        streams: pictures that :meth:`infer_many` works on at once, each with its share of the threads; one alone is then slower.
        kept: where the compiled form of the file is kept from one start to the next; None compiles it anew.

    Raises:
        MissingExtra: openvino is not installed.
        EngineError: the file is missing, damaged or breaks the graph contract.
    """

    takes: ClassVar = frozenset({"streams", "kept"})
    """Arguments that not every backend has."""

    def __init__(self, file: Path, *, threads: int | None = None, streams: int = 1, kept: Kept | None = None) -> None:
        self._ov = require("openvino", extra="openvino", why="Running an OpenVINO engine")
        if not file.is_file():
            raise EngineError(f"there is no engine file {file}", hint="copy or export the bundle again")
        self._file = file
        try:
            model, self._mapped = self._compiled(_config(threads, streams), kept)
        except Exception as error:  # the backend raises RuntimeError and others of its own
            raise failed(file, "OpenVINO cannot load", error) from error
        self.inputs = tuple(_spec(port) for port in model.inputs)
        found = {spec.name: spec for spec in (_spec(port) for port in model.outputs)}
        self.outputs = tuple(found[name] for name in OUTPUT_NAMES if name in found)
        check_graph(file, self.inputs, self.outputs)
        self._model: Any = model
        self._slots = [_Slot(self._ov, model)]
        if self._mapped is not None:
            self._mapped.unload()
        self._lanes = max(2, streams)
        self._asking = threading.Lock()
        self._many = False  # `infer_many` has begun and has not ended

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map (a new array) of one H x W x 3 uint8 BGR picture at model size.

        A contiguous, writeable picture is read where it lies, without a copy.

        Raises:
            BadInput: another shape or dtype.
            EngineError: closed, or the backend failed.
        """
        if self._model is None:
            raise closed(self._file)
        batch = batch_of_one(image, self.inputs[0])
        with self._asking:
            if self._many:
                raise in_use(self._file)
            if self._model is None:
                raise closed(self._file)
            slot = self._slots[0]
            try:
                slot.bind(batch)
                slot.request.infer(share_inputs=True, share_outputs=True)
                return slot.answer()
            except Exception as error:  # see above
                raise failed(self._file, "inference failed with", error) from error

    def infer_many(self, images: Iterable[Image]) -> Iterator[tuple[float, AnomalyMap]]:
        """The answers of :meth:`infer` in the pictures' order; the next pictures are fetched while the last ones are worked on.

        A picture must stay as it is until its answer. Whatever else asks this engine before the iterator is used up or closed is
        refused (EngineError).

        Raises:
            BadInput, EngineError: as :meth:`infer`.
        """
        with self._asking:
            if self._many:
                raise in_use(self._file)
            if self._model is None:
                raise closed(self._file)
            self._many = True
        try:
            yield from self._infer_many(images)
        finally:
            self._many = False

    def _infer_many(self, images: Iterable[Image]) -> Iterator[tuple[float, AnomalyMap]]:
        while len(self._slots) < self._lanes:
            self._slots.append(_Slot(self._ov, self._model))
        running: deque[_Slot] = deque()
        free = deque(self._slots)
        try:
            for image in images:
                batch = batch_of_one(image, self.inputs[0])
                answer = None
                if not free:
                    free.append(running.popleft())
                    answer = self._finished(free[0])
                self._start(free[0], batch)
                running.append(free.popleft())
                if answer is not None:
                    yield answer
            while running:
                yield self._finished(running.popleft())
        finally:
            for slot in running:  # the pictures' memory must outlive them
                slot.request.wait()

    def close(self) -> None:
        """Release the requests and the compiled model; may be called twice."""
        self._slots = []
        self._model = None
        self._mapped = None

    def _start(self, slot: _Slot, batch: Image) -> None:
        try:
            slot.bind(batch)
            slot.request.start_async()
        except Exception as error:  # see above
            raise failed(self._file, "inference failed with", error) from error

    def _finished(self, slot: _Slot) -> tuple[float, AnomalyMap]:
        try:
            slot.request.wait()
            return slot.answer()
        except Exception as error:  # see above
            raise failed(self._file, "inference failed with", error) from error

    def _compiled(self, config: dict[str, Any], kept: Kept | None) -> tuple[Any, Mapped | None]:
        """The compiled model, and the memory that its weights lie in when it was kept."""
        core = self._ov.Core()
        if kept is None:
            return core.compile_model(str(self._file), "CPU", config), None
        settings = (self._ov.__version__, *sorted(config.items()), *_device(core))
        found = kept.load(*settings)
        if found is not None:
            try:
                return core.import_model(self._ov.Tensor(found.blob, shared_memory=True), "CPU", config), found
            except Exception as error:  # noqa: BLE001 - whatever the backend dislikes about it, the engine's own file is there
                kept.spoilt(str(failed(self._file, "OpenVINO cannot take", error)), *settings)
        model = core.compile_model(str(self._file), "CPU", config)
        kept.save(model.export_model().getbuffer(), *settings)
        return model, None


class _Slot:
    """One request with its output buffers."""

    def __init__(self, ov: Any, model: Any) -> None:
        self.request: Any = model.create_infer_request()
        self._tensor = ov.Tensor
        self._map, self._score = (self.request.get_tensor(name).data for name in OUTPUT_NAMES)
        self._batch: Image | None = None

    def bind(self, batch: Image) -> None:
        """Let the request read this picture where it lies."""
        self._batch = batch if batch.flags.writeable else batch.copy()  # the backend shares no read-only memory
        self.request.set_input_tensor(self._tensor(self._batch, shared_memory=True))

    def answer(self) -> tuple[float, AnomalyMap]:
        """The request reuses its output buffers; a map that is still being drawn must not change under the painter."""
        found: AnomalyMap = self._map[0].copy()
        return float(self._score[0]), found


def _config(threads: int | None, streams: int) -> dict[str, Any]:
    if threads is None and machine.quota_cores() is not None:
        threads = machine.usable_cores()  # the plug-in counts the cores of the machine: more threads than the quota wait for it
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else inputs of products with stored INT8 weights are rounded to 8 bits as well
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _device(core: Any) -> tuple[str, ...]:
    """What the plug-in's choices depend on besides the model."""
    capabilities = sorted(map(str, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return (machine.cpu_model(), *machine.cpu_flags(), *capabilities, limit, str(machine.usable_cores()))


def write_ir(onnx_file: Path, target: Path, transform: Callable[[Any], Any] = lambda model: model) -> None:
    """Convert an ONNX file to OpenVINO IR, ``target`` (.xml) and its ``.bin``, without compressing floats to half precision.

    Args:
        transform: changes the `openvino.Model` in between, or gives another one.

    Raises:
        MissingExtra: openvino is not installed.
        EngineError: OpenVINO refuses the graph.
        OSError: the files could not be written whole.
    """
    ov = require("openvino", extra="openvino", why="Building an OpenVINO engine")
    try:
        model = ov.Core().read_model(str(onnx_file))
    except Exception as error:  # see above
        raise failed(onnx_file, "OpenVINO cannot convert", error) from error
    model = transform(model)
    try:
        ov.save_model(model, str(target), compress_to_fp16=False)
    except RuntimeError as error:  # a C++ stream error without a reason
        full = shutil.disk_usage(target.parent).free < onnx_file.stat().st_size
        raise OSError(errno.ENOSPC if full else errno.EIO, f"OpenVINO could not write {target.name}") from error


def _spec(port: Any) -> TensorSpec:
    dtype = port.get_element_type().get_type_name()
    shape = tuple(int(d.get_length()) if d.is_static else -1 for d in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), shape, _DTYPES.get(dtype, dtype))
