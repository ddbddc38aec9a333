"""A threshold that the PLC gives: taken between two parts, within bounds, with who named; nonsense changes nothing."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient

from edgead.cli.main import main
from edgead.config.reading import read_station
from edgead.decision import Rule
from edgead.errors import BadInput, ParityFailed
from edgead.line.service import Station
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.plc.signals import FromPlc, to_words
from edgead.runtime.products.recipes import Applying, Product, RecipeBook, Wishing
from edgead.runtime.products.wished import RESTLESS, STEADY, Wish, Word
from edgead.runtime.records.history import History
from edgead.testing import FakeEngine
from tests.runtime._line import RECIPE, LineUnderTest, WithBook, brightness, words
from tests.runtime.test_applied import threshold_of, written
from tests.servers.plc import ModbusPlc
from tests.vouched import NG_FROM, write_vouched
from tests.waiting import PATIENCE_S, until

WHO = "the PLC at 10.0.0.9:502"


def looked(word: Word, *values: float) -> list[Wish]:
    """What follows from numbers that stand there for a second each."""
    return [wish for value in values for _ in range(STEADY) if (wish := word.look(value)) is not None]


def test_a_number_counts_once_it_stands_still_and_only_once() -> None:
    word = Word(1.0, 10.0)
    assert looked(word, 0.0, 0.0) == [], "nobody wishes anything"
    assert [word.look(2.5) for _ in range(STEADY - 1)] == [None] * (STEADY - 1)
    assert word.look(2.5) == Wish(2.5)
    assert looked(word, 2.5, 2.5) == []
    assert looked(word, 0.0) == [Wish()], "the bundle's own again"
    assert looked(word, -0.0) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "nan is no number"),
        (math.inf, "inf is no number"),
        (-math.inf, "-inf is no number"),
        (0.999, "0.999 is not from 1 to 10"),
        (10.5, "10.5 is not from 1 to 10"),
        (-2.0, "-2 is not from 1 to 10"),
        (1e-42, "is not from 1 to 10"),
    ],
)
def test_nonsense_is_refused_once_and_what_comes_back_is_told(value: float, says: str) -> None:
    word = Word(1.0, 10.0)
    assert looked(word, 3.0) == [Wish(3.0)]
    (refused,) = looked(word, value, value)
    assert refused.threshold is None and says in refused.fault
    assert looked(word, 3.0) == [Wish(3.0)], "so that the refusal is told to be over"


def test_a_bound_that_no_real_holds_exactly_is_a_value_that_it_takes() -> None:
    nearest = struct.unpack(">f", struct.pack(">f", 0.1))[0]
    assert looked(Word(-1.0, 0.1), nearest) == [Wish(nearest)]


def test_a_word_that_never_stands_still_changes_nothing_and_is_told_once() -> None:
    word = Word(1.0, 10.0)
    found = [wish for i in range(3 * RESTLESS) if (wish := word.look(2.0 + i % 2)) is not None]
    assert len(found) == 1 and "changes all the time" in found[0].fault
    assert looked(word, 2.0) == [Wish(2.0)]


class Book(WithBook):
    """A line whose bundle's threshold is 100 and whose PLC gives `value`; `wrong`: the bundle is not as it was."""

    def __init__(self) -> None:
        self.value: float | None = 0.0
        self.wrong = self.applied = ""
        self.noted: list[tuple[str, str, str]] = []
        self.line = LineUnderTest(engine=FakeEngine(brightness), engine_name="e")
        first = Product(0, Answerer(FakeEngine(brightness), RECIPE, 100.0, "e"))
        self.book = RecipeBook(
            self.line.station,
            lambda number: first,
            (0,),
            first,
            applying=Applying(lambda number: self.applied, lambda number, digest, running: self._load(7.0, running)),
            wishing=Wishing(1.0, 500.0, self._asked, self._load, self._note),
        )

    def _asked(self) -> tuple[float, str] | None:
        return None if self.value is None else (self.value, WHO)

    def _load(self, value: float | None, running: Product) -> Product:
        if self.wrong:
            raise ParityFailed(self.wrong)
        return Product(0, replace(running.main, rule=Rule(100.0 if value is None else value)))

    def _note(self, before: Answerer, after: Answerer, who: str) -> None:
        self.noted.append((Rule.of(before.rule).describe(), Rule.of(after.rule).describe(), who))

    @property
    def notice(self) -> str:
        return self.line.station.health().notices.get("threshold", "")

    def told(self) -> str:
        """Of a part that comes."""
        found = self.part()
        return f"{words(found)} {found.threshold:g}"


def test_it_is_taken_between_two_parts_with_the_old_one_named_and_given_back() -> None:
    with Book() as it:
        assert it.told() == "OK 100"
        it.value = 5.0
        until(lambda: len(it.noted) == 1)
        assert it.told() == "NG 5"
        it.value = None  # the PLC is away: what it gave last goes on
        assert it.told() == "NG 5"
        it.value = 0.0
        until(lambda: len(it.noted) == 2)
        assert it.told() == "OK 100"
        five, own = "NG at score 5 and above", "NG at score 100 and above"
        assert it.noted == [(own, five, WHO), (five, own, WHO)]
        it.line.end()


def test_a_number_that_differs_in_its_last_digit_only_is_taken() -> None:
    """Raw model units may be large: 400.0001 reads as 400."""
    with Book() as it:
        it.value = 400.0
        until(lambda: len(it.noted) == 1)
        it.value = 400.0001
        until(lambda: len(it.noted) == 2)
        it.line.end()


def test_a_refusal_leaves_the_old_one_and_is_told_until_it_is_over() -> None:
    with Book() as it:
        it.value = 5.0
        until(lambda: len(it.noted) == 1)
        for value, wrong, says in (
            (1e9, "", "is not from 1 to 500"),
            (math.nan, "", "no number"),
            (6.0, "by it every defect is OK", "every"),
        ):
            it.value, it.wrong = value, wrong
            until(lambda: says in it.notice)  # noqa: B023
            assert WHO in it.notice and "NG at score 5 and above" in it.notice
            assert it.told() == "NG 5"
        it.value, it.wrong = 5.0, ""
        until(lambda: not it.notice)
        assert len(it.noted) == 1, "nothing has changed"
        it.line.end()


def test_what_the_command_line_applies_waits_until_the_plc_gives_none() -> None:
    with Book() as it:
        it.value = 5.0
        until(lambda: len(it.noted) == 1)
        it.applied = "digest 1"
        until(lambda: "gives the threshold 5, and that decides" in it.notice)
        assert it.told() == "NG 5"
        it.line.end()


# The whole station, with a real bundle and a real PLC over Modbus

CLIENT = (
    "{{type: modbus-client, host: 127.0.0.1, port: {port}, timeout_ms: 2000, threshold: {{address: 120, min: 1, max: 100000}}}}"
)
SERVER = "{{type: modbus-server, port: {port}, threshold: {{address: 120, min: 1, max: 400}}}}"
FILE = """
name: line
cameras:
  - name: top
    address: "sim:width=160,height=120,fps=50"
    bundle: tiny.edgead
    plc: {plc}
storage: {{folder: data}}
"""


@contextmanager
def running(folder: Path, plc: str) -> Iterator[Station]:
    (folder / "station.yaml").write_text(FILE.format(plc=plc))
    with Station.from_file(folder / "station.yaml") as station:
        thread = threading.Thread(target=station.run, name="test-station")
        thread.start()
        try:
            until(lambda: station.health()["top"].progress_at_ns is not None)
            yield station
        finally:
            station.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def notice(station: Station) -> str:
    return station.health()["top"].notices.get("threshold", "")


@pytest.fixture
def plc(tmp_path: Path) -> Iterator[ModbusPlc]:
    made = ModbusPlc(tmp_path)
    made.start()
    yield made
    made.kill()


def test_a_plc_that_edgead_reads_changes_what_the_station_says_and_the_records_name_it(
    tmp_path: Path, plc: ModbusPlc, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    with running(tmp_path, CLIENT.format(port=plc.port)) as station:
        store = station.lanes[0].store
        assert store is not None
        until(lambda: store.written >= 3)
        plc.set_threshold(1.5)
        until(lambda: threshold_of(station) == 1.5)
        count = store.written
        until(lambda: store.written >= count + 20)
        plc.set_threshold(math.nan)
        until(lambda: "nan is no number" in notice(station))
        plc.set_threshold(1e6)
        until(lambda: "is not from 1 to 100000" in notice(station))
        assert threshold_of(station) == 1.5
        plc.set_threshold(0.0)
        until(lambda: threshold_of(station) == 300.0)
        assert not notice(station)
    with History(tmp_path / "data/top") as history:
        rows, changes = list(history.rows()), history.changes()
    assert {(row["verdict"], row["threshold"]) for row in rows} >= {("OK", 300.0), ("NG", 1.5)}
    assert [row["part_id"] for row in rows] == list(range(1, len(rows) + 1)), "one verdict for each part"
    who = f"the PLC at 127.0.0.1:{plc.port}"
    assert [(one["asked"], one["before"], one["after"]) for one in changes] == [
        (who, "NG at score 300 and above", "NG at score 1.5 and above"),
        (who, "NG at score 1.5 and above", "NG at score 300 and above"),
    ]
    assert main(["records", str(tmp_path / "data/top"), "--changes"]) == 0
    assert who in " ".join(capsys.readouterr().out.split())


def test_one_by_which_every_defect_would_be_ok_is_refused(tmp_path: Path, plc: ModbusPlc) -> None:
    write_vouched(tmp_path / "tiny.edgead")
    with running(tmp_path, CLIENT.format(port=plc.port)) as station:
        plc.set_threshold(50000.0)
        until(lambda: "every defect would be OK" in notice(station))
        assert threshold_of(station) == NG_FROM


def test_registers_that_the_plc_does_not_have_are_told_and_the_line_goes_on(tmp_path: Path, plc: ModbusPlc) -> None:
    written(tmp_path)
    with running(tmp_path, CLIENT.format(port=plc.port).replace("address: 120", "address: 500")) as station:
        store = station.lanes[0].store
        assert store is not None
        until(lambda: any("threshold cannot be read" in text for text in station.health()["top"].notices.values()))
        count = store.written
        until(lambda: store.written >= count + 5)
        assert threshold_of(station) == 300.0


def test_a_plc_that_writes_into_edgead_gives_it_beside_its_block(tmp_path: Path) -> None:
    written(tmp_path)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(tmp_path, SERVER.format(port=port)) as station:
        client = ModbusTcpClient("127.0.0.1", port=port)
        beat = 0

        def wrote(value: float) -> None:
            nonlocal beat
            beat += 1
            assert not client.write_registers(100, to_words(FromPlc(enable=True, heartbeat=beat))).isError()
            assert not client.write_registers(120, list(struct.unpack(">HH", struct.pack(">f", value)))).isError()

        def until_said(value: float, done: Callable[[], bool]) -> None:
            def said() -> bool:
                wrote(value)
                return done()

            until(said)

        try:
            until(lambda: bool(client.connect()))
            until_said(2.0, lambda: threshold_of(station) == 2.0)
            until_said(401.0, lambda: "is not from 1 to 400" in notice(station))
            assert threshold_of(station) == 2.0
            assert client.read_holding_registers(122, count=1).isError()
        finally:
            client.close()
    with History(tmp_path / "data/top") as history:
        (change,) = history.changes()
    assert change["asked"].startswith("the PLC at 127.0.0.1:")


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("min: 1, ", "", "min"),
        ("min: 1, max: 400", "min: 4, max: 4", "min 4 is not below max 4"),
        ("min: 1", "min: .nan", "min"),
        ("address: 120", "address: 105", "is taken by .*from_plc_address"),
        ("bundle: tiny.edgead", "bundle: tiny.edgead\n    threshold: 2", "does not go with recipes, nor with a threshold"),
        ("bundle: tiny.edgead", "recipes: {1: tiny.edgead}", "does not go with recipes"),
        ("bundle: tiny.edgead", "bundle: tiny.edgead\n    fallback_engine: x", "does not go with a fallback"),
        (SERVER.format(port=5020), "{type: s7, host: 10.0.0.9, threshold: {min: 1, max: 2}}", "threshold: does not belong here"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, was: str, now: str, says: str) -> None:
    text = FILE.format(plc=SERVER.format(port=5020))
    assert was in text
    (tmp_path / "station.yaml").write_text(text.replace(was, now))
    with pytest.raises(BadInput, match=says):
        read_station(tmp_path / "station.yaml")


def test_a_part_of_several_cameras_has_no_threshold_of_its_own(tmp_path: Path) -> None:
    plc = SERVER.format(port=5020)
    (tmp_path / "station.yaml").write_text(
        "name: line\ncameras:\n  - {name: a, address: sim, bundle: t.edgead}\n  - {name: b, address: sim, bundle: t.edgead}\n"
        f"parts:\n  - {{name: part, cameras: [a, b], trigger: {{source: plc}}, budget_ms: 100, plc: {plc}}}\n"
    )
    with pytest.raises(BadInput, match=r"plc\.threshold is for a camera"):
        read_station(tmp_path / "station.yaml")
