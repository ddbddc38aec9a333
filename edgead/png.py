"""PNG files before OpenCV sees them: damaged ones are known by their checksums, and what is no picture in a file is left out.

libpng writes straight to standard error about both, past everybody's logging: "libpng error: IDAT: invalid block type", and for
each picture of some programs "libpng warning: iCCP: known incorrect sRGB profile".
"""

from __future__ import annotations

import struct
import zlib

_MARK = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset({b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"})
"""Ancillary chunks that say something of the pixels or of how many pictures there are."""


def pixels_only(data: memoryview) -> memoryview | bytes | None:
    """A PNG file without the chunks that pixels do not need; None when it is damaged or cut short; other files as they are."""
    if data[:8] != _MARK:
        return data
    kept, at, whole = [data[:8]], 8, True
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = bytes(data[at + 4 : at + 8]), at + 12 + length
        if end > len(data):
            return None
        critical = not kind[0] & 0x20
        if critical or kind in _KEPT:
            (crc,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(data[at + 4 : end - 4]) != crc:
                return None
            kept.append(data[at:end])
        else:
            whole = False
        if kind == b"IEND":
            return data[:end] if whole else b"".join(kept)
        at = end
    return None
