"""Name -> "module:factory" tables. A new backend or device is one adapter file and one line here.

Third parties add theirs through entry points in the groups ``edgead.engines``, ``edgead.cameras``, ``edgead.outputs`` and
``edgead.links``; a name of ours cannot be taken over.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

ENGINES: Mapping[str, str] = {
    "onnxruntime": "edgead.engines.onnxruntime:OnnxRuntimeEngine",
    "openvino": "edgead.engines.openvino:OpenVinoEngine",
    "tensorrt": "edgead.engines.tensorrt:TensorRtEngine",
    "tensorrt-rtx": "edgead.engines.tensorrt:TensorRtRtxEngine",
}

CAMERAS: Mapping[str, str] = {
    "aravis": "edgead.runtime.cameras.aravis:aravis_camera",
    "basler": "edgead.runtime.cameras.basler:basler_camera",
    "folder": "edgead.runtime.cameras.folder:FolderCamera",
    "gstreamer": "edgead.runtime.cameras.gstreamer:GStreamerCamera",
    "opencv": "edgead.runtime.cameras.opencv:OpenCvCamera",
    "simulated": "edgead.runtime.cameras.simulated:SimulatedCamera",
}

OUTPUTS: Mapping[str, str] = {
    "command": "edgead.runtime.outputs.command:CommandOutput",
    "gpio": "edgead.runtime.outputs.gpio:GpioOutput",
    "log": "edgead.runtime.outputs.log:LogOutput",
    "mqtt": "edgead.runtime.outputs.mqtt:MqttOutput",
    "webhook": "edgead.runtime.outputs.webhook:WebhookOutput",
}

LINKS: Mapping[str, str] = {
    "ethernetip": "edgead.runtime.plc.ethernetip:EtherNetIpLink",
    "modbus-client": "edgead.runtime.plc.modbus:ModbusClientLink",
    "modbus-server": "edgead.runtime.plc.modbus:ModbusServerLink",
    "opcua-client": "edgead.runtime.plc.opcua:OpcUaClientLink",
    "s7": "edgead.runtime.plc.s7:S7Link",
}
"""What carries the PLC handshake (:class:`edgead.runtime.plc.device.PlcLink`)."""

_GROUPS = {
    "engine": (ENGINES, "edgead.engines"),
    "camera": (CAMERAS, "edgead.cameras"),
    "output": (OUTPUTS, "edgead.outputs"),
    "link": (LINKS, "edgead.links"),
}


def names(kind: str) -> list[str]:
    """The known names of a kind ("engine", "camera", "output", "link"), ours first."""
    table, group = _GROUPS[kind]
    return [*table, *(point.name for point in points(group) if point.name not in table)]


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The factory behind a name.

    Raises:
        BadInput: nobody registered this name.
        MissingExtra: the package that registered it cannot be imported.
    """
    table, group = _GROUPS[kind]
    if name in table:
        module, _, attribute = table[name].partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return factory
    for point in points(group):
        if point.name == name:
            loaded: Callable[..., Any] = load_point(kind, point)
            return loaded
    raise BadInput(f"unknown {kind} {name!r}", hint=f"known: {', '.join(names(kind))}")


def load_point(kind: str, point: EntryPoint) -> Any:
    """What another package registered. Raises MissingExtra when it cannot be imported."""
    try:
        return point.load()
    except Exception as error:  # whatever another package does when it is imported
        raise MissingExtra(
            f"{kind} {point.name!r} cannot be loaded from {point.value}: {type(error).__name__}: {error}"[:300],
            hint="mend or install the package that registers it",
        ) from error


def points(group: str) -> EntryPoints:
    """What other packages registered; reading that costs some ten milliseconds, which a start with our own names does without."""
    from importlib.metadata import entry_points

    return entry_points(group=group)
