"""The folder that pictures are saved into: PNG files, whole or not there, with consecutive numbers; it may hold some already."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import cv2

from edgead.bundle import storage_errors
from edgead.capture.looks import Look, Small, copy_among, missing, small_of
from edgead.disk import write_file
from edgead.errors import BadInput
from edgead.preprocess import IMAGE_SUFFIXES, read_image
from edgead.types import Image

HINT = "free space, or choose another folder"


class Album:
    """Pictures of one folder.

    Args:
        folder: made if need be; the pictures that are there count, and those below it do not.

    Attributes:
        best: the largest sharpness of a picture in it, or seen since.

    Raises:
        BadInput: it is no folder.
        StorageError: nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.best = folder, 0.0
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder} is not a folder", hint="give a folder for the pictures with -o")
        with storage_errors(folder, HINT):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        self._files: list[Path] = []
        self._smalls: list[Small] = []
        self._times: list[float] = []
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
                self._read(path)
        numbers = [int(path.stem) for path in self._files if re.fullmatch(r"[0-9]{1,9}", path.stem)]
        self._next = max(numbers, default=-1) + 1

    def __len__(self) -> int:
        return len(self._files)

    def copy_of(self, small: Small) -> Path | None:
        """The picture that this one is a near-copy of."""
        place = copy_among(small, self._smalls)
        return None if place is None else self._files[place]

    def save(self, image: Image, small: Small) -> Path:
        """Without loss. Raises StorageError: what was saved before stays."""
        while (path := self.folder / f"{self._next:04d}.png").exists():  # another program's
            self._next += 1
        done, data = cv2.imencode(".png", image)
        assert done
        with storage_errors(path, HINT):
            write_file(path, data.tobytes())
            self._add(path, small)
        return path

    def missing(self) -> tuple[str, ...]:
        """What the pictures do not show yet."""
        return missing(self._smalls, max(self._times, default=0.0) - min(self._times, default=0.0))

    def _read(self, path: Path) -> None:
        """One that was there before. Raises BadInput: it is none."""
        image = read_image(path)
        small = small_of(image)
        self.best = max(self.best, Look.of(image, small, None).sharpness)
        self._add(path, small)

    def _add(self, path: Path, small: Small) -> None:
        self._files.append(path)
        self._smalls.append(small)
        self._times.append(path.stat().st_mtime)
