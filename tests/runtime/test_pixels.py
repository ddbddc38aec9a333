"""Raw camera pixels become the picture that was in front of the camera: known patterns in every layout."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgead.errors import BadInput
from edgead.runtime.cameras import pixels

WIDTH, HEIGHT = 8, 6
BY_NAME = {entry.name: entry for entry in pixels.FORMATS.values()}


def samples(bits: int, count: int = WIDTH * HEIGHT) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(bits).integers(0, 2**bits, count, np.uint16)


def words(values: npt.NDArray[np.uint16], bits: int) -> bytes:
    return values.astype("<u2").tobytes()


def lsb_first(values: npt.NDArray[np.uint16], bits: int) -> bytes:
    """PFNC's "p": one long string of bits, least significant first."""
    stream = ((values[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
    return np.packbits(stream, bitorder="little").tobytes()


def gige_packed(values: npt.NDArray[np.uint16], bits: int) -> bytes:
    """GigE Vision's "Packed": two samples in three bytes, the low bits of both in the middle one."""
    low = bits - 8
    first, second = values[0::2], values[1::2]
    middle = (first & (2**low - 1)) | ((second & (2**low - 1)) << 4)
    return np.stack([first >> low, middle, second >> low], axis=1).astype(np.uint8).tobytes()


def convert(name: str, data: bytes, width: int = WIDTH, height: int = HEIGHT, row_padding: int = 0) -> npt.NDArray[np.uint8]:
    return pixels.to_bgr8(np.frombuffer(data, np.uint8), width, height, BY_NAME[name].code, row_padding)


@pytest.mark.parametrize(
    ("name", "bits", "pack"),
    [
        ("Mono10", 10, words),
        ("Mono12", 12, words),
        ("Mono14", 14, words),
        ("Mono16", 16, words),
        ("Mono10p", 10, lsb_first),
        ("Mono12p", 12, lsb_first),
        ("Mono10Packed", 10, gige_packed),
        ("Mono12Packed", 12, gige_packed),
    ],
)
def test_more_than_8_bits_become_8_by_a_right_shift(name: str, bits: int, pack: object) -> None:
    values = samples(bits)
    picture = convert(name, pack(values, bits))  # type: ignore[operator]
    expected = (values >> (bits - 8)).astype(np.uint8).reshape(HEIGHT, WIDTH)
    assert np.array_equal(picture, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("name", ["Mono10p", "Mono12p", "Mono12Packed"])
def test_packed_rows_may_share_a_byte(name: str) -> None:
    bits, width, height = BY_NAME[name].bits, 5, 4
    values = samples(bits, width * height)
    picture = convert(name, (gige_packed if "Packed" in name else lsb_first)(values, bits), width, height)
    assert np.array_equal(picture[:, :, 0], (values >> (bits - 8)).reshape(height, width))


def test_bytes_at_the_end_of_rows_are_left_out() -> None:
    rows = np.arange(HEIGHT * (WIDTH + 4), dtype=np.uint8).reshape(HEIGHT, WIDTH + 4)
    assert np.array_equal(convert("Mono8", rows.tobytes(), row_padding=4)[:, :, 1], rows[:, :WIDTH])


@pytest.mark.parametrize("depth", ["8", "10", "12", "12p", "12Packed", "16"])
@pytest.mark.parametrize("tile", ["RG", "GR", "GB", "BG"])
def test_bayer_mosaics_give_the_colour_of_the_scene(tile: str, depth: str) -> None:
    name = f"Bayer{tile}{depth}"
    bits = BY_NAME[name].bits
    level = {"R": 200, "G": 100, "B": 40}
    second = {"RG": "GB", "GR": "BG", "GB": "RG", "BG": "GR"}[tile]
    mosaic = np.array([[level[c] for c in tile], [level[c] for c in second]], np.uint16) << (bits - 8)
    values = np.tile(mosaic, (HEIGHT // 2, WIDTH // 2)).reshape(-1)
    pack = {"8": lambda v, b: v.astype(np.uint8).tobytes(), "12p": lsb_first, "12Packed": gige_packed}.get(depth, words)
    picture = convert(name, pack(values, bits))
    assert np.array_equal(picture, np.full((HEIGHT, WIDTH, 3), (40, 100, 200), np.uint8))


@pytest.mark.parametrize(
    ("name", "order"), [("RGB8", (2, 1, 0)), ("BGR8", (0, 1, 2)), ("RGBa8", (2, 1, 0)), ("BGRa8", (0, 1, 2))]
)
def test_colour_planes_come_in_the_order_bgr_and_in_memory_of_their_own(name: str, order: tuple[int, ...]) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    raw = bgr[:, :, order]
    if "a" in name:
        raw = np.dstack([raw, np.full((HEIGHT, WIDTH), 7, np.uint8)])
    data = np.ascontiguousarray(raw).reshape(-1).copy()
    picture = pixels.to_bgr8(data, WIDTH, HEIGHT, BY_NAME[name].code)
    data[:] = 0  # the camera's buffer is used again
    assert np.array_equal(picture, bgr)


@pytest.mark.parametrize(
    ("name", "order", "studio"),
    [
        ("YUV422_8", "YUYV", False),
        ("YUV422_8_UYVY", "UYVY", False),
        ("YCbCr422_8", "YUYV", False),
        ("YCbCr422_8_CbYCrY", "UYVY", False),
        ("YCbCr601_422_8", "YUYV", True),
        ("YCbCr601_422_8_CbYCrY", "UYVY", True),
    ],
)
@pytest.mark.parametrize("bgr", [(40, 100, 200), (255, 255, 255), (0, 0, 0), (220, 30, 60)])
def test_yuv_by_bt601(name: str, order: str, studio: bool, bgr: tuple[int, int, int]) -> None:
    blue, green, red = bgr
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - y) / 1.772, (red - y) / 1.402
    code = {"Y": y, "U": u + 128, "V": v + 128}
    if studio:
        code = {"Y": 16 + y * 219 / 255, "U": 128 + u * 224 / 255, "V": 128 + v * 224 / 255}
    quad = bytes(min(255, max(0, round(code[letter]))) for letter in order)
    picture = convert(name, quad * (WIDTH // 2 * HEIGHT))
    assert np.abs(picture.astype(int) - np.array(bgr)).max() <= 3


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(BadInput, match="0x021800b2 is not known"):
        pixels.to_bgr8(np.zeros(1000, np.uint8), WIDTH, HEIGHT, 0x021800B2)
    with pytest.raises(BadInput, match="too few for this Mono12 picture"):
        convert("Mono12", b"\0" * (WIDTH * HEIGHT * 2 - 1))
    with pytest.raises(BadInput, match="cannot be 7 px wide"):
        convert("YUV422_8", b"\0" * 1000, width=7)


def test_a_format_goes_by_any_of_its_names() -> None:
    assert all(
        pixels.known(name) for name in ("Mono8", "mono8", "BGR8Packed", "YUV422_YUYV_Packed", "Mono12packed", "BayerRG12p")
    )
    assert not any(pixels.known(name) for name in ("RGB16Packed", "Coord3D_ABC32f", ""))


def test_the_table_agrees_with_opencv_on_bayer_names() -> None:
    """OpenCV 4.8 and 5 both have the names that spell the tile out."""
    assert cv2.COLOR_BayerRGGB2BGR == cv2.COLOR_BayerBG2BGR
