"""Pictures that carry the time at which they were made: 16 bright or dark blocks along the top, the most significant first.

Plain Python: the system's interpreter, which runs the RTSP server, has no NumPy.
"""

from __future__ import annotations

import time

BITS = 16
BLOCK = 20
"""Pixels of a block, each way."""
WIDTH, HEIGHT = BITS * BLOCK, 4 * BLOCK
DARK, GREY, BRIGHT = 24, 96, 224


def now() -> int:
    """Centiseconds of the monotonic clock, which all processes of a machine share; begins anew every 11 minutes."""
    return int(time.monotonic() * 100) & (2**BITS - 1)


def rows(stamp: int) -> tuple[bytes, bytes]:
    """A row of pixels with the blocks of `stamp`, and one of those below: grey."""
    bits = ((stamp >> (BITS - 1 - i)) & 1 for i in range(BITS))
    return b"".join(bytes([BRIGHT if bit else DARK]) * BLOCK for bit in bits), bytes([GREY]) * WIDTH


def read(levels: list[float]) -> int:
    """The stamp, from the brightness of each block."""
    stamp = 0
    for level in levels:
        stamp = stamp << 1 | (level > (DARK + BRIGHT) / 2)
    return stamp


def seconds_before(stamp: int, at_ns: int) -> float:
    """How long before a moment of the monotonic clock, which must be less than 5 minutes away, the stamp was made."""
    half = 2 ** (BITS - 1)
    return ((at_ns // 10_000_000 - stamp + half) % 2**BITS - half) / 100
