"""Several cameras look at one part: one verdict out of all of theirs, by the deadline, and never OK with a view missing."""

from __future__ import annotations

import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from edgead.budget import LatencyBudget
from edgead.clock import MonotonicClock
from edgead.config.reading import read_station
from edgead.errors import BadInput, EndOfStream, OutputError
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.triggers import SoftwareTrigger
from edgead.runtime.loop.views import Fanout, Views
from edgead.runtime.records.store import RecordStore
from edgead.testing import AskedCamera, FakeClock, FakeEngine, FakeOutput, Hang, PushedCamera
from edgead.types import Camera, Engine, Image, Inspection, StageTimes, Trigger, Verdict
from tests.runtime._line import BAD, GOOD, RECIPE, brightness, words
from tests.runtime.test_recipes import bundle
from tests.servers.plc import ModbusPlc
from tests.waiting import PATIENCE_S, until

OK, NG, UNKNOWN = Verdict.OK, Verdict.NG, Verdict.UNKNOWN
CAMERAS = ("top", "side")


class Cell:
    """A station for each camera on one trigger; brightness is the score."""

    def __init__(
        self,
        *,
        combine: str | int = "any",
        engines: Sequence[Engine] = (),
        cameras: Callable[[FakeClock], Camera] = PushedCamera,
        hangs: Sequence[Hang] = (),
    ) -> None:
        self.clock = FakeClock(manual=True)
        self.triggers = SoftwareTrigger(self.clock)
        self.output = FakeOutput()
        self.views = Views(CAMERAS, LatencyBudget(100), [self.output], self.clock, combine=combine)
        self.records: list[dict[str, object]] = []
        self._told: queue.SimpleQueue[Inspection] = queue.SimpleQueue()
        self.views.on_inspection(self._told.put).on_record(self.records.append)
        fanout = Fanout(self.triggers, CAMERAS)
        self.cameras = {name: cameras(self.clock) for name in CAMERAS}
        asked = list(engines) or [FakeEngine(brightness), FakeEngine(brightness)]
        self.stations = [
            Station(
                self.cameras[name],
                engine,
                RECIPE,
                100.0,
                StationSettings(budget_ms=100),
                [self.views.output(name)],
                self.clock,
                triggers=fanout.of(name),
                engine_name=f"engine of {name}",
            )
            for name, engine in zip(CAMERAS, asked, strict=True)
        ]
        self._hangs = hangs
        self._threads = [threading.Thread(target=station.run, name="cell") for station in self.stations]

    def push(self, top: Image | None, side: Image | None) -> None:
        for name, picture in zip(CAMERAS, (top, side), strict=True):
            camera = self.cameras[name]
            assert isinstance(camera, PushedCamera)
            if picture is not None:
                camera.push(picture)

    def verdict(self) -> Inspection:
        return self._told.get(timeout=PATIENCE_S)

    def pass_time(self, duration_ms: float) -> None:
        self.clock.advance(duration_ms / 1000)

    def both_know(self, parts: int) -> None:
        until(lambda: all(station.stats.triggers == parts for station in self.stations))

    def arrived(self, views: int) -> None:
        """Wait until so many verdicts of cameras have come to open parts: what is on its way when the time jumps is late."""

        def count() -> int:
            with self.views._lock:
                return sum(len(part.views) for part in self.views._open.values())

        until(lambda: count() == views)

    def __enter__(self) -> Cell:
        self.views.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.triggers.end()
        for hang in self._hangs:
            hang.let_go()
        for camera in self.cameras.values():
            assert isinstance(camera, PushedCamera)
            camera.end()
        for station, thread in zip(self.stations, self._threads, strict=True):
            station.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.views.close()
        for station in self.stations:
            station.close()


@pytest.mark.parametrize(
    ("combine", "top", "side", "wanted"),
    [
        ("any", GOOD, GOOD, OK),
        ("any", GOOD, BAD, NG),
        ("any", BAD, GOOD, NG),
        ("all", GOOD, BAD, OK),
        ("all", BAD, BAD, NG),
    ],
)
def test_views_make_one_verdict(combine: str, top: Image, side: Image, wanted: Verdict) -> None:
    with Cell(combine=combine) as cell:
        trigger = cell.triggers.fire(4711)
        cell.both_know(1)
        cell.push(top, side)
        found = cell.verdict()
        assert (found.verdict, found.part_id, found.trigger) == (wanted, 1, trigger)
        assert found.deadline_ns == trigger.at_ns + 100_000_000
        assert [view.engine for view in found.views] == ["engine of top", "engine of side"]
        until(lambda: cell.output.history == [wanted.value] and len(cell.records) == 1)
        assert cell.records[0]["line_part_id"] == 4711
        assert len(cell.records[0]["views"]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("top", "side", "combine", "wanted"),
    [
        (GOOD, None, "any", UNKNOWN),
        (None, GOOD, "any", UNKNOWN),
        (None, None, "any", UNKNOWN),
        (GOOD, None, "all", UNKNOWN),
        (BAD, None, "all", UNKNOWN),
        (BAD, None, "any", NG),
    ],
)
def test_a_view_that_does_not_come_is_never_ok(top: Image | None, side: Image | None, combine: str, wanted: Verdict) -> None:
    with Cell(combine=combine) as cell:
        cell.triggers.fire()
        cell.both_know(1)
        cell.push(top, side)
        cell.arrived((top is not None) + (side is not None))
        assert cell.output.told == []
        cell.pass_time(101)
        found = cell.verdict()
        assert found.verdict is wanted
        assert wanted is NG or found.cause.partition(":")[0] in ("view_missing", "camera_timeout", "late")
        assert OK.value not in cell.output.history


def test_an_engine_that_hangs_costs_its_views_only_and_the_other_camera_goes_on() -> None:
    hang = Hang()
    with Cell(engines=[FakeEngine(brightness), FakeEngine([hang, 10.0])], hangs=[hang]) as cell:
        cell.triggers.fire()
        cell.both_know(1)
        cell.push(GOOD, GOOD)
        assert hang.entered.acquire(timeout=PATIENCE_S)
        cell.arrived(1)
        cell.pass_time(101)
        first = cell.verdict()
        assert first.verdict is UNKNOWN and first.cause.partition(":")[0] in ("view_missing", "late")
        cell.triggers.fire()
        cell.both_know(2)
        cell.push(BAD, None)
        cell.arrived(1)
        cell.pass_time(101)
        assert cell.verdict().verdict is NG


def test_outputs_hear_heartbeats_only_while_all_cameras_make_progress() -> None:
    output = FakeOutput()
    with Views(CAMERAS, LatencyBudget(100), [output], FakeClock(), combine="any") as views:
        top, side = (views.output(name) for name in CAMERAS)
        for _ in range(20):
            top.heartbeat()
        assert output.heartbeats == 0
        side.heartbeat()
        until(lambda: output.heartbeats > 0)


def inspection(trigger: Trigger, verdict: Verdict) -> Inspection:
    return Inspection(1, verdict, "", 1.0, 2.0, None, StageTimes(), None, trigger)


def test_a_verdict_that_got_lost_on_the_way_holds_nobody_up() -> None:
    clock, output = FakeClock(), FakeOutput()
    with Views(CAMERAS, LatencyBudget(100), [output], clock, combine="any") as views:
        top, side = (views.output(name) for name in CAMERAS)
        triggers = [Trigger(i, clock.now_ns()) for i in (1, 2)]
        for trigger in triggers:
            views.expect(trigger)
            views.expect(trigger)  # each camera tells of it
        top.signal(inspection(triggers[0], OK))
        top.signal(inspection(triggers[1], OK))
        side.signal(inspection(triggers[1], OK))
        until(lambda: len(output.told) == 2)
        assert [words(i) for i in output.told] == ["UNKNOWN view_missing: side", "OK"]
        side.signal(inspection(triggers[0], OK))
        assert views.stats.late_results == 1
        assert views.stats.triggers == views.stats.parts == 2


def test_at_a_stop_open_parts_are_unknown_and_outputs_safe() -> None:
    clock, output = FakeClock(), FakeOutput()
    with Views(CAMERAS, LatencyBudget(100), [output], clock, combine="any") as views:
        trigger = Trigger(1, clock.now_ns())
        views.expect(trigger)
        views.output("top").signal(inspection(trigger, OK))
    assert [words(i) for i in output.told] == ["UNKNOWN stopped"]
    assert output.history[-1] == "safe" and output.closed
    assert views.health().state == "stopped"


@pytest.mark.promise("Several cameras, one verdict for each part")
def test_under_load_each_trigger_has_one_verdict_in_order_and_every_ok_is_ok_for_all() -> None:
    parts = 300
    rng = random.Random(1)
    clock = MonotonicClock()
    scores = {name: [rng.choice([1.0, 1.0, 1.0, 9.0, float("nan")]) for _ in range(parts)] for name in CAMERAS}
    source = SoftwareTrigger(clock)
    fanout, output = Fanout(source, CAMERAS), FakeOutput()
    views = Views(CAMERAS, LatencyBudget(2000), [output], clock, combine="any", output_capacity=parts)
    stations = [
        Station(
            AskedCamera(clock, [GOOD] * parts),
            FakeEngine(scores[name]),
            RECIPE,
            5.0,
            StationSettings(budget_ms=2000, max_waiting=parts),
            [views.output(name)],
            clock,
            triggers=fanout.of(name),
        )
        for name in CAMERAS
    ]
    threads = [threading.Thread(target=station.run) for station in stations]
    with views:
        for thread in threads:
            thread.start()
        for i in range(parts):
            source.fire(1000 + i)
            if i % 10 == 0:
                threading.Event().wait(0.005)
        until(lambda: len(output.told) == parts)
        source.end()
        for thread in threads:
            thread.join(PATIENCE_S)
    for station in stations:
        station.close()
    assert [i.trigger.part_id for i in output.told if i.trigger] == list(range(1000, 1000 + parts))
    for i, found in enumerate(output.told):
        both = (scores["top"][i], scores["side"][i])
        wanted = NG if 9.0 in both else OK if both == (1.0, 1.0) else UNKNOWN
        assert found.verdict in (wanted, UNKNOWN), "a busy machine may be late, and never wrong"
        one_alone = ("score_not_finite",) if any(score != score for score in both) else ()  # the other view was too late
        assert found.verdict is wanted or found.cause.startswith(("late", "view_missing", "camera_timeout", *one_alone))


class Failing(SoftwareTrigger):
    def wait(self, timeout_s: float) -> Trigger | None:
        raise OutputError("the PLC is away")


def test_every_branch_of_a_fanout_gets_every_trigger_and_the_end() -> None:
    source = SoftwareTrigger(FakeClock())
    fanout = Fanout(source, CAMERAS)
    for _ in range(3):
        source.fire()
    source.end()
    for name in CAMERAS:
        branch = fanout.of(name)
        found = [branch.wait(0), branch.wait(0), branch.wait(0)]
        assert [trigger.trigger_id for trigger in found if trigger] == [1, 2, 3]
        with pytest.raises(EndOfStream):
            branch.wait(0)
    fanout.close()
    with pytest.raises(OutputError, match="closed"):
        source.fire()
    with pytest.raises(OutputError, match="away"):
        Fanout(Failing(), CAMERAS).of("top").wait(0)


@pytest.mark.parametrize(
    ("cameras", "budget_ms", "combine"),
    [(("top",), 100.0, "any"), (("top", "top"), 100.0, "any"), (CAMERAS, None, "any"), (CAMERAS, 100.0, 3)],
)
def test_what_cannot_be_combined_is_refused(cameras: tuple[str, ...], budget_ms: float | None, combine: str | int) -> None:
    with pytest.raises(BadInput):
        Views(cameras, LatencyBudget(budget_ms), [], FakeClock(), combine=combine)


# A station.yaml with a PLC in a process of its own

STATION = """
name: cell
cameras:
  - {{name: top, address: "sim:width=64,height=64,defect_rate=0", bundle: pass.edgead}}
  - {{name: side, address: "sim:width=64,height=64,defect_rate=0", bundle: {side}.edgead}}
parts:
  - name: housing
    cameras: [top, side]
    trigger: {{source: plc}}
    budget_ms: 2000
    plc: {{type: modbus-client, host: 127.0.0.1, port: {port}}}
storage:
  folder: data
  records: {records}
"""


@pytest.mark.parametrize(("side", "wanted", "records"), [("pass", "OK", "first"), ("fail", "NG", "{max_rows: 1000}")])
def test_a_plc_gets_one_verdict_from_two_cameras_with_their_own_bundles(
    tmp_path: Path, side: str, wanted: str, records: str
) -> None:
    bundle(tmp_path / "pass.edgead", 300.0)
    bundle(tmp_path / "fail.edgead", -1.0)
    plc = ModbusPlc(tmp_path, in_flight=2)
    (tmp_path / "station.yaml").write_text(STATION.format(side=side, port=plc.port, records=records))
    command = [sys.executable, "-m", "edgead", "run", str(tmp_path / "station.yaml")]
    plc.start()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            plc.want(20)
            until(lambda: len(plc.log()) == 20)
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE_S)
            plc.kill()
    assert process.returncode == 0
    assert [entry["verdict"] for entry in plc.log()] == [wanted] * 20
    assert [entry["part"] for entry in plc.log()] == list(range(1, 21))
    assert f"housing: 20 parts: {20 * (wanted == 'OK')} OK, {20 * (wanted == 'NG')} NG, 0 UNKNOWN" in errors
    store = RecordStore(tmp_path / "data/housing", station="housing")
    assert store.last_part_id() == 20
    store.close()


MISTAKES = """
name: cell
cameras:
  - {{name: top, address: sim, bundle: a.edgead}}
  - {{name: side, address: sim, bundle: a.edgead{own}}}
parts:
  - {{name: {name}, cameras: [{cameras}], trigger: {{source: {source}}}, budget_ms: 100}}
"""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cameras": "top"}, "two cameras or more"),
        ({"cameras": "top, back"}, "no camera back"),
        ({"name": "top"}, "the name top is taken"),
        ({"source": "plc"}, "needs the section plc"),
        ({"source": "free"}, "one trigger for all"),
        ({"own": ", budget_ms: 5"}, "camera side cannot have"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, given: dict[str, str], says: str) -> None:
    usual = {"name": "part", "cameras": "top, side", "source": "interval, every_ms: 500", "own": ""}
    file = tmp_path / "station.yaml"
    file.write_text(MISTAKES.format(**usual))
    assert read_station(file).parts[0].cameras == ("top", "side")
    file.write_text(MISTAKES.format(**{**usual, **given}))
    with pytest.raises(BadInput, match=says):
        read_station(file)
