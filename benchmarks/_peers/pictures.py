"""Labelled pictures at the size of a camera's frame, and the trained models that the benchmark compares with themselves."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks._peers.separate import separate
from benchmarks._sets import SETS, Sizes, Split
from benchmarks.int8 import write_folder
from edgead.preprocess import PreprocessRecipe
from edgead.training.fit import TrainRequest, train
from edgead.types import Image

FRAME_PX = (1920, 1080)
NATIVE = PreprocessRecipe(300, 300)
MODEL = PreprocessRecipe(256, 256, resize="box")
MODELS = ("patchcore", "simplenet", "efficientad", "efficientad-separate")
"""The families as they are trained by default, and EfficientAD as in the paper (benchmarks/_peers/separate.py)."""
_SIZES = Sizes(200, 150, 150)


@dataclass(frozen=True)
class Pictures:
    """One seed's split of elpv: every second labelled cell is the peers' validation set (thresholds, INT8_PTQ), the others give
    the figures, at most `each` of a kind."""

    seed: int
    each: int

    @cached_property
    def split(self) -> Split:
        found = dataclasses.replace(SETS["elpv"], recipe=NATIVE, efficientad=NATIVE, sizes=_SIZES).split(self.seed)
        return Split([], found.test)

    def validation(self, count: int) -> tuple[list[Image], npt.NDArray[np.bool_]]:
        """At most `count` pictures of 300 x 300 px, good ones and defects in equal parts, and their labels."""
        chosen = [item for pair in zip(*(self._of(kind)[::2] for kind in (False, True)), strict=False) for item in pair][:count]
        return [item[0] for item in chosen], np.array([item[1] for item in chosen], np.bool_)

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        return np.array([defect for _, defect in self._tested], np.bool_)

    def frames(self) -> Iterator[Image]:
        """The tested pictures as the camera would give them, in the order of `labels`."""
        for image, _ in self._tested:
            yield to_frame(image)

    def model_size(self, size: tuple[int, int]) -> Image:
        """One tested picture, H x W of `size`."""
        return np.asarray(cv2.resize(self._tested[0][0], size[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    @property
    def _tested(self) -> list[tuple[Image, bool]]:
        return [item for kind in (False, True) for item in self._of(kind)[1::2][: self.each]]

    def _of(self, defect: bool) -> list[tuple[Image, bool]]:
        return [(item.image, defect) for item in self.split.test if item.defect is defect]


def to_frame(image: Image) -> Image:
    """A picture stretched to 1920 x 1080 px, as a camera's frame: uint8 BGR."""
    return np.asarray(cv2.resize(image, FRAME_PX, interpolation=cv2.INTER_LINEAR), np.uint8)


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
