"""What the float model computes inside on the calibration pictures: range, mean and covariance of every tensor that may become
INT8.

Ranges of good pictures alone would clip what defects give: a bright spot on an even surface lost 60 % of its score in a small
network with ReLU. So the largest magnitudes are also taken from some of the pictures with black, white and coloured patches
drawn on. Where nothing was clipped before, this changes next to nothing (docs/calibration.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.calibration.findings import Finding
from edgead.calibration.int8.concats import split_concats
from edgead.calibration.int8.observers import LEVELS, MagnitudeHistogram
from edgead.calibration.int8.products import WHY, exact_tensors, find_products, load_graph, pixel_tensors, shrinking_pools
from edgead.calibration.int8.stem import centre_picture
from edgead.calibration.int8.targets import QuantizeOptions
from edgead.calibration.pictures.screening import Reference, screen
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.onnxruntime import Tapped
from edgead.errors import BadInput
from edgead.optional import require
from edgead.types import Image

Report = Callable[[float], None]

WIDEST, COLUMNS = 1024, 4096
STAINED = 16
"""Covariances are measured of tensors with at most `WIDEST` channels, on about `COLUMNS` places of a picture. Patches are drawn
on at most `STAINED` pictures."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One tensor on the calibration pictures.

    Attributes:
        histogram: of its magnitudes.
        mean: float64 C, of each channel (axis 1 of N x C x h x w, the last axis of others).
        covariance: float64 K x K of what a product multiplies with the K weights of a row, where it rounds them together: the
            channels for 1x1 convolutions and matrix products, windows for convolutions that read the picture; else None.
        stained_top: the largest magnitude on pictures with patches drawn on.
        pixel_top: the largest magnitude that any picture can give when the tensor is a plain function of its pixels, else None.
        exact: the tensor is the picture itself, minus 128.
    """

    histogram: MagnitudeHistogram
    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64] | None = None
    stained_top: float = 0.0
    pixel_top: float | None = None
    exact: bool = False

    def step(self, options: QuantizeOptions) -> tuple[float, str]:
        """The step of the 8-bit grid and how it was chosen."""
        if self.exact:
            return 1.0, "exact"
        if self.pixel_top is not None:
            return (self.pixel_top / LEVELS or 1.0), "analytic"
        step = self.histogram.scale(options.method, options.percentile)
        if options.method == "minmax" and self.stained_top:
            step = max(self.stained_top, self.histogram.largest) / LEVELS
        return step, options.method

    def noise(self, step: float) -> tuple[float, float]:
        """On the calibration pictures: share of the values that a grid of this step cannot hold, signal to noise ratio in dB."""
        return (0.0, math.inf) if self.exact else (self.histogram.clipped_share(step), self.histogram.sqnr_db(step))


@dataclass(frozen=True, slots=True)
class Ranges:
    """All that calibration learned from the pictures; good for any options and any choice of layers of the same model.

    Attributes:
        tensors: by name.
        scores: float32 N, the float model's scores of the pictures, raw model units; empty when the graph has no output
            ``score``.
        findings: of the screening; none is an error unless the caller allowed it.
    """

    tensors: Mapping[str, Observed]
    scores: npt.NDArray[np.float32]
    findings: tuple[Finding, ...]


def observe(
    model: Path,
    calibration: CalibrationSet,
    *,
    reference: Reference | None = None,
    allow_unsafe: bool = False,
    report: Report = lambda fraction: None,
    threads: int | None = None,
) -> Ranges:
    """Run the float model on the calibration pictures, and look whether the pictures are what they should be.

    Args:
        model: float ONNX file by the graph contract.
        reference: good pictures known to be right (held out from training) to compare with.
        allow_unsafe: go on with a set that is too small or looks wrong; what was found is then among the findings.
        report: told the share of pictures done, 0 to 1.
        threads: CPU threads of the float model; None takes all cores.

    Raises:
        BadInput: the set is refused (see :func:`~edgead.calibration.pictures.screening.screen`), a picture has not the model's
        size,
            nothing may be quantised, or a tensor is not finite on a picture.
        EngineError: the graph does not run.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    screen(calibration, reference=reference, allow_unsafe=allow_unsafe)  # refuse early, before minutes of inference
    graph = load_graph(model)
    _check_size(graph, calibration)
    centre_picture(graph)
    split_concats(graph)
    products = find_products(graph)[0]
    pools = shrinking_pools(graph, products)
    names = list(dict.fromkeys([*(product.activation for product in products), *(pool.input[0] for pool in pools)]))
    exact = exact_tensors(graph)
    kernels = {p.activation: p.kernel for p in products if p.pointwise or (p.activation in exact and not p.dilated)}
    if not names:
        raise BadInput(f"{model} holds nothing that may be quantised", hint="export it with --precision fp32")
    scored = "score" in {value.name for value in graph.graph.output} and "score" not in names
    tapped = [*names, "score"] if scored else names
    run = Tapped(_with_outputs(graph, tapped), tapped, threads)
    tensors = _measure(run, {name: _Tensor(kernels.get(name)) for name in tapped}, calibration, report)
    scores = np.array(tensors.pop("score").values if scored else [], np.float32)
    findings = screen(calibration, scores if scored else None, reference, allow_unsafe)
    tops = _pixel_tops(run, tapped, pixel_tensors(graph), calibration.images[0].shape)
    stained = _tops(run, tapped, stained_pictures(calibration))
    observed = {name: tensor.result(stained[name], tops.get(name), name in exact) for name, tensor in tensors.items()}
    return Ranges(observed, scores, tuple(findings))


class _Tensor:
    """Running measurements of one tensor; `values` are the first one of each picture (all there is of a score), `kernel` is the
    window that covariances are of (() and 1 x 1: single places), None without them."""

    def __init__(self, kernel: tuple[int, ...] | None) -> None:
        self.histogram = MagnitudeHistogram()
        self.values: list[float] = []
        self._kernel = kernel
        self._means: list[npt.NDArray[np.float64]] = []
        self._sum: Any = 0.0
        self._products: Any = 0.0
        self._count = 0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        self.histogram.add(values)
        self.values.append(float(values.flat[0]))
        columns = (
            values.swapaxes(0, 1).reshape(values.shape[1], -1) if values.ndim == 4 else values.reshape(-1, values.shape[-1]).T
        )
        self._means.append(columns.mean(1, dtype=np.float64))
        if self._kernel is not None and len(columns) * math.prod(self._kernel) <= WIDEST:
            some = columns if math.prod(self._kernel) == 1 else _windows(values, self._kernel)
            some = some[:, :: max(1, some.shape[1] // COLUMNS)]
            self._sum += some.sum(1, dtype=np.float64)
            self._products += (some @ some.T).astype(np.float64)
            self._count += some.shape[1]

    def result(self, stained_top: float, pixel_top: float | None, exact: bool) -> Observed:
        covariance = None
        if self._count:
            mean = self._sum / self._count
            covariance = self._products / self._count - np.outer(mean, mean)
        return Observed(self.histogram, np.mean(self._means, axis=0), covariance, stained_top, pixel_top, exact)


def _windows(values: npt.NDArray[np.float32], kernel: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """C k k' x places: the windows of N x C x h x w, about `COLUMNS` of them, in the order of a convolution's weights."""
    windows = np.lib.stride_tricks.sliding_window_view(values, kernel, (2, 3))
    apart = max(1, math.isqrt(windows.shape[0] * windows.shape[2] * windows.shape[3] // COLUMNS))
    some: npt.NDArray[np.float32] = windows[:, :, ::apart, ::apart].transpose(1, 4, 5, 0, 2, 3)
    return some.reshape(math.prod(some.shape[:3]), -1)


def _measure(run: Tapped, tensors: dict[str, _Tensor], calibration: CalibrationSet, report: Report) -> dict[str, _Tensor]:
    for i, (image, picture) in enumerate(zip(calibration.images, calibration.names, strict=True)):
        for name, values in zip(tensors, run(image), strict=True):
            try:
                tensors[name].add(values)
            except ValueError as error:
                what = "the model's score" if name == "score" else f"tensor {name!r} of the model"
                raise BadInput(
                    f"{what} is not finite on calibration picture {picture}: no INT8 range can be measured",
                    hint="the model is broken (too high a learning rate?): train it again",
                ) from error
        report((i + 1) / len(calibration))
    return tensors


def _tops(run: Tapped, names: Sequence[str], images: Iterable[Image]) -> dict[str, float]:
    """The largest finite magnitude of each tensor on some pictures."""
    largest = dict.fromkeys(names, 0.0)
    for image in images:
        for name, values in zip(names, run(image), strict=True):
            top = float(np.abs(values).max(initial=0.0))
            largest[name] = max(largest[name], top if np.isfinite(top) else 0.0)
    return largest


def _pixel_tops(run: Tapped, names: Sequence[str], pixel: set[str], shape: tuple[int, ...]) -> dict[str, float]:
    """The largest magnitude of each tensor that is a plain function of the picture, from a black and a white one."""
    if not any(name in pixel for name in names):
        return {}
    tops = _tops(run, names, [np.full(shape, value, np.uint8) for value in (0, 255)])
    return {name: top for name, top in tops.items() if name in pixel}


def stained_pictures(calibration: CalibrationSet) -> Iterator[Image]:
    """Some of the pictures with two patches drawn on each, black, white or of any colour; always the same ones."""
    rng = np.random.default_rng(0)
    for image in calibration.images[:: -(-len(calibration) // STAINED)]:
        spoilt = image.copy()
        short = min(image.shape[:2])
        for extreme in (0, 255):
            side = int(rng.integers(max(2, short // 16), max(3, short // 5)))
            y, x = int(rng.integers(0, image.shape[0] - side)), int(rng.integers(0, image.shape[1] - side))
            colour = extreme if rng.random() < 0.5 else rng.integers(0, 256, 3)
            spoilt[y : y + side, x : x + side] = colour
        yield spoilt


def _with_outputs(graph: Any, names: Sequence[str]) -> bytes:
    """The serialised model with these float tensors as its outputs."""
    onnx = require("onnx", extra="export", why=WHY)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(graph)
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    serialised: bytes = tapped.SerializeToString()
    return serialised


def _check_size(graph: Any, calibration: CalibrationSet) -> None:
    for value in graph.graph.input:
        wanted = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        found = list(calibration.images[0].shape)
        if value.name == "image" and wanted != found:
            raise BadInput(
                f"the calibration pictures are {found[1]} x {found[0]} px, the model takes {wanted[1]} x {wanted[0]} px",
                hint="bring them to model size with the model's preprocess recipe",
            )


def largest_values(graph: Any, calibration: CalibrationSet, names: Sequence[str] | set[str]) -> dict[str, float]:
    """Largest magnitude of each named float tensor of a model in memory on the pictures; the graph finds it, so that no tensor
    is kept.

    Raises:
        BadInput: a picture has not the model's size.
        EngineError: the graph does not run.
    """
    _check_size(graph, calibration)
    onnx = require("onnx", extra="export", why=WHY)
    wanted = sorted(names)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(graph)
    for k, name in enumerate(wanted):
        tapped.graph.node.append(onnx.helper.make_node("Abs", [name], [f"edgead.abs.{k}"]))
        tapped.graph.node.append(onnx.helper.make_node("ReduceMax", [f"edgead.abs.{k}"], [f"edgead.top.{k}"], keepdims=0))
    tops = [f"edgead.top.{k}" for k in range(len(wanted))]
    run = Tapped(_with_outputs(tapped, tops), tops)
    rows = np.array([run(image) for image in calibration], np.float64)
    return dict(zip(wanted, np.where(np.isfinite(rows), rows, np.inf).max(0).tolist(), strict=True))
