"""OpenVINO on the CPU (https://docs.openvino.ai). The vendor's name appears only here."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgead.engines._contract import OUTPUT_NAMES, batch_of_one, check_graph, closed, failed
from edgead.errors import EngineError
from edgead.optional import require
from edgead.types import AnomalyMap, Image, TensorSpec

_DTYPES = {"u8": "uint8", "f32": "float32"}


class OpenVinoEngine:
    """Runs an IR (``.xml`` beside its ``.bin``) or an ``.onnx`` file on the CPU, one inference at a time, for low latency.

    Float layers run in f32: left to itself the plug-in chooses bf16 on CPUs that have it, and answers differ. One stream over
    all cores: on a small CPU parallel requests double the latency and gain nothing.

    Args:
        file: the model file.
        threads: CPU threads for one inference; None takes all cores.

    Raises:
        MissingExtra: openvino is not installed.
        EngineError: the file is missing, damaged or breaks the graph contract.
    """

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        ov = require("openvino", extra="openvino", why="Running an OpenVINO engine")
        if not file.is_file():
            raise EngineError(f"there is no engine file {file}", hint="copy or export the bundle again")
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        self._file = file
        try:
            model = ov.Core().compile_model(str(file), "CPU", config)
        except Exception as error:  # the backend raises RuntimeError and others of its own
            raise failed(file, "OpenVINO cannot load", error) from error
        self.inputs = tuple(_spec(port) for port in model.inputs)
        found = {spec.name: spec for spec in (_spec(port) for port in model.outputs)}
        self.outputs = tuple(found[name] for name in OUTPUT_NAMES if name in found)
        check_graph(file, self.inputs, self.outputs)
        self._request: Any = model.create_infer_request()

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map (a new array) of one H x W x 3 uint8 BGR picture at model size.

        Raises:
            BadInput: another shape or dtype.
            EngineError: closed, or the backend failed.
        """
        if self._request is None:
            raise closed(self._file)
        batch = batch_of_one(image, self.inputs[0])
        try:
            self._request.infer([batch], share_inputs=True)
            # The request reuses its output buffers; a map that is still being drawn must not change under the painter.
            anomaly_map: AnomalyMap = self._request.get_tensor("anomaly_map").data[0].copy()
            return float(self._request.get_tensor("score").data[0]), anomaly_map
        except Exception as error:  # see above
            raise failed(self._file, "inference failed with", error) from error

    def close(self) -> None:
        """Release the request and the compiled model; may be called twice."""
        self._request = None


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
