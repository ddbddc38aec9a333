"""A picture of elpv, and the trained models whose engines are looked at."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from benchmarks._limit.separate import separate
from benchmarks._sets import SETS, Sizes
from benchmarks.int8 import write_folder
from edgead.preprocess import PreprocessRecipe, read_image
from edgead.training.fit import TrainRequest, train
from edgead.types import Image

MODEL = PreprocessRecipe(256, 256, resize="box")
MODELS = ("patchcore", "simplenet", "efficientad", "efficientad-separate")
"""The families as they are trained by default, and EfficientAD as in the paper (benchmarks/_limit/separate.py)."""
_SIZES = Sizes(200, 150, 150)


def picture(size: tuple[int, int]) -> Image:
    """One good cell, H x W of `size`."""
    return np.asarray(cv2.resize(read_image(SETS["elpv"].find()[0][0]), size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def trained(name: str, models: Path | None, cache: Path, seed: int) -> Path:
    """The folder of a trained model of `MODELS` below `cache`: copied from `models` when it is there, else trained once.

    Both were trained on pictures of model size, so the resize rule of `MODEL` suits either.
    """
    folder = cache / "models" / name
    if models is not None and (models / name / "model.json").is_file():
        folder = cache / "given" / name
        shutil.copytree(models / name, folder, dirs_exist_ok=True)
        info = json.loads((folder / "model.json").read_text("utf-8"))
        (folder / "model.json").write_text(json.dumps(info | {"preprocess": MODEL.to_json()}), "utf-8")
    elif name == "efficientad-separate":
        shared = trained("efficientad", models, cache, seed)
        folder = shared.with_name(name)
        if not (folder / "model.json").is_file():
            separate(shared, folder, seed)
    elif not (folder / "model.json").is_file():
        data = cache / "models" / "elpv"
        if not data.is_dir():
            write_folder(dataclasses.replace(SETS["elpv"], recipe=MODEL, sizes=_SIZES).split(seed), data)
        train(TrainRequest(name, data, folder, MODEL, seed=seed))
    return folder
