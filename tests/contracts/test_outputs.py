"""What every output promises, run against each of them."""

from __future__ import annotations

import errno
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgead.errors import OutputError
from edgead.runtime.outputs.command import CommandOutput
from edgead.runtime.outputs.gate import GateOutput
from edgead.runtime.outputs.gpio import GpioOutput, GpioSettings
from edgead.runtime.outputs.log import LogOutput
from edgead.runtime.outputs.mqtt import MqttOutput, MqttSettings
from edgead.runtime.outputs.webhook import WebhookOutput, WebhookSettings
from edgead.runtime.plc.device import PlcDevice
from edgead.runtime.plc.ethernetip import EtherNetIpLink, EtherNetIpSettings
from edgead.runtime.plc.modbus import ModbusClientLink, ModbusClientSettings, ModbusServerLink, ModbusServerSettings
from edgead.runtime.plc.opcua import OpcUaClientLink, OpcUaClientSettings
from edgead.runtime.plc.s7 import S7Link, S7Settings
from edgead.runtime.vision.server import OpcUaServer
from edgead.runtime.vision.settings import VisionSettings
from edgead.testing import FakeClock, FakeOutput
from edgead.testing.plc import FakeChip, FakePlc, FakePlcLink
from edgead.types import Frame, Inspection, Output, StageTimes, Verdict


def vision_server() -> Output:
    with tempfile.TemporaryDirectory() as folder:  # for the self-signed pair that it makes
        own = VisionSettings(port=0, certificate=Path(folder, "a.pem"), key=Path(folder, "a.key"), anonymous=True)
        return OpcUaServer(own, answer_timeout_s=2.0)


MAKERS: dict[str, Callable[[], Output]] = {
    "fake": FakeOutput,
    "log": lambda: LogOutput(io.StringIO()),
    "command": lambda: CommandOutput(f"{sys.executable} -c pass"),
    "plc": lambda: PlcDevice(FakePlcLink(FakePlc(free_running=True))),
    "modbus-client": lambda: PlcDevice(ModbusClientLink(ModbusClientSettings(host="127.0.0.1", port=9))),  # nobody there
    "modbus-server": lambda: PlcDevice(ModbusServerLink(ModbusServerSettings(), any_port=True)),
    "s7": lambda: PlcDevice(S7Link(S7Settings(host="127.0.0.1", port=9))),  # nobody there, as for all below
    "ethernetip": lambda: PlcDevice(EtherNetIpLink(EtherNetIpSettings(host="127.0.0.1", port=9))),
    "opcua-client": lambda: PlcDevice(OpcUaClientLink(OpcUaClientSettings(url="opc.tcp://127.0.0.1:9", security="none"))),
    "opcua-server": vision_server,
    "mqtt": lambda: MqttOutput(MqttSettings(host="127.0.0.1", topic="plant/line1", port=9), "line"),
    "webhook": lambda: WebhookOutput(WebhookSettings(url="http://127.0.0.1:9/", attempts=1), "line"),
    "gate": lambda: GateOutput(FakeOutput(), delay_s=0.1),
    "gpio": lambda: GpioOutput(GpioSettings(ok=1, reject=2), chip=FakeChip()),
}


def inspection(verdict: Verdict, part_id: int = 1) -> Inspection:
    if verdict is Verdict.UNKNOWN:
        return Inspection(part_id, verdict, "camera_lost", float("nan"), 2.0, None, StageTimes(), None)
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "fake", part_id, 0, source="belt/7.png")
    score = 1.0 if verdict is Verdict.OK else 3.0
    return Inspection(part_id, verdict, "", score, 2.0, np.zeros((2, 2), np.float32), StageTimes(total_ms=12.3), frame)


@pytest.fixture(params=MAKERS)
def output(request: pytest.FixtureRequest) -> Output:
    return MAKERS[request.param]()


def test_it_takes_every_verdict_and_heartbeats(output: Output) -> None:
    for verdict in Verdict:
        output.signal(inspection(verdict))
        output.heartbeat()
    output.fail_safe()
    output.close()


def test_it_can_be_closed_unused_and_twice_and_then_refuses(output: Output) -> None:
    output.close()
    output.close()
    with pytest.raises(OutputError):
        output.signal(inspection(Verdict.OK))


def fake_wire() -> tuple[Output, Callable[[], bool]]:
    output = FakeOutput()
    return output, lambda: output.asserted


def gpio_wire() -> tuple[Output, Callable[[], bool]]:
    chip = FakeChip()
    return GpioOutput(GpioSettings(ok=1), FakeClock(), chip=chip), lambda: chip.levels[1]


@pytest.mark.parametrize("wire", [fake_wire, gpio_wire])
def test_a_wire_is_asserted_by_ok_alone(wire: Callable[[], tuple[Output, Callable[[], bool]]]) -> None:
    output, asserted = wire()
    assert not asserted()
    for verdict in (Verdict.OK, Verdict.NG, Verdict.OK, Verdict.UNKNOWN):
        output.signal(inspection(verdict))
        assert asserted() is (verdict is Verdict.OK)
    output.signal(inspection(Verdict.OK))
    output.fail_safe()
    assert not asserted()
    output.signal(inspection(Verdict.OK))
    output.close()
    assert not asserted()


def test_the_log_tells_a_person_what_happened() -> None:
    stream = io.StringIO()
    output = LogOutput(stream)
    for part_id, verdict in enumerate(Verdict, start=1):
        output.signal(inspection(verdict, part_id))
    ok, ng, unknown = stream.getvalue().splitlines()
    assert ok.split() == ["part", "1", "OK", "score", "1", "/", "2", "12.3", "ms", "belt/7.png"]
    assert "NG" in ng and "belt/7.png" in ng
    assert unknown.split() == ["part", "3", "UNKNOWN", "score", "-", "/", "2", "camera_lost"]


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="No space left"):
        LogOutput(FullDisk()).signal(inspection(Verdict.OK))
