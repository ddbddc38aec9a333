"""Coarse to fine: the whole picture first at low resolution, then only those tiles where it is not clearly good.

One engine made of two: `coarse` answers the whole picture, shrunk inside its graph; `tile` answers one tile at native resolution.
A tile is run when some cell of the coarse map below it reaches the gate's level. A tile that is not run is told by the coarse map
on the fine scale, and never above the gate's cap, which is what the best of the held-out good pictures scored: it cannot make a
part NG, whatever threshold the line chooses that lets at least one of those pictures pass.

How long it takes depends on the picture. :meth:`CoarseToFineEngine.slowest` is the same engine running every tile, for budgets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from edgead import disk
from edgead.errors import BadInput, EngineError
from edgead.tiles import TileGrid
from edgead.typed import Between, Single, Wrong, loads, read
from edgead.types import AnomalyMap, Engine, Image, TensorSpec

_Pixels = Annotated[int, Between(0, 1 << 15)]
_Side = Annotated[int, Between(16, 1 << 15)]

SUFFIX = ".tiles"
"""Of the file (JSON) that names the two engines' files and says how they work together."""


MAX_BYTES = 64 << 10
MOST_TILES = 4096


class _Tiles(TypedDict):
    """What the file holds."""

    coarse: str
    tile: str
    picture: tuple[_Pixels, _Pixels]
    tile_size: tuple[_Side, _Side]
    overlap: _Pixels
    factor: Annotated[int, Between(1, 1 << 15)]
    gate: Gate


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides which tiles are run, in float32 as the graph has it.

    Attributes:
        level: a tile is run when the coarse map reaches it, coarse units.
        gain, offset: coarse value -> fine value of a tile that is not run.
        cap: such a value is never above it, fine units.
    """

    level: Single
    gain: Single
    offset: Single
    cap: Single

    def told(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Coarse values on the fine scale, float32, of the same shape."""
        scaled = np.float32(self.gain) * values + np.float32(self.offset)
        capped: npt.NDArray[np.float32] = np.minimum(scaled, np.float32(self.cap))
        return capped


class CoarseToFineEngine:
    """Answers as :class:`edgead.models.wrappers.coarse.CoarseToFine` does, with less work (see the module's text).

    Args:
        coarse: takes the whole picture; one cell of its map covers `factor` x `factor` px (the last ones perhaps less).
        tile: takes one tile.
        grid: of the tiles.
        factor: see `coarse`.
        gate: see :class:`Gate`.

    Raises:
        EngineError: the two engines and the grid do not belong together.

    Attributes:
        tiles_run: tiles that the last picture needed.
    """

    def __init__(self, coarse: Engine, tile: Engine, grid: TileGrid, factor: int, gate: Gate) -> None:
        picture, cells = (grid.rows.length, grid.columns.length), coarse.outputs[0].shape[1:]
        size = (grid.rows.tile, grid.columns.tile)
        wanted = tuple(-(-side // factor) for side in picture)
        if coarse.inputs[0].shape[1:3] != picture or tile.inputs[0].shape[1:3] != size or cells != wanted:
            raise EngineError("the engines of a coarse-to-fine engine do not fit its tiles", hint="export the bundle again")
        self._coarse, self._tile, self._grid, self._factor, self._gate = coarse, tile, grid, factor, gate
        self._weights = [grid.weights(k) for k in range(len(grid))]
        self.inputs = coarse.inputs
        self._mapped = tile.outputs[0].shape != (1, 1, 1)  # else it tells its score only
        self.outputs = (TensorSpec("anomaly_map", (1, *picture) if self._mapped else (1, 1, 1), "float32"), coarse.outputs[1])
        self.tiles_run = 0

    @classmethod
    def open(cls, file: Path, load: Callable[[Path], Engine]) -> CoarseToFineEngine:
        """By a file that :func:`write_tiles` wrote.

        Args:
            load: opens the engine of a file beside it.

        Raises:
            EngineError: missing or damaged, or one of its engines is.
        """
        try:
            told = read(_Tiles, loads(disk.read_file(file, MAX_BYTES)))
            grid = TileGrid.of(told["picture"], told["tile_size"], told["overlap"])
            gate, factor = told["gate"], told["factor"]
            files = [file.parent / Path(told[part]).name for part in ("coarse", "tile")]
            if len(grid) > MOST_TILES:
                raise Wrong(f"it makes {len(grid)} tiles, expected at most {MOST_TILES}")
        except (OSError, Wrong, BadInput) as error:
            raise EngineError(f"{file} cannot be read: {error}"[:300], hint="copy or export the bundle again") from error
        coarse = load(files[0])
        try:
            tile = load(files[1])
        except Exception:
            coarse.close()
            raise
        try:
            return cls(coarse, tile, grid, factor, gate)
        except EngineError:
            coarse.close()
            tile.close()
            raise

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """Score and anomaly map (a new array at the picture's size) of one H x W x 3 uint8 BGR picture at model size.

        Raises:
            BadInput: another shape or dtype.
            EngineError: closed, or the backend failed.
        """
        coarse_map = self._coarse.infer(image)[1]
        evidence = self._evidence(coarse_map)
        chosen = np.flatnonzero(~(evidence < np.float32(self._gate.level)))  # what is not a number is looked at
        scores = self._gate.told(evidence)
        answers = {k: self._tile.infer(image[self._box(k)]) for k in chosen.tolist()}
        for k, (score, _) in answers.items():
            scores[k] = score
        self.tiles_run = len(answers)
        worst = scores.max()
        return float(worst), self._blend(coarse_map, answers) if self._mapped else np.full((1, 1), worst, np.float32)

    def slowest(self) -> CoarseToFineEngine:
        """The same engine with every tile run: what the worst picture takes. It shares the two engines: close one of both."""
        gate = Gate(-np.inf, self._gate.gain, self._gate.offset, self._gate.cap)
        return CoarseToFineEngine(self._coarse, self._tile, self._grid, self._factor, gate)

    def close(self) -> None:
        """Release both engines; may be called twice."""
        self._coarse.close()
        self._tile.close()

    def _evidence(self, coarse_map: AnomalyMap) -> npt.NDArray[np.float32]:
        """float32 T: the largest coarse value below each tile."""
        return np.array([coarse_map[rows, columns].max() for rows, columns in cells(self._grid, self._factor)], np.float32)

    def _blend(self, coarse_map: AnomalyMap, answers: Mapping[int, tuple[float, AnomalyMap]]) -> AnomalyMap:
        """H x W: the maps of the tiles that were run, above what the coarse map tells of the rest."""
        height, width = (self._grid.rows.length, self._grid.columns.length)
        tall, wide = (side * self._factor for side in coarse_map.shape)
        background: AnomalyMap = self._gate.told(_resized(coarse_map, (tall, wide))[:height, :width])
        whole: AnomalyMap = background.copy()
        for k, (_, tile_map) in answers.items():
            below = background[self._box(k)]
            tile_map = tile_map if tile_map.shape == below.shape else _resized(tile_map, below.shape)
            whole[self._box(k)] += self._weights[k] * (tile_map - below)
        return whole

    def _box(self, k: int) -> tuple[slice, slice]:
        top, left = self._grid.corners[k]
        return slice(top, top + self._grid.rows.tile), slice(left, left + self._grid.columns.tile)


def cells(grid: TileGrid, factor: int) -> list[tuple[slice, slice]]:
    """The rows and columns of the coarse map that lie below each tile, in part or whole."""
    tall, wide = grid.rows.tile, grid.columns.tile
    return [
        (slice(top // factor, -(-(top + tall) // factor)), slice(left // factor, -(-(left + wide) // factor)))
        for top, left in grid.corners
    ]


def write_tiles(file: Path, coarse: Path, tile: Path, grid: TileGrid, overlap: int, factor: int, gate: Gate) -> None:
    """Say how two engines' files beside `file` work together.

    Raises:
        OSError: it cannot be written.
    """
    content: dict[str, Any] = {
        "coarse": coarse.name, "tile": tile.name,
        "picture": [grid.rows.length, grid.columns.length], "tile_size": [grid.rows.tile, grid.columns.tile],
        "overlap": overlap, "factor": factor, "gate": asdict(gate),
    }  # fmt: skip
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _resized(values: AnomalyMap, shape: tuple[int, ...]) -> AnomalyMap:
    """Bilinear with half-pixel centres, as in the graph."""
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)
