"""The whole suite in two processes at once, each in a network namespace of its own where that can be had: what `make test` runs.

Most tests keep one core busy, and machines have two. What each half printed is shown when it ends. `python -m pytest` is the same
tests one after another.
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
FIRST = ("calibration", "cli", "export", "jobs", "models", "thresholds", "training")
"""Folders of the first half, about as long as the rest, with the files beside them. A new folder is in the second."""


def main() -> int:
    """1 if a half failed."""
    folders = sorted({file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("test_*.py")})
    inner = [name for name in folders if not name.endswith(".py")]
    files = [f"tests/{name}" for name in folders if name.endswith(".py")]
    first = [f"tests/{name}" for name in inner if name in FIRST] + files
    second = [f"tests/{name}" for name in inner if name not in FIRST]
    with tempfile.TemporaryDirectory() as folder:
        halves = [_start(paths, Path(folder) / name) for paths, name in ((second, "second"), (first, "first"))]
        codes = [_ended(process, log) for process, log in halves]
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
            print(f"{log.name} half: {last[0].decode(errors='replace')[-100:]}", flush=True)
    print(f"=== the {log.name} half: {'passed' if process.returncode == 0 else f'FAILED ({process.returncode})'}", flush=True)
    print(log.read_text("utf-8", errors="replace"), flush=True)
    return process.returncode


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
