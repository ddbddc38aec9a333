"""Logs of a process that runs for weeks: one line a record, no secrets, and a flood becomes "repeated N times".

A line begins with the camera or part whose crew (:mod:`edgead.runtime.threads`) it comes from. An error that is an argument of a
log call (``_log.warning("camera lost: %s", fault)``) is shown with its hint, in one line.
"""

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
from typing import Any, Literal, TextIO, TypeGuard

from edgead import _far_clock
from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput
from edgead.runtime.outlet import Outlet
from edgead.runtime.redact import redact_text
from edgead.runtime.threads import Crew
from edgead.runtime.worker import Worker
from edgead.words import LONGEST, hide, plain, short, told

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
BURST = 5  # equal records that pass in a window
WIDE_BURST = 20  # and of one device in one place of the program, whatever they say
WINDOW_S = 60.0
KEYS = 1000  # keys that are remembered
CLOSE_S = 2.0  # how long an end waits for whoever reads the log
LONGEST_TRACE = 8000  # characters; of a longer one the end is shown, which says what happened
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
        message = short(self._clean(_message(record)), LONGEST)
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
        return self._clean("\n".join(filter(None, (trace, stack)))[-LONGEST_TRACE:])

    def _time(self, record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return plain(redact_text(hide(text)))


def _where(record: logging.LogRecord) -> str:
    """The camera or part that a record is about: that of the thread that made it."""
    where: str = getattr(record, "where", Crew.current().name)
    return where


def _message(record: logging.LogRecord) -> str:
    """What a record says, errors with their hints, after the camera that it is about."""
    arguments = record.args
    if isinstance(arguments, tuple):
        arguments = tuple(told(value) if isinstance(value, BaseException) else value for value in arguments)
    try:
        text = str(record.msg) % arguments if arguments else str(record.msg)
    except Exception as error:  # noqa: BLE001 - a wrong call of the log must not end the thread that made it
        text = f"{record.msg} {tuple(map(type, arguments or ()))} ({error})"
    where = _where(record)
    return f"{where}: {text}" if where and not text.startswith((f"{where}: ", f"{where}, ")) else text


@dataclass(slots=True)
class _Seen:
    name: str
    level: int
    burst: int
    begun_ns: int
    count: int = 0
    last: str = ""

    @property
    def held_back(self) -> int:
        return max(0, self.count - self.burst)


class FloodGate(logging.Filter):
    """Lets the first 5 equal records pass in each minute, and the first 20 of one device from one place of the program.

    Equal is what has the same logger, level and text but for numbers that are arguments of their own; a device is the camera
    that a record is about with the first argument that is a text. What was held back is told with the next one that passes,
    or when the minute is over (`due`). Critical records always pass.

    Args:
        burst, window_s: as many in so many seconds.
        clock: monotonic.
    """

    def __init__(self, burst: int = BURST, window_s: float = WINDOW_S, clock: Clock | None = None) -> None:
        super().__init__()
        self._burst, self._window_ns, self._clock = burst, round(window_s * 1e9), clock or MonotonicClock()
        self._seen: OrderedDict[tuple[object, ...], _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """May it pass? A passing record's message may get a remark."""
        if record.levelno >= logging.CRITICAL:
            return True
        text = _message(record)
        texts = [str(value) for value in record.args if not isinstance(value, (int, float))] if _many(record.args) else []
        place = (record.name, record.levelno, _where(record), str(record.msg)[:200])
        with self._lock:
            now_ns = self._clock.now_ns()
            equal = self._count(("equal", *place, *(each[:200] for each in texts)), record, text, self._burst, now_ns)
            if equal is None:
                return False
            alike = self._count(("device", *place, texts[0][:200] if len(texts) > 1 else ""), record, text, WIDE_BURST, now_ns)
        if alike is None:
            return False
        if equal or alike:
            record.msg, record.args = f"{text} (repeated {equal or alike} more times since)", ()
        return True

    def due(self) -> list[logging.LogRecord]:
        """A record for each key whose minute is over and of which some were held back since; they begin anew."""
        with self._lock:
            now_ns = self._clock.now_ns()
            over = [key for key, seen in self._seen.items() if seen.held_back and now_ns - seen.begun_ns >= self._window_ns]
            return [_remark(self._seen.pop(key)) for key in over]

    def leftovers(self) -> list[logging.LogRecord]:
        """A record for each key of which some were held back and none has passed since; forgets all."""
        with self._lock:
            seen, self._seen = self._seen, OrderedDict()
        return [_remark(each) for each in seen.values() if each.held_back]

    def _count(self, key: tuple[object, ...], record: logging.LogRecord, text: str, burst: int, now_ns: int) -> int | None:
        """None: hold it back; else how many were held back since the last that passed."""
        seen = self._seen.setdefault(key, _Seen(record.name, record.levelno, burst, now_ns))
        self._seen.move_to_end(key)
        if len(self._seen) > KEYS:
            self._seen.popitem(last=False)
        held_back = 0
        if now_ns - seen.begun_ns >= self._window_ns:
            held_back = seen.held_back
            seen.begun_ns, seen.count = now_ns, 0
        seen.count, seen.last = seen.count + 1, text
        return None if seen.held_back else held_back


def _many(arguments: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(arguments, tuple) and bool(arguments)


def _remark(seen: _Seen) -> logging.LogRecord:
    text = f"{seen.last} (repeated {seen.held_back} more times)"
    record = logging.LogRecord(seen.name, seen.level, "", 0, "%s", (text,), None)
    record.where = ""  # it is in the text
    return record


class _Lines(logging.Handler):
    """Writes on a thread of its own: a reader of our output that hangs must not stop the loop, nor its end. Lines that wait are
    bounded; how many were lost is told as soon as somebody reads again."""

    def __init__(self, stream: TextIO, gate: FloodGate) -> None:
        super().__init__()
        self._outlet = Outlet(stream)
        self._lost = 0
        self._gate = gate
        self.addFilter(gate)
        self._worker: Worker[str] = Worker("log", self._write, capacity=WAITING, on_error=self._failed)

    def emit(self, record: logging.LogRecord) -> None:
        for told_later in (*self._gate.due(), record):
            if not self._worker.put(self.format(told_later)):
                self._lost += 1

    def close(self) -> None:
        """Write what was held back and what waits, for two seconds at most; a reader that stands still then misses it."""
        for record in self._gate.leftovers():
            self._worker.put(self.format(record))
        if not self._worker.finished(CLOSE_S):
            self._outlet.close()
        self._worker.close(CLOSE_S)
        self._outlet.close()
        super().close()

    def _write(self, line: str) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            text = f"{lost} lines were lost here: nobody read them in time"
            line = self.format(logging.LogRecord("edgead.logs", logging.WARNING, "", 0, text, (), None)) + "\n" + line
        if not self._outlet.write(line + "\n"):
            self._lost += lost + 1

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
    handler = _Lines(stream, FloodGate(clock=clock))
    handler.setFormatter(Formatter(form, secrets))
    root = logging.getLogger()
    before = root.level, root.handlers[:], threading.excepthook
    root.setLevel(LEVELS[level])
    root.handlers[:] = [handler]
    threading.excepthook = _log_thread_death
    made_before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_record)
    try:
        yield
    finally:
        handler.close()
        logging.setLogRecordFactory(made_before)
        root.setLevel(before[0])
        root.handlers[:], threading.excepthook = before[1], before[2]


def _record(*args: Any, **values: Any) -> logging.LogRecord:
    """A record, also when the wall clock has jumped to where Python cannot tell the time."""
    try:
        return logging.LogRecord(*args, **values)
    except OverflowError:
        _far_clock.install()
        return logging.LogRecord(*args, **values)


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
