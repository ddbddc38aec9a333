"""A detector on overlapping tiles of a big picture, at native resolution, all inside one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.models.detector import Detector, Wrapper
from edgead.tiles import Axis, TileGrid


class Tiled(Wrapper):
    """Tiles of the inner detector's size are cut out, answered as one batch, and their maps are blended.

    The score is the largest score of a tile, so it is in the inner family's own units and means what it means there (PatchCore's
    re-weighting included); a tile alone decides as the whole picture does. The map is the blend (:class:`edgead.tiles.TileGrid`),
    at the size of the picture: near a ramp its maximum may be a little below that of the tiles.

    Config: the inner detector's, plus ``tiles``: {``size``: [height, width] of the inner detector, ``overlap``: px}.
    """

    def __init__(self, inner: Detector, frame_size: tuple[int, int], overlap: int) -> None:
        """Raises BadInput when the tile does not fit the picture, or for an overlap above half a tile."""
        grid = TileGrid.of(frame_size, inner.image_size, overlap)
        told = {"size": list(inner.image_size), "overlap": overlap}
        super().__init__(inner, {**inner.config, "tiles": told}, frame_size)
        self.grid = grid

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels of N pictures -> of their tiles, the tiles of one picture after the other: float32 (N T) x 3 x h x w."""
        height, width = self.inner.image_size
        tiles = [pixels[:, :, top : top + height, left : left + width] for top, left in self.grid.corners]
        return torch.stack(tiles, 1).flatten(0, 1) if len(pixels) > 1 else torch.cat(tiles)

    def tiles(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What the inner detector says of each tile: maps N x T x h x w at the tiles' size (N x T x 1 x 1 of one that tells its
        score only), and scores N x T."""
        maps, scores = self.inner.detect(self.inner_pixels(pixels))
        if tuple(maps.shape[1:]) not in ((1, 1), self.inner.image_size):  # told at the features' resolution
            maps = F.interpolate(maps[:, None], self.inner.image_size, mode="bilinear", align_corners=False)[:, 0]
        count = len(self.grid)
        return maps.view(-1, count, *maps.shape[1:]), scores.view(-1, count)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = self.tiles(pixels)
        score = scores.amax(1)
        return (self.blend(maps) if maps.shape[2:].numel() > 1 else score.view(-1, 1, 1)), score

    def blend(self, maps: Tensor) -> Tensor:
        """Maps of tiles, N x T x h x w -> of pictures, N x H x W."""
        rows, columns = self.grid.rows, self.grid.columns
        tiles = maps.view(-1, len(rows.starts), len(columns.starts), *maps.shape[2:])  # N x R x C x h x w
        strips = _join([tiles[:, :, k] for k in range(len(columns.starts))], columns, -1)  # N x R x h x W
        return _join([strips[:, k] for k in range(len(rows.starts))], rows, -2)


def _join(parts: Sequence[Tensor], axis: Axis, dim: int) -> Tensor:
    """Neighbouring tiles along one dimension as one, each fading into the next."""
    pieces: list[Tensor] = []
    begin = 0
    for k, (first, end) in enumerate(axis.ramps):
        pieces.append(_cut(parts[k], axis, k, begin, first, dim))
        if end > first:
            fade = torch.from_numpy(axis.fade(k)).to(parts[k])
            fade = fade if dim == -1 else fade[:, None]
            before, after = _cut(parts[k], axis, k, first, end, dim), _cut(parts[k + 1], axis, k + 1, first, end, dim)
            pieces.append(before + (after - before) * fade)
        begin = end
    pieces.append(_cut(parts[-1], axis, len(parts) - 1, begin, axis.length, dim))
    return torch.cat([piece for piece in pieces if piece.shape[dim]], dim)


def _cut(part: Tensor, axis: Axis, k: int, first: int, end: int, dim: int) -> Tensor:
    """The pixels [first, end) of the picture's side out of tile k."""
    return part.narrow(dim, first - axis.starts[k], end - first)
