"""The pictures that INT8 ranges are measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.types import Image


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Good pictures at model size, H x W x 3 uint8 BGR each.

    Attributes:
        images: in the order in which they are used.
        digest: SHA-256 over their shapes and pixels, hexadecimal: the same pictures give the same digest.
    """

    images: tuple[Image, ...]
    digest: str

    @classmethod
    def of(cls, images: Sequence[Image]) -> CalibrationSet:
        """From pictures at model size.

        Raises:
            BadInput: there are none.
        """
        if not images:
            raise BadInput("INT8 calibration needs good pictures, and there are none", hint="give --calibration DIR")
        sha = hashlib.sha256()
        for image in images:
            sha.update(repr(image.shape).encode())
            sha.update(image.tobytes())
        return cls(tuple(images), sha.hexdigest())

    @classmethod
    def from_folder(cls, folder: Path, recipe: PreprocessRecipe, limit: int) -> CalibrationSet:
        """From a folder of pictures, at most `limit` of them, evenly spread over their names, brought to model size.

        Raises:
            BadInput: no pictures there, or one that cannot be read.
        """
        files = list_images(folder)
        chosen = files if len(files) <= limit else [files[i * len(files) // limit] for i in range(limit)]
        return cls.of([recipe.apply(read_image(file)) for file in chosen])
