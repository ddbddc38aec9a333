"""What the log of a real station says when one of its devices fails: whose it is, where, and what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.station import StationProcess
from tests.servers.wire import ModbusPeer
from tests.waiting import until


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def camera(name: str, bundle: Path, port: int, **more: Any) -> dict[str, Any]:
    plc = {"type": "modbus-client", "host": "127.0.0.1", "port": port, "timeout_ms": 2000, "heartbeat_timeout_ms": 0}
    base = {"name": name, "bundle": str(bundle), "address": "sim", "trigger": {"source": "plc"}, "budget_ms": 1000, "plc": plc}
    return {**base, "selfcheck": None, "drift": None, **more}


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[list[StationProcess]]:
    made: list[StationProcess] = []
    yield made
    for station in made:
        station.kill()


def test_each_line_names_camera_and_address_and_one_plc_does_not_hold_back_the_other(
    tmp_path: Path, bundle: Path, stations: list[StationProcess]
) -> None:
    broker = closed_port()
    output = {"type": "mqtt", "host": "127.0.0.1", "port": broker, "topic": "plant/left", "tls": False}
    with ModbusPeer() as left, ModbusPeer() as right:
        left.registers[100] = right.registers[100] = 1  # enable
        cameras = [camera("left", bundle, left.port, outputs=[output]), camera("right", bundle, right.port)]
        station = StationProcess(tmp_path, {"name": "t", "cameras": cameras})
        stations.append(station)
        station.start()
        until(lambda: all(f": the PLC at 127.0.0.1:{port}: the PLC answers" in station.log() for port in (left.port, right.port)))
        assert " ERROR " not in station.log() and " CRITICAL " not in station.log()
        for _ in range(20):  # left's PLC refuses, answers, refuses ...
            count, left.refuse = len(left.asked), [2]
            until(lambda count=count: len(left.asked) > count + 3)  # type: ignore[misc]
        right.always = 4
        until(lambda: f"right: the PLC at 127.0.0.1:{right.port} refuses (Modbus exception 4" in station.log())
        assert station.stop() == 0
    lines = station.log().splitlines()
    assert any(
        f"left: the MQTT broker at 127.0.0.1:{broker} cannot be reached" in line and "-> check host" in line for line in lines
    )
    refused = [line for line in lines if f"left: the PLC at 127.0.0.1:{left.port} refuses (Modbus exception 2, illegal" in line]
    assert all("-> check unit, addresses" in line for line in refused)
    assert len(refused) == 6 and refused[-1].endswith("more times)") and "%s" not in station.log()
