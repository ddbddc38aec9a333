"""Raw pixels of machine-vision cameras -> H x W x 3 uint8 BGR: mono, packed mono, Bayer, RGB and YUV.

Codes and layouts follow the Pixel Format Naming Convention (PFNC 2.4, EMVA/A3) and GigE Vision's older names for the same codes.
More than 8 bits become 8 by a right shift: equal light gives equal numbers whatever the picture holds. YUV is taken as ITU-R
BT.601: of full range for ``YUV`` and ``YCbCr``, of studio range (16 to 235) where the format says ``601``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.types import Image

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One format: `name` as PFNC writes it, `layout` of its bits, `bits` a sample, and what the samples mean."""

    name: str
    code: int
    layout: str
    bits: int
    colour: str


def _formats() -> list[PixelFormat]:
    """The table, grouped by layout; codes are PFNC's 32-bit values."""
    found = [PixelFormat("Mono8", 0x01080001, "bytes", 8, "mono")]
    for bits, code in ((10, 0x01100003), (12, 0x01100005), (14, 0x01100025), (16, 0x01100007)):
        found.append(PixelFormat(f"Mono{bits}", code, "words", bits, "mono"))
    for name, code, layout, bits in (
        ("Mono10p", 0x010A0046, "p", 10),
        ("Mono12p", 0x010C0047, "p", 12),
        ("Mono10Packed", 0x010C0004, "gev", 10),
        ("Mono12Packed", 0x010C0006, "gev", 12),
    ):
        found.append(PixelFormat(name, code, layout, bits, "mono"))
    for i, tile in enumerate(("GR", "RG", "GB", "BG")):
        found.append(PixelFormat(f"Bayer{tile}8", 0x01080008 + i, "bytes", 8, tile))
        found.append(PixelFormat(f"Bayer{tile}10", 0x0110000C + i, "words", 10, tile))
        found.append(PixelFormat(f"Bayer{tile}12", 0x01100010 + i, "words", 12, tile))
        found.append(PixelFormat(f"Bayer{tile}16", 0x0110002E + i, "words", 16, tile))
        found.append(PixelFormat(f"Bayer{tile}10Packed", 0x010C0026 + i, "gev", 10, tile))
        found.append(PixelFormat(f"Bayer{tile}12Packed", 0x010C002A + i, "gev", 12, tile))
    for i, tile in enumerate(("BG", "GB", "GR", "RG")):
        found.append(PixelFormat(f"Bayer{tile}10p", 0x010A0052 + 2 * i, "p", 10, tile))
        found.append(PixelFormat(f"Bayer{tile}12p", 0x010C0053 + 2 * i, "p", 12, tile))
    for name, code, colour in (
        ("RGB8", 0x02180014, "rgb"),
        ("BGR8", 0x02180015, "bgr"),
        ("RGBa8", 0x02200016, "rgba"),
        ("BGRa8", 0x02200017, "bgra"),
        ("YUV422_8", 0x02100032, "yuyv"),
        ("YUV422_8_UYVY", 0x0210001F, "uyvy"),
        ("YCbCr422_8", 0x0210003B, "yuyv"),
        ("YCbCr422_8_CbYCrY", 0x02100043, "uyvy"),
        ("YCbCr601_422_8", 0x0210003E, "yuyv601"),
        ("YCbCr601_422_8_CbYCrY", 0x02100044, "uyvy601"),
    ):
        found.append(PixelFormat(name, code, "bytes", 8, colour))
    return found


FORMATS = {entry.code: entry for entry in _formats()}

_OLD_NAMES = {  # GigE Vision 1.x and vendors -> PFNC
    "rgb8packed": "rgb8",
    "bgr8packed": "bgr8",
    "rgba8packed": "rgba8",
    "bgra8packed": "bgra8",
    "yuv422packed": "yuv4228uyvy",
    "yuv422yuyvpacked": "yuv4228",
}
_SAMPLES = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "yuyv": 2, "uyvy": 2, "yuyv601": 2, "uyvy601": 2}
_BAYER = {
    "RG": cv2.COLOR_BayerRGGB2BGR,
    "GR": cv2.COLOR_BayerGRBG2BGR,
    "GB": cv2.COLOR_BayerGBRG2BGR,
    "BG": cv2.COLOR_BayerBGGR2BGR,
}


def plain(name: str) -> str:
    """A format's name for comparing: ``"Mono12_Packed"`` is ``"mono12packed"``, and GigE Vision's old names are PFNC's."""
    text = re.sub(r"[^a-z0-9]", "", name.lower())
    return _OLD_NAMES.get(text, text)


def known(name: str) -> bool:
    """Whether :func:`to_bgr8` can convert the format that a camera calls `name`."""
    return plain(name) in _BY_NAME


def to_bgr8(data: Bytes, width: int, height: int, code: int, row_padding: int = 0) -> Image:
    """A camera's buffer as a picture.

    Args:
        data: 1-D uint8, at least as long as the format needs.
        width, height: of the picture in pixels.
        code: PFNC's 32-bit value of the pixel format.
        row_padding: bytes at the end of each row that are no pixels.

    Returns:
        H x W x 3 uint8 BGR, contiguous, in memory of its own.

    Raises:
        BadInput: an unknown format, or too few bytes for it.
    """
    pixel_format = FORMATS.get(code)
    if pixel_format is None:
        raise BadInput(f"pixel format {code:#010x} is not known", hint="set pixel_format to mono8, a Bayer format or bgr8")
    samples = _unpack(data, width * _SAMPLES.get(pixel_format.colour, 1), height, pixel_format, row_padding)
    if pixel_format.colour in _BAYER:
        return np.asarray(cv2.cvtColor(samples, _BAYER[pixel_format.colour]), np.uint8)
    return _CONVERT[pixel_format.colour](samples, width, height)


def _unpack(data: Bytes, columns: int, rows: int, pixel_format: PixelFormat, row_padding: int) -> Bytes:
    """rows x columns uint8: the upper 8 bits of each sample."""
    bits = {"bytes": 8, "words": 16, "p": pixel_format.bits, "gev": 12}[pixel_format.layout]
    row = (columns * bits + 7) // 8
    if row_padding == 0 and bits % 8:  # packed formats run on over the end of a row
        needed = (columns * rows * bits + 7) // 8
        flat = _samples8(_enough(data, needed, pixel_format), pixel_format)
        return flat[: columns * rows].reshape(rows, columns)
    needed = (row + row_padding) * rows - row_padding
    _enough(data, needed, pixel_format)
    lines = np.lib.stride_tricks.as_strided(data, (rows, row), (row + row_padding, 1), writeable=False)
    if pixel_format.layout == "bytes":
        return lines
    flat = _samples8(np.ascontiguousarray(lines).reshape(-1), pixel_format)
    return flat.reshape(rows, -1)[:, :columns]


def _enough(data: Bytes, needed: int, pixel_format: PixelFormat) -> Bytes:
    if data.size < needed:
        raise BadInput(f"{data.size} bytes are too few for this {pixel_format.name} picture, which needs {needed}")
    return data[:needed]


def _samples8(data: Bytes, pixel_format: PixelFormat) -> Bytes:
    """The upper 8 bits of each sample of one run of bytes."""
    if pixel_format.layout == "words":
        words = np.ascontiguousarray(data).view(np.dtype("<u2")) >> (pixel_format.bits - 8)
        return words.astype(np.uint8) if pixel_format.bits == 16 else np.minimum(words, 255).astype(np.uint8)
    if pixel_format.layout == "gev":  # three bytes hold two samples: their upper 8 bits first and last, the rest between
        whole = _padded(data, 3)
        return np.ascontiguousarray(whole[:, (0, 2)]).reshape(-1)
    if pixel_format.bits == 12:  # PFNC "p": samples follow each other, least significant bit first
        whole = _padded(data, 3)
        first = (whole[:, 0] >> 4) | (whole[:, 1] << 4)
        return np.stack([first, whole[:, 2]], axis=1).reshape(-1)
    whole = _padded(data, 5).astype(np.uint16)
    pairs = whole[:, :4] | (whole[:, 1:] << 8)
    return ((pairs >> np.array([2, 4, 6, 8], np.uint16)) & 0xFF).astype(np.uint8).reshape(-1)


def _padded(data: Bytes, group: int) -> Bytes:
    """n x group, the last one filled up with zeros."""
    return np.pad(data, (0, -data.size % group)).reshape(-1, group)


def _mono(samples: Bytes, width: int, height: int) -> Image:
    return np.asarray(cv2.cvtColor(samples, cv2.COLOR_GRAY2BGR), np.uint8)


def _reorder(channels: int, how: int | None) -> Callable[[Bytes, int, int], Image]:
    def convert(samples: Bytes, width: int, height: int) -> Image:
        picture = np.ascontiguousarray(samples).reshape(height, width, channels)
        return picture.copy() if how is None else np.asarray(cv2.cvtColor(picture, how), np.uint8)

    return convert


def _yuv(y: int, u: int, v: int, studio: int | None) -> Callable[[Bytes, int, int], Image]:
    """4:2:2: of four bytes, `y` and `y` + 2 are two pixels' luma, which share the chroma at `u` and `v`."""

    def convert(samples: Bytes, width: int, height: int) -> Image:
        if width % 2:
            raise BadInput(f"a 4:2:2 picture cannot be {width} px wide", hint="choose an even width")
        if studio is not None:
            return np.asarray(cv2.cvtColor(np.ascontiguousarray(samples).reshape(height, width, 2), studio), np.uint8)
        quads = samples.reshape(height, width // 2, 4)
        full = np.empty((height, width, 3), np.uint8)  # OpenCV's order: Y, Cr, Cb
        full[:, :, 0] = quads[:, :, (y, y + 2)].reshape(height, width)
        full[:, :, 1] = np.repeat(quads[:, :, v], 2, axis=1)
        full[:, :, 2] = np.repeat(quads[:, :, u], 2, axis=1)
        return np.asarray(cv2.cvtColor(full, cv2.COLOR_YCrCb2BGR), np.uint8)

    return convert


_BY_NAME = {plain(entry.name): entry for entry in FORMATS.values()}
_CONVERT: dict[str, Callable[[Bytes, int, int], Image]] = {
    "mono": _mono,
    "rgb": _reorder(3, cv2.COLOR_RGB2BGR),
    "bgr": _reorder(3, None),
    "rgba": _reorder(4, cv2.COLOR_RGBA2BGR),
    "bgra": _reorder(4, cv2.COLOR_BGRA2BGR),
    "yuyv": _yuv(0, 1, 3, None),
    "uyvy": _yuv(1, 0, 2, None),
    "yuyv601": _yuv(0, 1, 3, cv2.COLOR_YUV2BGR_YUYV),
    "uyvy601": _yuv(1, 0, 2, cv2.COLOR_YUV2BGR_UYVY),
}
