"""Normalised correlation of a turned template with a picture, refinements of shift and turn, and outlines: what
:mod:`edgead.alignment` searches with. Grey levels are float32 arrays, places pixels from the middle of the first one, turns
degrees, clockwise as one sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

CONTRAST = 2.0
"""Light may leave so much less contrast than the reference has; what has even less, such as a shade on the belt, fits badly."""
_CLEAR, _RIM, _OF_MOST = 10.0, 5.0, 0.15
"""Grey levels, times the rim's spread, share of the largest difference: what stands out does so by all of them."""
FLAT = 2.0
"""Grey levels of standard deviation: where there is less, there is nothing to see."""
_DAMPED = 1e-3
"""A part that looks the same whichever way it is turned must not make a refinement turn without end."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The template turned, square, ready to be correlated: `weights` are of mean 0 and norm 1 on `mask`, 0 elsewhere; `norm`
    is what they had."""

    angle: float
    weights: FloatArray
    mask: FloatArray
    count: float
    norm: float


def turn_template(looked: FloatArray, angle: float, scale: float) -> Turned:
    """The template turned by `angle` degrees, clockwise as one sees it, at `scale`, in the middle of a square."""
    height, width = looked.shape
    side = max(3, math.ceil(scale * math.hypot(width, height)))
    big = side / scale
    turn = math.radians(angle)
    cos, sin = math.cos(turn), math.sin(turn)
    rotate = np.array([[cos, -sin], [sin, cos]])
    full = math.ceil(big)
    zoom = full / big  # turned at about the template's own size, then shrunk, so that nothing aliases
    matrix = np.column_stack([zoom * rotate, [0.0, 0.0]])
    matrix[:, 2] = (full - 1) / 2 - matrix[:, :2] @ [(width - 1) / 2, (height - 1) / 2]
    turned = cv2.warpAffine(looked, matrix, (full, full), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(looked), matrix, (full, full), flags=cv2.INTER_LINEAR)
    if full != side:
        turned, inside = (cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in (turned, inside))
    mask = (inside > 0.5).astype(np.float32)
    count = float(mask.sum())
    weights = (turned - float((turned * mask).sum()) / count) * mask
    norm = float(np.linalg.norm(weights))
    return Turned(angle, np.asarray(weights / max(norm, 1e-6), np.float32), mask, count, norm)


def sums_under(field: FloatArray, turned: Turned) -> tuple[FloatArray, FloatArray]:
    """Of the values, and of their squares, under the mask."""
    one, two = (cv2.matchTemplate(values, turned.mask, cv2.TM_CCORR) for values in (field, field * field))
    return np.asarray(one, np.float32), np.asarray(two, np.float32)


def correlation(field: FloatArray, turned: Turned, sums: tuple[FloatArray, FloatArray] | None = None) -> FloatArray:
    """Normalised correlation wherever the square fits into `field`; lower where that has far less contrast."""
    one, two = sums_under(field, turned) if sums is None else sums
    found = cv2.matchTemplate(field, turned.weights, cv2.TM_CCORR)
    spread = np.sqrt(np.maximum(two - one * one / turned.count, 0))
    return np.asarray(found / np.maximum(spread, turned.norm / CONTRAST), np.float32)


@dataclass(frozen=True, slots=True)
class Slopes:
    """For refinements at one scale.

    Attributes:
        scale: against the template's.
        small: the template at that scale.
        soft: the same, blurred, of mean 0 and norm 1.
        back: 3 x (h w): from a difference of normalised pictures to the steps right, down (pixels) and clockwise (radians).
    """

    scale: float
    small: FloatArray
    soft: FloatArray
    back: FloatArray


def slopes_of(looked: FloatArray, scale: float, turns: bool) -> Slopes:
    small = cv2.resize(looked, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else looked
    soft = normalised(cv2.GaussianBlur(np.asarray(small, np.float32), (5, 5), 0))
    height, width = soft.shape
    down, right = np.gradient(soft)
    v, u = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    steps = [right, down, u * down - v * right] if turns else [right, down]
    rows = np.stack([step.ravel() for step in steps]).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    rows -= (rows @ soft.ravel())[:, None] * soft.ravel()  # contrast is no step
    square = rows @ rows.T
    damped = square + np.diag(np.maximum(_DAMPED * np.diag(square), 1e-12))
    back = np.zeros((3, soft.size), np.float32)
    back[: len(rows)] = np.linalg.solve(damped, rows)
    return Slopes(scale, np.asarray(small, np.float32), soft, back)


def normalised(values: npt.NDArray[Any]) -> FloatArray:
    """Of mean 0 and norm 1; all 0 where they are flat."""
    away = np.asarray(values, np.float32) - np.float32(values.mean())
    norm = float(np.sqrt(np.square(away).sum()))
    return np.asarray(away / norm if norm > FLAT * math.sqrt(away.size) else np.zeros_like(away), np.float32)


def straightened(square: FloatArray, x: float, y: float, angle: float, size: tuple[int, int]) -> FloatArray:
    """What `square` shows around x, y, turned back, of so many pixels (width, height)."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = (size[0] - 1) / 2, (size[1] - 1) / 2
    matrix = np.array([[cos, -sin, x - cos * u + sin * v], [sin, cos, y - sin * u - cos * v]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(square, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


def fit_of(square: FloatArray, small: FloatArray, x: float, y: float, angle: float) -> float:
    seen = straightened(square, x, y, angle, (small.shape[1], small.shape[0]))
    away, own = seen - np.float32(seen.mean()), small - np.float32(small.mean())
    spread, norm = (math.sqrt(float(np.square(one).sum(dtype=np.float64))) for one in (away, own))
    return float((away * own).sum(dtype=np.float64)) / (norm * max(spread, norm / CONTRAST))


class Field:
    """What is searched, at the template's scale and, on demand, at smaller ones."""

    def __init__(self, looked: FloatArray, centre: tuple[float, float] | None = None) -> None:
        self.looked, self.centre = looked, centre
        self._smaller: dict[float, FloatArray] = {1.0: looked}

    def at(self, scale: float) -> FloatArray:
        if scale not in self._smaller:
            small = cv2.resize(self.looked, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self._smaller[scale] = np.asarray(small, np.float32)
        return self._smaller[scale]

    def ratios(self, scale: float) -> tuple[float, float]:
        """Of width and height, against the template's scale; whole pixels make them differ a little from `scale`."""
        small = self.at(scale)
        return small.shape[1] / self.looked.shape[1], small.shape[0] / self.looked.shape[0]

    def around(self, scale: float, x: float, y: float, side: int) -> tuple[FloatArray, int, int]:
        """A square of `side` pixels around x, y (at that scale), its left and its top; the nearest pixels where it ends."""
        small = self.at(scale)
        left, top = round(x - (side - 1) / 2), round(y - (side - 1) / 2)
        columns = np.clip(np.arange(left, left + side), 0, small.shape[1] - 1)
        rows = np.clip(np.arange(top, top + side), 0, small.shape[0] - 1)
        return np.ascontiguousarray(small[np.ix_(rows, columns)]), left, top


def silhouette(grey: npt.NDArray[np.uint8], least: float, most: float, most_blobs: int = 3) -> list[npt.NDArray[np.uint8]]:
    """What stands out from a plain background: blobs of `least` to `most` pixels, the largest first, at most `most_blobs`, each
    H x W, 255 on it, its holes filled. The background is what the picture's rim shows; a pixel stands out when it is lighter or
    darker by far more than the rim varies, and by a share of the largest difference."""
    soft = cv2.GaussianBlur(grey, (3, 3), 0)
    rim = np.concatenate([soft[:2].ravel(), soft[-2:].ravel(), soft[:, :2].ravel(), soft[:, -2:].ravel()]).astype(np.float32)
    level = float(np.median(rim))
    away = cv2.absdiff(soft, np.full_like(soft, round(level)))
    spread = 1.4826 * float(np.median(np.abs(rim - level)))
    limit = max(_CLEAR, _RIM * spread, _OF_MOST * float(away.max()))
    outlines = cv2.findContours((away > limit).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    sized = sorted(((cv2.contourArea(line), i) for i, line in enumerate(outlines)), reverse=True)
    return [
        np.asarray(cv2.drawContours(np.zeros_like(grey), outlines, i, 255, cv2.FILLED), np.uint8)
        for area, i in sized
        if least <= area <= most
    ][:most_blobs]
