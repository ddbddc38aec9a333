"""`edgead records`: what a station has recorded, listed, counted and exported."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet
import pytest

from edgead.cli.main import main
from edgead.runtime.records.store import RecordStore
from edgead.types import Verdict
from tests.runtime.parts import START, record

DAY = timedelta(days=1)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """The records of a station that is running: 30 parts, one a day, part 28 missing."""
    store = RecordStore(tmp_path / "records", commit_every_s=0.0)
    for part_id in range(1, 31):
        verdict, cause = {10: (Verdict.NG, ""), 20: (Verdict.UNKNOWN, "late: inference")}.get(part_id, (Verdict.OK, ""))
        if part_id != 28:
            store.write(record(part_id, verdict, cause, when=START + DAY * part_id, total_ms=float(part_id)))
    store.attach(10, Path("/p/10.png"), Path("/p/10.jpg"))
    assert store.flush(20.0)
    yield tmp_path / "records"
    store.close()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["records", *map(str, arguments)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def test_the_newest_parts_are_listed_while_the_station_runs(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, live)
    assert len(lines) == 1 + 20 + 2
    assert lines[-1].split() == ["30", "2026-12-22", "06:00:00", "OK", "1.5", "2", "30.0", "cam"]
    line, picture = run(capsys, live, "--verdict", "ng")[1:]
    assert (line.split()[-1], picture.strip()) == ("cam", "/p/10.png")
    line, below = run(capsys, live / "records.db", "--part", 20)[1:]
    assert line.split()[3] == "UNKNOWN" and "late: inference" in line + below
    assert [line.split()[0] for line in run(capsys, live, "--limit", 2)[1:]] == ["29", "30"]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("2026-12-20", None, [29, 30]),
        ("2026-12-02T06:00", "2026-12-03T06:00:00Z", [10]),
        ("2026-12-02T08:00+02:00", "2026-12-04", [10, 11]),
        ("2030-01-01", None, []),
    ],
)
def test_dates_select(since: str, until: str | None, expected: list[int], live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--since", since, *(["--until", until] if until else [])]
    assert [json.loads(line)["part_id"] for line in run(capsys, live, *arguments, "--json")] == expected


def test_ages_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(tmp_path)
    now = datetime.now(timezone.utc)
    for part_id, hours in enumerate((30, 20, 1)):
        store.write(record(part_id, when=now - timedelta(hours=hours)))
    store.close()
    assert [json.loads(line)["part_id"] for line in run(capsys, tmp_path, "--since", "1d", "--json")] == [1, 2]
    assert [json.loads(line)["part_id"] for line in run(capsys, tmp_path, "--since", "90m", "--json")] == [2]


def test_the_summary_counts_and_finds_what_is_missing(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, live, "--summary")
    assert lines[0] == "29 parts in 1 runs of the station: 2026-11-23T06:00:00 to 2026-12-22T06:00:00Z"
    assert [line.split()[:2] for line in lines[1:5]] == [["OK", "27"], ["NG", "1"], ["UNKNOWN", "1"], ["late", "1"]]
    assert lines[5] == "  1 part ids between the first and the last have no record"
    assert lines[6] == "  from picture to verdict: p50 15.0 ms, p95 28.2 ms, p99 29.7 ms, max 30.0 ms"
    (line,) = run(capsys, live, "--summary", "--json", "--verdict", "NG")
    assert json.loads(line)["verdicts"] == {"NG": 1} and json.loads(line)["missing"] is None
    assert run(capsys, live, "--summary", "--since", "2030-01-01") == ["no records match"]


def test_csv_goes_through_a_pipe_a_device_and_a_link_and_replaces_none(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, link, device = tmp_path / "pipe", tmp_path / "link.csv", tmp_path / "null"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), name="test-reader")
    reader.start()
    assert main(["records", str(live), "--csv", str(pipe)]) == 0
    reader.join()
    assert capsys.readouterr().err == f"29 records in {pipe}\n"
    assert pipe.is_fifo() and len(read[0].splitlines()) == 30

    (tmp_path / "real.csv").write_text("old")
    link.symlink_to(tmp_path / "real.csv")
    assert run(capsys, live, "--csv", link) == [f"29 records in {link}"]
    assert link.is_symlink() and len((tmp_path / "real.csv").read_text().splitlines()) == 30

    if os.geteuid() == 0:  # as root, replacing it would even succeed
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        assert main(["records", str(live), "--csv", str(device)]) == 0
        assert device.is_char_device()
    assert main(["records", str(live), "--parquet", str(pipe)]) == 7
    assert "which cannot hold Parquet" in capsys.readouterr().err and pipe.is_fifo()


@pytest.mark.parametrize("name", ["records.db", "records.db-wal", "records.db-shm", "link.csv"])
def test_no_export_replaces_a_file_of_the_database(live: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (live / "link.csv").symlink_to("records.db-wal")
    before = (live / "records.db-wal").read_bytes()
    assert main(["records", str(live), "--csv", str(live / name)]) == 2
    assert f"{name} holds the records themselves" in capsys.readouterr().err
    assert (live / "records.db-wal").read_bytes() == before and (live / "link.csv").is_symlink()


def test_csv_on_standard_output_can_be_piped_on(live: Path) -> None:
    command = [sys.executable, "-m", "edgead.cli.main", "records", str(live), "--csv", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(list(csv.DictReader(done.stdout.splitlines()))) == 29
    assert done.stderr == "29 records in /dev/stdout\n" and Path("/dev/stdout").is_symlink()


def test_csv_and_parquet_hold_every_column(live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, live, "--csv", tmp_path / "a.csv", "--parquet", tmp_path / "a.parquet")
    assert lines == [f"29 records in {tmp_path / 'a.csv'}", f"29 records in {tmp_path / 'a.parquet'}"]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == list(rows[0])
    values = table.to_pylist()
    assert [int(row["part_id"]) for row in rows] == [row["part_id"] for row in values]
    assert (rows[9]["verdict"], rows[9]["picture"], rows[9]["acknowledged"]) == ("NG", "/p/10.png", "")
    assert values[9]["time"] == START + DAY * 10
    assert (values[9]["verdict"], values[9]["total_ms"], values[9]["acknowledged"]) == ("NG", 10.0, None)
    assert run(capsys, live, "--verdict", "NG", "--csv", tmp_path / "a.csv") == [f"1 records in {tmp_path / 'a.csv'}"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.parquet", "records"]


def test_a_copy_without_its_log_in_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RecordStore(tmp_path / "records")
    store.write(record(1))
    store.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(store.path, copy / "monday.db")
    copy.chmod(0o500)
    assert len(run(capsys, copy / "monday.db")) == 2
    copy.chmod(0o700)
    assert [p.name for p in copy.iterdir()] == ["monday.db"]


def test_a_whole_copy_of_a_running_station(live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(live, tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm"))
    assert run(capsys, tmp_path / "copy", "--summary")[0].startswith("29 parts")


def test_an_empty_database_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RecordStore(tmp_path).close()
    assert len(run(capsys, tmp_path)) == 1
    assert run(capsys, tmp_path, "--summary") == ["no records match"]
    (tmp_path / "empty.db").write_bytes(b"")
    assert run(capsys, tmp_path / "empty.db", "--csv", tmp_path / "a.csv") == [f"0 records in {tmp_path / 'a.csv'}"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--since", "yesterday"], 2, "--since yesterday is not a date"),
        (["--verdict", "BAD"], 2, "--verdict BAD"),
        (["--limit", "0"], 2, "--limit: '0' is not a whole number from 1"),
        (["--csv", "/no/such/a.csv"], 7, "cannot write /no/such/a.csv"),
        (["--parquet", "/no/such/a.parquet"], 7, "cannot write /no/such/a.parquet"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str], code: int, says: str, live: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["records", str(live), *arguments]) == code
    shown = capsys.readouterr()
    assert says in shown.err.splitlines()[0] and "internal error" not in shown.err


def test_wrong_and_damaged_files_are_one_clear_line(live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", str(tmp_path / "none")]) == 2
    assert "no records at" in capsys.readouterr().err
    assert main(["records", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert f"no records at {tmp_path}/records.db" in shown and f"there are some in {live}" in shown
    (tmp_path / "text.db").write_text("these are not the records you are looking for" * 50)
    assert main(["records", str(tmp_path / "text.db")]) == 7
    assert "is damaged or not a database" in capsys.readouterr().err
    (tmp_path / "damaged.db").write_bytes(_damaged(tmp_path))
    assert main(["records", str(tmp_path / "damaged.db"), "--csv", str(tmp_path / "a.csv")]) == 7
    assert "is damaged" in capsys.readouterr().err
    assert not list(tmp_path.glob("*a.csv*"))


def _damaged(tmp_path: Path) -> bytes:
    store = RecordStore(tmp_path / "whole")
    for part_id in range(1, 500):
        store.write(record(part_id))
    store.close()
    data = bytearray(store.path.read_bytes())
    data[20_000:60_000] = os.urandom(40_000)
    return bytes(data)


def test_without_pyarrow_the_extra_is_named(live: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from edgead.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "records", str(live), "--parquet", str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "pip install 'edgead[parquet]'" in done.stderr


def test_a_part_that_is_not_there_and_a_file_that_is_no_database_are_told(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, live, "--part", 4711) == ["no records match"]
    file = tmp_path / "records.jsonl"
    file.write_text('{"part_id": 1}\n')
    assert main(["records", str(file)]) == 2
    said = capsys.readouterr().err
    assert "holds JSON records, one a line, and is no database" in said and "damaged" not in said
