"""What the runner and the builder of TensorRT share: importing either product, its log, its words for shapes and types."""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgead.bundle import EngineRecord
from edgead.engines.cuda import WHY, DeviceInfo
from edgead.errors import EngineError, MissingExtra
from edgead.optional import require
from edgead.types import TensorSpec

_KEPT_MESSAGES = 1000
_SEVERE = ("INTERNAL_ERROR", "ERROR")
_KEPT = (*_SEVERE, "WARNING")


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two products: `backend` in the registry, its Python `module`, the `title` for people, and how to get it."""

    backend: str
    module: str
    title: str
    hint: str


FLAVOURS = {
    "tensorrt": Flavour(
        "tensorrt",
        "tensorrt",
        "TensorRT",
        "pip install 'edgead[tensorrt]'; on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, then a virtual "
        "environment with --system-site-packages (jetson/README.md of `edgead deploy-files`)",
    ),
    "tensorrt-rtx": Flavour(
        "tensorrt-rtx",
        "tensorrt_rtx",
        "TensorRT for RTX",
        "pip install 'edgead[tensorrt-rtx]' (RTX cards on x86; a Jetson takes tensorrt)",
    ),
}


def load_tensorrt(backend: str, why: str = WHY) -> ModuleType:
    """The Python module of ``"tensorrt"`` or ``"tensorrt-rtx"``.

    Raises:
        MissingExtra: it is not installed; the hint names the extra and the JetPack way.
        EngineError: it is installed, but its libraries do not load.
    """
    flavour = FLAVOURS[backend]
    try:
        return require(flavour.module, extra=backend, why=why)
    except MissingExtra as error:
        raise MissingExtra(str(error), hint=flavour.hint) from error
    except (ImportError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise EngineError(f"{flavour.title} is installed, but does not load: {reason}", hint=flavour.hint) from error


class Log:
    """What a TensorRT module says. It wants one logger for the whole process and complains about a second one.

    Attributes:
        logger: the module's own ILogger.
    """

    def __init__(self, trt: Any) -> None:
        self._messages: deque[tuple[int, str, str]] = deque(maxlen=_KEPT_MESSAGES)
        self._count = 0
        messages = self._messages

        class Collector(trt.ILogger):  # type: ignore[misc]  # a class of a module that is only known now
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(inner, severity: Any, message: str) -> None:
                if severity.name != "VERBOSE":  # thousands a build
                    self._count += 1
                if severity.name in _KEPT:
                    messages.append((self._count, severity.name, message))

        self.logger: Any = Collector()

    def mark(self) -> int:
        """A place in the log, for :meth:`since`; it moves with every message."""
        return self._count

    def since(self, mark: int, severities: tuple[str, ...] = _SEVERE) -> list[str]:
        """Messages of these severities since the mark, oldest first."""
        return [message for number, severity, message in list(self._messages) if number > mark and severity in severities]

    def reason(self, mark: int) -> str:
        """The first error since the mark in a few words, or ``"no reason given"``."""
        found = self.since(mark)
        return short(found[0]) if found else "no reason given"


_logs: dict[str, Log] = {}
_logs_lock = threading.Lock()


def log_of(trt: ModuleType) -> Log:
    """The one log of a TensorRT module."""
    with _logs_lock:
        if trt.__name__ not in _logs:
            _logs[trt.__name__] = Log(trt)
        return _logs[trt.__name__]


def short(message: str) -> str:
    """TensorRT's own words without the names of its functions, source files and checks."""
    text = " ".join(message.split())
    if inside := re.search(r"Error Code \d+: [\w ]+ \((.*)", text):
        text = inside[1]
    if text.startswith("In ") and (cuda := re.search(r"\((cudaError \d+: [^)]*)\)", text)):
        return cuda[1]
    text = re.split(r"\. In | \(In ", text)[0]
    text = re.sub(r"^[\w:]+\.(cpp|h):\d+: |Assertion failed: \S+: |\[[\w.]+:\d+: \w+\] ", "", text)
    return text.rstrip(" .)")[:200]


def engine_specs(trt: Any, engine: Any) -> list[tuple[TensorSpec, bool]]:
    """The tensors of a deserialised engine, each with whether it is an input; a dynamic batch counts as 1."""
    specs = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        spec = TensorSpec(name, batch_1(shape), dtype_name(engine.get_tensor_dtype(name)))
        specs.append((spec, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT))
    return specs


def batch_1(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with a dynamic batch (-1 on the first axis) taken as 1."""
    return (1, *shape[1:]) if shape[:1] == (-1,) else shape


def dtype_name(dtype: Any) -> str:
    """NumPy's name of a TensorRT data type."""
    return {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool"}.get(dtype.name, str(dtype.name).lower())


def mismatch(record: EngineRecord, version: str, device: DeviceInfo) -> str:
    """What an engine was built for, and what is here instead, in words; "" when both agree or the record does not say.

    A plan of TensorRT runs with the version and on the GPU model that built it; one of TensorRT for RTX with its version and on
    the compute capabilities that it was built for.
    """
    built = record.built_with
    title = FLAVOURS[record.backend].title
    if built.get(record.backend, version) != version:
        return f"{title} {built[record.backend]}, and here is {version}"
    for key, here in (("compute_capability", device.compute_capability), ("gpu", device.name)):
        wanted = built.get(key, here)
        if here not in wanted.split(",") and not (key == "gpu" and record.backend == "tensorrt-rtx"):
            what = "compute capability " if key == "compute_capability" else ""
            return f"{what}{wanted}, and here is {device.name} ({device.compute_capability})"
    return ""
