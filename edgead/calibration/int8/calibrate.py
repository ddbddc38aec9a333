"""The one front door: a float ONNX graph, good pictures and a target -> an INT8 graph and a report on every layer of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.calibration.findings import Finding, errors
from edgead.calibration.int8.concats import split_concats
from edgead.calibration.int8.lint import lint_graph
from edgead.calibration.int8.nncf import calibrate_nncf
from edgead.calibration.int8.observe import Ranges, observe
from edgead.calibration.int8.products import WHY, find_products, float_places, load_graph, multiplications, shrinking_pools
from edgead.calibration.int8.quantize import insert_pairs
from edgead.calibration.int8.stem import centre_picture
from edgead.calibration.int8.targets import Target
from edgead.calibration.pictures.screening import Reference
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.errors import BadInput, EngineError
from edgead.layout import listed
from edgead.optional import require


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One product that became INT8.

    Attributes:
        node, op: the product's name and operator in the float graph; a convolution of a concatenation has a row for each part.
        activation: name of its input tensor.
        step: of that tensor's 8-bit grid, in the tensor's units.
        method: how the step was chosen: ``"exact"`` (the uint8 picture itself), ``"analytic"`` (from its range), ``"minmax"``,
            ``"mse"`` or ``"percentile"``.
        clipped_share: share of the input's values on the calibration pictures that the grid cannot hold.
        activation_sqnr_db: power of the input over the power of its rounding and clipping error, in decibels.
        weight_sqnr_db: the same for the weights.
        bias_shift: largest correction of a channel's bias, in the output's units (0 without a correction).
        multiplications: of one inference (0 when the shapes are not known).
    """

    node: str
    op: str
    activation: str
    step: float
    method: str
    clipped_share: float
    activation_sqnr_db: float
    weight_sqnr_db: float
    bias_shift: float
    multiplications: int


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What :func:`calibrate` did.

    Attributes:
        target: where the graph may run, and the options it was made with.
        products: how many products became INT8.
        layers: one row for each of them, in graph order; empty when NNCF made the graph.
        kept_float: (node, op, why) of every product that stayed float.
        findings: on the pictures and on the written graph.
        digest, pictures, duplicates: of the calibration set; the last counts pictures dropped because another one is the same.
    """

    target: Target
    products: int
    layers: tuple[LayerRow, ...]
    kept_float: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]
    digest: str
    pictures: int
    duplicates: int

    def to_json(self) -> dict[str, Any]:
        """JSON-able; a signal to noise ratio without noise is null."""
        data = asdict(self)
        for row in data["layers"]:
            row.update({key: None for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)})
        return data


def in_words(kept_float: Sequence[tuple[str, str, str]]) -> list[str]:
    """``["depthwise or grouped: 2 Conv (deep, deeper)"]``, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for node, op, why in kept_float:
        found.setdefault((why, op), []).append(node)
    return [f"{why}: {len(nodes)} {op} ({listed(nodes)})" for (why, op), nodes in found.items()]


def calibrate(
    model: Path,
    calibration: CalibrationSet,
    target: Target,
    keep_float: Sequence[str] = (),
    *,
    output: Path,
    ranges: Ranges | None = None,
    reference: Reference | None = None,
    allow_unsafe: bool = False,
    report: Callable[[float], None] = lambda fraction: None,
    threads: int | None = None,
) -> CalibrationReport:
    """Write the INT8 graph of a float ONNX graph for a target.

    Args:
        model: float ONNX file by the graph contract (docs/architecture.md).
        calibration: good pictures at model size.
        target: see :func:`edgead.calibration.int8.targets.target_for`.
        keep_float: names of nodes that stay float; those of `LayerRow.node`.
        output: file to write: ``.onnx``, or ``.xml`` (OpenVINO IR with its ``.bin``) for the tool ``"nncf"``.
        ranges: what :func:`~edgead.calibration.int8.observe.observe` found with the same model and pictures; None runs it here.
        The
            pictures need to be looked at only once, however often one calibrates.
        reference, allow_unsafe: see :func:`~edgead.calibration.int8.observe.observe`.
        report: told the share of pictures done, 0 to 1.
        threads: CPU threads for running the float model; None takes all cores.

    Raises:
        BadInput: the pictures are refused, nothing in the graph may be quantised, a tensor is not finite on a picture, or
            `keep_float` names a node that is not there.
        MissingExtra: onnx, onnxruntime or (for its tool) nncf is not installed.
        EngineError: the graph does not run, or the result is something that the target would refuse or misread.
    """
    graph = load_graph(model)
    if target.options.tool != "nncf":  # it reads the file itself
        centre_picture(graph, keep_float)
    origins = split_concats(graph, keep_float)
    products, kept = find_products(graph, keep_float)
    if not products:
        raise BadInput(f"{model} holds nothing that may be quantised", hint="export it with --precision fp32")
    if ranges is None:
        ranges = observe(model, calibration, reference=reference, allow_unsafe=allow_unsafe, report=report, threads=threads)
    if target.options.tool == "nncf":
        count = calibrate_nncf(model, calibration, [*(node for node, _, _ in kept), *float_places(graph)], target, output)
        return _report(target, count, (), kept, ranges.findings, calibration)
    counts = multiplications(graph, products)
    names = [(p.node.name, origins.get(p.node.name, p.node.name), p.node.op_type, p.activation) for p in products]
    written = insert_pairs(graph, products, shrinking_pools(graph, products, keep_float), ranges.tensors, target.options)
    found = lint_graph(graph, target)
    if bad := errors(found):
        raise EngineError(f"the INT8 graph does not suit {target}: {bad[0]}", hint="please report it")
    onnx = require("onnx", extra="export", why=WHY)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(output))
    rows = []
    for (name, origin, op, activation), done in zip(names, written, strict=True):
        noise = ranges.tensors[activation].noise(done.step)
        shift = done.bias_shift
        rows.append(LayerRow(origin, op, activation, done.step, done.method, *noise, done.weight_sqnr_db, shift, counts[name]))
    return _report(target, len(rows), tuple(rows), kept, (*ranges.findings, *found), calibration)


def _report(
    target: Target,
    products: int,
    rows: tuple[LayerRow, ...],
    kept: list[tuple[str, str, str]],
    findings: tuple[Finding, ...],
    calibration: CalibrationSet,
) -> CalibrationReport:
    duplicates = len(calibration.duplicates)
    return CalibrationReport(target, products, rows, tuple(kept), findings, calibration.digest, len(calibration), duplicates)
