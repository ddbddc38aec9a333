"""The whole suite in three processes at once, each in a network namespace of its own where that can be had: `make test`.

Most tests keep one core busy, those of the line often wait, and machines have two cores. What each part printed is shown when it
ends. `python -m pytest` is the same tests one after another.

Many tests are of real processes and real networks, and three parts on two cores starve each other now and then. A part with
failures is therefore run once more, only its failed tests and with nothing beside them: what fails again has failed, what passes
alone is named at the end, as something to look into.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "line": ("faults", "line", "runtime"),
    "export": ("calibration", "cli", "export", "jobs", "models", "thresholds", "training"),
}
"""Folders of each part, about as long as each other; the files beside them are of the second, a new folder of a third."""
FAILED = 1
"""Pytest's exit code for tests that failed; whatever else ended it is not tried again."""


def main() -> int:
    """1 if a part failed."""
    there = sorted({file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("test_*.py")})
    parts: dict[str, list[str]] = {name: [] for name in (*PARTS, "models")}
    for one in there:
        of = "export" if one.endswith(".py") else next((name for name, inner in PARTS.items() if one in inner), "models")
        parts[of].append(f"tests/{one}")
    with tempfile.TemporaryDirectory() as folder:
        running = [_start(paths, Path(folder) / name) for name, paths in parts.items()]
        codes = {log: _ended(process, log) for process, log in running}
        alone = [log for log, code in codes.items() if code == FAILED]
        for log in alone:
            codes[log] = _ended(*_start(parts[log.name], log.with_name(f"{log.name}-again"), failed_in=log.name))
    if alone and not any(codes.values()):
        print("passed only when run alone (see above): " + ", ".join(log.name for log in alone), flush=True)
    return int(any(codes.values()))


def _start(paths: list[str], log: Path, failed_in: str = "") -> tuple[subprocess.Popen[bytes], Path]:
    """`failed_in`: only what failed in the part of this name."""
    own = [f"--basetemp={log.with_suffix('.tmp')}", "-o", f"cache_dir=.pytest_cache/{failed_in or log.name}"]
    chosen = ["--last-failed", "--last-failed-no-failures=none"] if failed_in else []
    command = [sys.executable, "-m", "pytest", *paths, *own, *chosen]
    with log.open("wb") as out:
        return subprocess.Popen([*_apart(), *command], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT), log


def _apart() -> list[str]:
    """The head of a command that runs in a network namespace of its own; nothing where that cannot be had."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return []
    head = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "_"]
    return head if subprocess.run([*head, "true"], capture_output=True, check=False).returncode == 0 else []


def _ended(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait, and show what it printed; now and then how far it came, so that nobody takes it for dead."""
    told = time.monotonic()
    while process.poll() is None:
        time.sleep(1.0)
        if time.monotonic() - told > 60.0:
            told = time.monotonic()
            last = log.read_bytes().splitlines()[-1:] or [b""]
            print(f"{log.name} part: {last[0].decode(errors='replace')[-100:]}", flush=True)
    print(f"=== the {log.name} part: {'passed' if process.returncode == 0 else f'FAILED ({process.returncode})'}", flush=True)
    print(log.read_text("utf-8", errors="replace"), flush=True)
    return process.returncode


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
