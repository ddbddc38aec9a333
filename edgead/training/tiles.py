"""Fitting a family on the tiles of big pictures, and the coarse look that says which tiles matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch

from edgead.calibration.judging.defects import KINDS, STRENGTHS, draw_defect
from edgead.engines.coarse import Gate
from edgead.errors import BadInput
from edgead.families.contract import Defect, Fit, FitData
from edgead.models.learning.progress import Progress, silent
from edgead.models.wrappers.coarse import CoarseToFine, Shrunk, coarse_size
from edgead.models.wrappers.tiled import Tiled
from edgead.thresholds.choose import threshold_from_good
from edgead.tiles import TileGrid
from edgead.training.dataset import Mask
from edgead.training.defects import defects_on
from edgead.types import Image

FloatArray = npt.NDArray[np.float32]

MAX_TILES = 2048
"""Tiles that a family is fitted on; more are drawn at random, as many of each picture as of any other."""

LOOKED_AT, DRAWN = 16, 48
"""The gate is set by so many held-out pictures and defects drawn onto them."""

CLEARLY_GOOD = 0.8
"""Share of the held-out tiles that shall not need a second look, unless a drawn defect would be lost by it."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How big pictures are tiled.

    Attributes:
        height, width: of a tile, px.
        overlap: of neighbouring tiles, px; None: an eighth of the tile's shorter side.
        coarse: first look at the picture shrunk by this whole factor (2 or more), and at tiles only where that is not clearly
            good; None looks at every tile.
    """

    height: int
    width: int
    overlap: int | None = None
    coarse: int | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise BadInput(f"tiles of {self.width} x {self.height} px are not usable", hint="choose 16 or more; 256 suits most")
        if self.coarse is not None and self.coarse < 2:
            raise BadInput(f"a coarse look at 1/{self.coarse} is not usable", hint="give a whole number from 2 up, such as 4")

    def grid(self, picture: tuple[int, int]) -> TileGrid:
        """Over a picture (height, width). Raises BadInput when it does not fit."""
        return TileGrid.of(picture, (self.height, self.width), self.shared)

    @property
    def shared(self) -> int:
        """The overlap in px."""
        return min(self.height, self.width) // 8 if self.overlap is None else self.overlap


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the gate was set by.

    Attributes:
        run_share: of the tiles of held-out good pictures, those that are run.
        drawn, found: defects drawn, and those of them that all tiles together find at the threshold.
        by_defects: a found defect asked for a lower level than the good pictures did.
    """

    run_share: float
    drawn: int
    found: int
    by_defects: bool


def fit_tiled(fit: Fit, data: FitData, tiling: Tiling) -> Tiled:
    """A family fitted on the tiles of good pictures.

    Raises:
        BadInput: the tiles do not fit the pictures, or what `fit` raises.
    """
    grid = tiling.grid(data.size)
    each = min(len(grid), max(1, MAX_TILES // len(data.images)))
    rng = np.random.default_rng(data.seed)
    cut = []
    for image in data.images:
        chosen = np.sort(rng.permutation(len(grid))[:each])
        cut += [image[box] for box in _boxes(grid, chosen.tolist())]
    defects = defects_on(data.defects, _boxes(grid, range(len(grid))), each)
    inner = fit(replace(data, images=cut, size=(tiling.height, tiling.width), defects=defects))
    return Tiled(inner, data.size, tiling.shared).eval()


def fit_shrunk(fit: Fit, data: FitData, factor: int) -> Shrunk:
    """A family fitted on whole pictures, shrunk by `factor`. Raises what `fit` raises."""
    small = [shrink(image, factor) for image in data.images]
    defects = [Defect(shrink(one.image, factor), _shrunk_mask(one.mask, factor)) for one in data.defects]
    data_small = replace(data, images=small, size=coarse_size(data.size, factor), defects=defects)
    return Shrunk(fit(data_small), data.size, factor).eval()


def join(
    tiled: Tiled, coarse: Shrunk, heldout: Sequence[Image], seed: int = 0, progress: Progress = silent
) -> tuple[CoarseToFine, GateFacts]:
    """A tiled detector behind a coarse look at the whole picture.

    The gate's level is where `CLEARLY_GOOD` of the held-out good tiles lie below, or lower: every defect drawn onto them that the
    tiles find at the threshold is still found, with room for a tenth of the held-out deviation (rounding differs from one box to
    the next). Coarse values are brought to the fine scale so that mean and deviation of both agree on the held-out tiles. The cap
    is the lowest held-out score.

    Args:
        tiled, coarse: fitted for the same pictures.
        heldout: good pictures that nothing was fitted on, 2 or more.
    """
    detector = CoarseToFine(tiled, coarse).eval().requires_grad_(False)
    rng = np.random.default_rng(seed)
    looked_at = [heldout[i] for i in np.sort(rng.permutation(len(heldout))[:LOOKED_AT])]
    every = range(len(tiled.grid))
    good, scores = [], []
    for i, image in enumerate(looked_at):
        good.append(evidence(detector, image))
        scores.append(tile_scores(tiled, image, every))
        progress("gate", (i + 1) / (len(looked_at) + DRAWN))
    values, told = np.stack(good), np.stack(scores)
    threshold = threshold_from_good(told.max(1)).value
    needed = []
    for i in range(DRAWN):
        spoilt, touched = _draw_on_a_tile(looked_at[i % len(looked_at)], tiled.grid, i, rng)
        high = tile_scores(tiled, spoilt, touched) >= threshold
        if high.any():
            needed.append(float(evidence(detector, spoilt)[touched][high].max()))
        progress("gate", (len(looked_at) + i + 1) / (len(looked_at) + DRAWN))
    gate, by_defects = _gate(values, told, needed)
    detector.set_gate(gate)
    return detector, GateFacts(float(np.mean(values >= detector.gate.level)), DRAWN, len(needed), by_defects)


def _gate(values: FloatArray, scores: FloatArray, needed: Sequence[float]) -> tuple[Gate, bool]:
    """The gate, and whether defects decided its level: from coarse values and scores of held-out good tiles (pictures x tiles)
    and the coarse values that defects must be let through at."""
    wished = float(np.quantile(values, CLEARLY_GOOD))
    deviation = float(values.std())
    level = min([wished, *(value - 0.1 * deviation for value in needed)])
    gain = float(scores.std()) / max(deviation, 1e-12)
    gate = Gate(level, gain, float(scores.mean()) - gain * float(values.mean()), float(scores.max(1).min()))
    return gate, level < wished


def shrink(image: Image, factor: int) -> Image:
    """Box averages as :class:`edgead.models.wrappers.coarse.Shrunk` takes them, rounded to uint8 (which is good enough to fit
    on)."""
    height, width = coarse_size((image.shape[0], image.shape[1]), factor)
    missing = (height * factor - image.shape[0], width * factor - image.shape[1])
    padded = cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _shrunk_mask(mask: Mask | None, factor: int) -> Mask | None:
    """Half covered or more; where the defect is too small for that, all that it touches."""
    if mask is None:
        return None
    small = shrink(np.where(mask, np.uint8(255), np.uint8(0)), factor)
    return np.asarray(small > (127 if (small > 127).any() else 0))


@torch.no_grad()
def evidence(detector: CoarseToFine, image: Image) -> FloatArray:
    """The largest coarse value below each tile, float32 T."""
    found: FloatArray = detector.evidence(detector.coarse(_batch([image]))[0])[0].numpy()
    return found


@torch.no_grad()
def tile_scores(tiled: Tiled, image: Image, which: Sequence[int]) -> FloatArray:
    """The scores of some tiles, float32, in their order."""
    found = [float(tiled.inner(_batch([image[box]]))[1]) for box in _boxes(tiled.grid, which)]
    return np.array(found, np.float32)


def _draw_on_a_tile(image: Image, grid: TileGrid, index: int, rng: np.random.Generator) -> tuple[Image, list[int]]:
    """The picture with a defect of a tile's scale somewhere, kind and strength by `index`, and the tiles that show it."""
    box = _boxes(grid, [int(rng.integers(len(grid)))])[0]
    kind, strength = list(KINDS)[index % len(KINDS)], STRENGTHS[index // len(KINDS) % len(STRENGTHS)]
    drawn = draw_defect(np.ascontiguousarray(image[box]), kind, strength, rng)
    spoilt = image.copy()
    spoilt[box] = drawn.image
    changed = (spoilt != image).any(2)
    return spoilt, [k for k, one in enumerate(_boxes(grid, range(len(grid)))) if changed[one].any()]


def _boxes(grid: TileGrid, which: Sequence[int]) -> list[tuple[slice, slice]]:
    corners = grid.corners
    return [
        (slice(corners[k][0], corners[k][0] + grid.rows.tile), slice(corners[k][1], corners[k][1] + grid.columns.tile))
        for k in which
    ]


def _batch(images: Sequence[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))
