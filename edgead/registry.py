"""Name -> "module:factory" tables. A new backend or device is one adapter file and one line here.

Third parties add theirs through entry points in the groups ``edgead.engines``, ``edgead.cameras`` and
``edgead.outputs``; a name of ours cannot be taken over.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from edgead.errors import BadInput

ENGINES: Mapping[str, str] = {
    "onnxruntime": "edgead.engines.onnxruntime:OnnxRuntimeEngine",
    "openvino": "edgead.engines.openvino:OpenVinoEngine",
}

CAMERAS: Mapping[str, str] = {
    "folder": "edgead.runtime.cameras.folder:FolderCamera",
    "opencv": "edgead.runtime.cameras.opencv:OpenCvCamera",
    "simulated": "edgead.runtime.cameras.simulated:SimulatedCamera",
}

OUTPUTS: Mapping[str, str] = {
    "command": "edgead.runtime.outputs.command:CommandOutput",
    "log": "edgead.runtime.outputs.log:LogOutput",
}

_GROUPS = {"engine": (ENGINES, "edgead.engines"), "camera": (CAMERAS, "edgead.cameras"), "output": (OUTPUTS, "edgead.outputs")}


def names(kind: str) -> list[str]:
    """The known names of a kind ("engine", "camera", "output"), ours first."""
    table, group = _GROUPS[kind]
    return [*table, *(point.name for point in entry_points(group=group) if point.name not in table)]


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The factory behind a name.

    Raises:
        BadInput: nobody registered this name.
    """
    table, group = _GROUPS[kind]
    if name in table:
        module, _, attribute = table[name].partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return factory
    for point in entry_points(group=group):
        if point.name == name:
            loaded: Callable[..., Any] = point.load()
            return loaded
    raise BadInput(f"unknown {kind} {name!r}", hint=f"known: {', '.join(names(kind))}")
