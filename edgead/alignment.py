"""Where the part lies in a camera picture, and how it is turned, so that the model sees it as in the reference picture.

The reference is one good picture; its `region` holds the part. A picture is searched from coarse to fine: all turns (and places)
at about 20 pixels a part, the best few at 48, then shift and turn together at the template's own size, to fractions of a pixel
(inverse compositional alignment, Baker and Matthews 2004, of normalised grey levels). Scores are normalised correlations,
-1 to 1, of what the kind looks at, lower where there is less than half of the reference's contrast:

    template     grey levels; light may change
    edges        strength of the edges; the background may turn from light to dark
    silhouette   the part's outline against a plain background (holes filled) and, inside of it, grey levels

NumPy and OpenCV only, the same code at training and on the line. What is found is rounded to 1/16 px and 1/64 degree, so that
another CPU's last bit hardly ever moves a picture.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt

from edgead.correlate import (
    FLAT,
    Field,
    FloatArray,
    Slopes,
    Turned,
    correlation,
    fit_of,
    normalised,
    silhouette,
    slopes_of,
    straightened,
    sums_under,
    turn_template,
)
from edgead.errors import BadInput, PartNotFound
from edgead.typed import Between, Side, Single, Wrong, read
from edgead.types import Image

Matrix = npt.NDArray[np.float64]

KINDS = ("template", "edges", "silhouette")
COARSE, MIDDLE = 20, 48
"""Pixels of the part's longer side in the first two steps."""
MOST_TEMPLATE = 14_000
"""Pixels of the stored template: as base64 it must stay below :data:`edgead.typed.MAX_TEXT`."""
LONGEST_TEMPLATE = 160
LEAST_TEMPLATE = 8
MOST_COARSE, MOST_FINE = 60_000, 2_000_000
"""Pixels searched in the first step, and at the template's own scale: they bound the time."""
MOST_SIDE, MOST_FRAME = (1 << 15) - 1, 120_000_000
"""Pixels of a picture's side, beyond which OpenCV cannot turn it, and of a reference picture: what is cut out is never larger."""
PLACES, TURNS = 3, 2
"""Places, and turns at each of them, that are looked at more closely."""
APART = 0.6
"""Of the part's own width or height: two places farther apart are two parts."""
OUTSIDE = 0.03
"""Share of what the model looks at that may lie outside of the picture; it is filled with the picture's nearest pixels."""
_LEAST = 0.05
"""A peak of the first step must reach this."""
_WORTH = 0.6
"""Of the best score of the first step: what is worse is not looked at again."""
_STEPS, _STILL = 20, 0.01
"""Of a refinement; it ends when it moves less than so many pixels."""
_FAR, _FAR_TURN = 4.0, 10.0
"""Pixels, degrees: a refinement that goes farther is lost."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The part in a camera picture.

    Attributes:
        x, y: where the region's centre lies, pixels (0, 0 is the middle of the first pixel).
        angle: how it is turned against the reference, degrees, clockwise as one sees it, -180 to 180.
        score: how well it fits, -1 to 1.
    """

    x: float
    y: float
    angle: float
    score: float


@dataclass(frozen=True, slots=True)
class Sought:
    """The best place, and the score of the next best one that may be another part; 0 when there is none."""

    best: Placement
    rival: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the part is found (see the module's docstring).

    Attributes:
        by: of `KINDS`.
        region: x, y, width, height in the reference picture that hold the part.
        frame: width, height of the reference picture.
        template: the region's grey levels at `size`, row by row, base64.
        size: width, height of the template.
        limit: a lower score is no part.
        angle: parts are turned by at most so many degrees to either side; 180 is any turn.
        shift: their centre is at most so many pixels from the region's, right or left, up or down; None: anywhere.
    """

    by: str
    region: tuple[Annotated[int, Between(0, 1 << 16)], Annotated[int, Between(0, 1 << 16)], Side, Side]
    frame: tuple[Side, Side]
    template: str
    size: tuple[Annotated[int, Between(LEAST_TEMPLATE, 160)], Annotated[int, Between(LEAST_TEMPLATE, 160)]]
    limit: Annotated[Single, Between(0.05, 0.999)]
    angle: Annotated[Single, Between(0.0, 180.0)] = 180.0
    shift: Side | None = None

    def __post_init__(self) -> None:
        if self.by not in KINDS:
            raise BadInput(f"unknown way to find parts {str(self.by)[:40]!r}", hint=f"choose {', '.join(KINDS)}")
        x, y, w, h = self.region
        if min(x, y) < 0 or min(w, h) < LEAST_TEMPLATE or x + w > self.frame[0] or y + h > self.frame[1]:
            raise BadInput(
                f"the region {self.region} to find the part by does not lie in a picture of {self.frame[0]} x {self.frame[1]} px",
                hint=f"give x, y, width, height in pixels, at least {LEAST_TEMPLATE} wide and high",
            )
        if max(self.frame) > MOST_SIDE or self.frame[0] * self.frame[1] > MOST_FRAME:
            raise BadInput(f"a reference picture of {self.frame[0]} x {self.frame[1]} px is too large")
        if not 0 <= self.angle <= 180:
            raise BadInput(f"parts cannot be turned by {self.angle:g} degrees to either side", hint="give 0 to 180")
        if self.shift is not None and self.shift < 1:
            raise BadInput(f"parts cannot be shifted by {self.shift} px", hint="give 1 or more")
        if abs(self.size[0] * h / (self.size[1] * w) - 1) > 0.25 or self.size[0] > w or self.size[1] > h:
            raise BadInput(f"a template of {self.size[0]} x {self.size[1]} px is not of a region of {w} x {h} px")
        if _bank(self).flat:
            raise BadInput("there is nothing to see in the template that the part is found by")

    @property
    def centre(self) -> tuple[float, float]:
        """Of the region, in the reference picture."""
        x, y, w, h = self.region
        return x + (w - 1) / 2, y + (h - 1) / 2

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Alignment:
        """Raises BadInput."""
        try:
            found: Alignment = read(cls, data)
        except Wrong as error:
            raise BadInput(f"how the part is found is damaged: {error}") from error
        return found

    def locate(self, image: Image) -> Placement:
        """The part in a camera picture, H x W x 3 uint8 BGR.

        Raises:
            PartNotFound: it is not there, partly outside, or more than one is.
            BadInput: the picture is so large that searching it would take too long.
        """
        sought = self.seek(image)
        best = sought.best
        if best.score < self.limit:
            raise PartNotFound(f"the part is not found: the best place fits by {best.score:.2f}, {self.limit:.2f} is the least")
        if sought.rival >= self.limit:
            raise PartNotFound(
                f"more than one part: places fit by {best.score:.2f} and {sought.rival:.2f}, {self.limit:.2f} is a part"
            )
        if (out := outside(image, self.to_camera(best, self.region[0], self.region[1]), self.region[2:])) > OUTSIDE:
            raise PartNotFound(f"{out:.0%} of the part lie outside of the picture")
        return best

    def seek(self, image: Image) -> Sought:
        """The best place, however badly it fits. Raises BadInput as :meth:`locate`."""
        return _seek(self, image)

    def to_camera(self, placement: Placement, left: float = 0.0, top: float = 0.0) -> Matrix:
        """2 x 3: from pixels of the reference picture, counted from `left` and `top`, to those of the camera's picture."""
        turn = math.radians(placement.angle)
        cos, sin = math.cos(turn), math.sin(turn)
        (cx, cy), (dx, dy) = self.centre, (left, top)
        return np.array(
            [
                [cos, -sin, placement.x + cos * (dx - cx) - sin * (dy - cy)],
                [sin, cos, placement.y + sin * (dx - cx) + cos * (dy - cy)],
            ]
        )

    def outline(self, placement: Placement, larger: float = 1.0) -> npt.NDArray[np.int32]:
        """4 x 2: corners of the part's region in the camera's picture, whole pixels; the first two are its upper side."""
        w, h = self.region[2:]
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * larger * [w, h] + self.centre
        matrix = self.to_camera(placement)
        return np.asarray(np.rint(corners @ matrix[:, :2].T + matrix[:, 2]), np.int32)

    def cut(self, image: Image, placement: Placement, window: tuple[int, int, int, int]) -> Image:
        """What a camera picture shows of a window (x, y, width, height) of the reference picture, shifted and turned back in one
        step (bilinear); what lies outside of the picture is filled with its nearest pixels.

        Raises:
            PartNotFound: more than `OUTSIDE` of the window lies outside.
        """
        matrix = self.to_camera(placement, window[0], window[1])
        if (out := outside(image, matrix, window[2:])) > OUTSIDE:
            raise PartNotFound(f"{out:.0%} of what the model looks at lie outside of the picture")
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        found = cv2.warpAffine(image, matrix, window[2:], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found, np.uint8)


def outside(image: Image, matrix: Matrix, size: tuple[int, int]) -> float:
    """The share of a window of `size` (width, height) that lies outside of a picture, when `matrix` takes its pixels there."""
    w, h = size
    edges = np.array([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]])
    corners = (edges @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    height, width = image.shape[:2]
    if corners.min() >= -0.5 and corners[:, 0].max() <= width - 0.5 and corners[:, 1].max() <= height - 0.5:
        return 0.0
    whole = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]], np.float32)
    area = float(cv2.intersectConvexConvex(corners, whole)[0])
    return min(1.0, max(0.0, 1.0 - area / (w * h)))


def template_of(picture: Image, region: tuple[int, int, int, int], most: float) -> tuple[str, tuple[int, int]]:
    """A reference picture's region as :class:`Alignment` stores it: the template and its size.

    Args:
        most: the scale is at most this, so that a search stays fast.
    """
    x, y, w, h = region
    scale = min(1.0, most, LONGEST_TEMPLATE / max(w, h), math.sqrt(MOST_TEMPLATE / (w * h)))
    size = (max(1, math.floor(w * scale)), max(1, math.floor(h * scale)))
    grey = cv2.cvtColor(picture[y : y + h, x : x + w], cv2.COLOR_BGR2GRAY)
    return base64.b64encode(cv2.resize(grey, size, interpolation=cv2.INTER_AREA).tobytes()).decode(), size


@dataclass(frozen=True, slots=True)
class _Bank:
    """What of an :class:`Alignment` does not depend on the picture.

    Attributes:
        grey: the template, h x w.
        looked: the same as the kind looks at it, float32.
        slopes: for refinements at the middle scale and the template's own.
        flat: nothing is there to be seen.
        coarse: its scale in the first step, against the template's.
        turned: for that step.
        blob: for a silhouette: pixels of its blob, and where their centre lies against the template's.
    """

    grey: npt.NDArray[np.uint8]
    looked: FloatArray
    flat: bool
    coarse: float
    turned: tuple[Turned, ...]
    slopes: tuple[Slopes, ...]
    blob: tuple[float, float, float] | None


@lru_cache(maxsize=8)
def _bank(alignment: Alignment) -> _Bank:
    grey = _decoded(alignment)
    looked, blob = _look(alignment, grey), None
    if alignment.by == "silhouette":
        found = silhouette(grey, 0.02 * grey.size, grey.size)
        if not found:
            return _Bank(grey, looked, True, 1.0, (), (), None)
        looked = _masked(grey, found[0])
        blob = (float(np.count_nonzero(found[0])), *_offset(found[0]))
    coarse = min(1.0, COARSE / max(grey.shape))
    step = 2 * math.degrees(math.atan(1 / (max(grey.shape) * coarse / 2)))
    flat = float(looked.std()) < FLAT
    if flat:
        return _Bank(grey, looked, True, coarse, (), (), blob)
    turned = tuple(turn_template(looked, angle, coarse) for angle in _angles(alignment.angle, step))
    scales = sorted({min(1.0, MIDDLE / max(grey.shape)), 1.0})
    slopes = tuple(slopes_of(looked, scale, turns=len(turned) > 1) for scale in scales)
    return _Bank(grey, looked, False, coarse, turned, slopes, blob)


def _decoded(alignment: Alignment) -> npt.NDArray[np.uint8]:
    width, height = alignment.size
    try:
        raw = base64.b64decode(alignment.template, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"the template that the part is found by is no base64: {error}") from error
    if len(raw) != width * height or width * height > MOST_TEMPLATE:
        raise BadInput(f"the template that the part is found by holds {len(raw)} values, expected {width} x {height}")
    return np.frombuffer(raw, np.uint8).reshape(height, width)


def _angles(most: float, step: float) -> list[float]:
    if most >= 180:
        count = max(1, math.ceil(360 / step))
        return [i * 360 / count - 180 for i in range(count)]
    count = math.ceil(most / step)
    return [i * most / count for i in range(-count, count + 1)] if count else [0.0]


def _look(alignment: Alignment, grey: npt.NDArray[np.uint8]) -> FloatArray:
    """Grey levels as the kind looks at them, float32 of about the same range."""
    if alignment.by != "edges":
        return grey.astype(np.float32)
    soft = cv2.GaussianBlur(grey, (3, 3), 0)
    right, down = (cv2.Sobel(soft, cv2.CV_32F, *way) for way in ((1, 0), (0, 1)))
    return np.asarray(cv2.GaussianBlur(8 * np.sqrt(cv2.magnitude(right, down)), (5, 5), 0), np.float32)


def _masked(grey: npt.NDArray[np.uint8], blob: npt.NDArray[np.uint8]) -> FloatArray:
    """0 outside of the blob, 128 and half the grey level on it."""
    return np.where(blob > 0, 128 + 0.5 * grey.astype(np.float32), np.float32(0)).astype(np.float32)


def _offset(blob: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """The blob's centre against the middle of its picture, pixels."""
    moments = cv2.moments(blob, binaryImage=True)
    right, down = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    return right - (blob.shape[1] - 1) / 2, down - (blob.shape[0] - 1) / 2


@dataclass(frozen=True, slots=True)
class _Spot:
    """A guess: the region's centre in the searched picture at the template's scale, degrees, score."""

    x: float
    y: float
    angle: float
    score: float


def _seek(alignment: Alignment, image: Image) -> Sought:
    bank = _bank(alignment)
    (left, top), grey, (scale_x, scale_y) = _searched(alignment, bank, image)
    found: list[_Spot] = []
    for field in _fields(alignment, bank, grey):
        spots = _everywhere(bank, field) if field.centre is None else _around(bank, field, field.centre)
        for place in _by_place(bank, spots):
            closer = max((_closer(alignment, bank, field, spot) for spot in place), key=lambda spot: spot.score)
            found.append(closer if len(bank.slopes) == 1 else _refined(alignment, field, bank.slopes[-1], closer))
    if alignment.shift is not None:
        found = [spot for spot in found if _within(alignment, _in_picture(spot, (left, top), (scale_x, scale_y)))]
    if not found:
        return Sought(Placement((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2, 0.0, 0.0), 0.0)
    found.sort(key=lambda spot: -spot.score)
    best = found[0]
    rival = max((spot.score for spot in found[1:] if _apart(bank, best, spot)), default=0.0)
    x, y = _in_picture(best, (left, top), (scale_x, scale_y))
    angle = (round(best.angle * 64) / 64 + 180) % 360 - 180
    return Sought(Placement(round(x * 16) / 16, round(y * 16) / 16, angle, best.score), rival)


def _in_picture(spot: _Spot, corner: tuple[int, int], scale: tuple[float, float]) -> tuple[float, float]:
    """The camera picture's pixels of a place at the template's scale."""
    return corner[0] + (spot.x + 0.5) / scale[0] - 0.5, corner[1] + (spot.y + 0.5) / scale[1] - 0.5


def _within(alignment: Alignment, at: tuple[float, float]) -> bool:
    """Is a place no farther from the reference's than parts are shifted?"""
    assert alignment.shift is not None
    return max(abs(at[i] - alignment.centre[i]) for i in (0, 1)) <= alignment.shift + 1


def _searched(
    alignment: Alignment, bank: _Bank, image: Image
) -> tuple[tuple[int, int], npt.NDArray[np.uint8], tuple[float, float]]:
    """Where the searched part of the picture begins, its grey levels at the template's scale, and that scale for each axis."""
    left, top, right, low = 0, 0, image.shape[1], image.shape[0]
    if alignment.shift is not None:
        reach = alignment.shift + math.ceil(math.hypot(*alignment.region[2:]) / 2)
        x, y = (round(value) for value in alignment.centre)
        left, top, right, low = max(0, x - reach), max(0, y - reach), min(right, x + reach + 1), min(low, y + reach + 1)
        if left >= right or top >= low:
            raise BadInput(
                f"a picture of {image.shape[1]} x {image.shape[0]} px does not hold the place where parts are looked for",
                hint="the camera's resolution differs from the one the model was trained for",
            )
    scale = alignment.size[0] / alignment.region[2]
    area = (right - left) * (low - top) * scale * scale
    tall = max(image.shape[:2]) > MOST_SIDE
    if tall or area > 2 * MOST_FINE or area * bank.coarse**2 > 2 * MOST_COARSE:  # twice: other cameras may see a little more
        raise BadInput(
            f"a picture of {image.shape[1]} x {image.shape[0]} px is too large to be searched for a part of "
            f"{alignment.region[2]} x {alignment.region[3]} px",
            hint="give the camera the resolution that the model was trained for",
        )
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:low, left:right]), cv2.COLOR_BGR2GRAY)
    halvings = max(0, math.floor(-math.log2(scale)))
    grey = grey[: max(1, grey.shape[0] >> halvings) << halvings, : max(1, grey.shape[1] >> halvings) << halvings]
    height, width = grey.shape
    for _ in range(halvings):  # several times faster than one step by an uneven factor
        grey = cv2.resize(grey, (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2)), interpolation=cv2.INTER_AREA)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
    return (left, top), np.asarray(grey, np.uint8), (size[0] / width, size[1] / height)


def _fields(alignment: Alignment, bank: _Bank, grey: npt.NDArray[np.uint8]) -> list[Field]:
    """What is searched; of a silhouette one for each blob, with the blob's centre."""
    if bank.blob is None:
        return [Field(_look(alignment, grey))]
    area = bank.blob[0]
    found = []
    for blob in silhouette(grey, 0.5 * area, 2 * area):
        right, down = _offset(blob)
        found.append(Field(_masked(grey, blob), (right + (grey.shape[1] - 1) / 2, down + (grey.shape[0] - 1) / 2)))
    return found


def _everywhere(bank: _Bank, field: Field) -> list[_Spot]:
    """The best places of each turn, in the first step."""
    small, (ratio_x, ratio_y) = field.at(bank.coarse), field.ratios(bank.coarse)
    side = bank.turned[0].mask.shape[0]
    border = side // 2
    centred = small - np.float32(small.mean())
    wide = np.asarray(cv2.copyMakeBorder(centred, border, border, border, border, cv2.BORDER_REPLICATE), np.float32)
    sums: dict[float, tuple[FloatArray, FloatArray]] = {}
    spots = []
    for turned in bank.turned:
        if (known := round(turned.angle % 180, 6)) not in sums:
            sums[known] = sums_under(wide, turned)
        scores = correlation(wide, turned, sums[known])
        peaks = (scores >= cv2.dilate(scores, np.ones((3, 3), np.uint8))) & (scores > _LEAST)
        rows, columns = np.nonzero(peaks)
        order = np.argsort(-scores[rows, columns], kind="stable")[: 2 * PLACES]
        for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            x, y = column + (side - 1) / 2 - border, row + (side - 1) / 2 - border
            spots.append(_Spot((x + 0.5) / ratio_x - 0.5, (y + 0.5) / ratio_y - 0.5, turned.angle, float(scores[row, column])))
    return spots


def _around(bank: _Bank, field: Field, centre: tuple[float, float]) -> list[_Spot]:
    """The best place of each turn near a blob's centre, in the first step."""
    assert bank.blob is not None
    right, down = bank.blob[1:]
    spots = []
    for turned in bank.turned:
        turn = math.radians(turned.angle)
        x = centre[0] - math.cos(turn) * right + math.sin(turn) * down
        y = centre[1] - math.sin(turn) * right - math.cos(turn) * down
        spots.append(_near(field, turned, bank.coarse, _Spot(x, y, turned.angle, 0.0), 2))
    return spots


def _near(field: Field, turned: Turned, scale: float, spot: _Spot, reach: int) -> _Spot:
    """The best place at most about `reach` pixels of the scale away from a guess."""
    ratio_x, ratio_y = field.ratios(scale)
    x, y = (spot.x + 0.5) * ratio_x - 0.5, (spot.y + 0.5) * ratio_y - 0.5
    side = turned.mask.shape[0]
    square, left, top = field.around(scale, x, y, side + 2 * reach)
    scores = correlation(square - float(square.mean()), turned)
    row, column = divmod(int(np.argmax(scores)), scores.shape[1])
    x, y = left + column + (side - 1) / 2, top + row + (side - 1) / 2
    return _Spot((x + 0.5) / ratio_x - 0.5, (y + 0.5) / ratio_y - 0.5, turned.angle, float(scores[row, column]))


def _by_place(bank: _Bank, spots: list[_Spot]) -> list[list[_Spot]]:
    """The best `PLACES` places, of each the best `TURNS` turns that are not neighbours."""
    step = abs(bank.turned[1].angle - bank.turned[0].angle) if len(bank.turned) > 1 else 360.0
    places: list[list[_Spot]] = []
    least = _WORTH * max((spot.score for spot in spots), default=0.0)
    for spot in sorted((spot for spot in spots if spot.score >= least), key=lambda spot: -spot.score):
        place = next((one for one in places if not _apart(bank, one[0], spot)), None)
        if place is None:
            if len(places) < PLACES:
                places.append([spot])
        elif len(place) < TURNS and all(abs((spot.angle - one.angle + 180) % 360 - 180) > 1.5 * step for one in place):
            place.append(spot)
    return places


def _apart(bank: _Bank, one: _Spot, other: _Spot) -> bool:
    """Are two places so far from each other that they are two parts?"""
    turn = math.radians(one.angle)
    right, down = other.x - one.x, other.y - one.y
    along = math.cos(turn) * right + math.sin(turn) * down
    across = math.cos(turn) * down - math.sin(turn) * right
    height, width = bank.grey.shape
    return bool(abs(along) > APART * width or abs(across) > APART * height)


def _closer(alignment: Alignment, bank: _Bank, field: Field, spot: _Spot) -> _Spot:
    """A guess of the first step, looked at more closely."""
    slopes = bank.slopes[0]
    step = abs(bank.turned[1].angle - bank.turned[0].angle) if len(bank.turned) > 1 else 0.0
    reach = math.ceil(slopes.scale / bank.coarse)
    turns = [spot.angle + step * share for share in (-0.33, 0.0, 0.33)] if step else [spot.angle]
    tried = [_near(field, turn_template(slopes.small, turn, 1.0), slopes.scale, spot, reach) for turn in turns]
    return _refined(alignment, field, slopes, max(tried, key=lambda one: one.score))


def _refined(alignment: Alignment, field: Field, slopes: Slopes, spot: _Spot) -> _Spot:
    """Shift and turn together at one scale, to a fraction of a pixel; where that leads away, the guess stays."""
    height, width = slopes.soft.shape
    ratio_x, ratio_y = field.ratios(slopes.scale)
    x, y = (spot.x + 0.5) * ratio_x - 0.5, (spot.y + 0.5) * ratio_y - 0.5
    square, left, top = field.around(slopes.scale, x, y, math.ceil(math.hypot(width, height)) + 8)
    soft = np.asarray(cv2.GaussianBlur(square, (5, 5), 0), np.float32)
    best = (fit_of(square, slopes.small, x - left, y - top, spot.angle), x, y, spot.angle)
    angle = spot.angle
    for _ in range(_STEPS):
        away = normalised(straightened(soft, x - left, y - top, angle, (width, height))) - slopes.soft
        right, down, turn = ((slopes.back * away.ravel()).sum(1, dtype=np.float64)).tolist()
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x, y, angle = x - cos * right + sin * down, y - sin * right - cos * down, angle - math.degrees(turn)
        if max(abs(x - best[1]), abs(y - best[2])) > _FAR or abs(angle - best[3]) > _FAR_TURN:
            x, y, angle = best[1:]
            break
        if max(abs(right), abs(down), abs(turn) * max(width, height) / 2) < _STILL:
            break
    if alignment.angle < 180:
        angle = min(max(angle, -alignment.angle), alignment.angle)
    refined = (fit_of(square, slopes.small, x - left, y - top, angle), x, y, angle)
    score, x, y, angle = max(best, refined)
    return _Spot((x + 0.5) / ratio_x - 0.5, (y + 0.5) / ratio_y - 0.5, angle, score)
