"""Name -> "module:factory" tables. A new backend or device is one adapter file and one line here.

Third parties add theirs through entry points in the groups ``edgead.engines``, ``edgead.cameras``, ``edgead.outputs`` and
``edgead.links``; a name of ours cannot be taken over.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, MissingExtra
from edgead.settings import DeviceSettings

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
    "hot": "edgead.runtime.cameras.hot:HotFolder",
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


MEMBERS = {
    "camera": ("grab", "close"),
    "output": ("signal", "heartbeat", "fail_safe", "close"),
    "link": ("exchange", "close"),
}
"""What each must have (:mod:`edgead.types`, :class:`edgead.runtime.plc.device.PlcLink`)."""


def make(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """What the factory behind a name makes of these arguments. Whether it takes them is known before it is called.

    Raises:
        BadInput: nobody registered this name, it does not take these arguments, or what it makes is none of this kind.
        EdgeadError: whatever the factory raises.
    """
    factory = resolve(kind, name)
    with suppress(ValueError):  # native code does not say what it takes
        try:
            inspect.signature(factory).bind(*arguments, **options)
        except TypeError as error:
            takes = "these options" if kind == "output" else "what it is made of here"
            told = f"{kind} {name!r} does not take {takes}: {error}"
            raise BadInput(told, hint="see its package; edgead docs architecture says what a factory is given") from error
    made = factory(*arguments, **options)
    if missing := [member for member in MEMBERS[kind] if not callable(getattr(made, member, None))]:
        raise BadInput(
            f"{kind} {name!r} gave {type(made).__name__}, which is no {kind}: it has no {', '.join(missing)}",
            hint="its package must be mended (edgead docs architecture)",
        )
    return made


def settings_of(kind: str, name: str) -> type[DeviceSettings] | None:
    """The settings of a link or an output: its factory's attribute ``settings``; None: nobody registered this name.

    Raises:
        MissingExtra: as `resolve`.
        BadInput: it has no settings.
    """
    table, group = _GROUPS[kind]
    if name not in table and name not in (point.name for point in points(group)):
        return None
    found = getattr(resolve(kind, name), "settings", None)
    if not (isinstance(found, type) and issubclass(found, DeviceSettings) and is_dataclass(found)):
        raise BadInput(
            f"{kind} {name!r} has no settings that a station file could hold",
            hint="its package must be mended: a frozen dataclass as its attribute settings (edgead docs architecture)",
        )
    return found


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
