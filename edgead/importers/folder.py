"""An imported model as a trained model's folder, so that ``edgead export`` takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edgead.bundle import Threshold, storage_errors
from edgead.importers.model import Imported
from edgead.manifest import Data
from edgead.preprocess import PreprocessRecipe
from edgead.trained import ModelCard, Pictures, load_model, new_model, write_model
from edgead.types import Image

GENERATED_FRAMES = 8
NO_PICTURES = "no good pictures given: parity is checked on generated ones"


def write_imported(
    out: Path,
    imported: Imported,
    threshold: Threshold,
    pictures: Pictures,
    name: str,
    data: Data,
    labelled_root: Path | None = None,
) -> None:
    """Write the folder; an older model there is replaced at the very end.

    Args:
        name: of the part.
        data: where the pictures came from.
        labelled_root: folder in MVTec layout with labelled pictures.

    Raises:
        BadInput: `out` exists and is no trained model.
        StorageError: the disk is full or not writable.
    """
    card = ModelCard.of(
        imported.detector, name=name, preprocess=imported.recipe, threshold=threshold, origin=imported.origin(data),
        labelled_root=None if labelled_root is None else str(labelled_root),
    )  # fmt: skip
    with new_model(out) as work:
        write_model(work, imported.detector, card, pictures)


def with_pictures(model_dir: Path, out: Path, pictures: Pictures, data: Data) -> None:
    """A copy of a model that was imported without pictures, with good ones in the place of the generated ones.

    Args:
        pictures, data: as in :func:`write_imported`.
    """
    detector, card = load_model(model_dir)
    assumptions = tuple(a for a in card.origin.assumptions or () if a != NO_PICTURES)
    with storage_errors(out):
        write_model(out, detector, replace(card, origin=replace(card.origin, data=data, assumptions=assumptions)), pictures)


def generated_frames(recipe: PreprocessRecipe, seed: int = 0) -> list[Image]:
    """Pictures of smooth noise at model size: enough to check that an engine computes what the model does, for nothing else."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(GENERATED_FRAMES):
        coarse = rng.integers(0, 256, (4 << (i % 4), 4 << (i % 4), 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (recipe.width, recipe.height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        frames.append(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))
    return frames
