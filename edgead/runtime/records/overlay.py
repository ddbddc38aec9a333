"""The picture people look at: anomaly map over the camera's picture, outline of what is too much, banner with the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.alignment import Placement
from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe
from edgead.types import AnomalyMap, Image, Inspection, Verdict

COLOURS = {Verdict.OK: (80, 160, 40), Verdict.NG: (40, 40, 210), Verdict.UNKNOWN: (0, 140, 240)}  # BGR
MIN_WIDTH = 480  # pixels; smaller pictures are enlarged, so that the banner can be read
OPACITY = 0.55
VISIBLE_FROM = 0.6  # on the scale below
SATURATES_AT = 1.6  # on the scale below; the colour map's red end


@dataclass(frozen=True, slots=True)
class HeatScale:
    """A fixed scale for anomaly maps, so that colours mean the same on each part: 0 at `calm`, 1 at `level`.

    Pixels below 0.6 are not coloured at all, so good parts look like themselves.

    Attributes:
        calm: what the map is on good parts, raw model units (e.g. the median over the golden frames' maps).
        level: from here a pixel is outlined, raw model units (usually the threshold).
    """

    calm: float
    level: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.calm) and math.isfinite(self.level)):
            raise BadInput(f"a colour scale from {self.calm} to {self.level} is not usable", hint="give finite numbers")

    def apply(self, anomaly_map: AnomalyMap) -> npt.NDArray[np.float32]:
        """The map on the scale; values that are not finite are 0."""
        span = max(self.level - self.calm, 1e-6 * max(1.0, abs(self.level)))
        scaled = (anomaly_map - np.float32(self.calm)) / np.float32(span)
        return np.asarray(np.where(np.isfinite(scaled), scaled, 0), np.float32)


def draw_overlay(inspection: Inspection, scale: HeatScale, recipe: PreprocessRecipe | None = None) -> Image:
    """Heat map, outline and banner.

    Args:
        inspection: with a frame; without a map only the banner is drawn.
        scale: what colours mean.
        recipe: says which part of the picture the map is of; None is all of it. Where it aligns, the part is found once more.

    Returns:
        h x w x 3 uint8 BGR: the banner on top of the whole picture, at least 480 pixels wide; a frame around the part that was
        looked at, where that is not all; where the recipe aligns, it is turned as the part is, and its upper side is marked.

    Raises:
        BadInput: the inspection has no frame.
    """
    if inspection.frame is None:
        raise BadInput(f"part {inspection.part_id} has no picture ({inspection.cause})")
    picture = inspection.frame.image
    factor = max(1, math.ceil(MIN_WIDTH / picture.shape[1]))
    height, width = picture.shape[0] * factor, picture.shape[1] * factor
    canvas: Image = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8).copy()
    if recipe is not None and recipe.align is not None:
        _draw_turned(canvas, inspection, scale, recipe, factor)
        return np.vstack([_banner(inspection, width), canvas])
    if recipe is None:
        window = seen = (0, 0, width, height)
    else:
        window = _corners(recipe.window(picture.shape[1], picture.shape[0]), factor)
        x, y, w, h = recipe.inspected(picture.shape[1], picture.shape[0])
        whole = (x * factor, y * factor, min((x + w) * factor, width), min((y + h) * factor, height))
        seen = (max(window[0], whole[0]), max(window[1], whole[1]), min(window[2], whole[2]), min(window[3], whole[3]))
    left, top, right, low = seen
    inside = canvas[top:low, left:right]
    if inspection.anomaly_map is not None and inside.size:
        size = (window[2] - window[0], window[3] - window[1])
        heat = np.asarray(cv2.resize(scale.apply(inspection.anomaly_map), size, interpolation=cv2.INTER_LINEAR), np.float32)
        _paint(inside, heat[top - window[1] : low - window[1], left - window[0] : right - window[0]])
    if seen != (0, 0, width, height):
        cv2.rectangle(canvas, (left, top), (right - 1, low - 1), (200, 200, 200), 1)
    return np.vstack([_banner(inspection, width), canvas])


def _draw_turned(canvas: Image, inspection: Inspection, scale: HeatScale, recipe: PreprocessRecipe, factor: int) -> None:
    """Heat and frame where the part lies; nothing where it is not found, as the banner says."""
    assert inspection.frame is not None and recipe.align is not None
    try:
        placement = recipe.align.locate(inspection.frame.image)
    except BadInput:  # PartNotFound, mostly
        return
    corners = _seen(recipe, placement, factor)
    if inspection.anomaly_map is not None:
        heat = scale.apply(inspection.anomaly_map)
        x, y, w, h = recipe.window(*recipe.align.frame)
        step_x, step_y = w / heat.shape[1], h / heat.shape[0]
        matrix = _enlarged(recipe, placement, x + step_x / 2 - 0.5, y + step_y / 2 - 0.5, factor)
        matrix[:, :2] *= [step_x, step_y]
        size = (canvas.shape[1], canvas.shape[0])
        full = cv2.warpAffine(heat, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.fillConvexPoly(np.zeros(canvas.shape[:2], np.uint8), corners, 1)
        _paint(canvas, np.asarray(np.where(inside > 0, full, 0), np.float32))
    cv2.polylines(canvas, [corners], True, (200, 200, 200), 1, cv2.LINE_AA)
    cv2.polylines(canvas, [corners[:2]], False, (60, 160, 255), 2, cv2.LINE_AA)


def _enlarged(recipe: PreprocessRecipe, placement: Placement, left: float, top: float, factor: int) -> npt.NDArray[np.float64]:
    """2 x 3: from the reference picture's pixels, counted from left and top, to those of the enlarged picture."""
    assert recipe.align is not None
    matrix = recipe.align.to_camera(placement, left, top) * factor
    matrix[:, 2] += (factor - 1) / 2
    return matrix


def _seen(recipe: PreprocessRecipe, placement: Placement, factor: int) -> npt.NDArray[np.int32]:
    """4 x 2: corners of what the model sees of the enlarged picture, the upper side first."""
    assert recipe.align is not None
    whole = recipe.inspected(*recipe.align.frame)
    x, y, w, h = recipe.window(*recipe.align.frame)
    left, top = max(x, whole[0]), max(y, whole[1])
    right, low = min(x + w, whole[0] + whole[2]), min(y + h, whole[1] + whole[3])
    corners = np.array([[left, top], [right, top], [right, low], [left, low]]) - 0.5
    matrix = _enlarged(recipe, placement, 0, 0, factor)
    return np.asarray(np.rint(corners @ matrix[:, :2].T + matrix[:, 2]), np.int32)


def _corners(window: tuple[float, float, float, float], factor: int) -> tuple[int, int, int, int]:
    """x, y, width, height -> left, top, right, low in whole pixels of the enlarged picture."""
    x, y, w, h = (value * factor for value in window)
    return round(x), round(y), max(round(x) + 1, round(x + w)), max(round(y) + 1, round(y + h))


def _paint(canvas: Image, full: npt.NDArray[np.float32]) -> None:
    """Blend colours into `canvas` where the heat, of its size, is above 0.6 and outline where it reaches 1."""
    colours = cv2.applyColorMap(np.clip(full * (255 / SATURATES_AT), 0, 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = (OPACITY * np.clip((full - VISIBLE_FROM) / (1 - VISIBLE_FROM), 0, 1))[:, :, None]
    canvas[:] = (canvas * (1 - alpha) + colours * alpha).astype(np.uint8)
    outlines, _ = cv2.findContours((full >= 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(1, round(min(canvas.shape[:2]) / 300))
    cv2.drawContours(canvas, outlines, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(canvas, outlines, -1, (255, 255, 255), thickness)


def _banner(inspection: Inspection, width: int) -> Image:
    """A strip in the verdict's colour with what was decided and why."""
    unit = width / 640
    strip: Image = np.full((max(28, round(34 * unit)), width, 3), COLOURS[inspection.verdict], np.uint8)
    score = "-" if math.isnan(inspection.score) else f"{inspection.score:.4g}"
    text = f"{inspection.verdict.value}   score {score} / {inspection.threshold:.4g}   part {inspection.part_id}"
    if inspection.cause:
        text += f"   {inspection.cause}"
    font, size, thickness = cv2.FONT_HERSHEY_SIMPLEX, 0.6 * unit, max(1, round(1.4 * unit))
    needed = cv2.getTextSize(text, font, size, thickness)[0][0]
    size = min(size, size * (width - 24 * unit) / needed)
    cv2.putText(
        strip, text, (round(12 * unit), round(strip.shape[0] * 0.68)), font, size, (255, 255, 255), thickness, cv2.LINE_AA
    )
    return strip
