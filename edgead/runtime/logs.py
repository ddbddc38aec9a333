"""Logs of a process that runs for weeks: one line a record, no secrets, and a flood becomes "repeated N times"."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, TextIO

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput
from edgead.runtime.redact import redact_text
from edgead.runtime.worker import Worker

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
BURST = 5  # records of one key that pass in a window
WINDOW_S = 60.0
KEYS = 1000  # keys that are remembered
WAITING = 1000  # lines that wait for a slow reader; then the oldest is lost

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # sd-daemon(3)


class Formatter(logging.Formatter):
    """Makes one line of a record, and hides secrets in all of it, exceptions included.

    Args:
        form: "text" for people (lines after the first are indented, so none can pose as a record), "json" for machines (one
            object: time, level, logger, message, thread, and where there is one, exception), or "journal": as text without the
            time, each line with journald's priority (``<3>``).
        secrets: values that are hidden wherever they appear.
    """

    def __init__(self, form: Literal["text", "json", "journal"] = "text", secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._form = form
        self._secrets = sorted((secret for secret in secrets if secret), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The line, without an end."""
        message = self._clean(record.getMessage())
        trace = self._trace(record)
        if self._form == "json":
            return self._json(record, message, trace)
        lines = "\n".join(filter(None, (f"{record.levelname} {record.name}: {message}", trace))).splitlines()
        if self._form == "journal":
            priority = f"<{_PRIORITY.get(record.levelno, 6)}>"
            return "\n".join(f"{priority}{'    ' if number else ''}{line}" for number, line in enumerate(lines))
        return f"{self._time(record)} " + "\n    ".join(lines)

    def _json(self, record: logging.LogRecord, message: str, trace: str) -> str:
        values = {
            "time": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            "thread": record.threadName,
        }
        if trace:
            values["exception"] = trace
        return json.dumps(values, ensure_ascii=False)

    def _trace(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else record.exc_text or ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return self._clean("\n".join(filter(None, (trace, stack))))

    def _time(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact_text(text)


@dataclass(slots=True)
class _Seen:
    begun_ns: int
    count: int = 0


class FloodGate(logging.Filter):
    """Lets the first 5 records of a key pass in each minute; what was held back is told with the next one that passes.

    The key is logger, level and the message before its arguments are filled in. Critical records always pass.

    Args:
        burst, window_s: as many in so many seconds.
        clock: monotonic.
    """

    def __init__(self, burst: int = BURST, window_s: float = WINDOW_S, clock: Clock | None = None) -> None:
        super().__init__()
        self._burst, self._window_ns, self._clock = burst, round(window_s * 1e9), clock or MonotonicClock()
        self._seen: OrderedDict[tuple[str, int, str], _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """May it pass? A passing record's message may get a remark."""
        if record.levelno >= logging.CRITICAL:
            return True
        key = (record.name, record.levelno, str(record.msg)[:200])
        with self._lock:
            held_back = self._count(key)
        if held_back is None:
            return False
        if held_back:
            record.msg, record.args = f"{record.getMessage()} (repeated {held_back} more times since)", ()
        return True

    def leftovers(self) -> list[logging.LogRecord]:
        """A record for each key of which some were held back and none has passed since; forgets all."""
        with self._lock:
            seen, self._seen = self._seen, OrderedDict()
        return [
            logging.LogRecord(name, level, "", 0, f"{text} (repeated {s.count - self._burst} more times)", (), None)
            for (name, level, text), s in seen.items()
            if s.count > self._burst
        ]

    def _count(self, key: tuple[str, int, str]) -> int | None:
        """None: hold it back; else how many were held back since the last that passed."""
        now_ns = self._clock.now_ns()
        seen = self._seen.setdefault(key, _Seen(now_ns))
        self._seen.move_to_end(key)
        if len(self._seen) > KEYS:
            self._seen.popitem(last=False)
        held_back = 0
        if now_ns - seen.begun_ns >= self._window_ns:
            held_back = max(0, seen.count - self._burst)
            seen.begun_ns, seen.count = now_ns, 0
        seen.count += 1
        return None if seen.count > self._burst else held_back


class _Lines(logging.Handler):
    """Writes on a thread of its own: a reader of our output that hangs must not stop the loop. Lines that wait are bounded."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._worker: Worker[str] = Worker("log", self._write, capacity=WAITING, on_error=self._failed)

    def emit(self, record: logging.LogRecord) -> None:
        self._worker.put(self.format(record))

    def close(self) -> None:
        """Write what waits, for two seconds at most."""
        self._worker.close(2.0)
        super().close()

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _failed(self, error: BaseException) -> None:
        """Where the log itself cannot be written there is nobody to tell."""


@contextmanager
def logging_to(
    stream: TextIO | None = None,
    *,
    level: str = "info",
    form: Literal["auto", "text", "json", "journal"] = "auto",
    secrets: Sequence[str] = (),
    clock: Clock | None = None,
) -> Iterator[None]:
    """Log everything there while the block runs (default: standard error), and threads that die of an exception, too.

    Args:
        stream: where to.
        level: "debug", "info", "warning" or "error".
        form, secrets: as of :class:`Formatter`; "auto" is "journal" where journald reads the stream, else "text".
        clock: of the flood gate.

    Raises:
        BadInput: no such level or form.
    """
    if level not in LEVELS or form not in ("auto", "text", "json", "journal"):
        raise BadInput(f"no logs of level {level!r} in form {form!r}", hint=f"{', '.join(LEVELS)}; auto, text, json, journal")
    stream = stream or sys.stderr
    if form == "auto":
        form = "journal" if _is_journal(stream) else "text"
    handler = _Lines(stream)
    gate = FloodGate(clock=clock)
    handler.setFormatter(Formatter(form, secrets))
    handler.addFilter(gate)
    root = logging.getLogger()
    before = root.level, root.handlers[:], threading.excepthook
    root.setLevel(LEVELS[level])
    root.handlers[:] = [handler]
    threading.excepthook = _log_thread_death
    try:
        yield
    finally:
        handler.removeFilter(gate)
        for record in gate.leftovers():
            handler.handle(record)
        handler.close()
        root.setLevel(before[0])
        root.handlers[:], threading.excepthook = before[1], before[2]


def _is_journal(stream: TextIO) -> bool:
    """Does journald read this stream? (systemd.exec(5), ``$JOURNAL_STREAM``: device and inode.)"""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a file
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{there.st_dev}:{there.st_ino}"


def _log_thread_death(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread else "?"
    logging.getLogger("edgead").critical("thread %s died", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
