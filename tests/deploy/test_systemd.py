"""The unit file is one that systemd takes whole, and says what the documentation promises."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "edgead" / "deploy" / "systemd"
COMMAND = "/opt/edgead/bin/edgead run"


def settings(unit: str = "edgead.service") -> dict[str, str]:
    lines = (FOLDER / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_it_is_watched_restarted_for_ever_and_not_root() -> None:
    found = settings()
    assert (found["Type"], found["Restart"], found["StartLimitIntervalSec"], found["User"]) == ("notify", "always", "0", "edgead")
    assert float(found["WatchdogSec"]) >= 4  # the supervisor looks four times in that time, once a second
    assert found["StateDirectory"] == "edgead"
    assert found["ExecStart"].startswith(COMMAND)


def test_the_dashboard_gives_way_to_the_station_and_listens_on_this_machine_only() -> None:
    found = settings("edgead-dashboard.service")
    assert (found["User"], found["Nice"], found["OOMScoreAdjust"]) == ("edgead", "10", "500")
    assert found["ExecStart"] == "/opt/edgead/bin/edgead dashboard /etc/edgead/station.yaml"
    assert found["RuntimeDirectory"] == settings()["RuntimeDirectory"], "where they hear of each other"


@pytest.mark.parametrize("unit", ["edgead.service", "edgead-dashboard.service"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_knows_every_line(tmp_path: Path, unit: str) -> None:
    copy = tmp_path / unit
    copy.write_text((FOLDER / unit).read_text().replace("/opt/edgead/bin/edgead", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="there is no systemd-sysusers")
def test_the_account_and_its_groups_can_be_made() -> None:
    command = ["systemd-sysusers", "--dry-run", str(FOLDER / "edgead-sysusers.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Invalid" not in done.stderr and "ignoring" not in done.stderr
