"""From the settings of a PLC or an output to the adapter that talks to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgead.registry import make

if TYPE_CHECKING:
    from edgead.clock import Clock
    from edgead.config.camera import CameraConfig, OtherOutput, PartConfig
    from edgead.config.station import StationConfig
    from edgead.runtime.outputs.command import CommandSettings
    from edgead.runtime.outputs.gpio import GpioSettings
    from edgead.runtime.outputs.mqtt import MqttSettings
    from edgead.runtime.outputs.webhook import WebhookSettings
    from edgead.runtime.plc.device import PlcLink
    from edgead.runtime.vision.server import OpcUaServer
    from edgead.runtime.vision.settings import VisionSettings
    from edgead.settings import DeviceSettings
    from edgead.types import Output


def check_addresses(config: StationConfig) -> None:
    """Whether every address to listen on, and of a PLC or broker, can be one at all; nothing is opened, no name is looked up.

    Raises:
        BadInput: naming the place in the file.
    """
    from edgead.errors import BadInput
    from edgead.runtime.listening import check_host

    owners: list[CameraConfig | PartConfig] = [*config.cameras, *config.parts]
    found = [(f"{owner.name}: plc.{key}", getattr(owner.plc, key, None)) for owner in owners for key in ("bind", "host")]
    found += [(f"{o.name}: outputs.{output.type}.host", getattr(output, "host", None)) for o in owners for output in o.outputs]
    if config.supervision.http is not None:
        found.append(("supervision.http", config.supervision.http.rpartition(":")[0]))
    for place, host in found:
        if host is None:
            continue
        try:
            check_host(host)
        except BadInput as error:
            raise BadInput(f"{place}: {error}", hint=error.hint) from error


def open_link(settings: DeviceSettings) -> PlcLink:
    """What carries the handshake to this PLC; it connects later, by itself.

    Raises:
        EdgeadError: an address or file that cannot be used, or a package that is missing or has to be mended.
    """
    link: PlcLink = make("link", settings.type, settings)
    return link


def open_vision(settings: VisionSettings, camera: CameraConfig | PartConfig, clock: Clock) -> OpcUaServer:
    """edgead as an OPC UA server; it listens when it is there. Raises EdgeadError."""
    from edgead.runtime.vision.server import OpcUaServer

    return OpcUaServer(
        settings,
        name=camera.name,
        recipe=camera.bundle.stem if camera.bundle is not None else "recipe",
        recipes=tuple(camera.recipes),
        starts=camera.trigger.source == "plc",
        answer_timeout_s=answer_timeout_s(camera.budget_ms),
        clock=clock,
    )


def answer_timeout_s(budget_ms: float | None) -> float:
    """How long a PLC waits for a verdict before it is told UNKNOWN."""
    return max(2.0, 2 * (budget_ms or 0.0) / 1000)


def open_output(settings: DeviceSettings, clock: Clock, station: str) -> Output:
    """An output that tells the verdicts of the camera called `station`.

    Raises:
        EdgeadError: whatever cannot be opened, in one line.
    """
    output: Output = _OUTPUTS[settings.type](settings, clock, station)
    return output


def _log(_: DeviceSettings, clock: Clock, station: str) -> Output:
    from edgead.runtime.outputs.log import LogOutput

    return LogOutput(sys.stdout)


def _command(settings: CommandSettings, clock: Clock, station: str) -> Output:
    from edgead.runtime.outputs.command import CommandOutput

    return CommandOutput(settings.on_ng)


def _mqtt(settings: MqttSettings, clock: Clock, station: str) -> Output:
    from edgead.runtime.outputs.mqtt import MqttOutput

    return MqttOutput(settings, station)


def _webhook(settings: WebhookSettings, clock: Clock, station: str) -> Output:
    from edgead.runtime.outputs.webhook import WebhookOutput

    return WebhookOutput(settings, station)


def _gpio(settings: GpioSettings, clock: Clock, station: str) -> Output:
    from edgead.runtime.outputs.gate import GateOutput
    from edgead.runtime.outputs.gpio import GpioOutput

    output = GpioOutput(settings, clock)
    if settings.gate_delay_ms is None:
        return output
    return GateOutput(output, delay_s=settings.gate_delay_ms / 1000, slack_s=settings.gate_slack_ms / 1000, clock=clock)


def _other(settings: OtherOutput, clock: Clock, station: str) -> Output:
    output: Output = make("output", settings.name, **settings.options)
    return output


_OUTPUTS: dict[str, Callable[[Any, Clock, str], Output]] = {
    "log": _log,
    "command": _command,
    "gpio": _gpio,
    "mqtt": _mqtt,
    "webhook": _webhook,
    "other": _other,
}
