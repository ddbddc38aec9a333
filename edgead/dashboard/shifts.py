"""Shifts: at which time of day each begins, by the clock of this box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from edgead.errors import BadInput

_ONE = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])=([^,=]{1,40})")


@dataclass(frozen=True, slots=True)
class Shift:
    """One of them.

    Attributes:
        minute: of the day at which it begins.
        name: for people; "" where the day is not divided.
    """

    minute: int
    name: str


WHOLE_DAY = (Shift(0, ""),)


def shifts_of(text: str) -> tuple[Shift, ...]:
    """``06:00=early,14:00=late,22:00=night``. Raises BadInput."""
    found = []
    for one in text.split(","):
        if (match := _ONE.fullmatch(one.strip())) is None:
            raise BadInput(f"shift {one.strip()[:40]!r} is not usable", hint="like 06:00=early,14:00=late,22:00=night")
        found.append(Shift(60 * int(match[1]) + int(match[2]), match[3].strip()))
    if len({shift.minute for shift in found}) < len(found):
        raise BadInput("two shifts begin at the same time", hint="like 06:00=early,14:00=late,22:00=night")
    return tuple(sorted(found, key=lambda shift: shift.minute))


def shift_at(shifts: Sequence[Shift], when: datetime) -> str:
    """``2026-11-30 early``: the day on which the shift began, and its name."""
    local = when.astimezone()
    minute = 60 * local.hour + local.minute
    begun = [shift for shift in shifts if shift.minute <= minute]
    shift, day = (begun[-1], local) if begun else (shifts[-1], local - timedelta(days=1))
    return f"{day:%Y-%m-%d} {shift.name}".strip()


def parsed(time: str) -> datetime | None:
    """A record's time; None: it is none."""
    try:
        found = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
