"""What engines make of folders of camera pictures: one statistic a picture, each picture once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.layout import pictures_below
from edgead.preprocess import PreprocessRecipe, frame_digest
from edgead.survey import Survey
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
        known: files that the model was trained on, which were left out.
        survey: what the pictures are like.
    """

    statistics: dict[str, npt.NDArray[np.float64]]
    digests: dict[str, Path]
    copies: int
    known: tuple[Path, ...] = ()
    survey: Survey = field(default_factory=Survey)

    @property
    def count(self) -> int:
        return len(self.digests)


def list_pictures(folders: Sequence[Path]) -> list[Path]:
    """The picture files of some folders and of all below them.

    Raises:
        BadInput: a folder is missing or holds no pictures.
    """
    return [file for folder in folders for file in pictures_below(folder).files]


def ask_pictures(
    files: Sequence[Path],
    recipe: PreprocessRecipe,
    engines: Mapping[str, tuple[Engine, Statistic]],
    report: Callable[[], None] = lambda: None,
    trained_on: Container[str] = (),
) -> Asked:
    """Ask engines about camera pictures, one at a time as on the line; pictures with the same pixels count once.

    Args:
        files: pictures as the camera gave them; the bundle's `recipe` makes the model's input of each.
        engines: name -> engine and what to make of its answer.
        report: called after each file.
        trained_on: digests (:func:`frame_digest`) of the model inputs that the model was trained on: pictures of parts that it
            knows by heart say nothing about new ones.

    Raises:
        BadInput: pictures cannot be used (all are named), or an engine's answer is not finite; the message names the file.
        EngineError: an engine failed.
    """
    found: dict[str, list[float]] = {name: [] for name in engines}
    digests: dict[str, Path] = {}
    known: list[Path] = []
    survey = Survey()
    copies = 0
    for file in files:
        image, model_input = survey.both(file, recipe)
        if image is not None and model_input is not None:
            digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
            if digest in digests:
                copies += 1
            elif frame_digest(model_input) in trained_on:
                known.append(file)
            else:
                digests[digest] = file
                for name, value in _statistics(file, model_input, engines).items():
                    found[name].append(value)
        report()
    survey.refuse_bad()
    if survey.not_found and len(survey.not_found) == survey.count:
        raise BadInput(survey.lost()[0], hint="give pictures that show the part")
    return Asked({name: np.array(v, np.float64) for name, v in found.items()}, digests, copies, tuple(known), survey)


def _statistics(file: Path, model_input: Image, engines: Mapping[str, tuple[Engine, Statistic]]) -> dict[str, float]:
    found = {}
    for name, (engine, statistic) in engines.items():
        score, anomaly_map = engine.infer(model_input)
        if not (np.isfinite(score) and bool(np.isfinite(anomaly_map).all())):
            raise BadInput(f"{name} gives an answer that is not finite to {file}", hint="run: edgead verify BUNDLE")
        found[name] = statistic(score, anomaly_map)
    return found


def digest_of(digests: Iterable[str]) -> str:
    """One SHA-256 over pictures' digests, whatever their order, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
