"""Dates for people, which may jump, and ages, which must not: a wrong date must never delete a record or a picture."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from edgead import _far_clock
from edgead.clock import Clock, MonotonicClock

BELIEVED = (datetime(2025, 1, 1, tzinfo=timezone.utc), datetime(2075, 1, 1, tzinfo=timezone.utc))
"""From before this edgead was made to after the last box that runs it: a clock outside is wrong, and no date is judged by it."""


def utc_now() -> datetime:
    """The machine's date and time, UTC."""
    try:
        now = datetime.now(timezone.utc)
    except OverflowError:
        now = datetime.max.replace(tzinfo=timezone.utc)
    if now.year < _far_clock.FIRST_YEAR:
        return now
    _far_clock.install()  # Python's own stands still there, or raises
    return _far_clock.utc()


def believable(now: datetime) -> bool:
    """Can this be today's date? A box whose battery is empty starts in 1970 or in whatever year its firmware likes."""
    return BELIEVED[0] <= now < BELIEVED[1]


def day(when: datetime) -> str:
    """``2026-11-29``."""
    return when.strftime("%Y-%m-%d")


def clock_says(now: datetime | None = None) -> str:
    """For whatever is refused because of a date: "this computer's clock says 2031-01-01"."""
    return f"this computer's clock says {day(now or utc_now())}"


class WallClock:
    """UTC beside the monotonic clock.

    Args:
        clock: the monotonic clock.
        utc: the machine's date; tests step it.
    """

    def __init__(self, clock: Clock | None = None, utc: Callable[[], datetime] = utc_now) -> None:
        self._clock, self._utc = clock or MonotonicClock(), utc
        self._start, self._start_ns = utc(), self._clock.now_ns()

    def now(self) -> datetime:
        """The date, right or wrong."""
        return self._utc()

    def now_ns(self) -> int:
        """The monotonic clock."""
        return self._clock.now_ns()

    def cutoff(self, age: timedelta) -> datetime:
        """What was stamped before this is older than `age`.

        A date that jumped forward since the start does not count (boxes without a battery learn the date late, and a wrong one
        would make everything old at once), nor does one that jumped back: the earlier of both clocks is taken.
        """
        elapsed = timedelta(microseconds=(self._clock.now_ns() - self._start_ns) / 1000)
        return min(self._utc(), self._start + elapsed) - age
