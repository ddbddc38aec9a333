"""Corners of Modbus and EtherNet/IP that libraries' servers do not show: PLCs written from the protocols."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import Iterator

import pytest

from edgead.errors import OutputError
from edgead.runtime.plc.device import FAILING_S, LinkError, PlcDevice
from edgead.runtime.plc.ethernetip import to_dints
from edgead.runtime.plc.loops import LoopThread
from edgead.runtime.plc.modbus import EXCEPTIONS, ModbusServerLink, ModbusServerSettings
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.testing import FakeClock
from tests.runtime.links import ethernetip, modbus
from tests.servers.wire import LogixPeer, ModbusPeer
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def plc() -> Iterator[ModbusPeer]:
    with ModbusPeer() as peer:
        peer.registers[100] = 1  # enable
        yield peer


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize(("unit", "answer_as"), [(0, None), (255, None), (0, 1), (255, 1), (0, 255), (255, 0), (17, None)])
def test_modbus_units_that_mean_the_plc_itself_work(plc: ModbusPeer, unit: int, answer_as: int | None, combined: bool) -> None:
    plc.answer_as = answer_as
    link = modbus(plc.port, unit=unit, timeout_ms=1000 * PATIENCE_S, combined=combined)
    assert link.exchange(ToPlc(ready=True)) == FromPlc(enable=True)
    assert plc.registers[0] == 1 and set(plc.asked) == {unit}
    link.close()


def test_modbus_an_answer_of_another_unit_is_none(plc: ModbusPeer) -> None:
    plc.answer_as = 18
    link = modbus(plc.port, unit=17, timeout_ms=200)
    with pytest.raises(LinkError):
        link.exchange(ToPlc())
    link.close()


@pytest.mark.parametrize(
    ("unit", "answered", "refused"), [(1, (1, 0, 255), (2, 247)), (0, (0, 1, 7, 255), ()), (255, (0, 1, 7, 255), ())]
)
def test_modbus_server_answers_to_its_unit_and_to_those_that_mean_itself(
    unit: int, answered: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    server = ModbusServerLink(ModbusServerSettings(unit=unit), any_port=True)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        for number, asked in enumerate((*answered, *refused), 1):
            for request in (struct.pack(">BHHBH", 16, 100, 1, 2, 1), struct.pack(">BHH", 3, 0, 13)):
                client.sendall(struct.pack(">HHHB", number, 0, len(request) + 1, asked) + request)
                header, answer = client.recv(7), client.recv(300)
                assert struct.unpack(">HHHB", header) == (number, 0, len(answer) + 1, asked)
                assert answer[0] == request[0] if asked in answered else answer == bytes([request[0] | 0x80, 11])
    server.close()


@pytest.mark.parametrize("code", [5, 6])
def test_modbus_busy_now_and_then_is_nothing_at_all(plc: ModbusPeer, code: int) -> None:
    link = modbus(plc.port, timeout_ms=1000 * PATIENCE_S)
    for _ in range(5):
        plc.refuse = [code, code]
        assert link.exchange(ToPlc(ready=True)) == FromPlc(enable=True)
    assert plc.connections == 1
    link.close()


def test_modbus_busy_for_long_names_the_limit_and_keeps_the_connection(plc: ModbusPeer) -> None:
    link = modbus(plc.port, timeout_ms=1000)
    plc.always = 6
    with pytest.raises(
        LinkError, match=r"busy for longer than 1000 ms \(timeout_ms\): Modbus exception 6, server device busy"
    ) as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "busy" and "timeout_ms" in caught.value.hint
    plc.always = 0
    assert link.exchange(ToPlc()) == FromPlc(enable=True)
    assert plc.connections == 1
    link.close()


@pytest.mark.parametrize("code", [1, 2, 3, 4, 10, 11, 99])
def test_modbus_exceptions_are_named_and_keep_the_connection(plc: ModbusPeer, code: int) -> None:
    link = modbus(plc.port, timeout_ms=1000 * PATIENCE_S, combined=True)
    link.exchange(ToPlc())
    plc.always = code
    for _ in range(3):
        with pytest.raises(LinkError, match=rf"refuses \(Modbus exception {code}, ") as caught:
            link.exchange(ToPlc())
        assert caught.value.cause == "refused" and EXCEPTIONS.get(code, "not in the standard") in str(caught.value)
        assert ("combined: false" in caught.value.hint) == (code == 1)
    plc.always = 0
    assert link.exchange(ToPlc()) == FromPlc(enable=True)
    assert plc.connections == 1
    link.close()


def test_modbus_a_plc_that_is_too_slow_is_told_the_limit(plc: ModbusPeer) -> None:
    plc.delay_s = 2.0
    link = modbus(plc.port, timeout_ms=250)
    with pytest.raises(LinkError, match=r"does not answer within 250 ms \(timeout_ms\)") as caught:
        link.exchange(ToPlc())
    assert "timeout_ms" in caught.value.hint
    link.close()


def test_a_plc_that_polls_us_is_not_missed_before_it_can_have_come(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    device = PlcDevice(ModbusServerLink(ModbusServerSettings(), any_port=True), clock)
    until(lambda: device.counts().get("failed:silent", 0) > 2)
    assert caplog.text == ""
    clock.advance(FAILING_S + 0.1)
    until(lambda: "no PLC writes to port" in caplog.text)
    assert caplog.text.count("no PLC writes") == 1
    device.close()


@pytest.mark.parametrize(
    ("to_plc", "from_plc"),
    [
        ("Stations[2].ToPlc", "Stations[2].FromPlc"),
        ("Program:MAIN.Cam[1].ToPlc", "Program:MAIN.Cam[1].FromPlc"),
        ("A[1].B[2].ToPlc", "A[1].B[3].FromPlc"),
        ("Vision.ToPlc", "Vision.FromPlc"),
        ("Edgead_ToPlc", "Edgead_FromPlc"),
    ],
)
def test_ethernetip_members_of_arrays_of_structures(to_plc: str, from_plc: str) -> None:
    with LogixPeer(**{to_plc: 10, from_plc: 5}) as plc:
        plc.tags[from_plc][0] = 1
        link = ethernetip(plc.port, to_plc_tag=to_plc, from_plc_tag=from_plc, timeout_ms=1000 * PATIENCE_S)
        shown = ToPlc(ready=True, result_part_id=7)
        for _ in range(3):
            assert link.exchange(shown) == FromPlc(enable=True)
        assert plc.tags[to_plc] == to_dints(shown) and {to_plc, from_plc} <= plc.paths and plc.connections == 1
        link.close()


def test_ethernetip_status_is_explained_and_limits_are_named() -> None:
    with LogixPeer(**{"S[1].To": 9, "S[1].From": 5}) as plc:

        def told(**options: object) -> LinkError:
            link = ethernetip(plc.port, from_plc_tag="S[1].From", **options)
            with pytest.raises(LinkError) as caught:
                link.exchange(ToPlc())
            link.close()
            return caught.value

        assert "refuses S[1].To: Unknown error 255 (the array is shorter than needed" in str(
            told(to_plc_tag="S[1].To", timeout_ms=1000 * PATIENCE_S)
        )
        assert "refuses X[1].To: Path segment error (there is no such tag" in str(
            told(to_plc_tag="X[1].To", timeout_ms=1000 * PATIENCE_S)
        )
        plc.kind = 0xC3
        assert "the tag S[1].From is INT, not DINT" in str(told(to_plc_tag="S[1].To", timeout_ms=1000 * PATIENCE_S))
        plc.delay_s = 2.0
        slow = told(to_plc_tag="S[1].To", timeout_ms=500)
        assert slow.hint


def test_what_asyncio_wants_to_say_is_no_trace_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loop = LoopThread("test")

    async def forgotten() -> None:
        raise OSError("nobody waits for this")

    async def begin() -> None:
        asyncio.get_running_loop().create_task(forgotten())
        await asyncio.sleep(0.01)
        gc.collect()

    async def broken() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    loop.run(begin(), 20)
    loop.run(broken(), 20)
    loop.close()
    [record] = caplog.records  # that a task was forgotten is the library's affair, a broken callback is told
    assert record.exc_info is None and "division by zero" in record.getMessage() and "\n" not in record.getMessage()


def test_modbus_server_on_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OutputError, match="cannot listen on"):
        ModbusServerLink(ModbusServerSettings(port=taken.getsockname()[1]))
