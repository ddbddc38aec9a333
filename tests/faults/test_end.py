"""Ends that nobody planned: the terminal is gone, or whoever reads the log stands still."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.faults.line import Line, third_is_bad, words, write_pictures
from tests.waiting import PATIENCE_S

IN_FLIGHT = 3

LEADER = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Runs a program as a login shell would: with a controlling terminal, whose end it is told by SIGHUP."""


@pytest.fixture
def line(tmp_path: Path, bundle: Path) -> Iterator[Line]:
    pictures = write_pictures(tmp_path / "pictures", third_is_bad(900))
    line = Line(tmp_path, bundle, str(pictures), plc={"in_flight": IN_FLIGHT}, outputs=[{"type": "log"}])
    yield line
    line.close()


def ends_well(line: Line) -> None:
    """By status 0, with a record of each part that was told, in a database that is one whole file."""
    assert line.station.wait() == 0
    assert not line.records.with_name("records.db-wal").exists()
    told = {entry["part"]: words(entry) for entry in line.plc.log() if entry["by"] == "station"}
    recorded = {row["line_part_id"] for row in line.rows()}
    assert len(recorded) > 5
    assert {part: word for part, word in told.items() if part not in recorded} == {}
    line.judge()


def test_a_terminal_that_is_gone_ends_the_station_as_sigterm_does(line: Line) -> None:
    ours, theirs = os.openpty()
    try:
        line.start([sys.executable, "-c", LEADER], terminal=theirs)
        os.close(theirs)
        line.plc.want(100_000)
        line.until(lambda: line.count() > 20)
    finally:
        os.close(ours)  # as sshd does: the kernel sends SIGHUP, and writes to the terminal fail from now on
    ends_well(line)


def test_a_reader_of_the_log_that_stands_still_keeps_nothing_from_working_or_ending(line: Line) -> None:
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # full after some forty parts
        line.start(terminal=write)
        line.plc.want(100_000)
        line.until(lambda: line.count() > 150)
        line.healthy()
        line.station.signal(signal.SIGTERM)
        ends_well(line)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_keep_nothing_from_working_and_no_file_takes_their_place(
    tmp_path: Path, bundle: Path, closed: str
) -> None:
    camera = {"name": "top", "bundle": str(bundle), "address": "sim:fps=20", "budget_ms": 2000, "outputs": [{"type": "log"}]}
    storage = {"folder": str(tmp_path / "data"), "pictures": None}
    file = tmp_path / "station.yaml"
    file.write_text(yaml.safe_dump({"name": "s", "cameras": [camera], "storage": storage}))
    look = f"""
import os, threading, time
from edgead.cli.main import main
def see():
    time.sleep(0.1)
    while not os.path.exists({str(tmp_path / "data" / "top" / "records.db")!r}):
        time.sleep(0.01)
    open({str(tmp_path / "seen")!r}, "w").write("\\n".join(os.readlink(f"/proc/self/fd/{{n}}") for n in (0, 1, 2)))
threading.Thread(target=see, daemon=True).start()
raise SystemExit(main(["run", {str(file)!r}, "--max-parts", "5"]))
"""
    code = tmp_path / "look.py"
    code.write_text(look)
    shell = f'exec "$0" "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, str(code)], stdin=subprocess.DEVNULL, timeout=5 * PATIENCE_S, check=False
    )
    assert done.returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "top" / "records.db")) as records:
        assert records.execute("SELECT count(*) FROM records").fetchone() == (5,)
    places = (tmp_path / "seen").read_text().splitlines()
    assert places[2] == "/dev/null" and "records.db" not in " ".join(places)
