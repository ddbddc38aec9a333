"""The PLC processes of modbus.py, s7.py and ethernetip.py, seen from a test, and the smallest station to talk to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.waiting import JsonLines

_ROOT = Path(__file__).resolve().parents[2]


class ModbusPlc:
    """A real Modbus TCP server with a PLC's program at ``127.0.0.1:port``; its log survives whatever is done to it.

    Args:
        folder: where the log is kept.
        options: of tests/servers/modbus.py, e.g. ``answer_ms=20``.

    Attributes:
        path: of the log, one JSON object a line.
    """

    module = "tests.servers.modbus"

    def __init__(self, folder: Path, **options: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.path = folder / "plc.jsonl"
        self._lines = JsonLines(self.path)
        self._arguments = [str(self.port), str(self.path)]
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **options: float) -> None:
        """Start and wait until it listens."""
        given = {**self._options, **options}
        flags = [f"--{name.replace('_', '-')}={value:g}" for name, value in given.items()]
        command = [sys.executable, "-m", self.module, *self._arguments, *flags]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == b"ready"

    def want(self, parts: int = 1) -> None:
        """So many parts come in front of the camera, one after the other."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % parts)
        self._process.stdin.flush()

    def ask_for(self, recipe: int) -> None:
        """The product changes; logged under "recipe" with the last part that was triggered before."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(b"r%d\n" % recipe)
        self._process.stdin.flush()

    def set_threshold(self, value: float) -> None:
        """What somebody turns at the PLC's panel."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"t{value!r}\n".encode())
        self._process.stdin.flush()

    def force(self, signal_name: str, value: int | None) -> None:
        """A signal that says `value` whatever the program wants; None lets go."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{signal_name}={'' if value is None else value}\n".encode())
        self._process.stdin.flush()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and gone with all its registers; may be called twice."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def log(self, key: str = "part") -> list[dict[str, Any]]:
        """What it wrote down so far: lines with this key ("part", "ignored", "error", "heartbeat", "arrived")."""
        return [entry for entry in self._lines.read() if key in entry]

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)  # with its children


class S7Plc(ModbusPlc):
    """A real S7 server (python-snap7's) with a PLC's program in DB 7."""

    module = "tests.servers.s7"


class EtherNetIpPlc(ModbusPlc):
    """A real EtherNet/IP server (cpppo) with a PLC's program beside it."""

    module = "tests.servers.ethernetip"
