"""Defects drawn onto good pictures, so that INT8 is also judged where scores are high when nobody has a real defect.

They stand in for defects, they do not predict which ones will be found: what they give is answers of the trained model and of an
engine on pictures that no good part looks like. Four kinds, all at model size:

- ``cut_paste``: a piece of the picture, turned and brightened or darkened a little, at another place (Li et al. 2021, CutPaste).
- ``scratch``: thin curved lines, light or dark, fading along their length (the paper's "scar", but curved).
- ``stain``: a soft blob with a ragged edge, darker, brighter or tinted.
- ``texture``: the picture itself, mirrored and turned, shown through a noise mask (Zavrtanik et al. 2021, DRAEM, with the picture
  as the texture source, since there is no texture library on the box, and value noise instead of gradient noise).

The strength, 0 to 1, sets contrast and size: faint at 0.3, plain at 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.types import Image

Alpha = npt.NDArray[np.float32]
"""H x W float32, 0 to 1: how much of the defect shows."""

STRENGTHS = (0.35, 0.6, 1.0)
TRIES = 12
"""A piece pasted onto its like is no defect: so often another place is tried."""

FAINTEST_LEVELS = 8.0
"""Mean change inside the mask, in grey levels at strength 1, below which another place is tried."""


@dataclass(frozen=True, slots=True)
class DrawnDefect:
    """A good picture with a defect on it.

    Attributes:
        image: H x W x 3 uint8 BGR.
        mask: H x W bool, where it was changed.
        kind: of `KINDS`.
        strength: 0 to 1.
    """

    image: Image
    mask: npt.NDArray[np.bool_]
    kind: str
    strength: float


def draw_defects(images: Sequence[Image], count: int, seed: int = 0) -> list[DrawnDefect]:
    """`count` defects, kinds and strengths in turn, on pictures in turn; the same seed gives the same ones.

    Raises:
        BadInput: no pictures.
    """
    if not images:
        raise BadInput("defects are drawn onto good pictures, and there are none", hint="hold out good pictures")
    drawn = []
    for i in range(count):
        kind, strength = list(KINDS)[i % len(KINDS)], STRENGTHS[(i // len(KINDS)) % len(STRENGTHS)]
        drawn.append(draw_defect(images[i % len(images)], kind, strength, np.random.default_rng([seed, i])))
    return drawn


def draw_defect(image: Image, kind: str, strength: float, rng: np.random.Generator) -> DrawnDefect:
    """One defect on a good picture.

    Args:
        image: H x W x 3 uint8 BGR, at least 16 pixels high and wide.
        kind: of `KINDS`.
        strength: above 0, at most 1.

    Raises:
        BadInput: unknown kind, a strength outside of that, or a picture too small.
    """
    if kind not in KINDS:
        raise BadInput(f"unknown kind of defect {kind!r}", hint=f"choose from {', '.join(KINDS)}")
    if not 0.0 < strength <= 1.0 or min(image.shape[:2]) < 16:
        raise BadInput(
            f"cannot draw a defect of strength {strength} on {image.shape}", hint="0 < strength <= 1, 16 pixels or more"
        )
    part = foreground(image)
    best: DrawnDefect | None = None
    most = -1.0
    for _ in range(TRIES):
        changed, alpha = KINDS[kind](image.astype(np.float32), strength, rng, _place(part, rng))
        result = np.clip(np.rint(image + alpha[..., None] * (changed - image)), 0, 255).astype(np.uint8)
        delta = np.abs(result.astype(np.int16) - image).max(2)
        mask = (alpha > 0.02) & (delta > 0)
        contrast = float(delta[mask].mean()) if mask.sum() >= 4 else 0.0
        if contrast > most:
            best, most = DrawnDefect(result, mask, kind, strength), contrast
        if most >= FAINTEST_LEVELS * strength:
            break
    assert best is not None
    return best


def foreground(image: Image) -> npt.NDArray[np.bool_]:
    """Where the part is: what differs from an even border, H x W bool. All of the picture when the border is not even, or when
    next to nothing differs from it."""
    everything = np.ones(image.shape[:2], np.bool_)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(np.float32)
    middle = np.median(border, axis=0)
    spread = float(np.median(np.abs(border - middle).max(1)))
    if spread > 8.0:
        return everything
    smooth = cv2.GaussianBlur(image, (0, 0), max(1.0, min(image.shape[:2]) / 100)).astype(np.float32)
    part = np.abs(smooth - middle).max(2) > max(12.0, 4.0 * spread)
    return part if float(part.mean()) >= 0.05 else everything


def _place(part: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """(x, y) of a pixel of the part that is not at the very edge of the picture."""
    height, width = part.shape
    inner = np.zeros_like(part)
    inner[height // 12 : height - height // 12, width // 12 : width - width // 12] = True
    rows, columns = np.nonzero(part & inner if (part & inner).any() else inner)
    i = int(rng.integers(len(rows)))
    return float(columns[i]), float(rows[i])


def _cut_paste(
    image: npt.NDArray[np.float32], strength: float, rng: np.random.Generator, at: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], Alpha]:
    height, width = image.shape[:2]
    area = rng.uniform(0.004, 0.012 + 0.02 * strength) * height * width
    aspect = float(np.exp(rng.uniform(np.log(0.3), np.log(3.3))))
    half = (float(np.sqrt(area * aspect)) / 2, float(np.sqrt(area / aspect)) / 2)
    half = (max(2.0, min(half[0], width / 3)), max(2.0, min(half[1], height / 3)))
    source = (rng.uniform(half[0], width - half[0]), rng.uniform(half[1], height - half[1]))
    turn = cv2.getRotationMatrix2D(source, rng.uniform(-45, 45), 1.0)
    turn[:, 2] += np.array(at) - np.array(source)
    moved = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    light = 1.0 + float(rng.choice([-1.0, 1.0])) * rng.uniform(0.05, 0.1 + 0.25 * strength)
    box = np.array([source]) + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(half)
    corners = box @ turn[:, :2].T + turn[:, 2]
    alpha = _filled(corners, (height, width))
    return np.asarray(moved * light, np.float32), alpha


def _scratch(
    image: npt.NDArray[np.float32], strength: float, rng: np.random.Generator, at: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], Alpha]:
    height, width = image.shape[:2]
    size = min(height, width)
    alpha = np.zeros((height, width), np.float32)
    direction = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(1, 4))):
        angle = direction + rng.normal(0, 0.15)
        length, bend = size * rng.uniform(0.15, 0.25 + 0.3 * strength), rng.normal(0, 0.25)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        t = np.linspace(-0.5, 0.5, 40)[:, None]
        wave = bend * (0.25 - t * t) + 0.006 * np.cumsum(rng.normal(0, 0.6, (40, 1)), 0)
        start = np.array(at) + rng.normal(0, size / 30, 2)
        points = start + length * (t * along + wave * across)
        thickness = max(1, round(size / 256 * rng.uniform(0.8, 1.0 + strength)))
        fade = rng.uniform(0.5, 1.0) * np.clip(np.minimum(t[:, 0] + 0.5, 0.5 - t[:, 0]) * 6, 0.15, 1.0)
        for a, b, shown in zip(points[:-1], points[1:], fade[:-1], strict=True):
            ends = [(round(float(p[0]) * 16), round(float(p[1]) * 16)) for p in (a, b)]
            stroke = np.zeros((height, width), np.uint8)
            cv2.line(stroke, ends[0], ends[1], 255, thickness, cv2.LINE_AA, 4)
            np.maximum(alpha, stroke.astype(np.float32) * np.float32(shown / 255), out=alpha)
    here = _around(image, at)
    towards = 255.0 if (here < 128) == (rng.random() < 0.7) else 0.0  # mostly the side with more room
    reach = 0.3 + 0.6 * strength
    return np.asarray(image + reach * (towards - image), np.float32), alpha


def _stain(
    image: npt.NDArray[np.float32], strength: float, rng: np.random.Generator, at: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], Alpha]:
    height, width = image.shape[:2]
    size = min(height, width)
    radius = size * rng.uniform(0.03, 0.06 + 0.08 * strength)
    stretch, angle = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = (x - at[0]) * np.cos(angle) + (y - at[1]) * np.sin(angle)
    v = (y - at[1]) * np.cos(angle) - (x - at[0]) * np.sin(angle)
    distance = np.sqrt(u * u + (v / stretch) ** 2) / radius
    ragged = 1.0 - distance + 0.5 * (_noise((height, width), radius, rng) - 0.5)
    alpha = _smooth_step(ragged / rng.uniform(0.15, 0.6))
    sign = -1.0 if rng.random() < 0.7 else 1.0
    tint = rng.uniform(0.7, 1.0, 3) if rng.random() < 0.3 else np.ones(3)
    depth = (0.12 + 0.5 * strength) * tint
    target = image * (1.0 - depth) if sign < 0 else image + depth * (255.0 - image)
    return np.asarray(target, np.float32), alpha


def _texture(
    image: npt.NDArray[np.float32], strength: float, rng: np.random.Generator, at: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], Alpha]:
    height, width = image.shape[:2]
    size = min(height, width)
    scale = rng.uniform(0.4, 1.0)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(30, 330), scale)
    source = cv2.warpAffine(image[:, ::-1], turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    source = (source - source.mean()) * rng.uniform(1.0, 1.0 + strength) + source.mean() * (1.0 + rng.normal(0, 0.15))
    radius = size * rng.uniform(0.03, 0.05 + 0.05 * strength)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    near = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius * radius))
    alpha = _smooth_step((near * (0.4 + _noise((height, width), radius, rng)) - 0.45) / 0.1)
    return np.asarray(source, np.float32), np.asarray(alpha * (0.4 + 0.6 * strength), np.float32)


Draw = Callable[[npt.NDArray[np.float32], float, np.random.Generator, tuple[float, float]], tuple[npt.NDArray[np.float32], Alpha]]

KINDS: dict[str, Draw] = {"cut_paste": _cut_paste, "scratch": _scratch, "stain": _stain, "texture": _texture}
"""Kind -> what the picture would be if all of it were defective, and where it shows."""


def _filled(corners: npt.NDArray[np.float64], shape: tuple[int, int]) -> Alpha:
    """A polygon (N x 2, x and y in pixels) with a soft edge of about a pixel."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.rint(corners * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return np.asarray(canvas.astype(np.float32) / 255)


def _noise(shape: tuple[int, int], wavelength_px: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Value noise of three octaves, 0 to 1."""
    total = np.zeros(shape, np.float32)
    for octave in range(3):
        cell = max(2.0, wavelength_px / 2**octave)
        grid = rng.random((int(shape[0] / cell) + 2, int(shape[1] / cell) + 2), np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def _smooth_step(values: npt.NDArray[np.floating]) -> Alpha:
    clipped = np.clip(values, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3.0 - 2.0 * clipped), np.float32)


def _around(image: npt.NDArray[np.float32], at: tuple[float, float]) -> float:
    x, y = int(at[0]), int(at[1])
    return float(image[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].mean())
