"""Coarse to fine as one static graph: the reference for :class:`edgead.engines.coarse.CoarseToFineEngine`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.engines.coarse import Gate, cells
from edgead.models.detector import Detector, Wrapper
from edgead.models.wrappers.tiled import Tiled


class Shrunk(Wrapper):
    """A big picture averaged over boxes of `factor` x `factor` px for the inner detector; the map stays at the inner size.

    In float and inside the graph: rounding to uint8 in between would cost 1e-3 of the score. Where the sides are no multiples of
    `factor`, the last pixels are repeated.
    """

    def __init__(self, inner: Detector, frame_size: tuple[int, int], factor: int) -> None:
        super().__init__(inner, {"factor": factor, "inner": inner.config}, frame_size)
        self.factor = factor

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels of a picture -> the inner detector's."""
        height, width = self.image_size
        missing = (-width % self.factor, -height % self.factor)
        if any(missing):
            pixels = F.pad(pixels, (0, missing[0], 0, missing[1]), mode="replicate")
        return F.avg_pool2d(pixels, self.factor)


class CoarseToFine(Wrapper):
    """A tiled detector that counts only those tiles where a coarse look at the whole picture is not clearly good.

    In this form every tile is computed and those that are clearly good are told by the coarse map on the fine scale, never above
    the gate's cap (see :class:`edgead.engines.coarse.Gate`).

    Config: the tiled detector's, plus ``coarse``: {``factor``, ``inner``: config of the coarse detector of the same family}.
    """

    two_graphs: ClassVar[bool] = True
    inner: Tiled
    level: Tensor
    gain: Tensor
    offset: Tensor
    cap: Tensor

    def __init__(self, inner: Tiled, coarse: Shrunk) -> None:
        super().__init__(inner, {**inner.config, "coarse": coarse.config}, inner.image_size)
        self.coarse = coarse
        self.cells = cells(inner.grid, coarse.factor)
        for name in ("level", "gain", "offset", "cap"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def gate(self) -> Gate:
        """The gate's numbers."""
        return Gate(*(float(value) for value in (self.level, self.gain, self.offset, self.cap)))

    def set_gate(self, gate: Gate) -> None:
        """Take these numbers, rounded to float32."""
        for name in ("level", "gain", "offset", "cap"):
            getattr(self, name).fill_(getattr(gate, name))

    def inner_pixels(self, pixels: Tensor) -> Tensor:
        """The tiled detector sees the whole picture."""
        return pixels

    def evidence(self, coarse_map: Tensor) -> Tensor:
        """The largest coarse value below each tile, N x T."""
        return torch.stack([coarse_map[:, rows, columns].amax((1, 2)) for rows, columns in self.cells], 1)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        coarse_map = self.coarse.detect(pixels)[0]
        evidence = self.evidence(coarse_map)
        maps, scores = self.inner.tiles(pixels)  # N x T x h x w, N x T
        run = evidence >= self.level
        score = torch.where(run, scores, self._told(evidence)).amax(1)
        if maps.shape[2:].numel() == 1:  # it tells its score only
            return score.view(-1, 1, 1), score
        below = self.inner.inner_pixels(self._background(coarse_map)[:, None]).view(maps.shape)
        return self.inner.blend(torch.where(run[:, :, None, None], maps, below)), score

    def _told(self, values: Tensor) -> Tensor:
        return torch.minimum(self.gain * values + self.offset, self.cap)

    def _background(self, coarse_map: Tensor) -> Tensor:
        height, width = self.image_size
        size = [side * self.coarse.factor for side in coarse_map.shape[1:]]
        large = F.interpolate(coarse_map[:, None], size, mode="bilinear", align_corners=False)[:, 0, :height, :width]
        return self._told(large)


def coarse_size(picture: tuple[int, int], factor: int) -> tuple[int, int]:
    """(height, width) of what a :class:`Shrunk` of this factor gives its inner detector."""
    return -(-picture[0] // factor), -(-picture[1] // factor)


def build_coarse(family: type[Detector], config: dict[str, Any], tiled: Tiled) -> CoarseToFine:
    """The architecture by a ``coarse`` configuration."""
    factor = int(config["factor"])
    inner = family.build(config["inner"], coarse_size(tiled.image_size, factor))
    return CoarseToFine(tiled, Shrunk(inner, tiled.image_size, factor))
