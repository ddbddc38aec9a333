"""A verb on a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import PATIENCE_S


class Terminal:
    """A verb with a terminal as its standard input; what it tells on standard error is read as it comes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._here, there = pty.openpty()
        heeds = ("env", "--default-signal=INT")  # tests that a shell started by `... &` would have it ignored
        command = [*heeds, sys.executable, "-m", "edgead.cli.main", *arguments]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        os.close(there)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stderr is not None
        end = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.process.stderr], [], [], 0.2)[0]:
                read = os.read(self.process.stderr.fileno(), 4096)
                assert read, self.seen
                self.seen += read.decode()

    def say(self, text: str) -> None:
        os.write(self._here, text.encode())

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        os.close(self._here)
        return self.process.returncode, out.decode() + self.seen + err.decode()
