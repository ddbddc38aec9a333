"""Drawn parts that lie anywhere, turned anyhow: a bright bracket with two holes of different sizes and a slot, on a dark belt."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgead.types import Image

SIZE = (240, 180)
"""Width, height of the camera's pictures."""
PART = (72, 48)
"""Width, height of the part, in the middle of a drawing that is larger."""
_CANVAS = 144


def draw_turned(
    seed: int,
    at: tuple[float, float] | None = (119.5, 89.5),
    angle: float = 0.0,
    defect: bool = False,
    second: tuple[float, float] | None = None,
    size: tuple[int, int] = SIZE,
) -> Image:
    """One picture.

    Args:
        seed: of the noise.
        at: where the part's middle lies, pixels; None: there is no part.
        angle: degrees, clockwise.
        defect: a dark gash across the part.
        second: where another part lies, if at all.
    """
    rng = np.random.default_rng(seed)
    image = np.full((size[1], size[0], 3), (48, 52, 50), np.float32)
    for place in (at, second):
        if place is not None:
            _put(image, _part(defect), place, angle)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def _part(defect: bool) -> Image:
    """Drawn four times as large; what is black is belt."""
    part = np.zeros((4 * _CANVAS, 4 * _CANVAS, 3), np.uint8)
    left, top = 2 * _CANVAS - 2 * PART[0], 2 * _CANVAS - 2 * PART[1]
    right, low = left + 4 * PART[0], top + 4 * PART[1]
    cv2.rectangle(part, (left, top), (right - 1, low - 1), (190, 196, 200), -1)
    cv2.rectangle(part, (right - 80, top), (right - 1, top + 60), (0, 0, 0), -1)  # a corner is missing
    cv2.circle(part, (left + 60, top + 60), 34, (70, 74, 72), -1)
    cv2.circle(part, (left + 70, low - 50), 20, (70, 74, 72), -1)
    cv2.line(part, (left + 150, low - 60), (right - 40, low - 60), (110, 116, 120), 20)
    if defect:
        cv2.line(part, (left + 120, top + 20), (right - 110, low - 90), (20, 20, 120), 22)
    return part


def _put(image: np.ndarray, part: Image, at: tuple[float, float], angle: float) -> None:
    turn = np.radians(angle)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / 4
    middle = np.full(2, (4 * _CANVAS - 1) / 2)
    matrix = np.column_stack([rotate, np.array(at) - rotate @ middle])
    size = (image.shape[1], image.shape[0])
    soft = cv2.GaussianBlur(part, (5, 5), 1.2).astype(np.float32)
    covered = cv2.GaussianBlur((part.max(2) > 0).astype(np.float32), (5, 5), 1.2)
    placed, alpha = cv2.warpAffine(soft, matrix, size), cv2.warpAffine(covered, matrix, size)[:, :, None]
    image[:] = image * (1 - alpha) + placed


def anywhere(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[tuple[float, float], float]:
    """A place at which the whole part is in the picture, and a turn."""
    return (float(rng.uniform(50, size[0] - 50)), float(rng.uniform(50, size[1] - 50))), float(rng.uniform(-180, 180))


def write_turned(folder: Path, count: int, seed: int = 0, defect: bool = False, turned: bool = True) -> Path:
    """Pictures of parts anywhere; the first lies as it is drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        at, angle = anywhere(rng)
        if not turned or (i == 0 and not defect):
            at, angle = (119.5, 89.5), 0.0
        cv2.imwrite(str(folder / f"{i:03d}.png"), draw_turned(1000 * seed + i, at, angle, defect))
    return folder
