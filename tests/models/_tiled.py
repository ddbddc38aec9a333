"""Big pictures, and detectors on their tiles."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgead.models.detector import Detector
from edgead.models.wrappers.coarse import CoarseToFine, Shrunk
from edgead.models.wrappers.tiled import Tiled
from edgead.types import Image


def big_picture(seed: int, height: int, width: int) -> Image:
    """Noise at two scales, uint8 BGR, with one bright spot."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.integers(60, 140, (-(-height // 8), -(-width // 8), 3)), np.ones((8, 8, 1)))[:height, :width]
    picture = coarse + rng.normal(0, 6, (height, width, 3))
    y, x = int(rng.integers(height - 8)), int(rng.integers(width - 8))
    picture[y : y + 8, x : x + 8] += 90
    return np.clip(picture, 0, 255).astype(np.uint8)


class Bright(Detector):
    """A tiny detector: brightness minus its mean over 3 x 3 px, map at half the size stretched to all of it."""

    family = "bright"

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        grey = pixels.mean(1, keepdim=True)
        small = torch.nn.functional.avg_pool2d((grey - torch.nn.functional.avg_pool2d(grey, 3, 1, 1)).abs(), 2, ceil_mode=False)
        return torch.nn.functional.interpolate(small, self.image_size, mode="bilinear")[:, 0], small.flatten(1).amax(1)


def bright_coarse_to_fine(picture: tuple[int, int], tile: int, overlap: int, factor: int) -> CoarseToFine:
    cells = (-(-picture[0] // factor), -(-picture[1] // factor))
    tiled = Tiled(Bright({}, (tile, tile)), picture, overlap)
    detector = CoarseToFine(tiled, Shrunk(Bright({}, cells), picture, factor))
    return detector.eval().requires_grad_(False)


@torch.inference_mode()
def ask(detector: Detector, *images: Image) -> tuple[Image, Image]:
    """Maps and scores."""
    maps, scores = detector(torch.from_numpy(np.stack(images)))
    return maps.numpy(), scores.numpy()
