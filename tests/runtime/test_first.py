"""Records first: what a PLC is told is on the disk already, and a slow, full or dead disk costs verdicts, never the line."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgead.budget import LatencyBudget
from edgead.cli._told import summary
from edgead.config.station import Records
from edgead.errors import BadInput
from edgead.runtime.loop.first import LIMIT_S
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.views import Views
from edgead.runtime.records.database import FILE_NAME, Database
from edgead.runtime.records.history import History
from edgead.runtime.records.store import RecordStore
from edgead.settings import validator_of
from edgead.testing import FakeCamera, FakeClock, FakeEngine, FakeOutput, Hang
from edgead.types import Inspection
from tests.runtime._line import BAD, GOOD, RECIPE, LineUnderTest, brightness
from tests.waiting import PATIENCE_S, until


class Checking(FakeOutput):
    """Looks into the database at each part that it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.missing: list[int] = []

    def signal(self, inspection: Inspection) -> None:
        if (inspection.part_id, inspection.verdict.value) not in rows(self._folder):
            self.missing.append(inspection.part_id)
        super().signal(inspection)


def rows(folder: Path) -> list[tuple[int, str]]:
    with History(folder) as history:
        return [(row["part_id"], row["verdict"]) for row in history.rows()]


def words(output: FakeOutput) -> list[str]:
    return [told.verdict.value + (f" {told.cause}" if told.cause else "") for told in output.told]


def test_nothing_is_told_before_its_record_is_on_the_disk(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0)
    output = Checking(tmp_path)
    with Station(FakeCamera([GOOD, BAD] * 50), FakeEngine(brightness), RECIPE, 100.0, outputs=[output]) as station:
        seen: list[int] = []
        station.on_record(store.write, first=True).on_inspection(lambda inspection: seen.append(inspection.part_id))
        station.run()
    store.close()
    assert output.missing == []
    assert words(output) == ["OK", "NG"] * 50
    assert seen == list(range(1, 101))
    assert (store.written, store.lost) == (100, 0)


class Held:
    """A store whose first commit hangs, and a station that records first."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.hang, real = Hang(), Database.insert

        def insert(database: Database, items: Sequence[dict[str, Any]]) -> dict[int, str]:
            if items:
                self.hang.wait()
            return real(database, items)

        monkeypatch.setattr(Database, "insert", insert)
        self.folder, self.clock, self.output = folder, FakeClock(manual=True), FakeOutput()
        self.store = RecordStore(folder, commit_every_s=0.0)
        self.line = LineUnderTest(outputs=[self.output], clock=self.clock, hangs=[self.hang], **options)
        self.line.station.on_record(self.store.write, first=True)

    def part(self) -> None:
        self.line.fire()
        self.line.wait_for_frame()
        self.line.push(GOOD)
        assert self.line.told(1) == ["OK"]  # whoever only listens waits for no disk

    def told(self, count: int) -> list[str]:
        until(lambda: len(self.output.told) == count)
        return words(self.output)


def test_a_commit_that_takes_too_long_is_unknown_at_the_deadline_and_the_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(tmp_path, monkeypatch)
    with held.line as line:
        held.part()
        assert held.hang.entered.acquire(timeout=PATIENCE_S)
        assert held.output.told == []
        line.pass_time(101)
        assert held.told(1) == ["UNKNOWN late_output: its record was not safe in time"]
        held.hang.let_go()
        until(lambda: held.store.written == 1)
        held.part()
        assert held.told(2)[1] == "OK"
        line.end()
    held.store.close()
    assert rows(tmp_path) == [(1, "UNKNOWN"), (2, "OK")]
    assert line.station.stats.late_outputs["records first"] == 1
    assert line.station.stats.verdicts == {"OK": 2}  # what the station found


def test_free_running_without_a_deadline_a_verdict_is_held_for_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(tmp_path, monkeypatch, budget_ms=10_000.0)
    assert LIMIT_S == 1.0
    with held.line as line:
        held.part()
        line.pass_time(9_000)
        assert held.output.told == []
        line.pass_time(1_001)
        assert held.told(1) == ["UNKNOWN late_output: its record was not safe in time"]
        held.hang.let_go()
        line.end()
    held.store.close()


def test_a_disk_that_refuses_is_unknown_at_once_and_ok_again_as_it_takes_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0, retry_s=0.01)
    output = FakeOutput()
    line = LineUnderTest(outputs=[output], budget_ms=60_000.0)
    line.station.on_record(store.write, first=True)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    with line:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            line.fire()
            line.wait_for_frame()
            line.push(GOOD)
            assert line.told(1) == ["OK"]
            until(lambda: store.fault != "")
        health = line.station.health()
        assert health.notices["records"].startswith("the disk does not take records: database is locked")
        assert health.state == "faulted" and "all is told as UNKNOWN (not_recorded)" in health.fault
        until(lambda: "UNKNOWN not_recorded: database is locked" in words(output) or line.pass_time(60_001))
        other.execute("ROLLBACK")
        other.close()
        until(lambda: not store.fault and not store.waiting)
        assert (line.station.health().notices, line.station.health().state) == ({}, "ready")
        line.fire()
        line.wait_for_frame()
        line.push(GOOD)
        until(lambda: len(output.told) == 3)
        assert output.history[-1] == "OK"
        line.end()
    store.close()
    assert rows(tmp_path) == [(1, "UNKNOWN"), (2, "UNKNOWN"), (3, "OK")]
    assert store.lost == 0
    assert "told as UNKNOWN, since too late or not recorded: (2 records first)" in summary(line.station.stats, {})


def test_a_record_that_cannot_be_stored_is_unknown_and_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Database.insert

    def insert(database: Database, items: Sequence[dict[str, Any]]) -> dict[int, str]:
        good = [item for item in items if item["part_id"] != 1]
        return real(database, good) | {i: "no room" for i, item in enumerate(items) if item["part_id"] == 1}

    monkeypatch.setattr(Database, "insert", insert)
    store, output = RecordStore(tmp_path, commit_every_s=0.0), FakeOutput()
    line = LineUnderTest(outputs=[output], budget_ms=60_000.0)
    line.station.on_record(store.write, first=True)
    with line:
        for _ in range(2):
            line.fire()
            line.wait_for_frame()
            line.push(GOOD)
            assert line.told(1) == ["OK"]
        until(lambda: len(output.told) == 2)
        line.end()
    store.close()
    assert words(output) == ["UNKNOWN not_recorded: it cannot be stored", "OK"]
    assert (store.written, store.lost) == (1, 1)


def test_a_stop_tells_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.runtime.loop.first.FLUSH_S", 0.05)
    held = Held(tmp_path, monkeypatch)
    with held.line as line:
        held.part()
        assert held.hang.entered.acquire(timeout=PATIENCE_S)
        line.station.stop()
        until(lambda: held.output.told)
    held.hang.let_go()
    held.store.close()
    assert words(held.output) == ["UNKNOWN late_output: its record was not safe in time"]
    assert rows(tmp_path) == [(1, "UNKNOWN")]


def test_only_a_store_says_when_a_record_is_safe() -> None:
    with (
        Station(FakeCamera([GOOD]), FakeEngine(brightness), RECIPE, 100.0) as station,
        pytest.raises(BadInput, match="RecordStore"),
    ):
        station.on_record(print, first=True)


def test_the_option_has_a_short_form() -> None:
    assert validator_of(Records).validate_python("first") == Records(first=True)
    assert not Records().first


def test_parts_of_several_cameras_are_no_longer_ready_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records", commit_every_s=0.0, retry_s=0.01)
    with Views(["left", "right"], LatencyBudget(1000.0), [FakeOutput()], FakeClock(manual=True), combine="any") as views:
        views.on_record(store.write, first=True)
        assert views.health().state == "ready"
        store.fault = "No space left on device"
        assert views.health().state == "faulted" and "No space left on device" in views.health().fault
    store.fault = ""
    store.close()
