"""The worst errors of a model as one picture: what was missed, what was rejected though good, and what the map said there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.training.dataset import Mask
from edgead.types import AnomalyMap, Image

WORST, SIDE = 5, 168


@dataclass(frozen=True, slots=True)
class Shown:
    """A test picture as a model judged it: `times` is its score over the threshold, NG from 1 on."""

    image: Image
    anomaly_map: AnomalyMap
    mask: Mask | None
    defect: bool
    times: float
    name: str
    threshold: float


def sheet(target: Path, shown: Mapping[str, Sequence[Shown]]) -> None:
    """One PNG: for each choice a row of the worst misses (defects of the lowest score) and one of the worst false rejects (good
    pictures of the highest), each with its map beside it; red is the threshold and above."""
    rows = []
    for choice, told in shown.items():
        misses = sorted((s for s in told if s.defect), key=lambda s: s.times)[:WORST]
        rejects = sorted((s for s in told if not s.defect), key=lambda s: -s.times)[:WORST]
        rows += [_row(f"{choice}: defects", misses), _row(f"{choice}: good", rejects)]
    target.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(target), np.vstack(rows)):
        raise OSError(f"{target} cannot be written")


def _row(title: str, told: Sequence[Shown]) -> Image:
    row = np.full((SIDE + 16, 2 * SIDE * WORST, 3), 255, np.uint8)
    for k, one in enumerate(told):
        told_here = np.hstack([outlined(one.image, one.mask, SIDE), heat(one.anomaly_map, one.threshold / 220 * 255, SIDE)])
        row[16:, 2 * SIDE * k : 2 * SIDE * (k + 1)] = told_here
        write(row, f"{title}  {one.times:.2f} x threshold  {one.name[:18]}", 2 * SIDE * k + 3, 12)
    return row


def outlined(image: Image, mask: Mask | None, side: int) -> Image:
    """A picture, side x side px, with what is marked as defective outlined."""
    picture = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    if mask is not None and mask.any():
        small = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        edges, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, edges, -1, (0, 255, 255), 1)
    return picture


def heat(anomaly_map: AnomalyMap, full: float, side: int) -> Image:
    """A map in colours, side x side px: blue is 0, the darkest red `full` and above."""
    scaled = np.clip(cv2.resize(anomaly_map, (side, side)) / full * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_JET), np.uint8)


def write(page: Image, text: str, x: int, y: int) -> None:
    """Small letters onto a page."""
    cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
