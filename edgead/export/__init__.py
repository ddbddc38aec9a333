"""Model -> ONNX by the graph contract -> engines -> bundle."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgead.export.builds import BACKENDS, PRECISIONS, installed_backends

if TYPE_CHECKING:
    from edgead.export.pipeline import ExportOptions, export_bundle

__all__ = ["BACKENDS", "PRECISIONS", "ExportOptions", "export_bundle", "installed_backends"]


def __getattr__(name: str) -> Any:
    """The pipeline needs torch; building an engine on a device from a bundle's own graph does not."""
    if name in ("ExportOptions", "export_bundle"):
        from edgead.export import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Room(ModuleType):
    """``edgead.export(...)`` is a call of the face, and this room has its name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return importlib.import_module("edgead.api").export(*args, **options)


sys.modules[__name__].__class__ = _Room
