"""ONE recipe from a camera picture to the model's input, used by training, calibration, verification and the runtime.

The recipe covers depth, alignment, region of interest, proportions and resize. Cast, colour order and normalisation are inside
the exported graph, so no backend can get them differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgead.alignment import Alignment, Placement
from edgead.errors import BadInput
from edgead.jpeg import is_cut_short
from edgead.png import pixels_only
from edgead.types import Image

FloatArray = npt.NDArray[np.float32]
_BLOCK = 16
"""Rows of a resize that are computed together."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
RESIZE_RULES = ("box", "area", "linear", "antialias")
ASPECTS = ("stretch", "letterbox", "crop")
FILL = 114
"""Grey level of a letterbox's bars: near ImageNet's mean, so that a network sees in them about what it pads its layers with."""

SAME_ASPECT = 0.02
"""Proportions that differ by no more, relatively, are the same."""


@dataclass(frozen=True, slots=True)
class PreprocessRecipe:
    """How a camera picture becomes the model's input.

    Attributes:
        width, height: the model's input size in pixels.
        roi: x, y, width, height of the inspected part of the camera picture in pixels; None inspects all of it. With `align` it
            is of the reference picture, moves and turns with the part, and None is the region that the part is found by.
        resize: ``"box"`` averages blocks of pixels, then is bilinear (nearly without aliasing and fast, see :func:`box_steps`),
            ``"area"`` averages exactly the covered pixels when shrinking (linear when enlarging; ten times slower than box),
            ``"linear"`` is bilinear without antialias, ``"antialias"`` is bilinear with the triangle widened when shrinking, as
            Pillow and torch do it (slowest; for models trained that way).
        crop_from: width, height to which the picture is resized before the model's input is cut from its middle; None resizes
            straight to the input. One of them 0 keeps the picture's proportions, the other being its shorter side; both 0: the
            picture is not resized, and where it is smaller than the input a black border is added.
        aspect: what becomes of other proportions than the input's: ``"stretch"`` ignores them, ``"letterbox"`` fits the whole
            picture in between bars of grey level `FILL`, ``"crop"`` fills the input and cuts off what hangs over, on both sides.
        bits: that pictures of 16 bits really use, counted from the lowest; those above must be 0.
        pictures: width, height of the pictures that the model was trained on; None: not known, or of different proportions.
        align: how the part is found, to be shifted and turned to where it lies in the reference picture; None: the picture is
            taken as it is.
    """

    width: int
    height: int
    roi: tuple[int, int, int, int] | None = None
    resize: str = "box"
    crop_from: tuple[int, int] | None = None
    aspect: str = "stretch"
    bits: int = 16
    pictures: tuple[int, int] | None = None
    align: Alignment | None = None

    def __post_init__(self) -> None:
        if not (16 <= self.width <= 8192 and 16 <= self.height <= 8192):
            raise BadInput(f"a model input of {self.width} x {self.height} px is not usable", hint="choose 16 to 8192")
        if self.resize not in RESIZE_RULES:
            raise BadInput(f"unknown resize rule {self.resize!r}", hint=f"choose {' or '.join(RESIZE_RULES)}")
        if self.roi is not None and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 1):
            raise BadInput(f"region of interest {self.roi} is not x, y, width, height in pixels")
        if self.roi is not None and self.align is not None and not _fits(self.roi, self.align.frame):
            raise BadInput(
                f"region of interest {self.roi} does not lie in the reference picture of {self.align.frame[0]} x "
                f"{self.align.frame[1]} px",
                hint="give x, y, width, height in the picture that the part is found by",
            )
        if self.aspect not in ASPECTS:
            raise BadInput(f"unknown rule for proportions {self.aspect!r}", hint=f"choose {' or '.join(ASPECTS)}")
        if not 8 <= self.bits <= 16:
            raise BadInput(f"{self.bits} bits are not usable", hint="give 8 to 16: what the camera's values really use")
        if self.pictures is not None and min(self.pictures) < 1:
            raise BadInput(f"pictures of {self.pictures[0]} x {self.pictures[1]} px cannot be")
        if self.crop_from is not None and self.aspect != "stretch":
            raise BadInput(f"a recipe that cuts its input from a resized picture has no {self.aspect}")
        if self.crop_from is not None and any(self.crop_from):
            wide, high = (n or max(self.crop_from) for n in self.crop_from)
            if wide < self.width or high < self.height:
                raise BadInput(
                    f"{self.width} x {self.height} px cannot be cut from {wide} x {high} px", hint="make crop_from larger"
                )

    def locate(self, image: Image) -> Placement | None:
        """Where the part lies in a camera picture, H x W x 3 uint8 BGR; None where the recipe does not align.

        Raises:
            PartNotFound: it is not there, partly outside, or more than one is.
            BadInput: the picture does not suit the search.
        """
        _check_picture(image)
        return None if self.align is None else self.align.locate(image)

    def check_size(self, width: int, height: int) -> None:
        """Can camera pictures of so many pixels be used? Raises BadInput."""
        if self.roi is not None and self.align is None and not _fits(self.roi, (width, height)):
            raise BadInput(
                f"region of interest {self.roi} does not fit a picture of {width} x {height} px",
                hint="the camera's resolution differs from the one the model was trained for",
            )

    def apply(self, image: Image, out: Image | None = None, placement: Placement | None = None) -> Image:
        """The model's input for one camera picture.

        Args:
            image: H x W x 3 uint8 BGR; may be a view.
            out: a contiguous height x width x 3 uint8 buffer that the result is written to; None makes a new array.
            placement: where the part lies, by :meth:`locate`; None: it is looked for, where the recipe aligns.

        Returns:
            height x width x 3 uint8 BGR, contiguous: `out` when it was given. Otherwise it shares memory with `image` only when
            there is nothing to do.

        Raises:
            BadInput: not such a picture, the region of interest reaches out of it, or `out` is not such a buffer.
            PartNotFound: as :meth:`locate`.
        """
        _check_picture(image)
        if out is not None and not (out.shape == (self.height, self.width, 3) and out.dtype == np.uint8 and out.flags.carray):
            raise BadInput(f"a buffer of shape {out.shape}, {out.dtype}, cannot hold a {self.width} x {self.height} px input")
        self.check_size(image.shape[1], image.shape[0])
        if self.align is not None:
            image = self.align.cut(image, placement or self.align.locate(image), self.roi or self.align.region)
        elif self.roi is not None:
            x, y, w, h = self.roi
            image = image[y : y + h, x : x + w]
        if self.crop_from is None and self.aspect == "stretch":
            return _resize(image, self.width, self.height, self.resize, out)
        if self.crop_from is not None and not any(self.crop_from):
            image = _bordered(image, self.width, self.height)
        wide, high, left, top = self._placed(image.shape[1], image.shape[0])
        whole = _resize(image, wide, high, self.resize)
        if wide >= self.width and high >= self.height:
            return _given(whole[-top : self.height - top, -left : self.width - left], out)
        if out is None:
            out = np.empty((self.height, self.width, 3), np.uint8)
        out[:] = FILL
        out[top : top + high, left : left + wide] = whole
        return out

    def read(self, path: Path) -> Image:
        """A picture file as the camera's picture: :func:`read_image` at this recipe's depth. Raises BadInput."""
        return read_image(path, self.bits)

    def inspected(self, width: int, height: int) -> tuple[int, int, int, int]:
        """x, y, width, height of what is inspected of a camera picture of so many pixels, in its pixels; where the recipe aligns,
        of the reference picture."""
        return self.roi or (self.align.region if self.align is not None else (0, 0, width, height))

    def window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """x, y, width, height of what the model sees of a camera picture of so many pixels, in its pixels: the model's input, and
        any map of it, lies there. With a letterbox it reaches out of the picture, by the bars. Where the recipe aligns it is in
        the reference picture's pixels (see :meth:`edgead.alignment.Alignment.to_camera`)."""
        x, y, w, h = self.inspected(width, height)
        if self.crop_from is None and self.aspect == "stretch":
            return float(x), float(y), float(w), float(h)
        wide, high, left, top = self._placed(w, h)
        return x - left * w / wide, y - top * h / high, self.width * w / wide, self.height * h / high

    def strange(self, width: int, height: int) -> str:
        """What is wrong with the shape of a camera picture when the model was trained on others; "" when nothing is."""
        if self.pictures is None or (width, height) == self.pictures:
            return ""
        usual = f"a picture of {width} x {height} px, the model was trained on {self.pictures[0]} x {self.pictures[1]} px"
        if self.align is not None:
            return f"{usual}: parts that look larger or smaller than then are not found"
        if self.roi is not None:
            return f"{usual}: its region of interest, in pixels, may lie elsewhere on the part"
        if same_aspect((width, height), self.pictures):
            return ""
        return f"{usual}: other proportions, so that parts look wider or higher to it, or other margins are seen"

    def _placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Width, height of the resized picture (or region of interest) of so many pixels, and where its upper left corner lies in
        the model's input: below 0 where it is cut off."""
        if self.crop_from is not None:
            wide, high = self._before_crop(width, height)
            left, top = -round((wide - self.width) / 2), -round((high - self.height) / 2)
            return (
                wide,
                high,
                left if wide >= self.width else (self.width - wide) // 2,
                (top if high >= self.height else (self.height - high) // 2),
            )
        scales = self.width / width, self.height / height
        scale = min(scales) if self.aspect == "letterbox" else max(scales)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        return wide, high, (self.width - wide) // 2, (self.height - high) // 2

    def _before_crop(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the resized picture that the input is cut from."""
        assert self.crop_from is not None
        if 0 not in self.crop_from:
            return self.crop_from
        if not any(self.crop_from):
            return width, height
        short = max(self.crop_from)
        return (short, int(short * height / width)) if width <= height else (int(short * width / height), short)

    def to_json(self) -> dict[str, Any]:
        """For JSON; what a recipe of before the last four fields did not know is left out where it says nothing new, so that the
        digests made of old recipes stay."""
        usual = {f.name: f.default for f in fields(self) if f.name in ("aspect", "bits", "pictures", "align")}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PreprocessRecipe:
        roi = data.get("roi")
        whole, pictures = data.get("crop_from"), data.get("pictures")
        return cls(
            int(data["width"]),
            int(data["height"]),
            tuple(roi) if roi else None,
            str(data["resize"]),
            tuple(whole) if whole else None,
            str(data.get("aspect", "stretch")),
            int(data.get("bits", 16)),
            (int(pictures[0]), int(pictures[1])) if pictures else None,
            None if data.get("align") is None else Alignment.from_json(data["align"]),
        )

    @property
    def of_inputs(self) -> PreprocessRecipe:
        """For pictures that went through this recipe already."""
        return replace(self, roi=None, crop_from=None, align=None)

    def as_camera(self, model_input: Image, width: int, height: int) -> Image:
        """A picture of so many pixels that could be the camera's, made of a model input: for measuring time."""
        if self.align is None:
            return np.asarray(cv2.resize(model_input, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        x, y, w, h = (round(side) for side in self.window(width, height))
        part = np.asarray(cv2.resize(model_input, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)
        border = max(0, y), max(0, height - y - h), max(0, x), max(0, width - x - w)
        whole = cv2.copyMakeBorder(part, *border, cv2.BORDER_REPLICATE)
        left, top = max(0, -x), max(0, -y)
        return np.ascontiguousarray(whole[top : top + height, left : left + width])


def _check_picture(image: Image) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:  # OpenCV would leave a buffer as it was
        raise BadInput(f"a picture of shape {image.shape}, {image.dtype}, is not H x W x 3 uint8", hint="see to_bgr8")


def _fits(roi: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    return roi[0] + roi[2] <= size[0] and roi[1] + roi[3] <= size[1]


def same_aspect(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Do two sizes (width, height) have the same proportions, but for `SAME_ASPECT`?"""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return max(ratio, 1 / ratio) <= 1 + SAME_ASPECT


def box_steps(size: int, wanted: int) -> int:
    """How often the resize rule ``"box"`` halves an axis of `size` pixels on its way to `wanted`: while it stays large enough.

    The rule, for a picture of W x H pixels and a wanted size w x h, all in whole numbers, so that it can be done alike elsewhere:

    1. kx is the largest k with w 2^k <= W (0 when there is none), ky that with h 2^k <= H.
    2. W mod 2^kx columns and H mod 2^ky rows are left out, so that whole blocks remain: half of them (rounded down) at the left
       and the top, the others at the right and the bottom. That is less than half a pixel of the result on either side.
    3. min(kx, ky) times: each 2 x 2 pixels a b c d become (a + b + c + d + 2) >> 2. Then the axis that has halvings left goes on
       alone: each two pixels a b become (a + b + 1) >> 1.
    4. What is left, a factor below 2 on an axis that shrinks, is bilinear at half-pixel centres (``cv2.INTER_LINEAR``).
    """
    return max(0, (size // wanted).bit_length() - 1)


def _resize(image: Image, width: int, height: int, rule: str, out: Image | None = None) -> Image:
    if image.shape[:2] == (height, width):
        return _given(image, out)
    if rule == "antialias":
        return _given(_resize_antialias(image, width, height), out)
    if rule == "box":
        image = _halved(image, box_steps(image.shape[1], width), box_steps(image.shape[0], height), out)
        if image.shape[:2] == (height, width):
            return _given(image, out)
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    how = cv2.INTER_AREA if rule == "area" and shrinks else cv2.INTER_LINEAR
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    cv2.resize(image, (width, height), dst=out, interpolation=how)
    return out


def _halved(image: Image, kx: int, ky: int, out: Image | None) -> Image:
    """Steps 2 and 3 of :func:`box_steps`; the last halving writes to `out` when that has its size."""
    spare_y, spare_x = image.shape[0] % (1 << ky), image.shape[1] % (1 << kx)
    high, wide = image.shape[0] - spare_y, image.shape[1] - spare_x
    image = image[spare_y // 2 : spare_y // 2 + high, spare_x // 2 : spare_x // 2 + wide]
    both = min(kx, ky)
    for step in range(max(kx, ky)):
        # Of one axis alone INTER_LINEAR is the same average as INTER_AREA, several times faster.
        how = cv2.INTER_AREA if step < both else cv2.INTER_LINEAR
        size = (image.shape[1] >> (step < kx), image.shape[0] >> (step < ky))
        fits = out is not None and out.shape[:2] == (size[1], size[0])
        image = np.asarray(cv2.resize(image, size, dst=out if fits else None, interpolation=how), np.uint8)
    return image


def _bordered(image: Image, width: int, height: int) -> Image:
    """The picture with a black border where it is smaller than `width` x `height`; the odd pixel is at the right or bottom."""
    high, wide = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    if not high and not wide:
        return image
    return np.pad(image, [(high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0)])


def _given(image: Image, out: Image | None) -> Image:
    """The picture in `out`, or contiguous."""
    if out is None:
        return np.ascontiguousarray(image)
    if image is not out:
        np.copyto(out, image)
    return out


def _resize_antialias(image: Image, width: int, height: int) -> Image:
    """Rows first, then columns, in float32, rounded once at the end."""
    low = _weigh(image.reshape(image.shape[0], -1), triangle_matrix(image.shape[0], height))  # height x (W 3)
    columns = np.ascontiguousarray(low.reshape(height, image.shape[1], 3).transpose(1, 0, 2))  # W x height x 3
    both = _weigh(columns.reshape(image.shape[1], -1), triangle_matrix(image.shape[1], width)).reshape(width, height, 3)
    return np.ascontiguousarray(np.rint(both).clip(0, 255).astype(np.uint8).transpose(1, 0, 2))


def _weigh(lines: npt.NDArray[Any], matrix: FloatArray) -> FloatArray:
    """matrix (A x B) times lines (B x n) -> A x n, in blocks of rows: each row of the matrix is zero but for a short band."""
    out = np.empty((len(matrix), lines.shape[1]), np.float32)
    for start in range(0, len(matrix), _BLOCK):
        rows = matrix[start : start + _BLOCK]
        used = np.flatnonzero(rows.any(0))
        band = slice(used[0], used[-1] + 1)
        out[start : start + _BLOCK] = rows[:, band] @ lines[band].astype(np.float32)
    return out


@lru_cache(maxsize=8)
def triangle_matrix(before: int, after: int) -> FloatArray:
    """float32 `after` x `before`: bilinear weights at half-pixel centres, the triangle widened by the factor of shrinking."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    weights = np.maximum(0.0, 1.0 - np.abs((np.arange(before) + 0.5 - centres[:, None]) / max(scale, 1.0)))
    matrix: FloatArray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def to_bgr8(image: npt.NDArray[Any], bits: int = 16) -> Image:
    """Any camera or file picture as H x W x 3 uint8 BGR.

    Rules: grey (H x W or H x W x 1) is repeated three times; alpha is dropped; of 16 bits the upper 8 of the `bits` in use are
    taken, whatever the picture holds, so that equal light gives equal numbers.

    Raises:
        BadInput: another depth or shape, or a value that needs more than `bits`.
    """
    if image.dtype == np.uint16:
        if bits < 16 and image.size and (largest := int(image.max())) >> bits:
            raise BadInput(
                f"a value of {largest} in a picture of {bits} bits (0 to {(1 << bits) - 1})",
                hint="the camera's depth differs from the one that was found or given at training (--bits)",
            )
        image = (image >> (bits - 8)).astype(np.uint8)
    if image.dtype != np.uint8:
        raise BadInput(f"pictures of type {image.dtype} are not supported", hint="use 8 or 16 bit unsigned pictures")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise BadInput(f"a picture of shape {image.shape} is not supported", hint="use grey, BGR or BGRA pictures")
    if image.shape[2] == 1:
        return np.ascontiguousarray(np.repeat(image, 3, axis=2))
    return np.ascontiguousarray(image[:, :, :3])


def read_image(path: Path, bits: int = 16) -> Image:
    """A picture file as H x W x 3 uint8 BGR (see :func:`to_bgr8`); EXIF rotation is ignored, as cameras on a line have none.

    Raises:
        BadInput: missing, unreadable or of an unsupported kind; the message names the file.
    """
    with naming(path):
        return to_bgr8(read_raw(path)[0], bits)


def read_raw(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """A picture file as OpenCV decodes it, of any depth and number of channels, and the file's bytes.

    Raises:
        BadInput: missing or unreadable; the message names the file.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}", hint="check the path and its permissions") from error
    return decoded(data, str(path)), data


def decoded(data: npt.NDArray[np.uint8], name: str) -> npt.NDArray[Any]:
    """The bytes of a picture file as OpenCV decodes them, of any depth and number of channels.

    Raises:
        BadInput: they are no whole picture; the message has this name.
    """
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    _quiet()
    pixels = None if not data.size or is_cut_short(data.data) else pixels_only(data.data)
    try:
        image = None if pixels is None else cv2.imdecode(np.frombuffer(pixels, np.uint8), flags)
    except cv2.error:  # a header that promises more pixels than OpenCV allows
        image = None
    if image is None:
        raise BadInput(f"{name} is not a readable picture ({data.size} bytes)", hint="remove it or replace it")
    return image


@lru_cache(maxsize=1)
def _quiet() -> None:
    """OpenCV shall not write to standard error: what matters is raised."""
    if (control := getattr(cv2.utils, "logging", None)) is not None:  # distributions' builds of OpenCV lack it
        control.setLogLevel(control.LOG_LEVEL_SILENT)


def frame_digest(image: Image) -> str:
    """What a model input is known by: SHA-256 over its pixels, hexadecimal."""
    return hashlib.sha256(image.tobytes()).hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What is wrong with a picture inside is told with its file's name."""
    try:
        yield
    except BadInput as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}", hint=error.hint) from error


def list_images(folder: Path) -> list[Path]:
    """The picture files of a folder in the order of their names, not of its subfolders.

    Raises:
        BadInput: no such folder, or no pictures in it.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of pictures")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        hint = f"put pictures there ({', '.join(sorted(IMAGE_SUFFIXES))})"
        if any(p.is_dir() for p in folder.iterdir()):
            hint = f"folders below it are not looked through: give one of them, or a pattern, '{folder}/**/*.png'"
        raise BadInput(f"{folder} holds no pictures", hint=hint)
    return found
