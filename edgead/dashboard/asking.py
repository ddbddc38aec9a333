"""One question to the API, its values checked; and how it is refused."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from edgead.dashboard.sessions import Who

_AGO = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LONGEST_TEXT = 2000
SQL_WHOLE = 2**63 - 1
WAIT_S = 10.0


class Refused(Exception):
    """The answer is no.

    Args:
        status: of HTTP.
        words: one line.
        hint: how to mend it.
    """

    def __init__(self, status: int, words: str, hint: str = "") -> None:
        super().__init__(words)
        self.status, self.hint = status, hint


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no JSON, or sets a cookie.

    Attributes:
        body: its bytes; a text; for JSON its content; a file that is removed when it was sent.
        kind: its media type.
        cookie: to be set; "" takes it away, None leaves it.
        name: of the file that it is to be saved as; "" for none.
        part: whose picture it is.
    """

    body: Any
    kind: str = "application/json"
    cookie: str | None = None
    name: str = ""
    part: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One question.

    Attributes:
        who: asks.
        client: the address from which.
        path: what the address names.
        query: name -> values.
        body: of a change.
    """

    who: Who
    client: str
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    body: Mapping[str, Any]

    def text(self, name: str, default: str | None = None) -> str | None:
        """A value of the query; the default where there is none, or an empty one."""
        found = self.query.get(name, ())
        return found[-1][:LONGEST_TEXT] if found and found[-1] else default

    def number(self, name: str) -> float | None:
        """Raises Refused: not a finite number."""
        text = self.text(name)
        return None if text is None else _number(name, text)

    def whole(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """Raises Refused: not a whole number within bounds."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or not least <= int(text) <= most:
            raise Refused(400, f"{name} {text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    def among(self, name: str, known: Sequence[str]) -> tuple[str, ...]:
        """Values separated by commas, in the query once or several times. Raises Refused: one that is not known."""
        found = tuple(one for text in self.query.get(name, ()) for one in text.split(",") if one)
        for one in found:
            if one not in known:
                raise Refused(400, f"{name} {one[:40]!r} is not known", f"one of {', '.join(known)}")
        return found

    def moment(self, name: str, now: datetime) -> str | None:
        """A date or an age (``7d``) as records hold dates. Raises Refused."""
        text = self.text(name)
        if text is None:
            return None
        try:
            if match := _AGO.fullmatch(text):
                when = now - timedelta(**{_UNITS[match[2]]: int(match[1])})
            else:
                when = datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
                when = when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)
            return when.astimezone(timezone.utc).isoformat(timespec="milliseconds")
        except (ValueError, OverflowError) as error:
            raise Refused(
                400, f"{name} {text[:40]!r} is not a date", "2026-11-22, 2026-11-22T06:30 (UTC), 90m, 12h or 7d"
            ) from error

    def given(self, name: str, longest: int = LONGEST_TEXT) -> str:
        """A text of the body, "" where there is none. Raises Refused: it is none, or longer."""
        found = self.body.get(name)
        if found is None:
            return ""
        if not isinstance(found, str) or len(found) > longest:
            raise Refused(400, f"{name} is a text of at most {longest} characters")
        return found

    def given_number(self, name: str) -> float:
        """A number of the body. Raises Refused."""
        found = self.body.get(name)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise Refused(400, f"{name} is a number")
        return _number(name, found)

    def given_whole(self, name: str) -> int:
        """A whole number of the body. Raises Refused."""
        found = self.body.get(name)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= SQL_WHOLE:
            raise Refused(400, f"{name} is a whole number")
        return found


@contextmanager
def at_most(places: threading.Semaphore, words: str) -> Iterator[None]:
    """What costs much, only so often at once. Raises Refused."""
    if not places.acquire(timeout=WAIT_S):
        raise Refused(429, words, "try again in a moment")
    try:
        yield
    finally:
        places.release()


def _number(name: str, given: Any) -> float:
    try:
        value = float(given)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise Refused(400, f"{name} {str(given)[:40]!r} is not a finite number")
    return value
