"""From the configuration of a PLC or an output to the adapter that talks to it."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from edgead import config as models  # not needed by `edgead run BUNDLE`, and slow to import
    from edgead.clock import Clock
    from edgead.runtime.plc.device import PlcLink
    from edgead.runtime.vision.server import OpcUaServer
    from edgead.types import Output

    Handshaken: TypeAlias = models.ModbusClient | models.ModbusServer | models.S7 | models.EtherNetIp | models.OpcUaClient
    """PLCs that follow docs/handshake.md."""

GPIO_LINES = ("ok", "reject", "kick", "ready", "busy", "heartbeat", "green", "yellow", "red")


def check_addresses(config: models.StationConfig) -> None:
    """Whether every address to listen on, and of a PLC or broker, can be one at all; nothing is opened, no name is looked up.

    Raises:
        BadInput: naming the place in the file.
    """
    from edgead.errors import BadInput
    from edgead.runtime.listening import check_host

    owners: list[models.CameraConfig | models.PartConfig] = [*config.cameras, *config.parts]
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


def open_link(config: Handshaken) -> PlcLink:
    """What carries the handshake to this PLC; it connects later, by itself.

    Raises:
        EdgeadError: an address or file that cannot be used, or a package that is missing.
    """
    if config.type == "s7":
        from edgead.runtime.plc.s7 import S7Link

        timeout_s = config.timeout_ms / 1000
        return S7Link(config.host, config.rack, config.slot, config.db_number, port=config.port, timeout_s=timeout_s)
    if config.type == "ethernetip":
        from edgead.runtime.plc.ethernetip import EtherNetIpLink

        return EtherNetIpLink(
            config.host,
            config.slot,
            port=config.port,
            to_plc_tag=config.to_plc_tag,
            from_plc_tag=config.from_plc_tag,
            timeout_s=config.timeout_ms / 1000,
        )
    if config.type == "opcua-client":
        return _opcua(config)
    return _modbus(config)


def _opcua(config: models.OpcUaClient) -> PlcLink:
    from edgead.runtime.plc.opcua import OpcUaClientLink

    return OpcUaClientLink(
        config.url,
        node=config.node,
        nodes=config.nodes,
        security=config.security,
        certificate=config.certificate,
        key=config.key,
        key_password=config.key_password,
        server_certificate=config.server_certificate,
        user=config.user,
        password=config.password,
        timeout_s=config.timeout_ms / 1000,
        connect_timeout_s=config.connect_timeout_ms / 1000,
    )


def open_vision(config: models.OpcUaServer, camera: models.CameraConfig | models.PartConfig, clock: Clock) -> OpcUaServer:
    """edgead as an OPC UA server; it listens when it is there. Raises EdgeadError."""
    from edgead.runtime.vision.server import OpcUaServer

    return OpcUaServer(
        config.bind,
        config.port,
        certificate=config.certificate,
        key=config.key,
        key_password=config.key_password,
        user=config.user,
        password=config.password,
        anonymous=config.anonymous,
        trusted=config.trusted,
        name=camera.name,
        recipe=camera.bundle.stem if camera.bundle is not None else "recipe",
        recipes=tuple(camera.recipes),
        starts=camera.trigger.source == "plc",
        pause_s=config.pause_ms / 1000,
        answer_timeout_s=answer_timeout_s(camera.budget_ms),
        clock=clock,
    )


def answer_timeout_s(budget_ms: float | None) -> float:
    """How long a PLC waits for a verdict before it is told UNKNOWN."""
    return max(2.0, 2 * (budget_ms or 0.0) / 1000)


def _modbus(config: models.ModbusClient | models.ModbusServer) -> PlcLink:
    from edgead.runtime.plc.modbus import ModbusClientLink, ModbusServerLink

    if config.type == "modbus-client":
        return ModbusClientLink(
            config.host,
            config.port,
            config.unit,
            to_plc_address=config.to_plc_address,
            from_plc_address=config.from_plc_address,
            word_order=config.word_order,
            timeout_s=config.timeout_ms / 1000,
            combined=config.combined,
        )
    return ModbusServerLink(
        config.bind,
        config.port,
        config.unit,
        to_plc_address=config.to_plc_address,
        from_plc_address=config.from_plc_address,
        word_order=config.word_order,
        silent_s=config.silent_ms / 1000,
    )


def open_output(config: models.Output, clock: Clock, station: str) -> Output:
    """An output that tells the verdicts of the camera called `station`.

    Raises:
        EdgeadError: whatever cannot be opened, in one line.
    """
    from edgead.runtime.outputs.command import CommandOutput
    from edgead.runtime.outputs.log import LogOutput

    if config.type == "log":
        return LogOutput(sys.stdout)
    if config.type == "command":
        return CommandOutput(config.on_ng)
    if config.type == "gpio":
        return _gpio(config, clock)
    if config.type == "mqtt":
        from edgead.runtime.outputs.mqtt import MqttOutput

        return MqttOutput(station=station, **config.model_dump(exclude={"type"}))
    if config.type == "webhook":
        return _webhook(config, station)
    return _other(config)


def _other(config: models.OtherOutput) -> Output:
    """Of another package: what it takes and what it must have is known before anything is opened."""
    from edgead.errors import BadInput
    from edgead.registry import resolve

    make = resolve("output", config.name)
    with suppress(ValueError):  # native code does not say what it takes
        try:
            inspect.signature(make).bind(**config.options)
        except TypeError as error:
            raise BadInput(f"output {config.name!r} does not take these options: {error}", hint="see its package") from error
    made: Output = make(**config.options)
    if missing := [name for name in ("signal", "heartbeat", "fail_safe", "close") if not callable(getattr(made, name, None))]:
        raise BadInput(
            f"output {config.name!r} gave {type(made).__name__}, which is no output: it has no {', '.join(missing)}",
            hint="its package must be mended (edgead.types.Output)",
        )
    return made


def _webhook(config: models.WebhookOutput, station: str) -> Output:
    from edgead.runtime.outputs.webhook import WebhookOutput

    return WebhookOutput(
        config.url,
        station=station,
        headers=config.headers,
        ca=config.ca,
        which=config.which,
        timeout_s=config.timeout_ms / 1000,
        attempts=config.attempts,
        deadline_s=config.deadline_ms / 1000,
        max_waiting=config.max_waiting,
    )


def _gpio(config: models.GpioOutput, clock: Clock) -> Output:
    from edgead.runtime.outputs.gate import GateOutput
    from edgead.runtime.outputs.gpio import GpioOutput

    lines = {name: getattr(config, name) for name in GPIO_LINES}
    output = GpioOutput(config.chip, **lines, active_low=config.active_low, pulse_s=config.pulse_ms / 1000, clock=clock)
    if config.gate_delay_ms is None:
        return output
    return GateOutput(output, delay_s=config.gate_delay_ms / 1000, slack_s=config.gate_slack_ms / 1000, clock=clock)
