"""ONNX by the graph contract -> a TensorRT plan. The precision is in the graph (half floats, Q/DQ pairs): the network is strongly
typed and the builder only compiles. There is neither `BuilderFlag.INT8` nor a calibrator, which TensorRT 11 no longer has.

TensorRT builds on the GPU that will run the plan. TensorRT for RTX builds ahead of time, without any GPU, for chosen compute
capabilities. Neither torch nor onnx is needed.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead import disk
from edgead.bundle import storage_errors
from edgead.calibration.findings import errors
from edgead.calibration.int8.lint import lint
from edgead.calibration.int8.targets import target_for
from edgead.engines._contract import OUTPUT_NAMES, check_graph
from edgead.engines._tensorrt import FLAVOURS, batch_1, dtype_name, load_tensorrt, log_of, short
from edgead.engines.cuda import DeviceInfo, NoGpu, open_cuda
from edgead.errors import BadInput, EngineError, MissingExtra
from edgead.types import TensorSpec

PRECISIONS = ("fp32", "fp16", "int8")
MISREADINGS = ("Defaulting to INT8", "will use INT8 instead", "Missing scale and zero-point", "was clamped", "being clamped")
"""Warnings after which the plan computes something else than the graph says: errors, by our decision."""

WHY = "Building a TensorRT engine"
_QUANTISE = "quantise with edgead export (signed, symmetric, float biases); see edgead docs tensorrt"
_BUILD_HINT = "see edgead docs tensorrt for what TensorRT takes; --backend onnxruntime runs any graph"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How the plan is built.

    Attributes:
        workspace_mb: most device memory that one layer may use while it runs, MiB; None: all of it.
        compute_capabilities: kinds of GPUs that the plan is for, like ``("8.9", "12.0")``; empty: the GPU here. TensorRT for RTX
            only.
        batch: least, usual and most pictures at once, for a graph whose first dimension is open; None: the graph is static.
        timing_cache: file that keeps what TensorRT measured of its kernels, so that the next build is faster (TensorRT only).
        dla_core: build for this deep learning accelerator of an Orin; layers that it does not take go to the GPU (TensorRT only).
    """

    workspace_mb: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    batch: tuple[int, int, int] | None = None
    timing_cache: Path | None = None
    dla_core: int | None = None

    def __post_init__(self) -> None:
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise BadInput(f"a workspace of {self.workspace_mb} MiB is not usable", hint="give a number above 0")
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise BadInput(f"batch sizes {self.batch} are not usable", hint="give least <= usual <= most, from 1 on")


@dataclass(frozen=True, slots=True)
class Built:
    """A finished plan.

    Attributes:
        built_with: for :class:`edgead.bundle.EngineRecord`: versions, GPU or target compute capabilities, build time, size.
        warnings: what the builder said besides.
        fallback: layers that the DLA did not take.
        device: the GPU that it was built on; None when it was built ahead of time.
    """

    built_with: dict[str, str]
    warnings: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    device: DeviceInfo | None = None


def parse_capabilities(text: str) -> tuple[str, ...]:
    """``"89,12.0"`` -> ``("8.9", "12.0")``.

    Raises:
        BadInput: something else.
    """
    found = []
    for part in text.split(","):
        digits = part.strip().lower().removeprefix("sm").replace(".", "")
        if not digits.isdigit() or not 2 <= len(digits) <= 3:
            raise BadInput(
                f"{part.strip()!r} is not a compute capability", hint="write it as 89 or 8.9; several with commas: 89,120"
            )
        found.append(f"{digits[:-1]}.{digits[-1]}")
    return tuple(dict.fromkeys(found))


def gpu_here(backend: str) -> DeviceInfo | None:
    """The GPU of this machine, or None when a plan for `backend` can only be built ahead of time here."""
    try:
        cuda = open_cuda()
    except (MissingExtra, NoGpu):
        return None
    try:
        with cuda.current():
            return cuda.device()
    finally:
        cuda.close()


def build_engine(graph: Path, target: Path, backend: str, precision: str, options: BuildOptions | None = None) -> Built:
    """Build `target` (a plan) from `graph` (ONNX) for ``"tensorrt"`` or ``"tensorrt-rtx"``.

    Args:
        precision: of `PRECISIONS`, what `graph` holds. FP32 switches TF32 off, which would round products to 10 bits.

    Raises:
        MissingExtra: the backend is not installed.
        BadInput: an option that this backend or machine does not know, or a precision that does not exist.
        NoGpu: TensorRT needs one to build.
        EngineError: the graph is refused, or would be misread, by node name; it breaks the contract.
        StorageError: the plan cannot be written; nothing half-written stays.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"TensorRT has no precision {precision!r}", hint=f"choose {', '.join(PRECISIONS)}")
    _lint(graph, backend)
    return _Build(graph, backend, precision, options or BuildOptions()).run(target)


def check_options(backend: str, precision: str, options: BuildOptions) -> None:
    """Raise at once what :func:`build_engine` would raise before it reads the graph."""
    if backend in FLAVOURS:
        _Build(Path(), backend, precision, options)


def _lint(graph: Path, backend: str) -> None:
    """Refuse by node name what TensorRT would refuse or misread; on a device without onnx its own words must do."""
    if importlib.util.find_spec("onnx") is None:
        return
    for finding in errors(lint(graph, target_for(backend))):
        raise BadInput(f"{FLAVOURS[backend].title} cannot take {graph.name}: {finding}", hint=_QUANTISE)


class _Build:
    """One run of the builder."""

    def __init__(self, graph: Path, backend: str, precision: str, options: BuildOptions) -> None:
        self.graph, self.precision, self.options = graph, precision, options
        self.flavour = FLAVOURS[backend]
        self.trt: Any = load_tensorrt(backend, WHY)
        self.ahead_of_time = backend == "tensorrt-rtx"
        self._check_options()
        self.device = gpu_here(backend)
        self._check_device()
        self.log = log_of(self.trt)
        self.mark = self.log.mark()
        self.builder: Any = self.trt.Builder(self.log.logger)

    def run(self, target: Path) -> Built:
        began = time.perf_counter()
        network = self._parse()
        config = self._configured(network)
        fallback = self._to_dla(network, config)
        plan = self.builder.build_serialized_network(network, config)
        self._refuse_misreadings()
        if plan is None:
            reason = self.log.reason(self.mark)
            hint = "leave compute capability 75 out" if "Turing" in reason else _BUILD_HINT
            raise EngineError(f"{self.flavour.title} cannot build {self.graph.name}: {reason}", hint=hint)
        seconds = time.perf_counter() - began
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            disk.write_file(target, bytes(plan))
            self._keep_timings(config)
        warnings = tuple(short(message) for message in self.log.since(self.mark, ("WARNING",)))
        return Built(self._built_with(seconds, plan.nbytes, fallback), warnings, fallback, self.device)

    def _check_options(self) -> None:
        options = self.options
        if options.compute_capabilities and not self.ahead_of_time:
            raise BadInput(
                f"{self.flavour.title} builds for the GPU of this machine only",
                hint="leave --compute-capability out, or take --backend tensorrt-rtx",
            )
        if options.dla_core is not None and self.ahead_of_time:
            raise BadInput("TensorRT for RTX has no DLA", hint="take --backend tensorrt on an Orin")
        if options.dla_core is not None and self.precision == "fp32":
            raise BadInput("a DLA computes in half precision or INT8", hint="give --precision fp16 or int8")
        unknown = [wanted for wanted in options.compute_capabilities if not hasattr(self._capabilities(), _sm(wanted))]
        if unknown:
            known = ", ".join(sorted((name[2:] for name in dir(self._capabilities()) if name[:2] == "SM"), key=int))
            raise BadInput(f"{self.flavour.title} knows no compute capability {', '.join(unknown)}", hint=f"choose from {known}")

    def _check_device(self) -> None:
        if self.device is None and not self.ahead_of_time:
            raise NoGpu(
                "TensorRT builds on the GPU that will run the engine, and there is no usable one here",
                hint="on the device: edgead export --on-device BUNDLE; or ahead of time here: --backend tensorrt-rtx",
            )
        if self.device is None and not self.options.compute_capabilities:
            raise BadInput(
                "there is no GPU here to build for", hint="say which one is meant, e.g. --compute-capability 89 (several: 89,120)"
            )

    def _capabilities(self) -> Any:
        return self.trt.ComputeCapability

    def _parse(self) -> Any:
        """The network, strongly typed, with the inputs and outputs of the graph contract."""
        network = self.builder.create_network(self._network_flags())
        parser = self.trt.OnnxParser(network, self.log.logger)
        parsed = parser.parse(self.graph.read_bytes(), str(self.graph))
        if not parsed:
            faults = [parser.get_error(i) for i in range(parser.num_errors)]
            raise EngineError(f"{self.flavour.title} refuses {self.graph.name}: {_refusal(faults)}", hint=_BUILD_HINT)
        self._refuse_misreadings()
        inputs = self._specs(network.get_input(i) for i in range(network.num_inputs))
        found = {spec.name: spec for spec in self._specs(network.get_output(i) for i in range(network.num_outputs))}
        check_graph(self.graph, inputs, tuple(found[name] for name in OUTPUT_NAMES if name in found))
        return network

    def _network_flags(self) -> int:
        """TensorRT 11 and TensorRT for RTX know strongly typed networks only."""
        older = not self.ahead_of_time and int(self.trt.__version__.split(".")[0]) < 11
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if older else 0

    @staticmethod
    def _specs(tensors: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t.name, batch_1(tuple(int(n) for n in t.shape)), dtype_name(t.dtype)) for t in tensors)

    def _configured(self, network: Any) -> Any:
        trt, options = self.trt, self.options
        config = self.builder.create_builder_config()
        if options.workspace_mb is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
        if self.precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        self._batch(network, config)
        if self.ahead_of_time:
            wanted = [getattr(trt.ComputeCapability, _sm(text)) for text in options.compute_capabilities]
            config.num_compute_capabilities = max(1, len(wanted))
            for i, capability in enumerate(wanted or [trt.ComputeCapability.CURRENT]):
                config.set_compute_capability(capability, i)
            if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # without it no CUDA graph can be recorded
                config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        elif options.timing_cache is not None:
            known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
            if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
                config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
        return config

    def _batch(self, network: Any, config: Any) -> None:
        image = network.get_input(0)
        open_batch = int(image.shape[0]) == -1
        if open_batch != (self.options.batch is not None):
            what = "takes any number of pictures at once: say how many" if open_batch else "is static: it takes 1 picture at once"
            raise BadInput(
                f"{self.graph.name} {what}", hint="BuildOptions(batch=(1, 4, 8))" if open_batch else "leave the batch out"
            )
        if self.options.batch is not None:
            profile = self.builder.create_optimization_profile()
            rest = tuple(int(n) for n in image.shape)[1:]
            profile.set_shape(image.name, *((n, *rest) for n in self.options.batch))
            config.add_optimization_profile(profile)

    def _to_dla(self, network: Any, config: Any) -> tuple[str, ...]:
        """Send to the DLA what it takes; the names of the layers that it does not take."""
        core = self.options.dla_core
        if core is None:
            return ()
        if core not in range(self.builder.num_DLA_cores):
            raise BadInput(f"there is no DLA core {core} here ({self.builder.num_DLA_cores} in all)", hint="leave --dla out")
        config.default_device_type = self.trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(self.trt.BuilderFlag.GPU_FALLBACK)
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        return tuple(layer.name for layer in layers if not config.can_run_on_DLA(layer))

    def _refuse_misreadings(self) -> None:
        for message in self.log.since(self.mark, ("WARNING",)):
            if any(known in message for known in MISREADINGS):
                raise EngineError(
                    f"{self.flavour.title} would misread {self.graph.name}: {short(message)}",
                    hint=_QUANTISE,
                )

    def _keep_timings(self, config: Any) -> None:
        if self.options.timing_cache is not None and not self.ahead_of_time and (cache := config.get_timing_cache()) is not None:
            disk.write_file(self.options.timing_cache, bytes(cache.serialize()))

    def _built_with(self, seconds: float, size: int, fallback: Sequence[str]) -> dict[str, str]:
        facts = {
            self.flavour.backend: str(self.trt.__version__),
            "build_s": f"{seconds:.2f}",
            "size_bytes": str(size),
            "strongly_typed": "yes",
        }
        if self.options.compute_capabilities:
            facts["compute_capability"] = ",".join(self.options.compute_capabilities)
            facts["built"] = "ahead of time"
        elif self.device is not None:
            facts |= {"gpu": self.device.name, "compute_capability": self.device.compute_capability, "driver": self.device.driver}
        if self.options.dla_core is not None:
            facts |= {"dla_core": str(self.options.dla_core), "dla_fallback": ", ".join(fallback)}
        return facts


def _sm(capability: str) -> str:
    return "SM" + capability.replace(".", "")


def _refusal(faults: Sequence[Any]) -> str:
    """Where the parser stopped, and why."""
    if not faults:
        return "no reason given"
    first = faults[0]
    where = f"node {first.node_name()} ({first.node_operator()}): " if first.node_name() else ""
    return where + short(first.desc())
