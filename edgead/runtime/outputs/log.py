"""An output for people: one line a part."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal, TextIO

from edgead.errors import OutputError
from edgead.runtime.outlet import Outlet
from edgead.settings import DeviceSettings
from edgead.types import Inspection
from edgead.words import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings(DeviceSettings):
    """A line per part on standard output."""

    type: Literal["log"] = "log"


class LogOutput:
    """Writes a line for each verdict. It asserts nothing, so its safe state is silence.

    Args:
        stream: where to; standard output by default. It is not closed.
    """

    settings = LogSettings

    def __init__(self, stream: TextIO | None = None) -> None:
        self._outlet = Outlet(stream or sys.stdout)
        self._closed = False

    def signal(self, inspection: Inspection) -> None:
        """Write the line, waiting for whoever reads it, until closed. Raises OutputError when closed or not taken."""
        try:
            if self._closed or not self._outlet.write(describe(inspection) + "\n"):
                raise OutputError("the log is closed")
        except OSError as error:
            raise OutputError(f"the log cannot be written: {error.strerror or error}") from error

    def heartbeat(self) -> None:
        """Nothing: a log is not watched."""

    def fail_safe(self) -> None:
        """Nothing: a log asserts nothing."""

    def let_go(self) -> None:
        """At a stop: whoever waits for a reader gives up."""
        self._outlet.close()

    def close(self) -> None:
        self._closed = True
        self._outlet.close()


def describe(inspection: Inspection) -> str:
    """One line for people: part, verdict, score against threshold, latency, source or cause."""
    frame = inspection.frame
    score = "-" if math.isnan(inspection.score) else f"{inspection.score:.4g}"
    total = f"{inspection.times.total_ms:8.1f} ms" if frame is not None else " " * 11
    text = f"part {inspection.part_id:>6}  {inspection.verdict.value:<7}  score {score:>8} / {inspection.threshold:.4g}  {total}"
    details = [detail for detail in (inspection.cause, frame.source if frame else "") if detail]
    return plain("  ".join([text, *details]))
