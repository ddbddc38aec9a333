"""One station, and one fault of its PLC, its disk or its clock after the other; after each, parts get what they deserve."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgead.runtime.plc.signals import Fault
from tests.faults.conftest import WallClockStep
from tests.faults.line import LATE_S, Line, third_is_bad, wait, write_pictures
from tests.runtime.disks import fill

PICTURES = 2500
PLC_LOST_S = 1.2  # twice what the station grants


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path, disk: Path | None, wall_step: WallClockStep | None
) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    pictures = write_pictures(folder / "pictures", third_is_bad(PICTURES))
    line = Line(folder, bundle, str(pictures), records=disk, plc={"in_flight": 2})
    try:
        line.start(wall_step.prefix if wall_step else ())
        yield line
    finally:
        line.close()


@pytest.fixture
def line(running: Line) -> Iterator[Line]:
    running.healthy()
    yield running
    running.healthy()
    running.judge()


def test_a_plc_that_stands_still_for_a_moment_loses_nothing(line: Line) -> None:
    before = line.count()
    line.plc.want(60)
    for pause_s in (0.05, 0.15, 0.3):
        line.plc.pause()
        wait(pause_s)
        line.plc.resume()
        wait(0.1)
    line.until(lambda: line.count() >= before + 60)
    told = line.plc.log()[before:]
    assert len(told) == 60
    assert sum(entry["verdict"] != "UNKNOWN" for entry in told) >= 40


def test_a_plc_that_stands_still_for_long_gets_unknown_for_what_was_in_work(line: Line) -> None:
    before = line.count()
    line.plc.want(40)
    line.until(lambda: line.count() >= before + 5)
    line.plc.pause()
    wait(PLC_LOST_S)
    line.plc.resume()
    line.until(lambda: line.count() >= before + 40)
    assert len(line.plc.log()[before:]) == 40
    line.until(lambda: {"error": Fault.PLC_LOST} in line.plc.log("error"))


def test_a_plc_that_is_killed_and_started_again_is_served_again(line: Line) -> None:
    for _ in range(2):
        before = line.count()
        line.plc.want(1000)
        line.until(lambda before=before: line.count() >= before + 5)  # type: ignore[misc]
        line.plc.kill()
        first = line.last_id() + 100
        line.plc.start(start_id=first)
        line.give(10)
        assert [entry["part"] for entry in line.plc.log() if entry["part"] > first] == list(range(first + 1, first + 11))


def test_a_slow_plc_gets_every_verdict(line: Line) -> None:
    line.plc.kill()
    line.plc.start(answer_ms=25, cycle_ms=40, start_id=line.last_id() + 100)
    told = line.give(5)
    assert all(word in ("OK", "NG") for word in told)
    line.plc.kill()
    line.plc.start(start_id=line.last_id() + 100)


def test_a_plc_that_answers_too_slowly_gets_no_ok(line: Line) -> None:
    line.plc.kill()
    before = line.count()
    line.plc.start(answer_ms=500, start_id=line.last_id() + 100)
    line.plc.want(3)
    wait(1.5)
    assert not [entry for entry in line.plc.log()[before:] if entry["verdict"] == "OK"]
    line.plc.kill()
    line.plc.start(start_id=line.last_id() + 200)


def test_a_station_that_was_stood_still_gives_no_verdict_from_before(line: Line) -> None:
    before = line.count()
    line.plc.want(30)
    line.until(lambda: line.count() >= before + 5)
    line.station.signal(signal.SIGSTOP)
    wait(LATE_S + 0.1)  # what was in work has become late, and the PLC still waits for it
    assert line.plc.log("heartbeat")[-1] == {"heartbeat": False}
    line.station.signal(signal.SIGCONT)
    line.until(lambda: line.count() >= before + 30)
    assert len(line.plc.log()[before:]) == 30


def test_a_full_disk_costs_pictures_and_no_verdicts(line: Line, disk: Path | None) -> None:
    if disk is None:
        pytest.skip("mounting a small disk needs Linux and root")
    filler = fill(disk)
    told = line.give(60)
    assert all(word in ("OK", "NG") for word in told)
    assert line.health()[0]
    line.until(lambda: "full" in line.station.log())
    filler.unlink()
    line.judge()  # the records that waited come, too


def test_a_wall_clock_that_is_stepped_changes_nothing_but_dates(line: Line, wall_step: WallClockStep | None) -> None:
    if wall_step is None:
        pytest.skip("stepping the clock of one process needs a C compiler")
    seen = len(line.rows())
    years = 365 * 86400
    for skew_s in (2 * years, -3 * years, 0):
        wall_step.step_to(skew_s)
        told = line.give(12)
        assert all(word in ("OK", "NG") for word in told)
        assert line.health()[0]
    line.judge()
    rows = line.rows()[seen:]
    assert {row["time"][:4] for row in rows} >= {str(int(rows[-1]["time"][:4]) + years) for years in (2, -3)}
    assert [row["part_id"] for row in rows] == sorted(row["part_id"] for row in rows)
    recorded = [row["recorded_ns"] for row in rows]
    assert recorded == sorted(recorded)
