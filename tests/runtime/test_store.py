"""Records in the database: safe once acknowledged, whatever happens to the disk, the process and the clock."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edgead.errors import BadInput, StorageError
from edgead.runtime.records import store as store_module
from edgead.runtime.records.database import FILE_NAME
from edgead.runtime.records.history import History, Selection
from edgead.runtime.records.record import to_record
from edgead.runtime.records.store import RecordStore
from edgead.runtime.records.wallclock import WallClock
from edgead.testing import FakeClock
from edgead.types import Verdict
from tests.runtime.disks import fill, remount
from tests.runtime.parts import START, inspection, record
from tests.waiting import PATIENCE_S, until


def ids(folder: Path) -> list[int]:
    with History(folder) as history:
        return [row["part_id"] for row in history.rows()]


def test_a_record_holds_everything_and_its_pictures_and_acknowledgement_may_come_first(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "new" / "records", station="line 1", wall=WallClock(FakeClock(), lambda: START))
    store.attach(7, Path("a.png"), Path("a.jpg"))
    store.acknowledge(7)
    assert store.flush(PATIENCE_S)  # their record is not there yet
    views = (inspection(7, Verdict.OK), inspection(7, Verdict.NG))
    store.write(to_record(replace(inspection(7, Verdict.NG), views=views), time_utc=START, engine="openvino-int8"))
    store.close()
    with History(store.path) as history:
        (row,) = history.rows()
    views_json = row.pop("views")
    assert '"verdict":"NG"' in views_json and views_json.count('"score":1.5') == 2
    assert row == {
        **{"seq": 1, "run": 1, "part_id": 7, "trigger_id": 7, "trigger_source": "plc", "line_part_id": 5007},
        **{"time": "2026-11-22T06:00:00.000+00:00", "recorded_ns": 1_000_000_000, "captured_ns": 7000},
        **{"camera": "cam", "frame_id": 7, "source": "", "verdict": "NG", "cause": "", "score": 1.5, "threshold": 2.0},
        **{"engine": "openvino-int8", "wait_ms": 1.0, "resize_ms": 0.5, "inference_ms": 7.0, "decision_ms": 0.25},
        **{"total_ms": 10.0, "picture": "a.png", "overlay": "a.jpg", "acknowledged": "2026-11-22T06:00:00.000+00:00"},
        **{"statistic": None, "level": None, "rule": None, "bundle": None},  # nobody said what it was judged by
    }


def test_numbering_and_order_go_on_after_a_restart_even_when_the_date_went_back(tmp_path: Path) -> None:
    for run in range(3):
        when = START - timedelta(days=400 * run)
        store = RecordStore(tmp_path, wall=WallClock(FakeClock(), lambda when=when: when))
        first = store.last_part_id() + 1
        assert first == 1 + 2 * run
        for part_id in (first, first + 1):
            store.write(record(part_id, when=when))
        store.close()
    assert ids(tmp_path) == [1, 2, 3, 4, 5, 6]
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert [r[0] for r in connection.execute("SELECT run FROM records ORDER BY seq")] == [1, 1, 2, 2, 3, 3]
        assert len({r[0] for r in connection.execute("SELECT id FROM runs")}) == 3
    connection.close()


WRITER = """
import sys, time
from pathlib import Path
from edgead.runtime.records.store import RecordStore
from tests.runtime.disks import fill, remount
from tests.runtime.parts import record

store = RecordStore(Path(sys.argv[1]), commit_every_s=0.001, on_commit=lambda ids: print(*ids, flush=True))
print("last", store.last_part_id(), flush=True)
part_id = store.last_part_id()
while True:
    part_id += 1
    store.write(record(part_id))
    if store.waiting > 50:
        time.sleep(0.001)
"""


def test_kill_9_loses_nothing_that_was_acknowledged_and_numbering_goes_on(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            word, last = process.stdout.readline().split()
            assert word == "last" and int(last) >= max(acknowledged, default=0)
            for _ in range(20):
                acknowledged += map(int, process.stdout.readline().split())
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read()
            acknowledged += map(int, told.rpartition("\n")[0].split())
        assert process.returncode == -signal.SIGKILL
    stored = ids(tmp_path)  # the log is still there: nobody has closed the file
    assert set(acknowledged) <= set(stored)
    assert stored == list(range(1, len(stored) + 1))
    store = RecordStore(tmp_path)
    assert store.last_part_id() == len(stored)
    store.close()


def test_a_full_disk_keeps_records_in_memory_then_loses_the_oldest_and_recovers(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordStore(small_disk, commit_every_s=0.0, buffer=50, retry_s=0.01)
    store.write(record(1))
    assert store.flush(PATIENCE_S)
    filler = fill(small_disk)
    for part_id in range(2, 42):
        store.write(record(part_id, source="x" * 4000))
    until(lambda: store.fault != "")
    assert "full" in store.fault
    assert store.waiting + store.written == 41 and store.lost == 0
    for part_id in range(42, 142):
        store.write(record(part_id))
    until(lambda: store.lost > 0)
    filler.unlink()
    assert store.flush(PATIENCE_S)
    store.write(record(142))
    store.close()
    stored = ids(small_disk)
    assert stored[-50:] == list(range(93, 143)) and stored[0] == 1
    assert len(stored) == store.written == 142 - store.lost
    states = [r.getMessage().split(": ", 1)[1] for r in caplog.records]
    assert [s.partition(" ")[0] for s in states] == ["database", "records", "records"]
    assert "verdicts go on" in states[0] and "being lost" in states[1] and "written again" in states[2]


def test_a_station_starts_with_a_full_disk_and_writes_once_there_is_room(small_disk: Path) -> None:
    filler = fill(small_disk)
    store = RecordStore(small_disk, commit_every_s=0.0, retry_s=0.01)
    assert store.fault and store.last_part_id() == 0
    store.write(record(1))
    filler.unlink()
    until(lambda: store.written == 1)
    store.close()
    assert ids(small_disk) == [1]


def test_a_disk_that_turns_read_only_is_waited_for(small_disk: Path) -> None:
    store = RecordStore(small_disk, commit_every_s=0.0, retry_s=0.01)
    store.write(record(1))
    assert store.flush(PATIENCE_S)
    store.close()
    remount(small_disk, "ro")
    store = RecordStore(small_disk, commit_every_s=0.0, retry_s=0.01)
    assert "ead-only" in store.fault
    assert store.last_part_id() == 1  # reading goes
    store.write(record(2))
    assert not store.flush(0.05)
    remount(small_disk, "rw")
    until(lambda: store.written == 1)
    store.close()
    assert ids(small_disk) == [1, 2]
    assert store.lost == 0


def test_what_the_disk_did_not_take_until_the_end_is_counted_as_lost(small_disk: Path) -> None:
    remount(small_disk, "ro")
    store = RecordStore(small_disk, retry_s=60.0)
    for part_id in range(3):
        store.write(record(part_id))
    store.close()
    assert (store.written, store.lost, store.waiting) == (0, 3, 0)
    store.write(record(4))
    assert store.lost == 4


def test_a_removed_folder_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RecordStore(tmp_path / "records", commit_every_s=0.0)
    store.write(record(1))
    assert store.flush(PATIENCE_S)
    shutil.rmtree(tmp_path / "records")
    store.write(record(2))
    assert store.flush(PATIENCE_S)
    assert ids(tmp_path / "records") == [2]
    assert "was removed" in caplog.text
    store.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is not a database, whatever its name says" * 100)
    store = RecordStore(tmp_path, wall=WallClock(FakeClock(), lambda: START))
    store.write(record(1))
    store.close()
    assert ids(tmp_path) == [1]
    assert (tmp_path / "records.db.damaged-20261122T060000Z").read_bytes().startswith(b"this is not")
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("table", ["records", "runs"])
def test_a_database_whose_tables_somebody_removed_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    for part_id in (1, 2, 3):
        store = RecordStore(tmp_path, commit_every_s=0.0)
        store.write(record(part_id))
        assert store.flush(PATIENCE_S)
        if part_id < 3:  # once while it writes, once before it starts
            with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
                other.execute(f"DROP TABLE {table}")
        if part_id == 1 and table == "records":
            store.write(record(10))
            assert store.flush(PATIENCE_S)
            assert ids(tmp_path) == [10]
        store.close()
        assert store.lost == 0
    assert 3 in ids(tmp_path) and f"is damaged (no such table: {table})" in caplog.text


def destroy_first_page(path: Path, *, first: int = 0, last: int = 4096) -> None:
    with path.open("r+b") as file:
        file.seek(first)
        file.write(bytes((i * 7) % 251 for i in range(last - first)))


@pytest.mark.parametrize(("first", "last"), [(0, 4096), (0, 16), (0, 512), (16, 4096), (100, 4096)])
def test_a_first_page_that_is_destroyed_at_the_start_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, last: int
) -> None:
    store = RecordStore(tmp_path)
    for part_id in range(1, 500):
        store.write(record(part_id))
    store.close()
    destroy_first_page(tmp_path / FILE_NAME, first=first, last=last)
    store = RecordStore(tmp_path)
    store.write(record(500))
    store.close()
    assert ids(tmp_path) == [500]
    assert "is damaged" in caplog.text and len(list(tmp_path.glob("records.db.damaged-*Z"))) == 1


@pytest.mark.parametrize(("first", "last"), [(0, 4096), (0, 512)])
def test_a_first_page_that_is_destroyed_while_the_station_writes_is_noticed_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: int, last: int
) -> None:
    RecordStore(tmp_path).close()
    store = RecordStore(tmp_path, commit_every_s=0.0)
    store.write(record(1))
    assert store.flush(PATIENCE_S)
    destroy_first_page(tmp_path / FILE_NAME, first=first, last=last)
    for part_id in range(2, 10):
        store.write(record(part_id))
        assert store.flush(PATIENCE_S)
    assert "is damaged (its first page is destroyed)" in caplog.text
    assert ids(tmp_path)[-8:] == list(range(2, 10))
    store.close()
    assert store.lost == 0


def test_a_reader_that_keeps_the_log_from_shrinking_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOG_BYTES", 200_000)
    told: list[tuple[str, str]] = []
    store = RecordStore(tmp_path, commit_every_s=0.0)
    store.watch(lambda name, text: told.append((name, text)))

    def write(count: int) -> None:
        for _ in range(count):
            store.write(record(store.written + store.waiting + 1, source="x" * 5000))
            assert store.flush(PATIENCE_S)

    write(1)
    reader = sqlite3.connect(f"file:{tmp_path / FILE_NAME}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM records").fetchone()
    write(1200)  # more than the thousand pages after which the log is folded into the file
    assert len(told) >= 2 and "a program reads the records and does not come to an end" in told[0][1]
    reader.close()
    store.close()


def test_a_record_that_no_database_takes_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    committed: list[int] = []
    store = RecordStore(tmp_path, on_commit=committed.extend)
    for part_id in (1, 2**70, 3):
        store.write({**record(1), "part_id": part_id})
    store.write(record(4, source=os.fsdecode(b"caf\xe9.png")))
    store.close()
    assert ids(tmp_path) == committed == [1, 3, 4]
    assert (store.written, store.lost) == (3, 1)
    assert f"part {2**70}" in caplog.text


def test_quotas_remove_the_oldest_records_and_a_jumping_date_removes_none(tmp_path: Path) -> None:
    clock, date = FakeClock(), [START]
    store = RecordStore(tmp_path, max_rows=100, max_days=2, wall=WallClock(clock, lambda: date[0]))

    def day(days: int, part_ids: range) -> list[int]:
        for part_id in part_ids:
            store.write(record(part_id, when=START + timedelta(days=days)))
        assert store.flush(PATIENCE_S)
        return ids(tmp_path)

    assert day(0, range(1, 151)) == list(range(51, 151))
    date[0] = START + timedelta(days=4000)  # nobody waited: the date is wrong
    assert day(0, range(151, 153)) == list(range(53, 153))
    clock.advance(3 * 86400)
    date[0] = START + timedelta(days=3)
    assert day(3, range(153, 155)) == [153, 154]
    store.close()


def test_the_listener_of_commits_may_fail(tmp_path: Path) -> None:
    def fail(ids: object) -> None:
        raise RuntimeError("no")

    store = RecordStore(tmp_path, on_commit=fail, commit_every_s=0.0)
    for part_id in (1, 2):
        store.write(record(part_id))
        assert store.flush(PATIENCE_S)
    store.close()
    assert ids(tmp_path) == [1, 2]


def test_reading_a_running_station_holds_nothing_up(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0)
    for part_id in range(1, 3001):
        store.write(record(part_id))
    assert store.flush(PATIENCE_S)
    with History(tmp_path) as history:
        rows = history.rows()
        assert next(rows)["part_id"] == 1
        store.write(record(3001))
        assert store.flush(PATIENCE_S)
        assert [row["part_id"] for row in rows][-1] == 3001
        assert [row["part_id"] for row in history.rows(Selection(last=2))] == [3000, 3001]
    store.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [FILE_NAME]  # folded into one file that can be copied


def test_one_station_a_folder(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    with pytest.raises(StorageError, match="another station writes records") as caught:
        RecordStore(tmp_path)
    assert caught.value.exit_code == 7
    store.close()
    RecordStore(tmp_path).close()


def test_a_disk_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # the empty place where it will be mounted is root's

    with monkeypatch.context() as away:
        away.setattr(Path, "mkdir", refuse)
        store = RecordStore(tmp_path / "disk", retry_s=0.01)
        store.write(record(1))
        assert "Permission denied" in store.fault
    until(lambda: store.written == 1)
    store.close()
    assert ids(tmp_path / "disk") == [1]


def test_a_folder_that_cannot_be_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot keep records in .*Not a directory"):
        RecordStore(tmp_path / "file" / "records")
    with pytest.raises(BadInput):
        RecordStore(tmp_path, max_rows=0)


@pytest.mark.parametrize(
    ("statement", "says"), [("PRAGMA user_version = 99", "newer edgead"), ("PRAGMA application_id = 7", "not one of edgead's")]
)
def test_a_database_of_somebody_else_or_of_tomorrow_is_refused_and_left_alone(statement: str, says: str, tmp_path: Path) -> None:
    RecordStore(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute(statement)
    connection.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StorageError, match=says):
        RecordStore(tmp_path)
    with pytest.raises(StorageError, match=says):
        History(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_somebody_who_locks_the_database_holds_up_no_caller(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, commit_every_s=0.0, retry_s=0.01)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.write(record(1))
    until(lambda: store.fault != "")
    assert "locked" in store.fault
    for part_id in range(2, 100):
        store.write(record(part_id))
    other.execute("ROLLBACK")
    other.close()
    assert store.flush(PATIENCE_S)
    store.close()
    assert ids(tmp_path) == list(range(1, 100))
