"""Intel's NNCF (https://github.com/openvinotoolkit/nncf) as another tool for OpenVINO. The vendor's name appears only here.

Its defaults ruin these models, so this is the best recipe found (docs/calibration.md): the "performance" preset (symmetric
activations), min-max ranges, the overflow fix for CPUs without VNNI, no bias correction of its own, and nothing quantised in
depthwise and grouped convolutions, pools, the stem and the score tail. It quantises more than our own writer does (additions,
concatenations, resizes), which serves Intel's GPU and NPU. TensorRT misreads what it writes for ONNX, so it writes an OpenVINO
IR.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from edgead.calibration.int8.observe import stained_pictures
from edgead.calibration.int8.products import TAIL_STARTS
from edgead.calibration.int8.targets import Target
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.openvino import write_ir
from edgead.errors import BadInput, EngineError
from edgead.optional import require

_GROUPED = ("GroupConvolution", "AvgPool")


def calibrate_nncf(model: Path, calibration: CalibrationSet, keep_float: Sequence[str], target: Target, output: Path) -> int:
    """Write the INT8 IR of a float ONNX graph.

    Args:
        model: float ONNX file by the graph contract.
        keep_float: names of ONNX nodes that stay float, besides grouped convolutions, average pools and the score tail.
        output: an ``.xml`` file; its ``.bin`` goes beside it.

    Returns:
        How many operations became INT8.

    Raises:
        BadInput: `output` is not an ``.xml`` file.
        MissingExtra: nncf or openvino is not installed.
        EngineError: NNCF or OpenVINO refuses the graph.
    """
    if output.suffix != ".xml":
        raise BadInput(f"NNCF writes an OpenVINO IR, not {output.name}", hint="give a file that ends in .xml")
    nncf = require("nncf", extra="nncf", why="Calibrating with NNCF")
    logging.getLogger("nncf").setLevel(logging.WARNING)
    pictures = [*calibration, *stained_pictures(calibration)]
    counts: list[int] = []

    def transform(graph: Any) -> Any:
        scope = nncf.IgnoredScope(names=_names(graph, set(keep_float)), types=list(_GROUPED), validate=False)
        ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
        advanced = nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.DISABLE if target.wide_sums else nncf.OverflowFix.ENABLE,
            disable_bias_correction=True,
            activations_range_estimator_params=ranges,
        )
        try:
            with redirect_stdout(io.StringIO()):  # it draws progress bars of its own
                quantised = nncf.quantize(
                    graph,
                    nncf.Dataset(pictures, lambda image: image[None]),
                    preset=nncf.QuantizationPreset.PERFORMANCE,
                    target_device=nncf.TargetDevice(target.device.upper()),
                    subset_size=len(pictures),
                    ignored_scope=scope,
                    advanced_parameters=advanced,
                )
        except Exception as error:  # NNCF's exceptions have no common base
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise EngineError(f"NNCF cannot quantise {model.name}: {reason}", hint='use the tool "edgead"') from error
        counts.append(_int8_products(quantised))
        return quantised

    write_ir(model, output, transform)
    return counts[0]


def _names(graph: Any, keep_float: set[str]) -> list[str]:
    """Names in the OpenVINO model of what stays float: the score tail and the ONNX nodes asked for."""
    tail: set[str] = set()
    for op in graph.get_ordered_ops():
        parents = [op.input_value(i).get_node().get_friendly_name() for i in range(op.get_input_size())]
        if op.get_type_name() in TAIL_STARTS or any(parent in tail for parent in parents):
            tail.add(op.get_friendly_name())
    names = [op.get_friendly_name() for op in graph.get_ops()]
    kept = [name for name in names if name.removesuffix("/WithoutBiases") in keep_float]  # OpenVINO splits biases off
    return sorted({*tail, *kept})


def _int8_products(graph: Any) -> int:
    """Products whose weights are stored as 8-bit integers."""
    count = 0
    for op in graph.get_ops():
        if op.get_type_name() in {"Convolution", "MatMul"}:
            source = op.input_value(1)
            while source.get_node().get_type_name() in {
                "Convert",
                "Multiply",
                "Subtract",
                "FakeQuantize",
                "Reshape",
                "Transpose",
            }:
                source = source.get_node().input_value(0)
            count += source.get_element_type().get_type_name() in {"i8", "u8"}
    return count
