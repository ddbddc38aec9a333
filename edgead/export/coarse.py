"""Coarse-to-fine engines: two graphs, one for the whole picture and one for a tile, and a file that says how they work together.

The coarse graph stays float: which tiles are looked at is then the trained model's own choice, up to rounding. INT8 is for the
tile's graph, calibrated on tiles of the calibration pictures. The accuracy guard cannot return layers to float here, since it
asks graphs about whole frames: an INT8 engine over its limits is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead.calibration.int8.calibrate import CalibrationReport, calibrate
from edgead.calibration.int8.targets import Target
from edgead.calibration.pictures.sets import CalibrationSet
from edgead.engines.coarse import SUFFIX, write_tiles
from edgead.engines.openvino import write_ir
from edgead.export.builds import BUILDS
from edgead.export.graph import write_onnx
from edgead.export.tensorrt import BuildOptions
from edgead.models.wrappers.coarse import CoarseToFine

BACKENDS = ("openvino", "onnxruntime")
"""The others run the whole model as one static graph, every tile of it."""

CALIBRATION_TILES = 128

COARSE, TILE = "coarse.onnx", "tile.onnx"


@dataclass(frozen=True, slots=True)
class TwoGraphs:
    """The graphs of one coarse-to-fine detector in a bundle's folder."""

    detector: CoarseToFine
    folder: Path

    @classmethod
    def write(cls, detector: CoarseToFine, folder: Path) -> TwoGraphs:
        """Write both float graphs into `folder`. Errors as :func:`edgead.export.graph.write_onnx`."""
        write_onnx(detector.coarse, folder / COARSE)
        write_onnx(detector.inner.inner, folder / TILE)
        return cls(detector, folder)

    def quantize(self, calibration: CalibrationSet, target: Target, threads: int | None) -> CalibrationReport:
        """Write the INT8 graph of the tile for a target, for :meth:`build`. The pictures have been screened.

        Errors as :func:`edgead.calibration.int8.calibrate.calibrate`.
        """
        output = self.folder / f"tile.int8.w{target.options.weight_bits}.onnx"
        return calibrate(self.folder / TILE, self._tiles(calibration), target, output=output, allow_unsafe=True, threads=threads)

    def build(self, job: tuple[str, str], options: BuildOptions, weight_bits: int | None = None) -> Path:
        """The engine of a (backend, precision): the file that names both of its parts.

        Args:
            weight_bits: of the INT8 graph.
        """
        backend, precision = job
        graph = self.folder / (TILE if weight_bits is None else f"tile.int8.w{weight_bits}.onnx")
        made = BUILDS[job].make(graph, self.folder, options)
        tile = made if made.parent == self.folder else made.with_stem(f"tile-{precision}")
        if tile != made:
            for part in (made, made.with_suffix(".bin")):
                part.replace(part.with_stem(tile.stem))
        coarse = self.folder / COARSE
        if backend == "openvino":
            coarse = made.with_name("coarse.xml")
            write_ir(self.folder / COARSE, coarse)
        file = tile.with_name(f"{backend}-{precision}{SUFFIX}")
        detector = self.detector
        overlap = int(detector.config["tiles"]["overlap"])
        write_tiles(file, coarse, tile, detector.inner.grid, overlap, detector.coarse.factor, detector.gate)
        return file

    def _tiles(self, calibration: CalibrationSet) -> CalibrationSet:
        """Tiles of the pictures, the same ones each time: of each picture others, so that all places are there."""
        grid = self.detector.inner.grid
        rng = np.random.default_rng(0)
        each = min(len(grid), max(1, CALIBRATION_TILES // len(calibration)))
        images, names = [], []
        for image, name in zip(calibration.images, calibration.names, strict=True):
            for k in rng.permutation(len(grid))[:each].tolist():
                top, left = grid.corners[k]
                images.append(np.ascontiguousarray(image[top : top + grid.rows.tile, left : left + grid.columns.tile]))
                names.append(f"{name}, tile {k}")
        return CalibrationSet.of(images, names)
