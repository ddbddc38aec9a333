"""Pictures of anything: found in folders for distilling a teacher, or drawn, as the outside pictures of EfficientAD's penalty."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.preprocess import IMAGE_SUFFIXES
from edgead.types import Image

SMALLEST_PX = 16

_log = logging.getLogger(__name__)


def find_pictures(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """All pictures in these folders and the folders in them.

    Files are told by their suffix and first bytes, which is quick; the rest of a file is read when it is its turn.

    Returns:
        the pictures, sorted within each folder, and the files with a picture's suffix that are none.

    Raises:
        BadInput: a folder does not exist, or there is no picture at all.
    """
    good: list[Path] = []
    bad: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{folder} is not a folder", hint="give folders of pictures")
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()):
            (good if cv2.haveImageReader(str(path)) else bad).append(path)
    if not good:
        where = ", ".join(str(folder) for folder in folders)
        raise BadInput(f"no readable picture in {where}", hint=f"put pictures there ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return good, bad


def draw_file(files: Sequence[Path], index: int, rng: np.random.Generator) -> Image:
    """The picture `files[index]`, H x W x 3 uint8 BGR; where it cannot be read (a warning names it) another one that `rng` picks.

    Raises:
        BadInput: twenty in a row cannot be read.
    """
    for _ in range(20):
        image = cv2.imread(str(files[index]), cv2.IMREAD_COLOR) if files[index].is_file() else None  # a pipe would never end
        if image is not None and min(image.shape[:2]) >= SMALLEST_PX:
            return np.asarray(image, np.uint8)
        _log.warning("%s is not a readable picture of at least %d px: another is taken", files[index], SMALLEST_PX)
        index = int(rng.integers(len(files)))
    raise BadInput(f"{files[index]} and many others cannot be read", hint="check the pictures")


class Outside:
    """Endless pictures that are not of the part: crops from a folder of the user's, or drawn ones.

    The paper takes ImageNet. Drawn ones mix colour noise of random smoothness, gratings and random shapes: no scenes, but the
    textures, edges and corners that a PDN describes.

    Raises:
        BadInput: `folder` is given and holds no readable picture.
    """

    def __init__(self, folder: Path | None) -> None:
        self.files = find_pictures([folder])[0] if folder is not None else []

    def crop(self, px: int, rng: np.random.Generator) -> Image:
        """One px x px x 3 uint8 BGR picture, grey with probability 0.3 (as in the paper)."""
        picture = self._from_file(px, rng) if self.files else draw_picture(px, rng)
        if rng.random() < 0.3:
            picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[..., None], 3, 2)
        return picture

    def _from_file(self, px: int, rng: np.random.Generator) -> Image:
        image = draw_file(self.files, int(rng.integers(len(self.files))), rng)
        side = int(min(image.shape[:2]) * rng.uniform(0.3, 1.0))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        rule = cv2.INTER_AREA if side > px else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image[top : top + side, left : left + side], (px, px), interpolation=rule), np.uint8)


def draw_picture(px: int, rng: np.random.Generator) -> Image:
    """A random picture, px x px x 3 uint8: a cloudy background, perhaps a grating, a few shapes, sensor noise."""
    canvas = rng.uniform(0, 255, 3) + sum(_cloud(px, 2**octave, rng) * rng.uniform(0, 60) for octave in range(1, 7))
    if rng.random() < 0.4:
        canvas = canvas + _grating(px, rng)[..., None] * rng.uniform(-80, 80, 3)
    picture: Image = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(0, 9))):
        _shape(picture, rng)
    noisy = picture + rng.normal(0, rng.uniform(0, 12), picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _cloud(px: int, cells: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Smooth noise with `cells` bumps across, px x px x 3, deviation 1; often the same in all colours."""
    noise = rng.normal(size=(cells, cells, 1 if rng.random() < 0.5 else 3))
    return np.asarray(cv2.resize(np.broadcast_to(noise, (cells, cells, 3)).copy(), (px, px), interpolation=cv2.INTER_CUBIC))


def _grating(px: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, px / 3)
    y, x = np.mgrid[0:px, 0:px]
    wave: npt.NDArray[np.float64] = np.sin(
        (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 2 * np.pi)
    )
    return np.sign(wave) if rng.random() < 0.5 else wave


def _shape(canvas: Image, rng: np.random.Generator) -> None:
    px = canvas.shape[0]
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    points = rng.integers(0, px, (int(rng.integers(3, 7)), 2)).astype(np.int32)
    width = int(rng.integers(1, max(2, px // 16)))
    kind = rng.integers(4)
    if kind == 0:
        cv2.circle(
            canvas, tuple(int(v) for v in points[0]), int(rng.integers(2, px // 3)), colour, -1 if rng.random() < 0.5 else width
        )
    elif kind == 1:
        cv2.fillPoly(canvas, [points], colour)
    elif kind == 2:
        cv2.polylines(canvas, [points], False, colour, width, cv2.LINE_AA)
    else:
        top_left, bottom_right = (tuple(int(v) for v in p) for p in points[:2])
        cv2.rectangle(canvas, top_left, bottom_right, colour, -1 if rng.random() < 0.5 else width)
