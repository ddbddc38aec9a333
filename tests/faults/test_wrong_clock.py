"""A box that has lost its date: in 1970, after 2038 (32 bits of seconds), after 2262 (64 bits of nanoseconds)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edgead.cli.main import main
from tests.faults.conftest import WallClockStep
from tests.faults.line import Line, third_is_bad, write_pictures


@pytest.fixture
def clock(wall_step: WallClockStep | None) -> Iterator[WallClockStep]:
    if wall_step is None:
        pytest.skip("needs a C compiler: apt-get install gcc")
    yield wall_step
    wall_step.step_to(0)


def away(year: int) -> int:
    """Seconds from now to the beginning of that year."""
    return round((datetime(year, 1, 1, tzinfo=timezone.utc) - datetime.now(timezone.utc)).total_seconds()) + 60


@pytest.fixture
def line(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    pytest.importorskip("asyncua", reason="edgead[opcua] is not installed")
    monkeypatch.setenv("OPCUA_PASSWORD", "s3cret")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = {"type": "opcua-server", "port": probe.getsockname()[1], "user": "line7", "password": "${OPCUA_PASSWORD}"}
    served = {"name": "served", "address": "sim:fps=5", "trigger": {"source": "plc"}, "plc": server}
    pictures = write_pictures(tmp_path / "pictures", third_is_bad(900))
    line = Line(tmp_path, bundle, str(pictures), others=[served])
    yield line
    line.close()


@pytest.mark.parametrize("year", [1970, 2038, 2298])
def test_a_station_that_starts_under_a_wrong_clock_works_and_so_does_the_next_start(
    line: Line, clock: WallClockStep, year: int, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step_to(away(year))
    line.start(clock.prefix)
    line.healthy()
    line.until(lambda: line.health("served")[1]["state"] == "ready")
    assert line.station.stop() == 0
    assert {row["time"][:4] for row in line.rows()} == {str(year)}
    pictures = sorted(path.name[:4] for path in line.records.parent.glob("pictures/*.png"))
    assert pictures and set(pictures) == {str(year)}

    clock.step_to(0)
    line.station.start(clock.prefix)
    line.until_ready()
    line.until(lambda: line.give(1)[0] in ("OK", "NG"))
    line.healthy()
    line.until(lambda: line.health("served")[1]["state"] == "ready")
    assert line.station.stop() == 0
    line.judge()
    assert {row["time"][:4] for row in line.rows()} == {str(year), str(time.gmtime().tm_year)}
    log = line.station.log()
    assert "Traceback" not in log
    # A slow box is told that no client has a session yet, which may be for want of trust in the certificate that there is.
    later = [told for told in log.partition("clients must trust it")[2].splitlines() if "no client has a session" not in told]
    assert not [told for told in later if "certificate" in told]
    assert main(["records", str(line.records.parent), "--limit", "3"]) == 0
    assert "OK" in capsys.readouterr().out


def test_a_clock_that_jumps_beyond_all_dates_that_python_knows_costs_nothing(line: Line, clock: WallClockStep) -> None:
    line.start(clock.prefix)
    line.healthy()
    clock.step_to(away(2298))
    line.healthy()
    line.plc.kill()  # so that something is logged
    line.until(lambda: "2298-" in line.station.log())
    line.plc.start(start_id=line.last_id() + 100)
    line.until(lambda: line.give(1)[0] in ("OK", "NG"))
    line.healthy()
    clock.step_to(0)
    line.healthy()
    assert line.station.stop() == 0
    line.judge()
    assert {row["time"][:4] for row in line.rows()} == {"2298", str(time.gmtime().tm_year)}
    assert "Traceback" not in line.station.log()
