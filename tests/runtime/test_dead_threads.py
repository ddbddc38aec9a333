"""What a station does about threads that die of what nobody expects: panics of native code, adapters that give None."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from edgead.clock import MonotonicClock
from edgead.errors import CameraLost, EngineError, OutputError
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.sinks import Sink
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.stats import Stats
from edgead.runtime.loop.triggers import SoftwareTrigger
from edgead.runtime.outputs.gate import GateOutput
from edgead.runtime.outputs.gpio import GpioOutput, GpioSettings
from edgead.runtime.plc.device import PlcDevice
from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.runtime.products.recipes import Product, RecipeBook
from edgead.runtime.records.database import Database
from edgead.runtime.records.history import History
from edgead.runtime.records.record import RecordFile
from edgead.runtime.records.store import RecordStore
from edgead.runtime.supervision.metrics import Metrics
from edgead.runtime.supervision.supervisor import Supervisor
from edgead.runtime.threads import Crew, Supervised
from edgead.testing import FakeCamera, FakeClock, FakeEngine, FakeOutput, Hang, PushedCamera
from edgead.testing.plc import FakeChip
from edgead.types import Frame, Inspection, Trigger, Verdict
from tests.runtime._line import GOOD, RECIPE, LineUnderTest, brightness
from tests.runtime.parts import inspection, record
from tests.runtime.test_threads import look_for
from tests.waiting import PATIENCE_S, until


class Panic(BaseException):
    """As native extensions raise them: no Exception."""


# The camera's thread


class Odd(PushedCamera):
    """A live camera whose adapter does something odd once, then works."""

    def __init__(self, clock: FakeClock, oddity: Callable[[], Frame]) -> None:
        super().__init__(clock)
        self.oddity: Callable[[], Frame] | None = oddity

    def grab(self, timeout_s: float) -> Frame:
        oddity, self.oddity = self.oddity, None
        return oddity() if oddity is not None else super().grab(timeout_s)


def none() -> Frame:
    return None  # type: ignore[return-value]


def no_number() -> Frame:
    return Frame(GOOD, "odd", "first", 5)  # type: ignore[arg-type]


def panic() -> Frame:
    raise Panic("index out of bounds")


@pytest.mark.parametrize(
    ("oddity", "says", "deaths"),
    [
        (none, "the camera's adapter gave NoneType instead of a frame", 0),
        (no_number, "the camera's adapter gave a frame with the id 'first'", 0),
        (panic, "capture: its thread died of Panic: index out of bounds", 1),
    ],
)
def test_a_capture_thread_that_would_die_is_a_lost_camera_that_comes_back(
    oddity: Callable[[], Frame], says: str, deaths: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(manual=True)
    second = PushedCamera(clock)
    with Crew().own():
        line = LineUnderTest(camera=Odd(clock, oddity), clock=clock, reopen=lambda: second)
    with line:
        until(lambda: line.station.health().state == "faulted")
        assert line.station.health().camera == "lost"
        line.fire()
        assert line.told(1) == ["UNKNOWN camera_lost"]
        until(lambda: clock.advance(0.1) or line.station.health().camera == "ok")
        line.fire()
        line.wait_for_frame()
        second.push(GOOD)
        assert line.told(1) == ["OK"]
        assert sum(death.count for death in line.station.health().threads.values()) == deaths
        second.end()
    assert says in caplog.text


@pytest.mark.parametrize("oddity", [none, panic])
def test_a_recording_whose_adapter_is_broken_ends_the_run_as_one_that_broke_off(oddity: Callable[[], Frame]) -> None:
    camera = Odd(FakeClock(), oddity)
    camera.live = False
    output = FakeOutput()
    with Station(camera, FakeEngine(brightness), RECIPE, 100.0, outputs=[output]) as station:
        with pytest.raises(CameraLost, match="the camera's adapter"):
            station.run()
        assert station.stats.causes == {"camera_lost": 1}


# Outputs


def free_running(parts: int, *outputs: FakeOutput) -> Station:
    """Of a recording of good parts."""
    return Station(FakeCamera([GOOD] * parts), FakeEngine(brightness), RECIPE, 100.0, outputs=outputs)


class Panicking(FakeOutput):
    """Panics at some of its parts."""

    def __init__(self, at: Sequence[int]) -> None:
        super().__init__()
        self._at = set(at)

    def signal(self, inspection: Inspection) -> None:
        if inspection.part_id in self._at:
            raise Panic("the driver has a bug")
        super().signal(inspection)


def test_an_output_that_panics_is_safe_and_the_next_parts_are_told() -> None:
    output = Panicking([31])
    with (
        Crew().own() as crew,
        Station(FakeCamera([GOOD] * 200), FakeEngine(brightness), RECIPE, 100.0, outputs=[output]) as station,
    ):
        station.run()
    assert output.history[:32] == ["OK"] * 30 + ["safe", "OK"]
    assert [told.part_id for told in output.told] == [*range(1, 31), *range(32, 201)]
    assert station.stats.errors == {"Panicking": 1}
    death = crew.deaths()["output Panicking"]
    assert (death.count, death.cause, death.exit_code) == (1, "Panic: the driver has a bug", 6)


def test_an_output_that_always_panics_never_shows_ok_and_the_station_says_so() -> None:
    output = Panicking(range(1000))
    trigger = SoftwareTrigger()
    with Crew().own():
        station = Station(FakeCamera([GOOD], loop=True), FakeEngine(brightness), RECIPE, 100.0, None, [output])
    runner = threading.Thread(target=station.run)
    runner.start()
    until(lambda: station.health().state == "faulted")
    assert "output Panicking: its thread died of Panic: the driver has a bug" in station.health().fault
    station.stop()
    runner.join(PATIENCE_S)
    station.close()
    trigger.close()
    assert not output.asserted
    assert "OK" not in output.history


def test_an_output_that_does_not_come_back_is_made_safe_by_another_thread() -> None:
    clock, hang = FakeClock(), Hang()
    crew = Crew("", clock)

    class Stuck(FakeOutput):
        def signal(self, inspection: Inspection) -> None:
            super().signal(inspection)
            if inspection.part_id == 2:
                hang.wait()

    output = Stuck()
    with crew.own(), Sink.of_output(output, Stats(), MonotonicClock(), 8) as sink:
        sink.tell(inspection(1))
        sink.tell(inspection(2))
        assert hang.entered.acquire(timeout=PATIENCE_S)
        assert output.asserted
        look_for(crew, clock, 12)
        until(lambda: not output.asserted)
        assert crew.faults()["output Stuck"].startswith("its thread stands still for")
        hang.let_go()
        until(lambda: output.history == ["OK", "OK", "safe", "safe"])  # it may have shown its OK only now
        until(lambda: not crew.faults())


def test_a_gate_whose_device_panics_rejects_every_part_on_the_way() -> None:
    clock = FakeClock(manual=True)
    device = Panicking([1])
    with Crew().own() as crew:
        gate = GateOutput(device, delay_s=1.0, clock=clock)
    for part_id in (1, 2, 3):
        gate.expect(part_id, Trigger(part_id, clock.now_ns()))
        gate.signal(inspection(part_id))
        clock.advance(0.1)
    clock.advance(0.75)
    until(lambda: crew.deaths().get("gate"))
    for told in (1, 2):
        clock.advance(0.1)
        until(lambda told=told: len(device.told) == told)
    assert [told.verdict for told in device.told] == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    assert not device.asserted
    gate.close()


# Triggers and engine


def test_a_trigger_source_that_panics_or_gives_no_trigger_is_asked_again() -> None:
    class Source(SoftwareTrigger):
        faults = 0

        def wait(self, timeout_s: float) -> Trigger | None:
            self.faults += 1
            if self.faults == 1:
                raise Panic("no")
            return "a trigger" if self.faults == 2 else super().wait(timeout_s)  # type: ignore[return-value]

    clock = FakeClock(manual=True)
    with Crew().own() as crew:
        line = LineUnderTest(triggers=Source(clock), clock=clock)
    with line:
        until(lambda: line.station.stats.errors["triggers"] == 1)
        line.fire()
        line.wait_for_frame()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert crew.deaths()["triggers"].cause == "Panic: no"


def test_an_output_that_panics_as_it_hears_of_a_trigger_costs_neither_trigger_nor_thread() -> None:
    class Expecting(FakeOutput):
        def expect(self, part_id: int, trigger: Trigger) -> None:
            raise Panic("no")

    with Crew().own() as crew:
        line = LineUnderTest(outputs=[Expecting()])
    with line:
        line.fire()
        line.wait_for_frame()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.end()
    assert line.station.stats.errors == {"expect": 1}
    assert crew.deaths() == {}


def test_a_recipe_whose_loading_panics_is_refused() -> None:
    station = Station(FakeCamera([GOOD]), FakeEngine(brightness), RECIPE, 100.0)

    def load(number: int) -> Product:
        raise Panic("a bug in native code")

    with RecipeBook(station, load, [1, 2], Product(1, Answerer(FakeEngine(brightness), RECIPE, 100.0))) as book:
        with pytest.raises(EngineError, match="recipe 2 does not load"):
            book.change(2)
        assert book.running == 1
    station.close()


def test_an_engine_that_panics_costs_its_part() -> None:
    def infer(image: object) -> float:
        raise Panic("shape mismatch")

    output = FakeOutput()
    with Station(FakeCamera([GOOD] * 2), FakeEngine(infer), RECIPE, 100.0, outputs=[output]) as station:
        station.run()
    assert [told.cause for told in output.told] == ["engine_error: shape mismatch"] * 2


# Records


class Reached(BaseException):
    pass


def ids(folder: Path) -> list[int]:
    with History(folder) as history:
        return [row["part_id"] for row in history.rows()]


@pytest.mark.parametrize("fault", [MemoryError("no"), Panic("no"), SystemExit(3), RuntimeError("no")])
@pytest.mark.parametrize("times", [1, 5])
def test_a_record_writer_that_dies_is_begun_again_and_loses_nothing(
    fault: BaseException, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = Database.insert, [fault] * times

    def insert(self: Database, rows: Sequence[dict[str, object]]) -> dict[int, str]:
        if len(rows) > 3 and left:
            raise left.pop()
        return real(self, rows)

    monkeypatch.setattr(Database, "insert", insert)
    with Crew().own() as crew:
        store = RecordStore(tmp_path, commit_every_s=0.0)
    with Station(FakeCamera([GOOD] * 200), FakeEngine(brightness), RECIPE, 100.0) as station:
        station.on_record(store.write).run()
    store.close(PATIENCE_S)
    assert ids(tmp_path) == list(range(1, 201))
    assert (store.written, store.lost) == (200, 0)
    if left != [fault] * times:
        assert crew.deaths()["records"].exit_code == 7


def test_a_record_that_kills_its_writer_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Database.insert

    def insert(self: Database, rows: Sequence[dict[str, object]]) -> dict[int, str]:
        if any(row["part_id"] == 50 for row in rows):
            raise Panic("it is poisoned")
        return real(self, rows)

    monkeypatch.setattr(Database, "insert", insert)
    store = RecordStore(tmp_path)
    for part_id in range(1, 101):
        store.write(record(part_id))
    store.close(PATIENCE_S)
    assert ids(tmp_path) == [part_id for part_id in range(1, 101) if part_id != 50]
    assert (store.written, store.lost) == (99, 1)


def test_names_that_are_no_utf_8_and_numbers_without_room_cost_nothing(tmp_path: Path) -> None:
    odd = "caf\udce9"
    store = RecordStore(tmp_path, station=odd)
    for part_id in range(1, 5):
        store.attach(part_id, Path(f"{odd}/a.png"), Path(f"{odd}/a.jpg"))
        store.write({**record(part_id), "frame_id": 2**64 - 1, "trigger_source": odd, "engine": odd, "score": np.float32(1.5)})
    store.write({**record(5), "views": [{"camera": odd, "frame_id": np.int64(7)}], "line_part_id": np.int64(12)})
    store.close()
    with History(tmp_path) as history:
        rows = list(history.rows())
    assert [(row["part_id"], row["frame_id"]) for row in rows] == [(1, None), (2, None), (3, None), (4, None), (5, 5)]
    assert (rows[0]["picture"], rows[0]["engine"], rows[0]["score"]) == ("caf\\udce9/a.png", "caf\\udce9", 1.5)
    assert (rows[4]["line_part_id"], rows[4]["views"]) == (12, '[{"camera":"caf\\udce9","frame_id":7}]')
    assert (store.written, store.lost) == (5, 0)


def test_what_is_no_record_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RecordStore(tmp_path)
    for item in (record(1), {}, {"part_id": "x", "times": 3, "views": None}, record(2)):
        store.write(item)
    store.close()
    assert ids(tmp_path) == [1, 2]
    assert (store.written, store.lost) == (2, 2)
    assert "cannot be stored" in caplog.text


def test_details_that_no_database_takes_cost_themselves_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Database.update

    def update(self: Database, run: int, part_id: int, values: dict[str, str | None]) -> bool:
        if part_id == 2:
            raise Panic("poisoned")
        return real(self, run, part_id, values)

    monkeypatch.setattr(Database, "update", update)
    store = RecordStore(tmp_path, commit_every_s=0.0)
    for part_id in (1, 2, 3):
        store.write(record(part_id))
    assert store.flush(PATIENCE_S)
    store.acknowledge(2)
    until(lambda: not store._details)
    store.acknowledge(3)
    store.write(record(4))
    store.close(PATIENCE_S)
    assert ids(tmp_path) == [1, 2, 3, 4]
    assert store.lost == 0


def test_lost_is_told_minus_recorded_whoever_lost_it(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    station = Station(FakeCamera([GOOD] * 20), FakeEngine(brightness), RECIPE, 100.0)
    station.on_record(store.write)
    real = station._record
    station._record = lambda found: real(found) if found.part_id % 2 else panic()  # type: ignore[method-assign, return-value, assignment]
    station.run()
    assert store.lost == 0  # nobody has told it
    store.close()
    station.close()
    assert (store.written, store.lost) == (10, 10)
    assert ids(tmp_path) == list(range(1, 20, 2))


def test_a_file_of_records_counts_likewise(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    station = Station(FakeCamera([GOOD] * 3), FakeEngine(brightness), RECIPE, 100.0, engine_name="caf\udce9")
    station.on_record(file.write)
    with station:
        station.run()
    file.write({"score": float("nan")})
    file.write({"score": object()})
    file.close()
    assert file.lost == 2
    assert (tmp_path / "records.jsonl").read_text("utf-8").count('"engine": "caf\\udce9"') == 3


def test_an_output_may_fail_as_ever_without_a_dead_thread() -> None:
    output = FakeOutput([OutputError("no answer")])
    with (
        Crew().own() as crew,
        Station(FakeCamera([GOOD] * 2), FakeEngine(brightness), RECIPE, 100.0, outputs=[output]) as station,
    ):
        station.run()
    assert output.history[:2] == ["safe", "OK"]
    assert crew.deaths() == {}


# What people see


def test_probes_metrics_and_the_supervisor_tell_of_dead_threads_of_a_station_and_of_the_process(tmp_path: Path) -> None:
    process = Crew()
    with process.own(), process.branch("line").own() as crew:
        station = Station(FakeCamera([GOOD], loop=True), FakeEngine(brightness), RECIPE, 100.0, None, [Panicking([1])])
    with process.own():
        supervisor, metrics = Supervisor({"line": station}, stalled_after_s=10.0), Metrics({"line": station}, sysfs=tmp_path)
        server = Supervised("server", panic, restart=False)  # type: ignore[arg-type]
    runner = threading.Thread(target=station.run)
    runner.start()
    server.start()
    until(lambda: crew.deaths() and process.deaths() and station.health().state == "faulted")
    report = supervisor.report()
    assert not report.ready and report.alive
    assert "line: faulted, output Panicking: its thread died of Panic: the driver has a bug" in report.reason
    assert "server: its thread died of Panic: index out of bounds" in report.reason
    assert report.stations["line"]["threads"]["output Panicking"]["count"] == 1
    json.dumps(report.stations)
    text = metrics.render()[1].decode()
    assert 'edgead_thread_deaths_total{camera="line",thread="output Panicking"} 1.0' in text
    assert 'edgead_thread_deaths_total{camera="",thread="server"} 1.0' in text
    station.stop()
    runner.join(PATIENCE_S)
    station.close()
    server.join()


def test_a_gpio_thread_that_dies_in_a_pulse_leaves_no_ok_standing() -> None:
    clock, chip = FakeClock(manual=True), FakeChip()
    with Crew().own() as crew:
        output = GpioOutput(GpioSettings(ok=1, reject=2, pulse_ms=100.0), clock, chip=chip)
    output.heartbeat()
    output.signal(inspection(1))
    assert chip.levels[1]
    plan = output._plan
    calls: list[int] = []

    def odd(now_ns: int) -> dict[str, bool]:
        calls.append(1)
        return plan(now_ns) if len(calls) > 1 else panic()  # type: ignore[return-value]

    output._plan = odd  # type: ignore[method-assign]
    until(lambda: clock.advance(0.01) or crew.deaths().get("gpio"))
    until(lambda: not chip.levels[1] and chip.levels[2])
    output.close()


def test_a_plc_device_whose_thread_dies_goes_safe_and_exchanges_again() -> None:
    class Link:
        calls = 0
        shown: ClassVar[list[ToPlc]] = []

        def exchange(self, to_plc: ToPlc) -> FromPlc:
            self.calls += 1
            if self.calls == 5:
                raise Panic("a bug in native code")
            self.shown.append(to_plc)
            return FromPlc()

        def close(self) -> None:
            """Nothing."""

    link = Link()
    with Crew().own() as crew:
        device = PlcDevice(link, cycle_s=0.001)
    until(lambda: link.calls > 20)
    assert crew.deaths()["plc"].count == 1
    assert device.connected
    assert device.counts()["failed:adapter"] == 1
    device.close()


def test_all_threads_of_a_running_station_are_supervised(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = RecordStore(tmp_path)
    trigger = SoftwareTrigger()
    station = Station(
        FakeCamera([GOOD], loop=True, live=True), FakeEngine(brightness), RECIPE, 100.0, StationSettings(budget_ms=1000.0),
        [FakeOutput()],
        triggers=trigger,
    )  # fmt: skip
    station.on_record(store.write, first=True).on_inspection(print)
    runner = threading.Thread(target=station.run)
    runner.start()
    until(lambda: station.health().state == "ready" and len(threading.enumerate()) - len(before) >= 9)
    found = set(threading.enumerate()) - before - {runner}
    assert {getattr(thread._target, "__self__", None).__class__ for thread in found} == {Supervised}  # type: ignore[attr-defined]
    assert {thread.name for thread in found} == {
        f"edgead-{name}"
        for name in ("capture", "loop", "output FakeOutput", "print", "records", "records first", "referee", "triggers")
    }
    station.stop()
    runner.join(PATIENCE_S)
    station.close()
    store.close()


KILLED = """
import ctypes, threading
from edgead.runtime.loop.station import Station
from edgead.runtime.threads import Crew
from edgead.testing import FakeCamera, FakeEngine, FakeOutput
from tests.runtime._line import GOOD, RECIPE, brightness
from tests.waiting import until

class Killing(FakeCamera):
    def grab(self, timeout_s):
        ctypes.CDLL(None).pthread_exit(None)

class KillingOutput(FakeOutput):
    def signal(self, inspection):
        super().signal(inspection)
        if inspection.part_id == 5:
            ctypes.CDLL(None).pthread_exit(None)

output = KillingOutput()
with Crew().own() as crew:
    station = Station(
        Killing([GOOD], live=True), FakeEngine(brightness), RECIPE, 100.0, None, [output],
        reopen=lambda: FakeCamera([GOOD], loop=True, live=True),
    )
runner = threading.Thread(target=station.run)
runner.start()
until(lambda: "capture: its thread" in station.health().fault)
until(lambda: len(output.told) > 10)
station.stop()
runner.join()
assert output.told[0].cause == "camera_lost"
assert output.history[-1] == "safe" and not output.asserted
print({name: death.cause for name, death in sorted(crew.deaths().items())})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which threads there are")
def test_threads_of_a_station_that_are_killed_below_python_are_replaced() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.stdout == "{'capture': 'Gone: it was killed', 'output KillingOutput': 'Gone: it was killed'}\n", done.stderr
