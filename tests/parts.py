"""The whole suite in three processes at once, each in a network namespace of its own where that can be had: `make test`.

Most tests keep one core busy, those of the line often wait, and machines have two cores. What each part printed is shown when it
ends. `python -m pytest` is the same tests one after another.
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


def main() -> int:
    """1 if a part failed."""
    there = sorted({file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("test_*.py")})
    parts: dict[str, list[str]] = {name: [] for name in (*PARTS, "models")}
    for one in there:
        of = "export" if one.endswith(".py") else next((name for name, inner in PARTS.items() if one in inner), "models")
        parts[of].append(f"tests/{one}")
    with tempfile.TemporaryDirectory() as folder:
        running = [_start(paths, Path(folder) / name) for name, paths in parts.items()]
        codes = [_ended(process, log) for process, log in running]
    return int(any(codes))


def _start(paths: list[str], log: Path) -> tuple[subprocess.Popen[bytes], Path]:
    own = [f"--basetemp={log.with_suffix('.tmp')}", "-o", f"cache_dir=.pytest_cache/{log.name}"]
    command = [sys.executable, "-m", "pytest", *paths, *own]
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
