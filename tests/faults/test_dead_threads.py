"""A real station whose threads would die: a folder whose name is no UTF-8, a link that panics in native code; records first."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.faults.line import Line, third_is_bad, write_pictures
from tests.servers.station import StationProcess


@pytest.fixture
def line(tmp_path: Path, bundle: Path) -> Iterator[Line]:
    made = Line(tmp_path, bundle, str(write_pictures(tmp_path / "pictures", third_is_bad(300))), plc={"in_flight": 3})
    yield made
    made.close()


def change(line: Line, place: Path, **storage: object) -> None:
    """Let the station keep its records as `storage` says, with its file in `place`."""
    place.mkdir(exist_ok=True)
    content = yaml.safe_load((line.station.folder / "station.yaml").read_text())
    content["storage"].update(storage)
    line.station = StationProcess(place, content)


def test_a_folder_whose_name_is_not_utf_8_costs_no_record(line: Line, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    change(line, odd, folder="kept")
    line.start()
    line.healthy()
    line.plc.want(30)
    line.until(lambda: line.count() == 36)
    line.judge(recorded=False)
    assert line.station.stop() == 0
    with closing(sqlite3.connect(odd / "kept/cam/records.db")) as database:
        found = database.execute("SELECT part_id, verdict, picture FROM records ORDER BY seq").fetchall()
    assert [part_id for part_id, _, _ in found] == list(range(1, 37))
    assert all("caf\\udce9" in picture for _, verdict, picture in found if verdict == "NG" and picture)
    assert "lost" not in line.station.log()


PANIC = """
import sys
if sys.argv[:1] == ["-m"]:  # the station itself, not what it starts
    from edgead.runtime.plc import modbus

    class Panic(BaseException):
        pass

    real, calls = modbus.ModbusClientLink.exchange, []

    def exchange(self, to_plc):
        calls.append(1)
        if len(calls) % 200 == 0:
            raise Panic("a bug in native code")
        return real(self, to_plc)

    modbus.ModbusClientLink.exchange = exchange
"""


def test_a_plc_link_that_panics_again_and_again_shows_no_wrong_ok_and_the_line_goes_on(line: Line, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PANIC)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    line.start(["env", f"PYTHONPATH={paths}"])
    line.plc.want(40)
    line.until(lambda: line.count() >= 40)
    line.until(lambda: "its thread died of Panic: a bug in native code" in line.health()[1].get("fault", ""))
    line.judge()
    assert line.station.stop() == 6
    log = line.station.log()
    assert "cam, plc: its thread died of Panic: a bug in native code" in log
    assert "thread died: cam, plc (" in log


def test_records_first_every_told_verdict_is_in_the_database_at_that_moment(line: Line, tmp_path: Path) -> None:
    change(line, tmp_path, records="first")
    line.start()
    line.plc.want(300)
    line.until(lambda: line.count() >= 50)
    line.station.kill()  # as a power cut of the process: nothing waited in memory
    told = {entry["part"]: entry["verdict"] for entry in line.plc.log() if entry["by"] == "station"}
    kept = {row["line_part_id"]: row["verdict"] for row in line.rows()}
    assert len(told) >= 50
    assert {part: kept.get(part) for part in told} == told
