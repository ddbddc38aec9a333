"""Is a JPEG file whole? OpenCV before 4.11 (those of distributions: docs/devices/rtsp.md) takes a cut one and fills what is
missing: a defect in the missing rows would be OK."""

from __future__ import annotations

START, SCAN, END = b"\xff\xd8", 0xDA, b"\xff\xd9"
BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length: TEM, RST0 to RST7, SOI (ITU-T T.81, table B.1)."""


def is_cut_short(data: bytes | memoryview) -> bool:
    """Does this JPEG end before its end-of-image marker? False for everything that is no JPEG.

    Segments are walked to the first scan, so that the marker of a thumbnail inside them is not taken for the picture's; what some
    cameras append behind it does no harm (ITU-T T.81, B.1.1).
    """
    whole = bytes(data)
    if not whole.startswith(START):
        return False
    at = len(START)
    while at + 4 <= len(whole) and whole[at] == 0xFF:
        marker = whole[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in BARE:
            at += 2
        elif marker == SCAN:
            return whole.rfind(END, at) < 0
        else:
            at += 2 + int.from_bytes(whole[at + 2 : at + 4], "big")
    return True
