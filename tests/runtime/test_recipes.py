"""Change of product: by a real PLC under load, by file, by call; nothing is lost, and a bad bundle changes nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from edgead.bundle import Bundle, rewrite_manifest
from edgead.clock import MonotonicClock
from edgead.config.reading import read_station
from edgead.errors import BadInput, BundleError, EngineError
from edgead.line.products import first_recipe
from edgead.line.shelf import Shelf as Engines
from edgead.line.workshop import Lane, Workshop
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.plc.device import PlcDevice
from edgead.runtime.plc.signals import Cause, Fault
from edgead.runtime.products.recipes import Product, RecipeBook
from edgead.testing import FakeEngine
from edgead.testing.plc import FakePlc, FakePlcLink
from edgead.types import Inspection, Verdict
from tests.cli.test_run import write_bundle
from tests.runtime._line import GOOD, RECIPE, LineUnderTest, WithBook, brightness
from tests.servers.plc import ModbusPlc
from tests.waiting import until


class Shelf:
    """Recipes 1 and 2 with fake engines (2 says NG of everything); 3 does not load, 4 takes another size."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.asked: list[int] = []

    def load(self, number: int) -> Product:
        self.asked.append(number)
        if number == 3:
            raise BundleError("nut.edgead is damaged: model.onnx has changed")
        size = (32, 32) if number == 4 else (64, 64)
        engine = FakeEngine(brightness if number == 1 else lambda image: 150.0, image_size=size)
        self.engines.append(engine)
        return Product(number, Answerer(engine, RECIPE, 100.0, f"recipe {number}"), close=engine.close)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


class Book(WithBook):
    """A line with a book of recipes 1 to 4, the first running."""

    def __init__(self, shelf: Shelf, plc: PlcDevice | None = None, file: Path | None = None) -> None:
        first = shelf.load(1)
        self.line = LineUnderTest(engine=first.main.engine, engine_name=first.main.name)
        self.book = RecipeBook(self.line.station, shelf.load, range(1, 5), first, plc=plc, file=file)


def test_parts_that_wait_are_answered_by_the_engine_that_was_there_when_they_came(shelf: Shelf) -> None:
    with Book(shelf) as it:
        assert (it.part().engine, it.book.running) == ("recipe 1", 1)
        it.line.fire()
        it.line.pass_time(1)
        it.book.change(2)  # while the part waits for its picture
        it.line.pass_time(1)
        until(lambda: it.line.station.health().progress_at_ns == it.line.clock.now_ns())  # the loop has looked around
        it.line.push(GOOD)
        old = it.line.verdict()
        assert (old.engine, old.verdict) == ("recipe 1", Verdict.OK)
        it.line.pass_time(1)
        new = it.part()
        assert (new.engine, new.verdict) == ("recipe 2", Verdict.NG)
        it.line.end()


def test_the_old_engine_is_closed_once_no_part_can_need_it_any_more(shelf: Shelf) -> None:
    with Book(shelf) as it:
        it.part()
        it.book.change(2)
        assert it.part().engine == "recipe 2"
        assert [engine.closed for engine in shelf.engines] == [False, False]
        it.line.pass_time(3000)
        until(lambda: shelf.engines[0].closed)
        assert it.part().engine == "recipe 2"
        it.line.end()
    assert [engine.closed for engine in shelf.engines] == [True, True]


@pytest.mark.parametrize(("number", "says"), [(3, "model.onnx has changed"), (4, "the engine takes 32 x 32"), (9, "no recipe 9")])
def test_a_recipe_that_cannot_run_leaves_the_old_one_and_says_so(
    shelf: Shelf, number: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Book(shelf) as it:
        with pytest.raises((BadInput, BundleError), match=says):
            it.book.change(number)
        assert says in it.notices["recipe"] and "1 goes on" in it.notices["recipe"]
        assert says in caplog.text
        assert (it.part().engine, it.book.running) == ("recipe 1", 1)
        assert all(engine.closed for engine in shelf.engines[1:])
        it.book.change(2)
        assert it.notices == {}
        it.line.end()


def test_a_bug_in_a_backend_is_a_refusal_too() -> None:
    shelf = Shelf()
    with Book(shelf) as it:
        shelf.load = lambda number: 1 / 0  # type: ignore[assignment, return-value, method-assign]
        it.book._load = shelf.load
        with pytest.raises(EngineError, match="recipe 2 does not load"):
            it.book.change(2)
        assert it.part().engine == "recipe 1"
        it.line.end()


def test_a_recipe_whose_region_is_not_in_the_cameras_picture_is_refused() -> None:
    shelf = Shelf()
    with Book(shelf) as it:
        it.part()
        wide = PreprocessRecipe(64, 64, roi=(0, 0, 100, 100))
        with pytest.raises(BadInput, match="does not fit a picture of 64 x 64"):
            it.line.station.change(Answerer(FakeEngine(brightness), wide, 100.0, "wide"))
        assert it.part().engine == "recipe 1"
        it.line.end()


def test_a_file_tells_which_recipe_runs(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "recipe.txt"
    with Book(shelf, file=file) as it:
        file.write_text("2\n")
        until(lambda: it.book.running == 2)
        file.write_text("two")
        until(lambda: "holds 'two', not the number" in it.notices.get("recipe", ""))
        file.write_text("7")
        until(lambda: "no recipe 7" in it.notices.get("recipe", ""))
        file.write_text("1")
        until(lambda: it.book.running == 1 and not it.notices)
        it.line.end()


@pytest.mark.parametrize("retry_s", [30.0, 0.1])
def test_the_plc_is_told_what_runs_and_what_was_refused(shelf: Shelf, retry_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.runtime.products.recipes.RETRY_S", retry_s)
    plc = FakePlc()
    link = FakePlcLink(plc)
    device = PlcDevice(link)
    try:
        with Book(shelf, plc=device) as it:
            until(lambda: link.shown[-1].recipe == 1)
            plc.recipe = 3
            until(lambda: plc.errors == [Fault.RECIPE_REFUSED])
            assert link.shown[-1].recipe == 1 and not link.shown[-1].ready
            exchanges = device.counts()["exchanges"]
            until(lambda: device.counts()["exchanges"] > exchanges + 80)
            assert (shelf.asked.count(3) > 1) == (retry_s < 1), "tried again, but not all the time"
            assert "nut.edgead is damaged" in it.notices["recipe"]
            with pytest.raises(BadInput, match="the PLC asks for recipe 3"):
                it.book.change(2)
            plc.recipe = 2
            until(lambda: link.shown[-1].recipe == 2)
            assert it.book.running == 2 and not it.notices
            plc.recipe = 0
            until(lambda: device.recipe_request == 0)
            it.book.change(1)
            until(lambda: link.shown[-1].recipe == 1)
            it.line.end()
        assert plc.errors == [Fault.RECIPE_REFUSED]  # once, however long it asks
    finally:
        device.close()


@pytest.mark.parametrize("number", [0, 65536])
def test_numbers_that_a_plc_cannot_say_are_refused(shelf: Shelf, number: int) -> None:
    with LineUnderTest() as line, pytest.raises(BadInput, match=str(number)):
        RecipeBook(line.station, shelf.load, [number], shelf.load(1))


BOTH = "name: l\ncameras:\n  - {name: a, address: sim, %s}\n"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("engine: x", "name one bundle, or recipes"),
        ("bundle: a.edgead, recipes: {1: b.edgead}", "name one bundle, or recipes"),
        ("bundle: a.edgead, recipe_file: r.txt", "recipe and recipe_file need recipes"),
        ("recipes: {1: b.edgead}, recipe: 2", "there is no recipe 2"),
        ("recipes: {1: b.edgead}, threshold: 2", "do not go with recipes"),
        ("recipes: {0: b.edgead}", "recipes"),
        ("recipes: {one: b.edgead}", "recipes"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, keys: str, says: str) -> None:
    (tmp_path / "s.yaml").write_text(BOTH % keys)
    with pytest.raises(BadInput, match=says):
        read_station(tmp_path / "s.yaml")


def test_recipes_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(BOTH % "recipes: {1: b.edgead, 7: /c.edgead}, recipe_file: r.txt, selfcheck: null")
    camera = read_station(tmp_path / "s.yaml").cameras[0]
    assert camera.recipes == {1: tmp_path / "b.edgead", 7: Path("/c.edgead")}
    assert camera.recipe_file == tmp_path / "r.txt" and camera.selfcheck is None
    assert first_recipe(camera) == 1
    (tmp_path / "r.txt").write_text("7\n")
    assert first_recipe(camera) == 7
    (tmp_path / "r.txt").write_text("3")
    with pytest.raises(BadInput, match="asks for recipe 3"):
        first_recipe(camera)


# The whole station with real bundles and a PLC in a process of its own


def bundle(path: Path, threshold: float) -> Path:
    """Whose engine answers as all others here, with another threshold."""
    made = Bundle.open(write_bundle(path))
    record = made.manifest.engines[0]
    rewrite_manifest(made, made.manifest.with_engine(record.changed(replace(record.threshold, value=threshold))))
    return path


STATION = """
name: line
cameras:
  - name: top
    address: sim:width=64,height=64,defect_rate=0
    recipes: {{1: bolt.edgead, 2: nut.edgead, 3: torn.edgead}}
    trigger: {{source: plc}}
    budget_ms: 2000
    plc: {{type: modbus-client, host: 127.0.0.1, port: {port}}}
storage:
  folder: data
"""


class Line:
    """A station.yaml that runs: bolts pass, nuts do not, the third bundle is damaged."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.seen = folder, list[Inspection]()
        bundle(folder / "bolt.edgead", 300.0)
        shutil.copytree(bundle(folder / "nut.edgead", -1.0), folder / "torn.edgead")
        (folder / "torn.edgead/model.onnx").write_bytes(b"torn")
        self.plc = ModbusPlc(folder, in_flight=2, rude=1)
        stack.callback(self.plc.kill)
        (folder / "station.yaml").write_text(STATION.format(port=self.plc.port))
        config = read_station(folder / "station.yaml")
        self.workshop = Workshop(stack, MonotonicClock(), Engines(threads=1))
        self.lane: Lane = self.workshop.build(config.cameras[0], config.storage)
        self.lane.station.on_inspection(self.seen.append, capacity=10_000)
        self._thread = threading.Thread(target=self.lane.station.run, name="test-station")
        self._thread.start()
        stack.callback(self._thread.join)
        stack.callback(self.lane.station.stop)
        self.plc.start()

    def judged(self) -> dict[int, dict[str, object]]:
        """By part: what the PLC knows."""
        log = self.plc.log()
        assert len(log) == len({entry["part"] for entry in log}), "one verdict for each part"
        return {entry["part"]: entry for entry in log}


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(tmp_path, stack)


@pytest.mark.promise("Recipes** change while the line runs")
def test_a_plc_changes_the_product_under_load_and_no_trigger_is_lost(line: Line) -> None:
    parts = 240
    line.plc.ask_for(1)
    until(lambda: line.plc.log("heartbeat"))
    line.plc.want(parts)
    for recipe, after in ((2, 60), (1, 120), (2, 180)):
        until(lambda after=after: len(line.judged()) >= after)  # type: ignore[misc]
        line.plc.ask_for(recipe)
    until(lambda: len(line.judged()) == parts)
    changes = [(0, 1), *((entry["last_part"], entry["recipe"]) for entry in line.plc.log("recipe")[1:])]
    assert [recipe for _, recipe in changes] == [1, 2, 1, 2]

    judged = line.judged()
    assert sorted(judged) == list(range(1, parts + 1)), "0 triggers lost"
    assert {entry["by"] for entry in judged.values()} == {"station"}
    for part, entry in judged.items():
        recipe = [recipe for last, recipe in changes if part > last][-1]
        right = {1: "OK", 2: "NG"}[recipe]
        between = entry["cause"] in (Cause.WRONG_RECIPE, Cause.STALE_TRIGGER) and entry["verdict"] == "UNKNOWN"
        assert entry["verdict"] == right or between, entry
    assert sum(entry["verdict"] == "NG" for entry in judged.values()) > 20

    # the station's own records say the same, with the engine that answered
    until(lambda: len(line.seen) == parts)
    for inspection in line.seen:
        assert inspection.trigger is not None and inspection.trigger.part_id is not None
        product = {Verdict.OK: "bolt/onnxruntime-fp32", Verdict.NG: "nut/onnxruntime-fp32", Verdict.UNKNOWN: ""}
        assert inspection.engine == product[inspection.verdict]
        assert judged[inspection.trigger.part_id]["verdict"] == inspection.verdict.value


def test_a_bundle_that_is_damaged_is_refused_while_the_line_runs_on(line: Line) -> None:
    until(lambda: line.plc.log("heartbeat"))
    line.plc.want(5)
    until(lambda: len(line.judged()) == 5)
    line.plc.ask_for(3)
    until(lambda: {"error": Fault.RECIPE_REFUSED} in line.plc.log("error"))
    health = line.lane.station.health()
    assert health.state == "ready" and "torn.edgead is damaged" in health.notices["recipe"]
    line.plc.ask_for(1)
    until(lambda: not line.lane.station.health().notices)
    line.plc.want(5)
    until(lambda: len(line.judged()) == 10)
    assert [entry["verdict"] for entry in line.judged().values()][-3:] == ["OK"] * 3
