"""The demo's pictures: the data set that it draws, and the one with what was caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edgead.bundle import storage_errors
from edgead.runtime.cameras.conveyor import DEFECTS, draw_part
from edgead.runtime.records.overlay import COLOURS, HeatScale, draw_overlay
from edgead.types import Image, Inspection, Verdict

TRAIN_LIGHT = 0.05  # training pictures see the lamp between 95 and 105 %
TILE = 384  # pixels
COLUMNS = 4
GAP = 14
PAPER, INK, FAINT = (30, 26, 24), (240, 240, 240), (165, 160, 155)  # BGR


def write_data_set(
    root: Path, *, seed: int, good: int, test_good: int, per_defect: int, size: int, tick: Callable[[], None] = lambda: None
) -> int:
    """Draw an MVTec-style data set with masks.

    Args:
        root: gets train/good, test/good, test/DEFECT and ground_truth/DEFECT.
        good, test_good, per_defect: numbers of pictures.
        size: width and height in pixels.
        tick: called after each picture.

    Returns:
        the number of pictures.

    Raises:
        StorageError: they cannot be written.
    """
    jobs: list[tuple[str, str | None, int]] = [("train/good", None, i) for i in range(good)]
    jobs += [("test/good", None, i) for i in range(test_good)]
    jobs += [(f"test/{defect}", defect, i) for defect in DEFECTS for i in range(per_defect)]
    with storage_errors(root):
        for folder in {folder for folder, _, _ in jobs} | {f"ground_truth/{defect}" for defect in DEFECTS}:
            (root / folder).mkdir(parents=True, exist_ok=True)

    def draw(job: tuple[int, tuple[str, str | None, int]]) -> None:
        number, (folder, defect, index) = job
        rng = np.random.default_rng([seed, number])
        image, mask = draw_part(rng, defect, rng.uniform(1 - TRAIN_LIGHT, 1 + TRAIN_LIGHT), (size, size))
        _write(root / folder / f"{index:03d}.png", image)
        if defect is not None:
            _write(root / "ground_truth" / defect / f"{index:03d}_mask.png", mask)

    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in pool.map(draw, enumerate(jobs)):
            tick()
    return len(jobs)


def choose(caught: Sequence[Inspection], good: Sequence[Inspection]) -> list[Inspection]:
    """Up to nine caught parts, as many kinds as there are before any comes twice, then good ones to fill twelve."""
    seen: dict[str, int] = {}
    order: list[tuple[int, int, Inspection]] = []
    for i, inspection in enumerate(caught):
        kind = inspection.frame.source if inspection.frame else ""
        order.append((seen.get(kind, 0), i, inspection))
        seen[kind] = seen.get(kind, 0) + 1
    order.sort(key=lambda entry: entry[:2])
    picked = [inspection for _, _, inspection in order[:9]]
    return picked + list(good[: 3 * COLUMNS - len(picked)])


def gallery(inspections: Sequence[Inspection], scale: HeatScale, title: str, subtitle: str) -> Image:
    """A grid of inspected parts with heat maps, each labelled with its verdict and the truth.

    Args:
        inspections: each with a frame; its `source` is the truth.
        scale: what the colours mean.

    Returns:
        H x W x 3 uint8 BGR, 4 tiles wide.
    """
    tiles = [_tile(inspection, scale) for inspection in inspections]
    tile_height = tiles[0].shape[0] if tiles else TILE
    rows = -(-len(tiles) // COLUMNS)
    head = 96
    canvas = np.empty((head + rows * (tile_height + GAP) + GAP, COLUMNS * (TILE + GAP) + GAP, 3), np.uint8)
    canvas[:] = PAPER
    _text(canvas, title, (GAP + 4, 44), 1.0, INK, 2)
    _text(canvas, subtitle, (GAP + 4, 78), 0.6, FAINT, 1)
    for i, tile in enumerate(tiles):
        top, left = head + (i // COLUMNS) * (tile_height + GAP), GAP + (i % COLUMNS) * (TILE + GAP)
        canvas[top : top + tile_height, left : left + TILE] = tile
    return canvas


def _tile(inspection: Inspection, scale: HeatScale) -> Image:
    picture = draw_overlay(inspection, scale)
    height = round(picture.shape[0] * TILE / picture.shape[1])
    tile = np.asarray(cv2.resize(picture, (TILE, height), interpolation=cv2.INTER_AREA), np.uint8)
    truth = inspection.frame.source.replace("_", " ") if inspection.frame else ""
    caption = np.empty((34, TILE, 3), np.uint8)
    caption[:] = (48, 43, 40)
    right = (truth == "good") == (inspection.verdict is Verdict.OK)
    mark = COLOURS[Verdict.OK] if right else COLOURS[Verdict.NG]
    cv2.circle(caption, (18, 17), 6, mark, -1, cv2.LINE_AA)
    _text(caption, f"truth: {truth}", (34, 23), 0.6, INK, 1)
    return np.vstack([tile, caption])


def _text(canvas: Image, text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int], weight: int) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)


def _write(file: Path, image: Image) -> None:
    data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    with storage_errors(file):
        file.write_bytes(data.tobytes())


def write_picture(file: Path, image: Image) -> None:
    """A PNG file. Raises StorageError."""
    _write(file, image)
