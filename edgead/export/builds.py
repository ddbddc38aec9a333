"""How each engine is made of an ONNX graph. A new backend is a line in `BACKENDS` and one in `BUILDS` for each precision."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.engines._tensorrt import FLAVOURS, load_tensorrt
from edgead.engines.openvino import write_ir
from edgead.export.inspected import describe
from edgead.export.tensorrt import BuildOptions, build_engine, gpu_here
from edgead.optional import require
from edgead.registry import resolve

GRAPHS = ("float", "half", "int8")


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backend needs on the machine that exports.

    Attributes:
        module: the package that builds (and, if it can, runs) its engines.
        extra: the edgead extra that installs it.
        default: built whenever its package is installed; else only when asked for.
        runs_here: whether engines built with these options can also be run, and so measured, on this machine.
    """

    module: str
    extra: str
    default: bool = True
    runs_here: Callable[[BuildOptions], bool] = lambda options: True

    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def need(self, why: str) -> None:
        """Raises MissingExtra when the package is not installed."""
        if self.extra in FLAVOURS:
            load_tensorrt(self.extra, why)
        else:
            require(self.module, extra=self.extra, why=why)


@dataclass(frozen=True, slots=True)
class Build:
    """How an engine of one backend and precision is made.

    Attributes:
        graph: of `GRAPHS`, what it is made of.
        make: (ONNX graph, folder, options) -> the engine's file, written below that folder (the graph itself when that is what
            runs). What is worth knowing of the build lies beside it (:func:`facts`).
    """

    graph: str
    make: Callable[[Path, Path, BuildOptions], Path]


def _as_it_is(graph: Path, folder: Path, options: BuildOptions) -> Path:
    """ONNX Runtime loads the graph."""
    return graph


def _openvino(name: str) -> Callable[[Path, Path, BuildOptions], Path]:
    def make(graph: Path, folder: Path, options: BuildOptions) -> Path:
        if graph.suffix == ".xml":  # NNCF wrote an IR already
            return graph
        target = folder / "openvino" / f"{name}.xml"
        target.parent.mkdir(exist_ok=True)
        write_ir(graph, target)
        return target

    return make


def _tensorrt(backend: str, precision: str) -> Callable[[Path, Path, BuildOptions], Path]:
    def make(graph: Path, folder: Path, options: BuildOptions) -> Path:
        target = folder / backend / f"{precision}.engine"
        built_with = build_engine(graph, target, backend, precision, options).built_with
        if _runs_here(backend)(options):
            engine = resolve("engine", backend)(target)
            try:
                built_with["layers"] = describe(engine.information(), target)
            finally:
                engine.close()
        target.with_suffix(".json").write_text(json.dumps(built_with, indent=1) + "\n", "utf-8")
        return target

    return make


def _runs_here(backend: str) -> Callable[[BuildOptions], bool]:
    def here(options: BuildOptions) -> bool:
        device = gpu_here(backend)
        return device is not None and device.compute_capability in (options.compute_capabilities or (device.compute_capability,))

    return here


def facts(file: Path) -> dict[str, Any]:
    """What a build noted beside the engine's file: versions, target, time, size; nothing for most backends."""
    beside = file.with_suffix(".json")
    found: dict[str, Any] = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
    return found


BACKENDS: dict[str, Backend] = {
    "openvino": Backend("openvino", "openvino"),
    "onnxruntime": Backend("onnxruntime", "onnxruntime"),
    "tensorrt": Backend("tensorrt", "tensorrt", default=False, runs_here=_runs_here("tensorrt")),
    "tensorrt-rtx": Backend("tensorrt_rtx", "tensorrt-rtx", default=False, runs_here=_runs_here("tensorrt-rtx")),
}

BUILDS: dict[tuple[str, str], Build] = {
    ("openvino", "fp32"): Build("float", _openvino("fp32")),
    ("onnxruntime", "fp32"): Build("float", _as_it_is),
    ("openvino", "int8"): Build("int8", _openvino("int8")),
    ("onnxruntime", "int8"): Build("int8", _as_it_is),
    **{
        (backend, precision): Build(graph, _tensorrt(backend, precision))
        for backend in FLAVOURS
        for precision, graph in (("fp32", "float"), ("fp16", "half"), ("int8", "int8"))
    },
}

PRECISIONS = ("fp32", "fp16", "int8")


def installed_backends() -> tuple[str, ...]:
    """Those of `BACKENDS` that are built by default and whose package is installed here."""
    return tuple(name for name, backend in BACKENDS.items() if backend.default and backend.installed())
