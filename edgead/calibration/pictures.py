"""What engines make of folders of camera pictures: one statistic a picture, each picture once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.types import AnomalyMap, Engine, Image

Statistic = Callable[[float, AnomalyMap], float]
"""From an engine's score and map to one number, larger being more anomalous."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said about a set of pictures.

    Attributes:
        statistics: engine's name -> float64, N, in the order of `digests`.
        digests: SHA-256 of each picture's size and pixels, as the camera gave it -> its file.
        copies: files with the pixels of an earlier one, which were left out.
    """

    statistics: dict[str, npt.NDArray[np.float64]]
    digests: dict[str, Path]
    copies: int

    @property
    def count(self) -> int:
        return len(self.digests)


def list_pictures(folders: Sequence[Path]) -> list[Path]:
    """The picture files of some folders, not of their subfolders.

    Raises:
        BadInput: a folder is missing or holds no pictures.
    """
    return [file for folder in folders for file in list_images(folder)]


def ask_pictures(
    files: Sequence[Path],
    recipe: PreprocessRecipe,
    engines: Mapping[str, tuple[Engine, Statistic]],
    report: Callable[[], None] = lambda: None,
) -> Asked:
    """Ask engines about camera pictures, one at a time as on the line; pictures with the same pixels count once.

    Args:
        files: pictures as the camera gave them; the bundle's `recipe` makes the model's input of each.
        engines: name -> engine and what to make of its answer.
        report: called after each file.

    Raises:
        BadInput: a picture cannot be used, or an engine's answer to it is not finite; the message names the file.
        EngineError: an engine failed.
    """
    found: dict[str, list[float]] = {name: [] for name in engines}
    digests: dict[str, Path] = {}
    for file in files:
        image, model_input = _read(file, recipe)
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        if digest not in digests:
            digests[digest] = file
            for name, (engine, statistic) in engines.items():
                score, anomaly_map = engine.infer(model_input)
                if not (np.isfinite(score) and bool(np.isfinite(anomaly_map).all())):
                    raise BadInput(f"{name} gives an answer that is not finite to {file}", hint="run: edgead verify BUNDLE")
                found[name].append(statistic(score, anomaly_map))
        report()
    statistics = {name: np.array(values, np.float64) for name, values in found.items()}
    return Asked(statistics, digests, len(files) - len(digests))


def digest_of(digests: Iterable[str]) -> str:
    """One SHA-256 over pictures' digests, whatever their order, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _read(file: Path, recipe: PreprocessRecipe) -> tuple[Image, Image]:
    """The camera's picture and the model's input."""
    try:
        image = read_image(file)
        return image, recipe.apply(image)
    except BadInput as error:
        said = str(error)
        raise BadInput(said if str(file) in said else f"{file}: {said}", hint=error.hint) from error
