"""ONNX Runtime on the CPU (https://onnxruntime.ai). The vendor's name appears only here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgead import machine
from edgead.engines._contract import OUTPUT_NAMES, batch_of_one, check_graph, closed, failed
from edgead.errors import EngineError
from edgead.optional import require
from edgead.types import AnomalyMap, Image, TensorSpec

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeEngine:
    """Runs an ``.onnx`` file on the CPU, deterministically, one inference at a time.

    Nothing is kept between starts: an optimised file (`optimized_model_filepath`) loads 10 to 60 ms sooner, but holds for one CPU
    and version only, which the backend does not check.

    Args:
        file: the ONNX file.
        threads: CPU threads for one inference; None takes all cores that this process may use.
        literal: run the graph as it is written, without optimisation: Q/DQ pairs are then executed one by one in float, which is
            INT8 without any kernel's faults.

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineError: the file is missing, damaged or breaks the graph contract.
    """

    def __init__(self, file: Path, *, threads: int | None = None, literal: bool = False) -> None:
        self._file = file
        self._session = open_session(file, threads=threads, literal=literal)
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        found = {node.name: _spec(node) for node in self._session.get_outputs()}
        self.outputs = tuple(found[name] for name in OUTPUT_NAMES if name in found)
        check_graph(file, self.inputs, self.outputs)

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map (a new array) of one H x W x 3 uint8 BGR picture at model size.

        Raises:
            BadInput: another shape or dtype.
            EngineError: closed, or the backend failed.
        """
        if self._session is None:
            raise closed(self._file)
        batch = batch_of_one(image, self.inputs[0])
        try:
            anomaly_map, score = self._session.run(OUTPUT_NAMES, {"image": batch})
        except Exception as error:  # the backend's exceptions have no common base that can be named without importing it
            raise failed(self._file, "inference failed with", error) from error
        return float(score[0]), anomaly_map[0]

    def close(self) -> None:
        """Release the session; may be called twice."""
        self._session = None


class Tapped:
    """A float graph that also gives inner tensors, for calibration: every value exactly as the float model computes it.

    Args:
        model: a serialised ONNX model whose graph outputs are the wanted float tensors.
        names: their names.
    """

    def __init__(self, model: bytes, names: Sequence[str], threads: int | None = None) -> None:
        self._session = open_session(model, threads=threads, patient=True)
        self._names = list(names)

    def __call__(self, image: Image) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """The wanted tensors for one H x W x 3 uint8 picture, in the order of `names`."""
        values: list[np.ndarray[Any, np.dtype[np.float32]]] = self._session.run(self._names, {"image": image[None]})
        return values


def open_session(model: Path | bytes, *, threads: int | None = None, literal: bool = False, patient: bool = False) -> Any:
    """An `InferenceSession` on the CPU; `literal` as in :class:`OnnxRuntimeEngine`.

    Args:
        patient: threads that wait sleep. Else they spin, which is a little faster on cores that have nothing else to do, and
            takes twice the time on others; a literal graph, which nobody times, is always patient.

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineError: missing or damaged file.
    """
    ort = require("onnxruntime", extra="onnxruntime", why="Running an ONNX Runtime engine")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if patient or literal:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if literal:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    name = model if isinstance(model, Path) else Path("the graph")
    if isinstance(model, Path) and not model.is_file():
        raise EngineError(f"there is no engine file {model}", hint="copy or export the bundle again")
    source = str(model) if isinstance(model, Path) else model
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise failed(name, "ONNX Runtime cannot load", error) from error


def _threads() -> int:
    """0 lets the backend choose: a thread bound to each physical core of the machine, also to those closed to this process."""
    cores = machine.usable_cores()
    return cores if cores != os.cpu_count() else 0


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, shape, _DTYPES.get(node.type, node.type))
