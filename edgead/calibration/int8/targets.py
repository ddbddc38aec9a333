"""Where an INT8 graph is to run, and what that asks of it.

| target | weights | why |
|---|---|---|
| openvino, onnxruntime on a CPU nobody knows | 7 bits | x86 without VNNI sums pairs of 8-bit products in 16 bits and saturates |
| the same on a CPU that is known to have VNNI or Arm's dot product | 8 bits | it sums in 32 bits |
| openvino on Intel's GPU or NPU | 8 bits | they sum in 32 bits |
| tensorrt, tensorrt-rtx | 8 bits | tensor cores sum in 32 bits |

Everything else is the same everywhere (docs/calibration.md): symmetric signed 8-bit activations per tensor, weights per output
channel on axis 0, float biases, nothing quantised but large dense products before the score tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgead.calibration.int8.observers import METHODS
from edgead.errors import BadInput

BACKENDS = ("openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")
DEVICES = {"openvino": ("cpu", "gpu", "npu"), "onnxruntime": ("cpu",), "tensorrt": ("gpu",), "tensorrt-rtx": ("gpu",)}
"""The devices of each backend, its usual one first."""

TOOLS = ("edgead", "nncf")
WEIGHT_LEVELS = {7: 63, 8: 127}
"""Largest integer of a symmetric weight by bits."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How the INT8 graph is made. Targets with equal options share one graph.

    Attributes:
        weight_bits: 7 (right on every CPU) or 8 (slightly finer, but wrong on x86 without VNNI).
        method: activation ranges: ``"minmax"``, ``"mse"`` or ``"percentile"``. The last two may clip what good pictures rarely
            reach, which is where defects are, and the first one has room for these: on elpv the maps of PatchCore and
            EfficientAD were 2 to 3 times farther from FP32 with ``"mse"``.
        percentile: share of magnitudes in percent that ``"percentile"`` covers, above 50 and up to 100.
        correct_bias: let the bias take back what rounding the weights moved.
        correct_rounding: round the weights of 1x1 convolutions and matrix products together, not each by itself.
        tool: ``"edgead"`` (our own writer) or ``"nncf"`` (OpenVINO only, writes an IR).
    """

    weight_bits: int = 7
    method: str = "minmax"
    percentile: float = 99.99
    correct_bias: bool = True
    correct_rounding: bool = True
    tool: str = "edgead"

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_LEVELS:
            raise BadInput(f"{self.weight_bits}-bit weights are not supported", hint="choose 7 or 8")
        if self.method not in METHODS:
            raise BadInput(f"unknown calibration method {self.method!r}", hint=f"choose {' or '.join(METHODS)}")
        if not 50.0 < self.percentile <= 100.0:
            raise BadInput(f"a percentile of {self.percentile:g} is not usable", hint="give a number above 50 and up to 100")
        if self.tool not in TOOLS:
            raise BadInput(f"unknown calibration tool {self.tool!r}", hint=f"choose {' or '.join(TOOLS)}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Target:
    """One backend on one kind of device; see :func:`target_for`.

    Attributes:
        backend: of `BACKENDS`.
        device: ``"cpu"``, ``"gpu"`` or ``"npu"``.
        wide_sums: the device is known to sum 8-bit products without saturating, so weights may have 8 bits.
        options: how the INT8 graph for it is made.
    """

    backend: str
    device: str = "cpu"
    wide_sums: bool = False
    options: QuantizeOptions = field(default_factory=QuantizeOptions)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise BadInput(f"unknown target {self.backend!r}", hint=f"choose {', '.join(BACKENDS)}")
        if self.device not in DEVICES[self.backend]:
            raise BadInput(f"{self.backend} does not run on {self.device!r}", hint=f"choose {' or '.join(DEVICES[self.backend])}")
        if self.options.tool == "nncf" and self.backend != "openvino":
            raise BadInput(
                f"NNCF's graphs are not for {self.backend}",
                hint='use the tool "edgead": TensorRT misreads what NNCF writes for ONNX',
            )

    @property
    def tensorrt(self) -> bool:
        """TensorRT of either kind: what it refuses and misreads is the same."""
        return self.backend in {"tensorrt", "tensorrt-rtx"}

    def __str__(self) -> str:
        return f"{self.backend} on {self.device}"


def target_for(
    backend: str,
    device: str | None = None,
    facts: Mapping[str, Any] | None = None,
    weight_bits: int | None = None,
    method: str = "minmax",
    percentile: float = 99.99,
    tool: str = "edgead",
) -> Target:
    """The contract for a backend on a device.

    Args:
        backend: of `BACKENDS`.
        device: None takes the backend's usual one.
        facts: of the machine that will run it, as ``machine.facts()`` gives them there; None when it is not known, which is the
            default on purpose: a bundle goes to another box than the one that made it, and 7 bits are right on all of them.
        weight_bits: None lets the target decide; 8 says that the device is known to take them (a CPU with VNNI).
        method, percentile, tool: see :class:`QuantizeOptions`.

    Raises:
        BadInput: no such backend, device or setting.
    """
    if backend not in BACKENDS:
        raise BadInput(f"unknown target {backend!r}", hint=f"choose {', '.join(BACKENDS)}")
    device = device or DEVICES[backend][0]
    wide = device != "cpu" or bool(facts and facts.get("int8_dot")) or weight_bits == 8
    options = QuantizeOptions(weight_bits or (8 if wide else 7), method, percentile, tool=tool)
    return Target(backend, device, wide, options)
