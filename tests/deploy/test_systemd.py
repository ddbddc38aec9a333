"""The unit file is one that systemd takes whole, and says what the documentation promises."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "edgead" / "deploy" / "systemd"
COMMAND = "/opt/edgead/bin/edgead run"


def settings() -> dict[str, str]:
    lines = (FOLDER / "edgead.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_it_is_watched_restarted_for_ever_and_not_root() -> None:
    found = settings()
    assert (found["Type"], found["Restart"], found["StartLimitIntervalSec"], found["User"]) == ("notify", "always", "0", "edgead")
    assert float(found["WatchdogSec"]) >= 4  # the supervisor looks four times in that time, once a second
    assert found["StateDirectory"] == "edgead"
    assert found["ExecStart"].startswith(COMMAND)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_knows_every_line(tmp_path: Path) -> None:
    copy = tmp_path / "edgead.service"
    copy.write_text((FOLDER / "edgead.service").read_text().replace(COMMAND, f"{shutil.which('true')} run"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="there is no systemd-sysusers")
def test_the_account_and_its_groups_can_be_made() -> None:
    command = ["systemd-sysusers", "--dry-run", str(FOLDER / "edgead-sysusers.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Invalid" not in done.stderr and "ignoring" not in done.stderr
