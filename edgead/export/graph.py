"""Torch detector -> ``model.onnx`` by the graph contract (docs/architecture.md), checked after it is written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edgead.calibration.int8.products import PRODUCTS, STAYS_FLOAT
from edgead.errors import EngineError
from edgead.models.detector import Detector
from edgead.optional import require

OPSET = 18
"""Taken by OpenVINO 2024 and later, ONNX Runtime 1.14 and later, and TensorRT 10 and later."""

_LARGEST_FOLD = 2**31


def write_onnx(detector: Detector, target: Path) -> None:
    """Write the detector as a static graph for one picture.

    uint8 ``image`` 1 x H x W x 3 BGR -> float32 ``anomaly_map`` 1 x h x w and ``score`` 1, raw model units.
    Constants are folded and the file is self-contained.

    Raises:
        MissingExtra: onnx or onnxscript is not installed.
        EngineError: the detector cannot be expressed, or the result breaks the graph contract.
    """
    onnx = require("onnx", extra="export", why="Exporting to ONNX")
    if detector.exports == "onnx":  # imported: it is an ONNX file already
        model = onnx.load_from_string(detector.serialized())
        _check(onnx, model, detector.image_size)
        onnx.save(model, str(target))
        return
    optimizer = require("onnxscript.optimizer", extra="export", why="Exporting to ONNX")
    height, width = detector.image_size
    example = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    names = ["anomaly_map", "score"]
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                detector, (example,), input_names=["image"], output_names=names, opset_version=OPSET, dynamo=True, verbose=False
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0][:200]
            raise EngineError(f"the model cannot be written as ONNX: {reason}", hint="use plain operators in detect()") from error
        assert program is not None
        optimizer.optimize(program.model, input_size_limit=_LARGEST_FOLD, output_size_limit=_LARGEST_FOLD)
        model = program.model_proto
    _strip(model)
    for name, module in detector.named_modules():
        if isinstance(module, Detector):
            module.store(model, name)
            for part in module.float_parts:
                _stay_float(model, f"{name}.{part}.".lstrip("."))
    _check(onnx, model, (height, width))
    onnx.save(model, str(target))


def _strip(model: Any) -> None:
    """Drop what only tells about the exporting machine: stack traces, file paths, value infos."""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def _stay_float(model: Any, weights: str) -> None:
    """Name the nodes that read weights of these names so that INT8 leaves them float."""
    for node in model.graph.node:
        if node.op_type in PRODUCTS and any(name.startswith(weights) for name in node.input):
            node.name = f"{STAYS_FLOAT}{node.name}"


def _check(onnx: Any, model: Any, size: tuple[int, int]) -> None:
    onnx.checker.check_model(model, full_check=True)
    kinds = onnx.TensorProto
    expected = {"image": (kinds.UINT8, [1, *size, 3]), "anomaly_map": (kinds.FLOAT, None), "score": (kinds.FLOAT, [1])}
    found = {}
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        found[value.name] = (tensor.elem_type, [d.dim_value for d in tensor.shape.dim])
    for name, (kind, shape) in expected.items():
        has = found.get(name)
        if has is None or has[0] != kind or (shape is not None and has[1] != shape):
            raise EngineError(
                f"the exported graph breaks the contract at {name!r}: {has}", hint="this is a fault of the model class"
            )
    shape = found["anomaly_map"][1]
    if len(found) != 3 or len(shape) != 3 or shape[0] != 1 or min(shape) < 1:
        raise EngineError(f"the exported graph breaks the contract: {found}", hint="this is a fault of the model class")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs that torchvision is absent and warns about its own inner workings; neither concerns the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        log.setLevel(level)
