"""Late imports of optional packages, with the one line that installs them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgead.errors import MissingExtra

_TELEMETRY = {"openvino": "openvino_telemetry", "nncf": "openvino_telemetry"}
"""Packages that report their own import to a statistics server from a background thread, and what they do it with."""

_OPT_OUT = {
    "onnxruntime": ("ORT_DISABLE_TELEMETRY", "1"),
    "ray": ("RAY_USAGE_STATS_ENABLED", "0"),
    "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
}
"""Packages that ask an environment variable; ONNX Runtime's import alone opens a telemetry database and keeps it open."""


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module` or raise :class:`MissingExtra` that names the extra which brings it.

    Args:
        module: dotted module name, e.g. ``"openvino"``.
        extra: the edgead extra that installs it, e.g. ``"openvino"``.
        why: start of the sentence shown to the user, e.g. ``"Running an OpenVINO engine"``.

    Raises:
        MissingExtra: the package, or one that it needs itself, is not installed.
    """
    try:
        with _silenced(module):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingExtra(
            f"{why} needs the package {missing!r}, which is not installed",
            hint=f"pip install 'edgead[{extra}]'",
        ) from error


@contextmanager
def _silenced(module: str) -> Iterator[None]:
    """Keep a package's telemetry out while it is imported (it then takes a silent stub of its own): a line box calls nobody."""
    package = module.partition(".")[0]
    if package in _OPT_OUT:
        os.environ.setdefault(*_OPT_OUT[package])
    telemetry = _TELEMETRY.get(package, "")
    if not telemetry or telemetry in sys.modules:
        yield
        return
    sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[telemetry]
