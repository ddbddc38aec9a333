"""Where the tiles of a big picture lie, and how much each counts where they overlap. NumPy only: models and engines share it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Axis:
    """Tiles along one side of the picture.

    Attributes:
        length: of the picture's side, px.
        tile: of a tile's side, px.
        starts: first pixel of each tile, from 0 to `length` - `tile`, evenly spread.
        ramps: between tile k and the next one, the pixels [a, b) where the one fades into the other; b - a may be 0.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    ramps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, length: int, tile: int, overlap: int) -> Axis:
        """As few tiles as overlap by at least `overlap` px. Where they overlap by more, the ramp lies in the middle, so that the
        tiles' edges, which are their weakest part, count nothing."""
        count = 1 if length == tile else 1 + -(-(length - tile) // (tile - overlap))
        starts = tuple(round(k * (length - tile) / max(1, count - 1)) for k in range(count))
        width = min([overlap, *(after - before for before, after in itertools.pairwise(starts))])
        ramps = []
        for before, after in itertools.pairwise(starts):
            first = (after + before + tile - width) // 2
            ramps.append((first, first + width))
        return cls(length, tile, starts, tuple(ramps))

    def fade(self, k: int) -> Weights:
        """float32 b - a: what tile k + 1 counts on ramp k, from near 0 to near 1; tile k counts the rest."""
        first, end = self.ramps[k]
        return ((np.arange(end - first) + 0.5) / max(1, end - first)).astype(np.float32)

    def weights(self, k: int) -> Weights:
        """float32 `tile`: what tile k counts on each of its pixels; at every pixel of the side all tiles together count 1."""
        found = np.ones(self.tile, np.float32)
        if k > 0:
            first, end = (px - self.starts[k] for px in self.ramps[k - 1])
            found[:first] = 0.0
            found[first:end] = self.fade(k - 1)
        if k < len(self.ramps):
            first, end = (px - self.starts[k] for px in self.ramps[k])
            found[first:end] = 1.0 - self.fade(k)
            found[end:] = 0.0
        return found


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of one size over a picture, row by row.

    Attributes:
        rows, columns: the two axes.
    """

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, picture: Sequence[int], tile: Sequence[int], overlap: int) -> TileGrid:
        """The grid of a picture.

        Args:
            picture, tile: (height, width) in px.
            overlap: of neighbouring tiles, px; at least so many.

        Raises:
            BadInput: the tile is larger than the picture, or the overlap is negative or more than half a tile.
        """
        (height, width), (tall, wide) = picture, tile
        if tall > height or wide > width:
            raise BadInput(
                f"a picture of {width} x {height} px has no tile of {wide} x {tall} px",
                hint="choose smaller tiles, or leave tiling away",
            )
        if not 0 <= overlap <= min(tall, wide) // 2:
            raise BadInput(
                f"tiles of {wide} x {tall} px cannot overlap by {overlap} px", hint=f"choose 0 to {min(tall, wide) // 2}"
            )
        return cls(Axis.of(height, tall, overlap), Axis.of(width, wide, overlap))

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def corners(self) -> tuple[tuple[int, int], ...]:
        """(top, left) of each tile in px."""
        return tuple((top, left) for top in self.rows.starts for left in self.columns.starts)

    def weights(self, index: int) -> Weights:
        """float32 h x w: what tile `index` counts on each of its pixels."""
        row, column = divmod(index, len(self.columns.starts))
        return np.outer(self.rows.weights(row), self.columns.weights(column))
