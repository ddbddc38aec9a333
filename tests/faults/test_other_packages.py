"""Outputs of other packages that are broken: their lane says so, or the file is refused; they never end as a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.waiting import PATIENCE_S

OTHERS = """
class Panic(BaseException):
    pass

class Kept:
    def __init__(self, relay=1):
        {body}
    def signal(self, inspection): pass
    def heartbeat(self): pass
    def fail_safe(self): pass
    def close(self): pass

def nothing():
    return None

class Odd:
    live = True
    def __init__(self, rest, clock): pass
    def grab(self, timeout_s):
        import time
        from edgead.types import Frame
        time.sleep(0.05)
        self.count = getattr(self, "count", 0) + 1
        return Frame([1, 2], "odd", self.count, time.monotonic_ns())
    def close(self): pass
"""


def run(
    folder: Path, bundle: Path, body: str, name: str = "kept", right: str = "sim:fps=20", **options: object
) -> subprocess.CompletedProcess[str]:
    """Three parts of two cameras, the first with the output `name` of another package."""
    (folder / "theirs.py").write_text(OTHERS.format(body=body))
    about = folder / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[edgead.outputs]\nkept = theirs:Kept\nnothing = theirs:nothing\ngone = not_installed:Kept\n"
        "[edgead.cameras]\nodd = theirs:Odd\n"
    )
    plain = {"bundle": str(bundle), "address": "sim:fps=20", "budget_ms": 2000, "selfcheck": None, "drift": None}
    other = {"type": "other", "name": name, "options": options}
    cameras = [{"name": "left", "outputs": [other], **plain}, {"name": "right", **plain, "address": right}]
    (folder / "station.yaml").write_text(yaml.safe_dump({"name": "s", "cameras": cameras, "supervision": {"http": None}}))
    return subprocess.run(
        [sys.executable, "-m", "edgead", "run", str(folder / "station.yaml"), "--max-parts", "3"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))},
        capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no relay')", "ValueError: no relay"),
        ("raise Panic('native code')", "Panic: native code"),
        ("raise SystemExit(9)", "SystemExit: 9"),
        ("raise OSError(19, 'No such device')", "No such device"),
    ],
)
def test_an_output_that_breaks_as_it_is_opened_costs_its_own_lane(tmp_path: Path, bundle: Path, body: str, says: str) -> None:
    done = run(tmp_path, bundle, body)
    assert f"left: output kept: output kept cannot be opened: {says}; it is tried again" in done.stderr
    assert "left: 3 parts" in done.stderr and "right: 3 parts" in done.stderr
    assert "failed: (3 kept)" in done.stderr
    assert done.returncode == 0


def test_a_camera_whose_pictures_are_none_is_told_in_the_log_and_not_only_in_the_records(tmp_path: Path, bundle: Path) -> None:
    done = run(tmp_path, bundle, "pass", right="odd:")
    told = [line for line in done.stderr.splitlines() if "right: answers: parts are UNKNOWN: bad_frame: " in line]
    assert len(told) == 1 and "look at: the camera's pictures" in told[0], done.stderr
    assert "right: 3 parts: 0 OK, 0 NG, 3 UNKNOWN (3 bad_frame)" in done.stderr


def test_an_output_that_hangs_as_it_is_opened_costs_its_own_lane_and_keeps_no_start_waiting(tmp_path: Path, bundle: Path) -> None:
    done = run(tmp_path, bundle, "import time; time.sleep(600)")
    assert "left: output kept: output kept does not open in time" in done.stderr
    assert "left: 3 parts" in done.stderr and "right: 3 parts" in done.stderr
    assert "failed: (3 kept)" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "status", "says"),
    [
        ("kept", {"realy": 2}, 2, "output 'kept' does not take these options: got an unexpected keyword argument 'realy'"),
        ("nothing", {}, 2, "output 'nothing' gave NoneType, which is no output: it has no signal"),
        ("gone", {}, 5, "output 'gone' cannot be loaded from not_installed:Kept: ModuleNotFoundError"),
    ],
)
def test_a_wrong_output_of_another_package_ends_the_start_in_one_line(
    tmp_path: Path, bundle: Path, name: str, options: dict[str, object], status: int, says: str
) -> None:
    done = run(tmp_path, bundle, "pass", name, **options)
    assert done.returncode == status
    assert done.stderr.startswith(f"edgead run: {says}") and len(done.stderr.splitlines()) == 2, done.stderr
