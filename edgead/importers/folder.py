"""An imported model as a trained model's folder, laid out as ``edgead train`` does it, so that ``edgead export`` takes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.bundle import Threshold, new_bundle, storage_errors
from edgead.golden import MOST_CAMERA, camera_pngs, write_camera
from edgead.importers.model import Imported
from edgead.models.detector import save_detector
from edgead.preprocess import PreprocessRecipe
from edgead.types import Image
from edgead.words import unicode_only

CALIBRATION_FRAMES = 128
GENERATED_FRAMES = 8
NO_PICTURES = "no good pictures given: parity is checked on generated ones"


def write_model(
    out: Path,
    imported: Imported,
    threshold: Threshold,
    held_out: Sequence[Image],
    calibration: Sequence[Image],
    name: str,
    data: Mapping[str, Any],
    labelled_root: Path | None = None,
    camera: Sequence[Path] = (),
) -> None:
    """Write the folder; an older model there is replaced at the very end.

    Args:
        held_out, calibration: good pictures at model size, H x W x 3 uint8 BGR.
        name: of the part.
        data: where the pictures came from, for the origin; empty without.
        labelled_root: folder in MVTec layout with labelled pictures.
        camera: the files of `held_out` as the camera gave them; some are kept.

    Raises:
        BadInput: `out` exists and is no trained model.
        StorageError: the disk is full or not writable.
    """
    info = {
        "name": name,
        "preprocess": imported.recipe.to_json(),
        "threshold": asdict(threshold),
        "origin": imported.origin(data),
        "metrics": {},
        "labelled_root": None if labelled_root is None else str(labelled_root),
    }
    with new_bundle(out, marker="model.json", kind="a trained model") as work:
        with storage_errors(out):
            write_frames(work, held_out, calibration)
            kept = range(0, len(camera), max(1, len(camera) // MOST_CAMERA))
            write_camera(work, camera_pngs({i: camera[i] for i in kept}, bits=imported.recipe.bits))
        save_detector(work, imported.detector, info)


def write_frames(folder: Path, held_out: Sequence[Image], calibration: Sequence[Image]) -> None:
    """The pictures of a trained model's folder; without any for calibration there is no folder of them."""
    for name, images in (("heldout", held_out), ("calibration", calibration[:CALIBRATION_FRAMES])):
        if images:
            (folder / name).mkdir()
        for i, image in enumerate(images):
            (folder / name / f"{i:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


def with_pictures(
    model_dir: Path, out: Path, held_out: Sequence[Image], calibration: Sequence[Image], data: Mapping[str, Any]
) -> None:
    """A copy of a model that was imported without pictures, with good ones in the place of the generated ones.

    Args:
        held_out, calibration, data: as in :func:`write_model`.
    """
    info = json.loads((model_dir / "model.json").read_text("utf-8"))
    info["origin"] = {
        **info["origin"], "data": dict(data), "assumptions": [a for a in info["origin"]["assumptions"] if a != NO_PICTURES],
    }  # fmt: skip
    with storage_errors(out):
        out.mkdir()
        write_frames(out, held_out, calibration)
        shutil.copyfile(model_dir / "model.safetensors", out / "model.safetensors")
        (out / "model.json").write_text(json.dumps(unicode_only(info), indent=2) + "\n", "utf-8")


def generated_frames(recipe: PreprocessRecipe, seed: int = 0) -> list[Image]:
    """Pictures of smooth noise at model size: enough to check that an engine computes what the model does, for nothing else."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(GENERATED_FRAMES):
        coarse = rng.integers(0, 256, (4 << (i % 4), 4 << (i % 4), 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (recipe.width, recipe.height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        frames.append(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))
    return frames
