"""Runs a program for each part that is not OK: a bell, a script, a message."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from edgead.errors import BadInput, OutputError
from edgead.settings import DeviceSettings
from edgead.types import Inspection, Verdict

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings(DeviceSettings):
    """A program for each NG and UNKNOWN part (no shell; EDGEAD_* variables)."""

    type: Literal["command"] = "command"
    on_ng: str


class CommandOutput:
    """Starts `command` for each NG and UNKNOWN part and waits for it, 10 seconds at most; no shell is involved.

    The program finds EDGEAD_PART_ID, EDGEAD_VERDICT, EDGEAD_CAUSE, EDGEAD_SCORE and EDGEAD_SOURCE in its environment.

    Args:
        command: a program with arguments, split as a shell would, e.g. ``"beep -f 900"``.

    Raises:
        BadInput: empty, badly quoted, or there is no such program.
    """

    settings = CommandSettings

    def __init__(self, command: str) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise BadInput(f"the command {command!r} is badly quoted: {error}") from error
        if not self._arguments or shutil.which(self._arguments[0]) is None:
            raise BadInput(
                f"the command {command!r} names no program that can be run", hint="give a program on PATH or its full path"
            )
        self._closed = False

    def signal(self, inspection: Inspection) -> None:
        """Run the program if the part is not OK. Raises OutputError when it fails or takes too long."""
        if self._closed:
            raise OutputError("the command output is closed")
        if inspection.verdict is Verdict.OK:
            return
        facts = {
            "EDGEAD_PART_ID": str(inspection.part_id),
            "EDGEAD_VERDICT": inspection.verdict.value,
            "EDGEAD_CAUSE": inspection.cause,
            "EDGEAD_SCORE": "" if math.isnan(inspection.score) else repr(inspection.score),
            "EDGEAD_SOURCE": inspection.frame.source if inspection.frame is not None else "",
        }
        try:
            done = subprocess.run(
                self._arguments,
                env={**os.environ, **facts},
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output may carry records
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutputError(f"{self._arguments[0]} failed: {error}") from error
        if done.returncode:
            raise OutputError(f"{self._arguments[0]} ended with exit code {done.returncode}")

    def heartbeat(self) -> None:
        """Nothing: nobody watches."""

    def fail_safe(self) -> None:
        """Nothing: it asserts nothing."""

    def close(self) -> None:
        self._closed = True
