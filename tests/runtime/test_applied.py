"""A new threshold while the line runs: taken between two parts, checked as at a start, the old one named in the records."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgead.bundle import Bundle, rewrite_manifest
from edgead.cli.main import main
from edgead.clock import MonotonicClock
from edgead.config.reading import read_station
from edgead.decision import Rule
from edgead.errors import BundleError
from edgead.line.service import Station
from edgead.line.shelf import Shelf
from edgead.line.workshop import Workshop
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.selfcheck import SELFCHECK_FAILED, SelfCheck
from edgead.runtime.products.applied import ask, asked, file_of
from edgead.runtime.products.recipes import Applying, Product, RecipeBook
from edgead.runtime.records.history import History
from edgead.testing import FakeClock, FakeEngine
from edgead.types import Verdict
from tests.cli.test_run import write_bundle
from tests.runtime._line import GOOD, RECIPE, LineUnderTest, WithBook, brightness, words
from tests.vouched import NG_FROM, write_vouched
from tests.waiting import PATIENCE_S, until


class Book(WithBook):
    """A line whose threshold is 100; `apply` asks for another one, and `wrong` makes the bundle unfit."""

    def __init__(self, check: SelfCheck | None = None, engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine(brightness)
        self.wrong = ""
        self._asked, self._level = "", 100.0
        self.noted: list[tuple[str, str]] = []
        self.closed = 0
        self.line = LineUnderTest(engine=self.engine, engine_name="e", check=check)
        first = Product(0, Answerer(self.engine, RECIPE, 100.0, "e"), None, check, self._close)
        applying = Applying(lambda number: self._asked, self._load, self._note)
        self.book = RecipeBook(self.line.station, self._never, (0,), first, applying=applying)

    def _never(self, number: int) -> Product:
        raise AssertionError("no recipe is loaded")

    def _close(self) -> None:
        self.closed += 1

    def _load(self, number: int, digest: str, running: Product) -> Product:
        if self.wrong:
            raise BundleError(self.wrong)
        rule = Rule(self._level)
        return Product(number, replace(running.main, rule=rule, bundle=digest), None, running.check, self._close)

    def _note(self, before: Answerer, after: Answerer) -> None:
        self.noted.append((Rule.of(before.rule).describe(), Rule.of(after.rule).describe()))

    def apply(self, level: float, digest: str = "d") -> None:
        self._level, self._asked = level, f"{digest}{level} {len(self.noted)}"


def test_a_part_is_judged_by_the_threshold_that_was_there_when_it_came() -> None:
    with Book() as it:
        assert words(it.part()) == "OK"
        it.line.fire()
        it.line.pass_time(1)
        it.apply(5.0)  # while the part waits for its picture
        until(lambda: len(it.noted) == 1)
        it.line.pass_time(1)
        it.line.push(GOOD)
        old = it.line.verdict()
        assert (words(old), old.threshold) == ("OK", 100.0)
        it.line.pass_time(1)
        new = it.part()
        assert (words(new), new.threshold, new.engine) == ("NG", 5.0, "e")
        assert old.basis is not None and new.basis is not None
        assert (old.basis.facts["threshold"], new.basis.facts["threshold"]) == (100.0, 5.0)
        assert it.noted == [("NG at score 100 and above", "NG at score 5 and above")]
        it.line.end()


@pytest.mark.promise("a new one is taken between two parts")
def test_parts_flow_and_each_gets_one_verdict_in_time_while_thresholds_change() -> None:
    """A change with every few parts: none is lost, late or judged by half of two rules."""
    with Book() as it:
        levels = [5.0 if i % 2 else 100.0 for i in range(40)]
        for i, level in enumerate(levels):
            if i % 4 == 0:
                it.apply(level + i / 1000)  # it comes whenever it comes: parts do not wait for it
            if i % 4 == 3:
                until(lambda: it.book._applied == it._asked)
            found = it.part()
            assert found.verdict is (Verdict.NG if found.threshold <= 10.0 else Verdict.OK) and not found.cause
        assert len(it.noted) == 10
        it.apply(7.0)
        until(lambda: it.noted[-1][1] == "NG at score 7 and above")
        assert it.part().threshold == 7.0
        it.line.end()
    assert [found.part_id for found in it.line.seen] == list(range(1, 42))
    assert it.engine.closed is False, "the engine is not the book's"


def test_a_threshold_that_is_refused_changes_nothing_and_says_so_until_one_is_taken() -> None:
    with Book() as it:
        it.wrong = "line.edgead is not signed by a key that is trusted here"
        it.apply(5.0)
        until(lambda: "not signed" in it.line.station.health().notices.get("threshold", ""))
        assert "NG at score 100 and above" in it.line.station.health().notices["threshold"]
        assert words(it.part()) == "OK"
        it.wrong = ""
        it.apply(5.0, "signed")
        until(lambda: len(it.noted) == 1)
        assert not it.line.station.health().notices
        assert words(it.part()) == "NG"
        it.line.end()
    assert it.closed == 2


def test_a_bug_while_it_is_loaded_is_a_refusal_too() -> None:
    with Book() as it:
        it.book._applying = replace(it.book._applying, load=lambda number, digest, running: 1 / 0)  # type: ignore[type-var, arg-type, return-value]
        it.apply(5.0)
        until(lambda: "division by zero" in it.line.station.health().notices.get("threshold", ""))
        assert words(it.part()) == "OK"
        it.line.end()


def test_an_engine_that_fails_its_self_check_is_not_believed_because_of_a_new_threshold() -> None:
    engine = FakeEngine(brightness)
    check = SelfCheck(engine, [GOOD], lambda answers: "it answers otherwise", every_s=3600.0, clock=FakeClock(manual=True))
    with Book(check, engine) as it:
        it.line.station._examiner.bar(engine, SELFCHECK_FAILED)  # as the station's self-check does
        assert words(it.part()) == f"UNKNOWN {SELFCHECK_FAILED}"
        it.apply(250.0)
        until(lambda: len(it.noted) == 1)
        assert words(it.part()) == f"UNKNOWN {SELFCHECK_FAILED}"
        assert it.line.station._check is check
        it.line.end()


def test_asking_twice_is_two_askings_and_nobody_else_is_taken_for_one(tmp_path: Path) -> None:
    bundle = tmp_path / "line.edgead"
    assert asked(bundle) == ""
    assert ask(bundle, "abc") == file_of(bundle) == tmp_path / "line.edgead.apply"
    first = asked(bundle)
    ask(bundle, "abc")
    assert first.split()[0] == asked(bundle).split()[0] == "abc" and first != asked(bundle)
    file_of(bundle).unlink()
    file_of(bundle).mkdir()
    assert asked(bundle) == ""


# The whole station, with a real bundle and the command line

FILE = """
name: line
cameras:
  - {{name: top, address: "sim:width=160,height=120,fps=50", bundle: tiny.edgead{more}}}
storage: {{folder: data}}
{end}
"""


def written(folder: Path) -> Bundle:
    """A bundle by which all simulated parts are OK: above 300 is NG."""
    made = Bundle.open(write_bundle(folder / "tiny.edgead"))
    record = made.manifest.engines[0]
    return rewrite_manifest(made, made.manifest.with_engine(record.changed(replace(record.threshold, value=300.0))))


@contextmanager
def running(folder: Path, more: str = "", end: str = "") -> Iterator[Station]:
    (folder / "station.yaml").write_text(FILE.format(more=more, end=end))
    with Station.from_file(folder / "station.yaml") as station:
        thread = threading.Thread(target=station.run, name="test-station")
        thread.start()
        try:
            until(lambda: station.health()["top"].state == "ready")
            yield station
        finally:
            station.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def threshold_of(station: Station) -> float:
    """By which parts that come now are judged."""
    return station.lanes[0].station._examiner._eras[-1].main.threshold


def notice(station: Station) -> str:
    return station.health()["top"].notices.get("threshold", "")


def test_the_command_changes_what_a_running_station_says_and_its_records_name_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = written(tmp_path).path
    with running(tmp_path) as station:
        store = station.lanes[0].store
        assert store is not None
        engine = station.lanes[0].station._examiner._eras[-1].main.answerer.engine
        until(lambda: store.written >= 3)
        assert main(["threshold", str(bundle), "--set", "1", "--apply"]) == 0
        assert "take it now" in capsys.readouterr().out
        until(lambda: threshold_of(station) == 1.0)
        count = store.written
        until(lambda: store.written >= count + 200)
        assert station.lanes[0].station._examiner._eras[-1].main.answerer.engine is engine, "it is not opened again"
        assert not notice(station) and station.health()["top"].state == "ready"
        assert main(["threshold", str(bundle), "--undo", "--apply", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["applied"] is True
        until(lambda: threshold_of(station) == 300.0)
        taken = store.written
        until(lambda: store.written >= taken + 50)
    with History(tmp_path / "data" / "top") as history:
        rows = list(history.rows())
        first, second = history.changes()
    assert {(row["verdict"], row["threshold"]) for row in rows} == {("OK", 300.0), ("NG", 1.0)}
    assert len({row["bundle"] for row in rows}) == 3, "what is taken back is in the bundle's history: that is another manifest"
    assert len({row["rule"] for row in rows}) == 2
    assert [row["part_id"] for row in rows] == list(range(1, len(rows) + 1)), "one verdict for each part"
    assert (first["before"], first["after"]) == ("NG at score 300 and above", "NG at score 1 and above")
    assert second["bundle_after"] == Bundle.open(bundle).digest and second["before"] == first["after"]
    assert main(["records", str(tmp_path / "data/top"), "--changes"]) == 0
    assert "NG at score 300 and above -> NG at score 1 and above" in capsys.readouterr().out


def change(bundle: Path, **fields: object) -> None:
    made = Bundle.open(bundle)
    rewrite_manifest(made, replace(made.manifest, **fields))  # type: ignore[arg-type]


def other_model(bundle: Path) -> None:
    change(bundle, name="another")
    assert main(["threshold", str(bundle), "--set", "1", "--apply"]) == 0


def changed_since(bundle: Path) -> None:
    ask(bundle, "0" * 64)


def removed(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"torn")
    ask(bundle, "0" * 64)


def plainly(bundle: Path) -> None:
    assert main(["threshold", str(bundle), "--set", "1", "--apply"]) == 0


@pytest.mark.parametrize(
    ("more", "do", "says"),
    [
        (", threshold: 300", plainly, "own threshold 300 decides for top"),
        ("", other_model, "is another model than the one that runs"),
        ("", changed_since, "is not as it was when its threshold was applied"),
        ("", removed, "model.onnx has changed"),
    ],
)
def test_what_a_start_would_refuse_is_refused_while_it_runs(
    tmp_path: Path, more: str, do: Callable[[Path], None], says: str
) -> None:
    written(tmp_path)
    with running(tmp_path, more) as station:
        do(tmp_path / "tiny.edgead")
        until(lambda: says in notice(station))
        assert threshold_of(station) == 300.0
        assert station.health()["top"].state == "ready"


def test_a_threshold_by_which_every_defect_would_be_ok_is_refused(tmp_path: Path) -> None:
    write_vouched(tmp_path / "tiny.edgead")
    with running(tmp_path) as station:
        assert main(["threshold", str(tmp_path / "tiny.edgead"), "--set", "100000", "--apply"]) == 0
        until(lambda: "every defect would be OK" in notice(station))
        assert threshold_of(station) == NG_FROM


def test_what_was_applied_while_a_station_starts_is_not_missed(tmp_path: Path) -> None:
    """Its cameras open for seconds, and the bundle was read before."""
    bundle = written(tmp_path).path
    (tmp_path / "station.yaml").write_text(FILE.format(more="", end=""))
    config = read_station(tmp_path / "station.yaml")
    with ExitStack() as stack:
        workshop = Workshop(stack, MonotonicClock(), Shelf(threads=1))
        ready = workshop.prepare(config.cameras[0])
        plainly(bundle)
        lane = workshop.build(config.cameras[0], config.storage, ready=ready)
        until(lambda: lane.station._examiner._eras[-1].main.threshold == 1.0)


def test_a_digest_in_the_station_file_holds_for_new_thresholds_too(tmp_path: Path) -> None:
    pinned = written(tmp_path)
    with running(tmp_path, f", sha256: {pinned.digest}") as station:
        plainly(tmp_path / "tiny.edgead")
        until(lambda: "is not the bundle that is wanted" in notice(station))


def test_a_station_that_wants_signatures_takes_a_new_threshold_once_it_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEAD_KEY_PASSWORD", "a long enough password")
    bundle, key = written(tmp_path).path, tmp_path / "line.key"
    assert main(["sign", "--new-key", str(key)]) == 0
    assert main(["sign", str(bundle), "--key", str(key)]) == 0
    with running(tmp_path, end=f"trusted: [{key.with_suffix('.pub')}]") as station:
        plainly(bundle)
        assert "wait for edgead sign" in capsys.readouterr().out
        until(lambda: "signed" in notice(station))
        assert main(["sign", str(bundle), "--key", str(key)]) == 0
        assert main(["threshold", str(bundle), "--apply"]) == 0
        until(lambda: threshold_of(station) == 1.0)
        assert not notice(station)


@pytest.mark.parametrize("arguments", [["--apply", "--dry-run"], ["--apply", "--history"], ["--apply", "--engine", "x"]])
def test_options_that_do_not_go_with_it_are_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead")
    assert main(["threshold", str(bundle), *arguments]) == 2
    assert not file_of(bundle).exists() and capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead")
    file_of(bundle).mkdir()
    assert main(["threshold", str(bundle), "--apply"]) == 7
    assert "tiny.edgead.apply" in capsys.readouterr().err
