"""A PLC as trigger source and output: in this process, and as real Modbus TCP servers and clients that stop, die and dawdle."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pymodbus.client import ModbusTcpClient

from edgead.cli.main import main
from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, OutputError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.plc import registers
from edgead.runtime.plc.device import LinkError, PlcDevice, PlcLink
from edgead.runtime.plc.handshake import Timing
from edgead.runtime.plc.modbus import MAX_CONNECTIONS, ModbusClientLink, ModbusServerLink, ModbusServerSettings
from edgead.runtime.plc.signals import (
    SIGNALS,
    Cause,
    Direction,
    Fault,
    FromPlc,
    ToPlc,
    from_plc_of,
    to_plc_of,
    to_words,
    words_in,
)
from edgead.testing import FakeCamera, FakeClock, FakeEngine
from edgead.testing.plc import FakePlc, FakePlcLink
from edgead.types import Inspection, StageTimes, Trigger, Verdict
from tests.runtime._rig import Loop, Rig, share_the_block, truth
from tests.runtime.links import modbus
from tests.servers.plc import ModbusPlc
from tests.waiting import PATIENCE_S, until

OK, NG, UNKNOWN = Verdict.OK, Verdict.NG, Verdict.UNKNOWN
DEPLOY = Path(__file__).resolve().parents[2] / "edgead/deploy/plc"


def inspection(
    verdict: Verdict, trigger: Trigger | None, *, part_id: int = 1, cause: str = "", deadline_ns: int | None = None
) -> Inspection:
    return Inspection(part_id, verdict, cause, 1.25, 2.0, None, StageTimes(), None, trigger, deadline_ns)


@pytest.fixture
def running() -> Iterator[Callable[..., PlcDevice]]:
    """Devices that are closed at the end."""
    devices: list[PlcDevice] = []

    def start(link: PlcLink, *rest: Clock, **options: object) -> PlcDevice:
        devices.append(PlcDevice(link, *rest, **options))  # type: ignore[arg-type]
        return devices[-1]

    yield start
    for device in devices:
        device.close()


Start = Callable[..., PlcDevice]

# In this process


def test_a_trigger_is_handed_over_with_its_part_and_answered(running: Start) -> None:
    plc = FakePlc(start_id=40)
    device = running(FakePlcLink(plc), name="line")
    device.heartbeat()
    plc.wanted = 1
    trigger = device.wait(PATIENCE_S)
    assert trigger is not None
    assert (trigger.trigger_id, trigger.part_id, trigger.source, trigger.refused) == (1, 41, "line", "")
    assert plc.verdicts == []
    device.signal(inspection(OK, trigger))
    until(lambda: plc.settled)
    assert [(v.part_id, v.verdict, v.cause, v.score) for v in plc.verdicts] == [(41, OK, 0, 1.25)]
    assert device.wait(0) is None


def test_triggers_that_nobody_will_read_are_left_to_the_plc(running: Start) -> None:
    plc = FakePlc(start_id=40, rude=True, ack_timeout_s=0.2)
    link = FakePlcLink(plc)
    device = running(link, name="line")
    device.heartbeat()
    until(lambda: link.shown and link.shown[-1].ready)
    device.hold(True)
    until(lambda: not link.shown[-1].ready)
    plc.wanted = 1
    until(lambda: plc.settled)
    assert [(v.part_id, v.by) for v in plc.verdicts] == [(41, "no_ack")]
    assert device.wait(0) is None
    assert device.counts().get("accepted", 0) == 0
    device.hold(False)
    device.heartbeat()
    plc.wanted = 1
    trigger = device.wait(PATIENCE_S)
    assert trigger is not None and trigger.part_id == 42


def test_causes_reach_the_plc_as_numbers(running: Start) -> None:
    plc = FakePlc(in_flight=1)
    device = running(FakePlcLink(plc))
    for cause, number in (("engine_error: out of memory", 7), ("something new", 255), ("", 255)):
        device.heartbeat()
        plc.wanted += 1
        device.signal(inspection(UNKNOWN, device.wait(PATIENCE_S), cause=cause))
        until(lambda: plc.settled)
        assert plc.verdicts[-1].cause == number


def test_verdicts_without_a_trigger_of_this_plc_carry_their_own_part(running: Start) -> None:
    plc = FakePlc(free_running=True)
    device = running(FakePlcLink(plc))
    until(lambda: device.connected)
    until(lambda: device.counts()["exchanges"] > 5)
    device.signal(inspection(OK, None, part_id=7))
    device.signal(inspection(NG, Trigger(1, 0, 99, source="gpio"), part_id=8))
    device.signal(inspection(NG, Trigger(2, 0, None, source="gpio"), part_id=9))
    until(lambda: len(plc.verdicts) == 3)
    assert [(v.part_id, v.verdict) for v in plc.verdicts] == [(7, OK), (99, NG), (9, NG)]


def test_when_nothing_more_can_be_held_the_station_is_told(running: Start) -> None:
    plc = FakePlc(free_running=True)
    plc.acknowledging = False
    device = running(FakePlcLink(plc), timing=Timing(capacity=2))
    until(lambda: device.connected)  # else the PLC that was not reached yet is to blame
    device.signal(inspection(NG, None, part_id=1))
    device.signal(inspection(NG, None, part_id=2))
    with pytest.raises(OutputError, match="holds no more") as caught:
        device.signal(inspection(NG, None, part_id=3))
    assert caught.value.hint
    until(lambda: plc.errors == [Fault.RESULT_LOST])


def test_a_verdict_after_its_deadline_is_told_as_unknown(running: Start) -> None:
    plc, clock = FakePlc(), FakeClock()
    device = running(FakePlcLink(plc), clock)
    device.heartbeat()
    plc.wanted = 1
    trigger = device.wait(PATIENCE_S)
    device.signal(inspection(OK, trigger, deadline_ns=clock.now_ns() - 1))
    until(lambda: plc.settled)
    assert [(v.verdict, v.cause) for v in plc.verdicts] == [(UNKNOWN, Cause.LATE_OUTPUT)]


def test_faults_of_the_link_are_counted_by_cause_and_it_goes_on(running: Start, caplog: pytest.LogCaptureFixture) -> None:
    plc = FakePlc()
    link = FakePlcLink(plc)
    link.faults.extend([LinkError("no route", cause="connect"), ZeroDivisionError("a bug"), LinkError("quiet", cause="timeout")])
    device = running(link)
    until(lambda: device.connected)
    counts = device.counts()
    assert (counts["failed:connect"], counts["failed:adapter"], counts["failed:timeout"]) == (1, 1, 1)
    told = ["plc: no route", "plc: the link failed: ZeroDivisionError('a bug')", "plc: quiet"]
    assert [record.message for record in caplog.records] == told  # each fault of an outage once


def test_waiting_for_triggers_of_a_plc_that_is_away_says_so(running: Start) -> None:
    link = FakePlcLink(FakePlc())
    link.faults.extend([LinkError("the PLC does not answer", cause="timeout", hint="look")] * 10_000)
    device = running(link)
    until(lambda: device.counts().get("failed:timeout"))
    with pytest.raises(OutputError, match="does not answer") as caught:
        device.wait(0)
    assert caught.value.hint == "look"


def test_going_safe_takes_ok_away_before_the_plc_has_it(running: Start) -> None:
    plc = FakePlc()
    plc.acknowledging = False
    link = FakePlcLink(plc)
    device = running(link)
    device.heartbeat()
    plc.wanted = 1
    device.signal(inspection(OK, device.wait(PATIENCE_S)))
    until(lambda: link.shown[-1].ok)
    device.fail_safe()
    until(lambda: link.shown[-1].unknown)
    assert not link.shown[-1].ready
    plc.acknowledging = True
    until(lambda: plc.settled)
    assert [(v.verdict, v.cause) for v in plc.verdicts] == [(UNKNOWN, Cause.STOPPED)]


def test_closing_answers_what_is_in_work_and_then_refuses(running: Start) -> None:
    plc = FakePlc()
    link = FakePlcLink(plc)
    device = running(link)
    device.heartbeat()
    plc.wanted = 1
    trigger = device.wait(PATIENCE_S)
    device.close()
    device.close()
    assert [(v.verdict, v.cause) for v in plc.verdicts] == [(UNKNOWN, Cause.STOPPED)]
    assert link.closed and not link.shown[-1].ready
    for use in (lambda: device.wait(0), lambda: device.signal(inspection(OK, trigger))):
        with pytest.raises(OutputError, match="closed"):
            use()


def test_the_plc_can_ask_for_a_recipe_and_sees_which_one_runs(running: Start) -> None:
    plc = FakePlc()
    link = FakePlcLink(plc)
    device = running(link, recipe=3)
    plc.recipe = 4
    until(lambda: device.recipe_request == 4)
    device.heartbeat()
    until(lambda: link.shown[-1].recipe == 3 and not link.shown[-1].ready)
    device.set_recipe(4)
    until(lambda: link.shown[-1].recipe == 4 and link.shown[-1].ready)


@pytest.mark.parametrize("options", [{"cycle_s": 0.0}, {"recipe": 65536}, {"boot": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        PlcDevice(FakePlcLink(FakePlc()), **options)  # type: ignore[arg-type]


def test_in_a_station_each_trigger_has_one_record_even_when_it_came_too_early(running: Start) -> None:
    plc = FakePlc(rude=True, in_flight=2)
    plc.wanted = 1
    link = FakePlcLink(plc)
    device = running(link, timing=Timing(loop_timeout_s=30))
    until(lambda: plc.verdicts)  # nobody beats yet: refused
    camera = FakeCamera([np.zeros((64, 64, 3), np.uint8)], clock=MonotonicClock(), loop=True)
    engine = FakeEngine([1.0, 3.0])
    told: list[Inspection] = []
    station = Station(
        camera,
        engine,
        PreprocessRecipe(64, 64),
        2.0,
        StationSettings(budget_ms=5000),
        [device],
        MonotonicClock(),
        triggers=device,
    ).on_inspection(told.append)
    with station:
        runner = threading.Thread(target=station.run, name="test-station")
        runner.start()
        until(lambda: told and link.shown[-1].ready)
        plc.wanted = 4
        until(lambda: len(plc.verdicts) == 5)
        station.stop()
        runner.join()
    assert [(i.trigger.part_id, i.verdict, i.cause) for i in told if i.trigger] == [
        (1, UNKNOWN, "loop_stalled"),
        (2, OK, ""),
        (3, NG, ""),
        (4, OK, ""),
        (5, NG, ""),
    ]
    assert [(v.part_id, v.verdict) for v in plc.verdicts] == [(i.trigger.part_id, i.verdict) for i in told if i.trigger]


# A real Modbus server that plays the PLC


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(link_options: dict[str, float] | None = None, **options: float) -> Rig:
        plc, given = ModbusPlc(tmp_path, **options), link_options or {}
        made.append(Rig(plc, lambda: modbus(plc.port, **given), 0.4))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.mark.parametrize("options", [{}, {"combined": True}], ids=["write, then read", "function code 23"])
def test_modbus_each_part_gets_its_verdict(rigs: Callable[..., Rig], options: dict[str, bool]) -> None:
    rig = rigs(link_options=options, in_flight=2)
    rig.plc.want(30)
    until(lambda: len(rig.parts()) == 30)
    rig.judge(mostly=30)
    assert rig.plc.log("ignored") == [] and rig.plc.log("error") == []


@pytest.mark.parametrize("options", [{}, {"combined": True}], ids=["write, then read", "function code 23"])
@pytest.mark.parametrize("whole", [0, 1], ids=["two requests for a look", "one request for a look"])
def test_modbus_a_second_station_on_the_block_is_seen_by_both(
    rigs: Callable[..., Rig], options: dict[str, bool], whole: int
) -> None:
    rig = rigs(link_options=options, whole=whole)
    share_the_block(rig)
    assert isinstance(rig.device._link, ModbusClientLink)
    assert rig.device._link._spanned is bool(whole)


def test_modbus_a_plc_that_hides_the_stations_block_works_and_is_told_of(rigs: Callable[..., Rig]) -> None:
    rig = rigs(hidden=1)
    rig.plc.want(5)
    until(lambda: len(rig.parts()) == 5)
    rig.judge(mostly=5)
    found = rig.device.conditions()
    assert list(found) == ["plc blind"] and "would not be noticed" in found["plc blind"].text and not found["plc blind"].blocks


def test_modbus_a_plc_that_refuses_now_and_then_is_served_and_its_block_is_still_looked_at(rigs: Callable[..., Rig]) -> None:
    rig = rigs(refuse_every=23)  # several times a second
    rig.plc.want(10)
    until(lambda: len(rig.parts()) == 10)
    rig.judge(mostly=5)
    assert rig.device.counts()["failed:refused"] > 3
    assert "plc blind" not in rig.device.conditions()


def test_modbus_a_plc_that_can_only_be_read_is_told_of_with_the_reason(rigs: Callable[..., Rig]) -> None:
    rig = rigs(readonly=1)
    until(lambda: rig.device.counts().get("failed:refused", 0) >= 5)
    until(lambda: "plc connection" in rig.device.conditions())
    for _ in range(3):
        failures = rig.device.counts()["failed:refused"]
        until(lambda: rig.device.counts()["failed:refused"] > failures)  # noqa: B023
        told = rig.device.conditions()["plc connection"].text  # it stays, though each look succeeds
        assert "illegal data address" in told and "allows writing" in told


def test_modbus_a_plc_that_answers_slowly_still_gets_every_verdict(rigs: Callable[..., Rig]) -> None:
    rig = rigs(link_options={"timeout_ms": 1000}, answer_ms=15)
    rig.plc.want(5)
    until(lambda: len(rig.parts()) == 5)
    rig.judge(mostly=5)


def test_modbus_a_plc_that_answers_too_slowly_gets_no_ok(rigs: Callable[..., Rig]) -> None:
    rig = rigs(link_options={"timeout_ms": 20}, answer_ms=60)
    rig.plc.want(1)
    until(lambda: rig.device.counts().get("failed:timeout", 0) > 3)
    with pytest.raises(OutputError, match="does not answer"):
        rig.device.wait(0)
    assert not any(entry["verdict"] == "OK" for entry in rig.plc.log())


def test_modbus_a_plc_that_is_stopped_and_goes_on(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.plc.want(40)
    until(lambda: len(rig.parts()) >= 10)
    rig.plc.pause()
    until(lambda: rig.device.counts().get("error:plc_lost"))
    rig.plc.resume()
    until(lambda: len(rig.parts()) == 40)
    rig.judge(mostly=30)
    until(lambda: {"error": Fault.PLC_LOST} in rig.plc.log("error"))


def test_modbus_a_plc_that_is_killed_and_started_again(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.plc.want(1000)
    until(lambda: len(rig.parts()) >= 5)
    rig.plc.kill()
    before = max(rig.loop.answered)
    until(lambda: rig.device.counts().get("failed:connect"))
    rig.plc.start(start_id=before + 100)
    rig.plc.want(10)
    until(lambda: len([part for part in rig.parts() if part > before + 100]) == 10)
    rig.judge(mostly=13)


def test_modbus_the_plc_sees_a_hanging_loop_by_the_heartbeat_and_gets_unknown(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    until(lambda: rig.plc.log("heartbeat") == [{"heartbeat": True}])
    rig.loop.beating = False
    until(lambda: len(rig.plc.log("heartbeat")) == 2)
    until(lambda: rig.plc.log("error") == [{"error": Fault.LOOP_STALLED}])
    rig.plc.want(1)
    rig.loop.beating = True
    until(lambda: len(rig.parts()) == 1)
    assert rig.plc.log("heartbeat")[-1] == {"heartbeat": True}


def test_modbus_a_station_that_is_killed_and_started_again(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.plc.want(1000)
    until(lambda: len(rig.parts()) >= 5)
    cut = threading.Event()
    exchange = rig.device._link.exchange

    def dead(to_plc: ToPlc) -> FromPlc:
        cut.set()
        raise LinkError("killed", cause="connect")

    rig.device._link.exchange = dead  # type: ignore[method-assign]
    assert exchange is not dead and cut.wait(PATIENCE_S)
    rig.loop.close()
    before = len(rig.parts())
    old, rig.device = rig.device, rig.connect(boot=2)
    rig.loop = Loop(rig.device)
    until(lambda: len(rig.parts()) >= before + 10)
    old.close()
    rig.judge(mostly=before + 5)


def test_modbus_nobody_there_costs_little_time_and_is_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        link = modbus(probe.getsockname()[1])
        with pytest.raises(LinkError, match="does not accept a connection") as caught:
            link.exchange(ToPlc())
    assert caught.value.cause == "connect" and caught.value.hint
    link.close()
    with pytest.raises(LinkError, match="closed"):
        link.exchange(ToPlc())


def test_modbus_wrong_registers_are_refused_by_the_plc_and_named(tmp_path: Path) -> None:
    plc = ModbusPlc(tmp_path)
    plc.start()
    link = modbus(plc.port, from_plc_address=500)
    with pytest.raises(LinkError, match="refuses") as caught:
        link.exchange(ToPlc())
    assert caught.value.cause == "refused" and "addresses" in caught.value.hint
    link.close()
    plc.kill()


@pytest.mark.parametrize("blocks", [(0, 5), (100, 95), (-1, 50), (0, 65535), (65530, 0)])
def test_modbus_blocks_that_overlap_or_do_not_fit_are_bad_input(blocks: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match=r"overlap|goes beyond register 65535|cannot be"):
        modbus(502, to_plc_address=blocks[0], from_plc_address=blocks[1])


# A real Modbus client that plays the PLC


class PollingPlc:
    """FakePlc's program in a thread that reads and writes registers of a Modbus server every `cycle_s`."""

    def __init__(self, port: int, cycle_s: float = 0.01, **options: bool) -> None:
        self.plc = FakePlc(**options)  # type: ignore[arg-type]
        self.refused = 0
        self._client = ModbusTcpClient("127.0.0.1", port=port, timeout=PATIENCE_S, retries=0)
        self._cycle_s, self._stop = cycle_s, threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-plc")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(self._cycle_s):
            words = self._client.read_holding_registers(0, count=words_in(Direction.TO_PLC)).registers
            seen = self.plc.scan(to_plc_of(words), time.monotonic_ns())
            self.refused += self._client.write_registers(100, to_words(seen)).isError()


@pytest.fixture
def server() -> Iterator[ModbusServerLink]:
    link = ModbusServerLink(ModbusServerSettings(), any_port=True)
    yield link
    link.close()


def test_modbus_server_a_plc_that_polls_gets_each_verdict(running: Start, server: ModbusServerLink) -> None:
    device = running(server)
    loop, plc = Loop(device), PollingPlc(server.port)
    plc.plc.wanted = 10
    until(lambda: plc.plc.settled and plc.plc.verdicts)
    plc.close()
    loop.close()
    assert [(v.part_id, v.verdict, v.by) for v in plc.plc.verdicts] == [(i, truth(i), "station") for i in range(1, 11)]


def test_modbus_server_a_silent_plc_is_a_fault_until_it_writes_again(running: Start, server: ModbusServerLink) -> None:
    device = running(server)
    plc = PollingPlc(server.port)
    until(lambda: device.connected)
    plc.close()
    until(lambda: device.counts().get("failed:silent", 0) > 2)
    with pytest.raises(OutputError, match="no PLC writes"):
        device.wait(0)
    plc = PollingPlc(server.port)
    until(lambda: device.connected)
    plc.close()


def test_modbus_server_one_connection_writes_and_the_stations_block_is_read_only(
    running: Start, server: ModbusServerLink
) -> None:
    device = running(server)
    first, second = (ModbusTcpClient("127.0.0.1", port=server.port, timeout=PATIENCE_S, retries=0) for _ in range(2))
    words = to_words(FromPlc(enable=True))
    assert not first.write_registers(100, words).isError()
    assert second.write_registers(100, words).exception_code == 6
    told = device.conditions()["plc second_writer"]
    addresses = ["{}:{}".format(*client.socket.getsockname()) for client in (second, first)]
    assert told.text.startswith(f"the PLC that writes to port {server.port}: {addresses[0]} writes") and addresses[1] in told.text
    assert not told.blocks  # the first one goes on
    assert not second.read_holding_registers(0, count=words_in(Direction.TO_PLC)).isError()
    assert first.write_registers(0, [1]).exception_code == 2
    assert first.read_holding_registers(50, count=1).exception_code == 2
    until(lambda: not second.write_registers(100, words).isError())  # the first one is silent now
    assert first.write_registers(100, words).exception_code == 6
    first.close()
    second.close()


def test_modbus_server_listens_on_loopback_alone_unless_told_otherwise(server: ModbusServerLink) -> None:
    assert server._bind == "127.0.0.1"
    with pytest.raises(OutputError, match=f"cannot listen on 127.0.0.1:{server.port}: Address already in use") as caught:
        ModbusServerLink(ModbusServerSettings(port=server.port))
    assert caught.value.hint
    with pytest.raises(OutputError, match=r"cannot listen on 198.51.100.7:\d+: Cannot assign requested address") as caught:
        ModbusServerLink(ModbusServerSettings(bind="198.51.100.7", port=server.port))  # TEST-NET-2: no interface has it
    assert "is its cable in" in caught.value.hint
    with pytest.raises(BadInput, match=r"'10\.0\.0\.300' is not an IP address"):
        ModbusServerLink(ModbusServerSettings(bind="10.0.0.300", port=server.port))


def test_a_plc_gets_in_beside_any_number_of_idle_connections(server: ModbusServerLink, caplog: pytest.LogCaptureFixture) -> None:
    writer = ModbusTcpClient("127.0.0.1", port=server.port, timeout=PATIENCE_S, retries=0)
    assert writer.connect()
    words = [0] * words_in(Direction.FROM_PLC)
    assert not writer.write_registers(100, words).isError()
    idle = []
    for _ in range(5 * MAX_CONNECTIONS):
        idle.append(socket.create_connection(("127.0.0.1", server.port)))
        assert not writer.write_registers(100, words).isError()  # who works stays
    late = ModbusTcpClient("127.0.0.1", port=server.port, timeout=PATIENCE_S, retries=0)
    assert late.connect() and not late.read_holding_registers(0, count=words_in(Direction.TO_PLC)).isError()
    assert "more than 16 Modbus connections: that of 127.0.0.1 is closed" in caplog.text
    until(lambda: sum(hung_up(connection) for connection in idle) >= 4 * MAX_CONNECTIONS)
    for connection in idle:
        connection.close()
    late.close()
    writer.close()


def test_connections_that_come_in_one_burst_are_few_too(server: ModbusServerLink) -> None:
    held, let_go = threading.Event(), threading.Event()
    assert server._loop is not None

    def hold() -> None:  # as a busy machine does: the server accepts all that wait in one go
        held.set()
        let_go.wait(PATIENCE_S)

    server._loop.call_soon_threadsafe(hold)
    assert held.wait(PATIENCE_S)
    burst = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5 * MAX_CONNECTIONS)]
    let_go.set()
    until(lambda: sum(hung_up(connection) for connection in burst) >= 4 * MAX_CONNECTIONS)
    for connection in burst:
        connection.close()


def hung_up(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# The table and what is generated from it


def test_blocks_keep_every_value_in_both_word_orders() -> None:
    shown = ToPlc(*([True, False] * 4), True, 65535, 7, 2, 4_294_967_295, 0x12345678, 255, 9, -1.5)
    seen = FromPlc(True, False, True, False, True, 3, 0xDEADBEEF, 1, 12)
    for order in ("big", "little"):
        assert to_plc_of(to_words(shown, order), order) == shown  # type: ignore[arg-type]
        assert from_plc_of(to_words(seen, order), order) == seen  # type: ignore[arg-type]
    assert to_words(shown)[6:8] == [0x1234, 0x5678]
    assert to_words(shown, "little")[6:8] == [0x5678, 0x1234]
    assert to_words(ToPlc(score=float("nan")))[10:12] == [0, 0]


def test_signals_do_not_share_their_place() -> None:
    taken: set[tuple[Direction, int, int | None]] = set()
    for signal in SIGNALS:
        width = 2 if signal.type in ("u32", "f32") else 1
        for word in range(signal.word, signal.word + width):
            assert (signal.direction, word, signal.bit) not in taken
            assert signal.bit is None or (signal.direction, word, None) not in taken
            taken.add((signal.direction, word, signal.bit))


def test_the_committed_register_maps_are_what_the_code_uses(tmp_path: Path) -> None:
    assert main(["plc-map", str(tmp_path)]) == 0
    for name in registers.FILES:
        assert (DEPLOY / name).read_text() == (tmp_path / name).read_text(), f"run: edgead plc-map {DEPLOY}"


def test_the_plc_sample_uses_every_signal() -> None:
    text = (DEPLOY / "edgead_handshake.st").read_text()
    assert [s.name for s in SIGNALS if f"station.{s.name}" not in text and f"plc.{s.name}" not in text] == []


def test_a_map_for_other_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plc-map", "--to-plc-address", "2000", "--from-plc-address", "1000", "--word-order", "little"]) == 0
    printed = capsys.readouterr().out
    assert "| `score` | 2010-2011 |" in printed and "| `trigger` | 1000 |" in printed and "low word" in printed
    assert main(["plc-map", "--to-plc-address", "100"]) == 2
    assert "overlap" in capsys.readouterr().err


def test_a_map_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["plc-map", str(tmp_path / "file")]) == 7
    assert "cannot write" in capsys.readouterr().err
