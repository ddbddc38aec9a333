"""The picture people look at: anomaly map over the camera's picture, outline of what is too much, banner with the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
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


def draw_overlay(inspection: Inspection, scale: HeatScale, roi: tuple[int, int, int, int] | None = None) -> Image:
    """Heat map, outline and banner.

    Args:
        inspection: with a frame; without a map only the banner is drawn.
        scale: what colours mean.
        roi: x, y, width, height of the inspected part of the picture; None is all of it.

    Returns:
        h x w x 3 uint8 BGR: the banner on top of the whole picture, at least 480 pixels wide.

    Raises:
        BadInput: the inspection has no frame.
    """
    if inspection.frame is None:
        raise BadInput(f"part {inspection.part_id} has no picture ({inspection.cause})")
    picture = inspection.frame.image
    factor = max(1, math.ceil(MIN_WIDTH / picture.shape[1]))
    height, width = picture.shape[0] * factor, picture.shape[1] * factor
    canvas: Image = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8).copy()
    x, y, w, h = (v * factor for v in roi) if roi else (0, 0, width, height)
    inside = canvas[y : y + h, x : x + w]
    if inspection.anomaly_map is not None and inside.size:
        _paint(inside, scale.apply(inspection.anomaly_map))
    if roi:
        cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), (200, 200, 200), 1)
    return np.vstack([_banner(inspection, width), canvas])


def _paint(canvas: Image, heat: npt.NDArray[np.float32]) -> None:
    """Blend colours into `canvas` where `heat` is above 0.6 and outline where it reaches 1."""
    size = (canvas.shape[1], canvas.shape[0])
    full = np.asarray(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR), np.float32)
    colours = cv2.applyColorMap(np.clip(full * (255 / SATURATES_AT), 0, 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    alpha = (OPACITY * np.clip((full - VISIBLE_FROM) / (1 - VISIBLE_FROM), 0, 1))[:, :, None]
    canvas[:] = (canvas * (1 - alpha) + colours * alpha).astype(np.uint8)
    outlines, _ = cv2.findContours((full >= 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(1, round(min(size) / 300))
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
