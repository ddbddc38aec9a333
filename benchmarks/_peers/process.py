"""The other side: anomalib's worker process in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).with_name("worker.py")


class WorkerFailed(Exception):
    """A request failed on the other side, or the process ended; the message says which and why."""


class Worker:
    """One worker process. Its own output goes to `log`.

    Args:
        python: the environment's interpreter.
        folder: where it runs: OpenVINO's cache and Lightning's logs land there.
        log: file that its standard error is appended to.
        script: what it runs.
    """

    def __init__(self, python: Path, folder: Path, log: Path, script: Path = WORKER) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a", encoding="utf-8")
        quiet = {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": ""}
        self._process = subprocess.Popen(
            [str(python), "-u", str(script.resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            cwd=folder, env={**os.environ, **quiet}, text=True, encoding="utf-8",
        )  # fmt: skip

    def ask(self, do: str, **what: Any) -> Any:
        """One request and its answer.

        Raises:
            WorkerFailed: it said so, or ended without an answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"do": do, **{key: str(value) if isinstance(value, Path) else value for key, value in what.items()}}
        with suppress(BrokenPipeError):  # the missing answer tells it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{do}: the worker ended with exit code {self._process.wait()}; see {self._log.name}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{do}: {answer['error']}; see {self._log.name}")
        return answer["did"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended by itself, with a request unread
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
