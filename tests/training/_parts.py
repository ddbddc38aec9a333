"""Drawn parts: a bright disc on a dark plate under noise; the defect is a dark gash across the disc."""

from pathlib import Path

import cv2
import numpy as np

from edgead.types import Image


def draw_part(seed: int, defect: bool = False, px: int = 64) -> Image:
    rng = np.random.default_rng(seed)
    image = np.full((px, px, 3), (60, 70, 65), np.uint8)
    centre = (px // 2 + int(rng.integers(-2, 3)), px // 2 + int(rng.integers(-2, 3)))
    cv2.circle(image, centre, px // 3, (190, 200, 205), -1)
    if defect:
        cv2.line(image, (centre[0] - px // 5, centre[1] - 4), (centre[0] + px // 5, centre[1] + 6), (20, 20, 120), 4)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def defect_mask(seed: int, px: int = 64) -> Image:
    difference = cv2.absdiff(draw_part(seed, True, px), draw_part(seed, False, px)).max(2)
    return np.where(difference > 60, np.uint8(255), np.uint8(0))


def write_good(folder: Path, count: int, first_seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03d}.png"), draw_part(first_seed + i))
    return folder


def write_mvtec(root: Path, good: int = 16, test: int = 6) -> Path:
    write_good(root / "train/good", good)
    write_good(root / "test/good", test, 1000)
    for folder in ("test/gash", "ground_truth/gash"):
        (root / folder).mkdir(parents=True)
    for i in range(test):
        cv2.imwrite(str(root / f"test/gash/{i:03d}.png"), draw_part(2000 + i, True))
        cv2.imwrite(str(root / f"ground_truth/gash/{i:03d}_mask.png"), defect_mask(2000 + i))
    return root
