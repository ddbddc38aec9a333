"""For a wall clock beyond the year 2262, where Python's own ends: 2**63 nanoseconds. There datetime.now() stands still, and
time.time(), so even ``import logging``, raises OverflowError: a station would not start because its box lost the date.

`edgead/__init__.py` installs it before anything else is imported, when the clock says so; what works while the clock may step
(:mod:`edgead.runtime.records.wallclock`, the log) turns to it when it must.
"""

from __future__ import annotations

import ctypes
import datetime
import time

FIRST_YEAR = 2262
_NS = 10**9
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_Real = datetime.datetime


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_long))


def time_ns() -> int:
    """As :func:`time.time_ns`, for any clock."""
    now = _Timespec()
    ctypes.CDLL(None).clock_gettime(time.CLOCK_REALTIME, ctypes.byref(now))
    return int(now.seconds) * _NS + int(now.nanoseconds)


def utc() -> datetime.datetime:
    """As ``datetime.now(timezone.utc)``, for any clock before the year 10000."""
    return _EPOCH + datetime.timedelta(microseconds=time_ns() // 1000)


class _Kind(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, _Real)


class _Datetime(_Real, metaclass=_Kind):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _Datetime:
        found = utc().astimezone(tz)
        return cls.combine(found.date(), found.timetz() if tz is not None else found.time())

    @classmethod
    def utcnow(cls) -> _Datetime:
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

    @classmethod
    def today(cls) -> _Datetime:
        return cls.now()


def install() -> None:
    """Replace what overflows, for all modules that look for it from now on; may be called twice."""
    time.time, time.time_ns = (lambda: time_ns() / _NS), time_ns
    datetime.datetime = _Datetime  # type: ignore[misc]
