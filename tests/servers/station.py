"""``edgead run station.yaml`` as a process of its own, seen from a test."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.waiting import PATIENCE_S

_ROOT = Path(__file__).resolve().parents[2]


class StationProcess:
    """A real station, started from a file that is written into `folder`; its log is ``folder/station.log``.

    Args:
        folder: of the file and the log, and where relative paths in the configuration begin.
        config: the content of station.yaml.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "station.yaml").write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, prefix: Sequence[str] = (), *, terminal: int | None = None) -> None:
        """Start; ready only when a PLC or a probe says so. `prefix`: a program that runs it (``nice``, ``chrt``).

        `terminal`: what standard input, output and error are, instead of nothing and the log.
        """
        command = [*prefix, sys.executable, "-m", "edgead.cli.main", "run", str(self.folder / "station.yaml")]
        with (self.folder / "station.log").open("ab") as log:
            where = (subprocess.DEVNULL, log, log) if terminal is None else (terminal,) * 3
            self._process = subprocess.Popen(command, cwd=_ROOT, stdin=where[0], stdout=where[1], stderr=where[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that it wrote to standard output and error."""
        return (self.folder / "station.log").read_text()

    def usage(self) -> tuple[int, int, int]:
        """Resident bytes, threads and open files."""
        process = psutil.Process(self.pid)
        with process.oneshot():
            return process.memory_info().rss, process.num_threads(), process.num_fds()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, once it ends by itself."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL; may be called twice, and after `stop`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
