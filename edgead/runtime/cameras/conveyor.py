"""Parts on a conveyor belt, drawn from scratch: a turned steel flange with bolt holes and a laser mark, as a camera sees it.

Nothing is loaded: geometry, texture, light and sensor noise are computed, so a demo and a test need no files. The same
generator state gives the same picture, and a part drawn with and without a defect differs only where the mask says.

The camera model is the usual one (EMVA 1288): a signal in photo-electrons with shot noise (variance = signal), additive read
noise, then 8-bit quantisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.types import Image

Mask = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

UNIT = 512.0
"""Lengths below are in pixels of a picture whose shorter side is 512; other sizes are scaled."""

OUTER, FACE, GROOVE, HUB, BORE = 212.0, 204.0, 100.0, 92.0, 60.0
BOLT_CIRCLE, BOLT_RADIUS, BOLTS = 154.0, 19.0, 6
SINK = 6.0  # width of a bolt hole's countersink
LIGHT = math.radians(-125.0)  # the direction that the light comes from: above left
PRINT = ("FLG-204", "6x M8")
CHANGED = 0.02  # share of full scale that counts as a visible change
FULL_WELL = 11_000.0  # photo-electrons at 255
READ_NOISE = 9.0  # photo-electrons, RMS


@dataclass(frozen=True, slots=True)
class _Scene:
    """One part on the belt: where it lies, how it was made, and the seed of its textures."""

    height: int
    width: int
    x: float
    y: float
    angle: float
    seed: int
    holes: tuple[bool, ...] = (True,) * BOLTS
    chip: tuple[float, float, float] | None = None  # angle (rad), half width (rad), depth (units)
    text: bool = True
    code: bool = True

    @property
    def scale(self) -> float:
        return min(self.height, self.width) / UNIT


@dataclass(frozen=True, slots=True)
class _Polar:
    """Each pixel in the part's own coordinates: radius (units) and angle (rad) as seen, unrotated."""

    dx: Plane
    dy: Plane
    radius: Plane
    theta: Plane


def draw_part(
    rng: np.random.Generator, defect: str | None = None, light: float = 1.0, size: tuple[int, int] = (512, 512)
) -> tuple[Image, Mask]:
    """One part as the camera sees it.

    Args:
        rng: advanced by the same amount whatever the defect.
        defect: one of `DEFECTS`, or None for a good part.
        light: brightness of the lamp, 1.0 as set up.
        size: (height, width) in pixels, each at least 64.

    Returns:
        picture H x W x 3 uint8 BGR, and mask H x W uint8: 255 where the defect changed the part, else 0.

    Raises:
        BadInput: unknown defect, or a picture too small.
    """
    if defect is not None and defect not in DEFECTS:
        raise BadInput(f"unknown defect {defect!r}", hint=f"choose from {', '.join(DEFECTS)}")
    if min(size) < 64:
        raise BadInput(f"a picture of {size[1]} x {size[0]} px is too small to draw a part", hint="use 64 or more")
    part_seed, defect_seed, noise_seed = (int(seed) for seed in rng.integers(0, 2**32, 3))
    scene = _place(part_seed, size)
    picture, body = _render(scene)
    mask = np.zeros(size, np.uint8)
    if defect is not None:
        flawed = _spoil(picture, body, scene, defect, np.random.default_rng(defect_seed))
        mask = _changed(picture, flawed)
        picture = flawed
    return _expose(picture, light, np.random.default_rng(noise_seed)), mask


def _place(seed: int, size: tuple[int, int]) -> _Scene:
    rng = np.random.default_rng(seed)
    scale = min(size) / UNIT
    x, y = (np.array(size[::-1]) / 2 + rng.uniform(-7, 7, 2) * scale).tolist()
    return _Scene(size[0], size[1], x, y, math.radians(rng.uniform(-5, 5)), int(rng.integers(2**32)))


def _spoil(picture: Plane, body: Plane, scene: _Scene, defect: str, rng: np.random.Generator) -> Plane:
    if defect in _GEOMETRY:
        return _render(_GEOMETRY[defect](scene, rng))[0]
    flawed = picture.copy()
    _SURFACE[defect](flawed, scene, rng)
    return np.asarray(picture + body[:, :, None] * (flawed - picture), np.float32)  # nothing happens to the belt


def _changed(good: Plane, flawed: Plane) -> Mask:
    difference = cv2.GaussianBlur(np.abs(flawed - good).max(axis=2), (0, 0), 0.8)
    mask = (difference > CHANGED).astype(np.uint8) * 255
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.uint8)


# --- the part ---------------------------------------------------------------------------------------------------------


def _render(scene: _Scene) -> tuple[Plane, Plane]:
    """The light that reaches the lens (H x W x 3 float32 BGR, about 0 to 1) and the part's coverage of each pixel (H x W)."""
    rng = np.random.default_rng(scene.seed)
    polar = _polar(scene)
    belt = _belt(scene, rng)
    steel = _steel(scene, polar, rng)
    outer = OUTER - _chip_depth(scene, polar)
    body = _inside(outer - polar.radius, scene) * _inside(polar.radius - BORE, scene)
    steel *= _edge_shade(outer, polar)
    for cx, cy in _hole_centres(scene):
        _drill(steel, body, scene, cx, cy)
    steel *= 1 - 0.55 * _mark(scene)
    shadow = cv2.GaussianBlur(body, (0, 0), 7 * scene.scale)
    shadow = cv2.warpAffine(shadow, np.array([[1, 0, 9 * scene.scale], [0, 1, 11 * scene.scale]]), shadow.shape[::-1])
    belt *= (1 - 0.62 * shadow)[:, :, None]
    tint = np.array([1.015, 1.0, 0.975], np.float32)  # steel is a little blue
    return np.asarray(belt + body[:, :, None] * (steel[:, :, None] * tint - belt), np.float32), body


def _polar(scene: _Scene) -> _Polar:
    y, x = np.mgrid[0 : scene.height, 0 : scene.width].astype(np.float32)
    dx, dy = (x - scene.x) / scene.scale, (y - scene.y) / scene.scale
    radius, theta = cv2.cartToPolar(dx, dy)
    return _Polar(dx, dy, np.asarray(radius, np.float32), np.asarray(theta, np.float32))


def _inside(depth: Plane, scene: _Scene) -> Plane:
    """Coverage of each pixel (0 to 1) from the signed depth inside an outline, in units."""
    return np.asarray(np.clip(depth * scene.scale + 0.5, 0, 1), np.float32)


def _belt(scene: _Scene, rng: np.random.Generator) -> Plane:
    """A dark rubber belt with a diamond pattern that has moved on by a random amount, worn in the direction of travel."""
    y, x = np.mgrid[0 : scene.height, 0 : scene.width].astype(np.float32) / scene.scale
    x += rng.uniform(0, 14)
    pattern = np.abs(np.sin((x + y) * math.pi / 14)) * np.abs(np.sin((x - y) * math.pi / 14))
    rows = cv2.GaussianBlur(rng.standard_normal((scene.height, 1)).astype(np.float32), (1, 0), 0.1, sigmaY=2.0)
    grain = cv2.GaussianBlur(rng.standard_normal((scene.height, scene.width)).astype(np.float32), (0, 0), 0.9)
    shade = 0.105 + 0.075 * np.sqrt(pattern) + 0.006 * rows + 0.011 * grain
    return np.asarray(np.clip(shade, 0.01, 1)[:, :, None] * np.array([1.08, 1.0, 0.86], np.float32), np.float32)


def _steel(scene: _Scene, polar: _Polar, rng: np.random.Generator) -> Plane:
    """A face turned on a lathe: fine arcs, a bow-tie highlight across the tool marks, steps and chamfers that catch light."""
    arcs = rng.standard_normal((440, 180)).astype(np.float32)
    arcs = cv2.blur(np.concatenate([arcs, arcs, arcs], axis=1), (25, 1))[:, 180:360] * 5.0
    rings = cv2.GaussianBlur(rng.standard_normal((440, 1)).astype(np.float32), (1, 0), 0.1, sigmaY=0.8)
    rows = polar.radius * 2 % 439
    columns = polar.theta * np.float32(179 / (2 * math.pi))
    texture = cv2.remap(arcs * 0.016 + rings * 0.016, columns, rows, cv2.INTER_LINEAR)
    facing = np.cos(polar.theta - np.float32(LIGHT))
    bow_tie = np.abs(facing) ** 3
    table = np.arange(0, 600, 0.5, dtype=np.float32)
    slope = np.interp(
        table,
        [BORE, BORE + 1, BORE + 7, BORE + 8, HUB, HUB + 2, GROOVE - 2, GROOVE, GROOVE + 2, FACE - 1, FACE, OUTER],
        [-0.7, -0.7, -0.7, 0, 0, 0.8, 0.5, -0.7, 0, 0, 0.75, 0.75],
    ).astype(np.float32)
    slope_here = np.take(slope, np.clip((polar.radius * 2).astype(np.int32), 0, len(slope) - 1))
    base = np.where(polar.radius < HUB, np.float32(0.58), np.float32(0.51))
    return np.asarray(base + 0.19 * bow_tie * (1 - np.abs(slope_here)) + 0.24 * slope_here * facing + texture, np.float32)


def _edge_shade(outer: Plane | float, polar: _Polar) -> Plane:
    """Dark broken metal just inside a chip; 1 elsewhere."""
    depth = np.clip((np.asarray(outer, np.float32) - polar.radius) / 5.0, 0, 1)
    broken = np.asarray(outer, np.float32) < OUTER - 0.5
    return np.asarray(np.where(broken, 0.45 + 0.55 * depth, 1.0), np.float32)


def _chip_depth(scene: _Scene, polar: _Polar) -> Plane:
    if scene.chip is None:
        return np.zeros_like(polar.radius)
    at, half_width, depth = scene.chip
    away = np.angle(np.exp(1j * (polar.theta - at))).astype(np.float32) / half_width
    jagged = 1 + 0.20 * np.sin(away * 5 + at * 40) + 0.07 * np.sin(away * 17 + at * 90)
    return np.asarray(depth * np.clip(1 - away**2, 0, 1) ** 0.7 * jagged, np.float32)


def _hole_centres(scene: _Scene) -> list[tuple[float, float]]:
    angles = [scene.angle + i * 2 * math.pi / BOLTS for i in range(BOLTS)]
    return [
        (BOLT_CIRCLE * math.cos(a), BOLT_CIRCLE * math.sin(a)) for a, drilled in zip(angles, scene.holes, strict=True) if drilled
    ]


def _drill(steel: Plane, body: Plane, scene: _Scene, cx: float, cy: float) -> None:
    """Cut one countersunk bolt hole at (cx, cy) units from the part's centre."""
    reach = BOLT_RADIUS + SINK + 3
    rows, columns = _window(scene, cx, cy, reach)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    dx, dy = (x - scene.x) / scene.scale - cx, (y - scene.y) / scene.scale - cy
    radius = np.hypot(dx, dy)
    sink = _inside(BOLT_RADIUS + SINK - radius, scene)
    facing = np.cos(np.arctan2(dy, dx) - LIGHT)
    steel[rows, columns] += sink * (0.50 - 0.30 * facing - steel[rows, columns])
    body[rows, columns] *= 1 - _inside(BOLT_RADIUS - radius, scene)


def _window(scene: _Scene, cx: float, cy: float, reach: float) -> tuple[slice, slice]:
    s = scene.scale
    left, top = int(scene.x + (cx - reach) * s), int(scene.y + (cy - reach) * s)
    right, bottom = int(scene.x + (cx + reach) * s) + 2, int(scene.y + (cy + reach) * s) + 2
    return slice(max(top, 0), min(bottom, scene.height)), slice(max(left, 0), min(right, scene.width))


def _mark(scene: _Scene) -> Plane:
    """The laser mark (0 to 1): two lines of text below the hub and a square code above it."""
    over = 4  # drawn four times larger, then averaged
    sheet = np.zeros((int(UNIT) * over, int(UNIT) * over), np.uint8)
    middle = sheet.shape[0] // 2
    for line, text in enumerate(PRINT if scene.text else ()):
        font, size, weight = cv2.FONT_HERSHEY_SIMPLEX, 0.62 * over, 2 * over
        (width, _), _ = cv2.getTextSize(text, font, size, weight)
        origin = (middle - width // 2, middle + int((146 + 25 * line) * over))
        cv2.putText(sheet, text, origin, font, size, 255, weight, cv2.LINE_AA)
    code = np.random.default_rng(204).integers(0, 2, (12, 12)).astype(np.uint8) * 255
    code[:, 0] = code[-1, :] = 255
    code[0, :], code[:, -1] = [255, 0] * 6, [0, 255] * 6
    side = 42 * over
    if scene.code:
        top = middle - int((BOLT_CIRCLE + 21) * over)
        sheet[top : top + side, middle - side // 2 : middle + side // 2] = cv2.resize(
            code, (side, side), interpolation=cv2.INTER_NEAREST
        )
    small = cv2.resize(sheet, (int(UNIT), int(UNIT)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    turn = cv2.getRotationMatrix2D((UNIT / 2, UNIT / 2), -math.degrees(scene.angle), scene.scale)
    turn += np.array([[0, 0, scene.x - UNIT / 2], [0, 0, scene.y - UNIT / 2]])
    return np.asarray(cv2.warpAffine(small, turn, (scene.width, scene.height)), np.float32)


def _expose(picture: Plane, light: float, rng: np.random.Generator) -> Image:
    """Lens and sensor: vignetting, a little blur, shot and read noise, 8 bits."""
    height, width = picture.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = (1 - 0.10 * (x**2 + y**2)).astype(np.float32)
    seen = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.7), np.float32)
    signal = np.clip(seen * vignette[:, :, None] * np.float32(light * 1.08), 0, 1.2) * np.float32(FULL_WELL)
    noise = rng.standard_normal(signal.shape, np.float32) * np.sqrt(signal + np.float32(READ_NOISE**2))
    return np.asarray(np.clip((signal + noise) * np.float32(255 / FULL_WELL), 0, 255) + 0.5, np.uint8)


# --- what can be wrong with it ----------------------------------------------------------------------------------------


def _missing_hole(scene: _Scene, rng: np.random.Generator) -> _Scene:
    missing = int(rng.integers(BOLTS))
    return replace(scene, holes=tuple(i != missing for i in range(BOLTS)))


def _chipped_edge(scene: _Scene, rng: np.random.Generator) -> _Scene:
    return replace(scene, chip=(rng.uniform(0, 2 * math.pi), rng.uniform(0.06, 0.12), rng.uniform(10, 20)))


def _bad_print(scene: _Scene, rng: np.random.Generator) -> _Scene:
    """Text, code or both are missing: the laser broke off."""
    kind = int(rng.integers(3))
    return replace(scene, text=kind == 0, code=kind == 1)


def _spot(scene: _Scene, rng: np.random.Generator, inner: float = GROOVE + 20, outer: float = FACE - 20) -> tuple[float, float]:
    """A random place on the face between bolt holes, in units from the part's centre."""
    while True:
        radius, angle = rng.uniform(inner, outer), rng.uniform(0, 2 * math.pi)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        if all(math.hypot(x - cx, y - cy) > BOLT_RADIUS + SINK + 10 for cx, cy in _hole_centres(scene)):
            return x, y


def _stroke(scene: _Scene, points: Points, thickness: float) -> Plane:
    """Coverage (0 to 1) of an antialiased line through `points` (N x 2, units from the part's centre)."""
    pixels = (points * scene.scale + (scene.x, scene.y)) * 16
    sheet = np.zeros((scene.height, scene.width), np.uint8)
    width = max(1, round(thickness * scene.scale))
    cv2.polylines(sheet, [np.round(pixels).astype(np.int32)], False, 255, width, cv2.LINE_AA, shift=4)
    return np.asarray(sheet.astype(np.float32) / 255, np.float32)


def _curve(start: Points, end: Points, bends: Points) -> Points:
    """40 points of a cubic Bezier curve; `bends` (2 x 2) are its inner control points."""
    t = np.linspace(0, 1, 40)[:, None]
    curve: Points = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * bends[0] + 3 * (1 - t) * t**2 * bends[1] + t**3 * end
    return curve


def _scratch(picture: Plane, scene: _Scene, rng: np.random.Generator) -> None:
    """A bright groove across the tool marks with a dark burr beside it."""
    middle = np.array(_spot(scene, rng))
    direction = math.atan2(middle[1], middle[0]) + rng.uniform(-0.9, 0.9)
    along = np.array([math.cos(direction), math.sin(direction)]) * rng.uniform(32, 48)
    across = np.array([-along[1], along[0]]) * rng.uniform(-0.25, 0.25)
    line = _curve(middle - along, middle + along, np.stack([middle - along / 3 + across, middle + along / 3 + across]))
    picture += (_stroke(scene, line, 3.0) * rng.uniform(0.28, 0.38))[:, :, None]
    picture *= (1 - 0.5 * _stroke(scene, line + 2.4, 2.4))[:, :, None]


def _dent(picture: Plane, scene: _Scene, rng: np.random.Generator) -> None:
    """A pressed-in bowl: its far wall catches the light, its near wall loses it."""
    cx, cy = _spot(scene, rng)
    sigma = rng.uniform(9, 13)
    polar = _polar(replace(scene, x=scene.x + cx * scene.scale, y=scene.y + cy * scene.scale))
    bowl = np.exp(-(polar.radius**2) / (2 * sigma**2))
    slope = (polar.dx * math.cos(LIGHT) + polar.dy * math.sin(LIGHT)) / sigma * bowl
    picture *= (1 - 1.15 * slope - 0.15 * bowl)[:, :, None]


def _stain(picture: Plane, scene: _Scene, rng: np.random.Generator) -> None:
    """A brown, uneven oil spot."""
    cx, cy = _spot(scene, rng)
    polar = _polar(replace(scene, x=scene.x + cx * scene.scale, y=scene.y + cy * scene.scale))
    phases = rng.uniform(0, 2 * math.pi, 3)
    wobble = sum(a * np.sin(n * polar.theta + p) for n, a, p in zip((2, 3, 5), (0.22, 0.14, 0.08), phases, strict=True))
    edge = rng.uniform(15, 27) * (1 + wobble)
    blob = 1 / (1 + np.exp(np.minimum((polar.radius - edge) / 1.6, 60.0)))  # float32 ends at exp(88)
    strength = rng.uniform(0.45, 0.65) * blob * (0.75 + 0.25 * np.clip(polar.radius / edge, 0, 1))
    picture *= 1 - strength[:, :, None] * np.array([1.0, 0.78, 0.62], np.float32)


def _fibre(picture: Plane, scene: _Scene, rng: np.random.Generator) -> None:
    """A textile fibre lying on the face, with its shadow."""
    middle = np.array(_spot(scene, rng))
    ends = middle + rng.uniform(26, 42) * np.array([[1.0, 0.3], [-1.0, 0.2]]) @ _turn(rng.uniform(0, 2 * math.pi))
    line = _curve(ends[0], ends[1], middle + rng.uniform(-42, 42, (2, 2)))
    picture *= (1 - 0.35 * cv2.GaussianBlur(_stroke(scene, line + 3.2, 3), (0, 0), 1.6))[:, :, None]
    colour = np.array(((0.30, 0.12, 0.07), (0.10, 0.09, 0.42), (0.10, 0.10, 0.11))[int(rng.integers(3))], np.float32)
    cover = _stroke(scene, line, 3.0)[:, :, None]
    picture += cover * (colour - picture)


def _turn(angle: float) -> Points:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


_GEOMETRY: dict[str, Callable[[_Scene, np.random.Generator], _Scene]] = {
    "missing_hole": _missing_hole,
    "chipped_edge": _chipped_edge,
    "bad_print": _bad_print,
}
_SURFACE: dict[str, Callable[[Plane, _Scene, np.random.Generator], None]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "fibre": _fibre,
}

DEFECTS: tuple[str, ...] = (*_SURFACE, *_GEOMETRY)
"""The kinds of defects that `draw_part` knows."""
