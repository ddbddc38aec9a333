"""What the benchmarks of fresh processes share: a camera that is a folder of 1080p pictures, `edgead run` on it, plain tables."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.errors import EngineError
from edgead.runtime.cameras.conveyor import draw_part

FRAME = (1080, 1920)
DRAWN = 4  # different pictures; the others are links to them
SHOWN = ("patchcore", "simplenet", "efficientad")
BACKENDS = ("openvino", "onnxruntime")


def camera_folder(folder: Path, count: int) -> Path:
    """`count` pictures of 1920 x 1080 px, BMP (so that decoding costs next to nothing), a few of them drawn and linked often."""
    folder.mkdir(parents=True)
    for i in range(min(DRAWN, count)):
        picture = draw_part(np.random.default_rng(i), size=FRAME)[0]
        if not cv2.imwrite(str(folder / f"{i:05d}.bmp"), picture):
            raise OSError(f"cannot write to {folder}")
    for i in range(DRAWN, count):
        (folder / f"{i:05d}.bmp").symlink_to(f"{i % DRAWN:05d}.bmp")
    return folder


@dataclass(frozen=True, slots=True)
class Started:
    """A station that was just started: its process, and `time.perf_counter()` of the moment before."""

    process: subprocess.Popen[str]
    began_s: float

    def records(self) -> Iterator[str]:
        """The record of each part as it comes.

        Raises:
            EngineError: the station ended by itself with an error.
        """
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            yield line
        if self.process.wait() > 0:
            raise EngineError(f"edgead run ended with exit code {self.process.returncode}")


@contextmanager
def station(
    bundle: Path, engine: str, camera: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[Started]:
    """`edgead run` in a fresh process, ended by SIGTERM at the end if it has not ended by itself."""
    command = [sys.executable, "-m", "edgead.cli.main", "run", str(bundle), "--engine", engine, "--camera", str(camera)]
    with tempfile.TemporaryFile("w+") as said:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--records", "-", *arguments],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        try:
            yield Started(process, began_s)
        except EngineError as error:
            said.seek(0)
            raise EngineError(f"{error}: {said.read().strip()[-300:]}") from error
        finally:
            process.terminate()
            process.communicate()


def markdown(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table for docs/performance.md."""
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]


def show(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The same table for the console."""
    cells = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))))
