"""Rates, bands, areas and regions as people write them; what cannot be understood is a ValueError with the whole message."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.decision import Region

MOST_DIGITS = 18
"""Of a number of map pixels."""

Band = float | tuple[float, float] | str
"""An UNKNOWN band: a rate, from and to, ``"rates"`` (between two rates) or ``"none"``."""


def rate(text: str) -> float:
    """``"0.1%"`` or ``"0.001"``."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        percent = f"; for {text} percent write {text}%" if 1.0 <= value < 100.0 and not text.endswith("%") else ""
        raise ValueError(f"{text!r} is not a rate above 0 and below 1 (0.001 or 0.1%){percent}")
    return value


def band(text: str) -> Band:
    """``"5%"``, ``"2.1:2.6"``, ``"rates"`` or ``"none"``."""
    if text in ("rates", "none"):
        return text
    low, colon, high = text.partition(":")
    if not colon:
        return rate(text.replace(" ", ""))
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise ValueError(f"{text!r} is not LOW:HIGH, two numbers, the lower first")
    return ends


def area(text: str) -> int | float:
    """``"12"`` map pixels, or a share of the map, ``"0.5%"`` or ``"0.005"``."""
    if re.fullmatch(r"[+-]?[0-9]+", text):
        if len(text) > MOST_DIGITS or int(text) < 1:
            raise ValueError(f"{text[:80]!r} is not an area of 1 map pixel or more")
        return int(text)
    return rate(text)


def region(text: str) -> Region | None:
    """``"include=x,y,w,h"``, ``"exclude=x,y,x,y,x,y"``, with ``"@THRESHOLD"``, or ``"none"``. Raises BadInput, too."""
    from edgead.decision import Region

    if text == "none":
        return None
    kind, _, rest = text.partition("=")
    numbers, own, level = rest.partition("@")
    try:
        values = [float(v) for v in numbers.split(",")]
        threshold = float(level) if own else None
    except ValueError:
        values, threshold = [], None
    if kind not in ("include", "exclude") or len(values) < 4 or len(values) % 2:
        raise ValueError(
            f"{text!r} is not include= or exclude= and x,y,width,height or the corners x,y of a polygon, from 0 to 1"
        )
    try:
        if len(values) == 4:
            x, y, width, height = values
            return Region.rectangle(x, y, width, height, kind == "include", threshold)
        return Region(tuple(zip(values[::2], values[1::2], strict=True)), kind == "include", threshold)
    except BadInput as error:
        raise BadInput(f"{text!r}: {error}", hint=error.hint) from error
