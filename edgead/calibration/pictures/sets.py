"""The pictures that INT8 ranges are measured on: good ones only, each once, in a fixed order, with their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput
from edgead.layout import good_pictures
from edgead.preprocess import PreprocessRecipe
from edgead.survey import Survey
from edgead.types import Image
from edgead.words import unicode_only


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Good pictures at model size, H x W x 3 uint8 BGR each. Make one with :meth:`of` or :meth:`from_folder`.

    It may be gone through as often as one likes: the guard calibrates several times and must see the same pictures.

    Attributes:
        images: in the order in which they are used, no two the same.
        names: where each came from (a file name), for messages.
        digest: SHA-256 over their shapes and pixels, hexadecimal: the same pictures in the same order give the same digest.
        duplicates: (dropped name, kept name) of pictures that were there twice.
    """

    images: tuple[Image, ...]
    names: tuple[str, ...]
    digest: str
    duplicates: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of(cls, images: Sequence[Image], names: Sequence[str] = ()) -> CalibrationSet:
        """From pictures at model size; `names` default to "picture 0", "picture 1", ...

        Raises:
            BadInput: there are none, they differ in size or depth, or they are all the same.
        """
        if not images:
            raise BadInput("INT8 calibration needs good pictures, and there are none", hint="give --calibration DIR")
        names = list(names) or [f"picture {i}" for i in range(len(images))]
        kept: dict[bytes, tuple[str, Image]] = {}
        duplicates: list[tuple[str, str]] = []
        for name, image in zip(names, images, strict=True):
            _check(name, image, names[0], images[0])
            key = hashlib.sha256(image.tobytes()).digest()
            if key in kept:
                duplicates.append((name, kept[key][0]))
            else:
                kept[key] = (name, image)
        if len(kept) == 1 and len(images) > 1:
            raise BadInput(
                f"all {len(images)} calibration pictures are the same one", hint="give different good pictures of the product"
            )
        sha = hashlib.sha256(repr(images[0].shape).encode())
        for key in kept:
            sha.update(key)
        return cls(tuple(i for _, i in kept.values()), tuple(n for n, _ in kept.values()), sha.hexdigest(), tuple(duplicates))

    @classmethod
    def from_folder(cls, folder: Path, recipe: PreprocessRecipe, limit: int) -> CalibrationSet:
        """From all pictures below a folder, at most `limit` of them, evenly spread over their names, brought to model size.

        Raises:
            BadInput: no pictures there, a folder of defects among them, or some that cannot be read or do not suit the recipe:
                the message names all of them.
        """
        files = good_pictures(folder).files
        chosen = files if len(files) <= limit else [files[i * len(files) // limit] for i in range(limit)]
        survey = Survey()
        found = [(file, image) for file in chosen if (image := survey.use(file, recipe)) is not None]
        survey.refuse_bad("calibration pictures")
        if not found:
            raise BadInput(f"{folder}: {survey.lost()[0]}", hint="give pictures that show the part")
        return cls.of([image for _, image in found], [unicode_only(file.relative_to(folder).as_posix()) for file, _ in found])


def _check(name: str, image: Image, first_name: str, first: Image) -> None:
    if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != 3:
        raise BadInput(
            f"calibration picture {name} is {image.dtype} of shape {image.shape}", hint="give H x W x 3 uint8 BGR pictures"
        )
    if image.shape != first.shape:
        raise BadInput(
            f"calibration picture {name} is {image.shape[1]} x {image.shape[0]} px, {first_name} is "
            f"{first.shape[1]} x {first.shape[0]} px",
            hint="bring them to model size with the model's preprocess recipe",
        )
