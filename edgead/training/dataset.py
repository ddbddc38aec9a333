"""Pictures to train on: a flat folder of good ones, or a folder in MVTec layout.

    root/train/good/*            good, for training
    root/test/good/*             good, labelled
    root/test/<defect>/*         defects, labelled
    root/ground_truth/<defect>/<name>_mask.png   (or <name>.png), white where the defect is; optional

Frames are kept in memory after the recipe: uint8 at model size (300 at 256 x 256 px are 59 MB).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput
from edgead.preprocess import PreprocessRecipe, list_images, read_image
from edgead.training.progress import Progress, silent
from edgead.types import Image

Mask = npt.NDArray[np.bool_]

MIN_IMAGES = 4
"""Fewest different good images that can be split into a training and a held-out part."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GoodImages:
    """Good images after the recipe, split once by seed.

    Attributes:
        folder: where they were read.
        train, heldout: H x W x 3 uint8 BGR at model size.
        train_files, heldout_files: their files, in the same order.
        digest: SHA-256 (hexadecimal) over the file names and frames of all images, sorted by name, and the recipe.
        duplicates: files left out because an image before has exactly the same frame.
    """

    folder: Path
    train: list[Image]
    heldout: list[Image]
    train_files: list[Path]
    heldout_files: list[Path]
    digest: str
    duplicates: list[Path] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.train) + len(self.heldout)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled test image.

    Attributes:
        file: where it was read.
        kind: the name of its folder; ``"good"`` or a kind of defect.
        image: H x W x 3 uint8 BGR at model size.
        mask: H x W, True on the defect; all False on good ones; None when the defect has no mask.
    """

    file: Path
    kind: str
    image: Image
    mask: Mask | None

    @property
    def defect(self) -> bool:
        return self.kind != "good"


def find_good(folder: Path) -> tuple[Path, Path | None]:
    """Where the good images are, and the MVTec root with labelled ones (``test/good`` and so on) beside them, or None.

    Args:
        folder: an MVTec root, its ``train`` or ``train/good``, or any folder of good images.

    Raises:
        BadInput: no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder", hint="give a folder of good pictures")
    folder = folder.resolve()
    good = next((g for g in (folder / "train/good", folder / "good") if g.is_dir()), folder)
    roots = [folder, good.parent]
    if good.parts[-2:] == ("train", "good"):
        roots.append(good.parent.parent)
    return good, next((root for root in roots if (root / "test/good").is_dir()), None)


def load_good(
    folder: Path, recipe: PreprocessRecipe, heldout: float = 0.15, seed: int = 0, progress: Progress = silent
) -> GoodImages:
    """Read, apply the recipe, drop exact copies, and split.

    The held-out part is `heldout` of the images, rounded, and at least 2; at least 2 stay for training.

    Raises:
        BadInput: no images, one that cannot be read (named), fewer than `MIN_IMAGES` different ones, a share outside (0, 1).
    """
    if not 0.0 < heldout < 1.0:
        raise BadInput(f"a held-out share of {heldout} is not usable", hint="give a number between 0 and 1, such as 0.15")
    good, _ = find_good(folder)
    files = list_images(good)
    digest = hashlib.sha256(repr(recipe.to_json()).encode())
    seen: dict[bytes, Path] = {}
    frames: list[tuple[Path, Image]] = []
    duplicates: list[Path] = []
    for i, file in enumerate(files):
        frame = _frame(file, recipe)
        key = hashlib.sha256(frame.tobytes()).digest()
        digest.update(file.name.encode() + b"\0" + key)
        if key in seen:
            duplicates.append(file)
        else:
            seen[key] = file
            frames.append((file, frame))
        progress("reading", (i + 1) / len(files))
    if duplicates:
        _log.warning("%d of %d images are exact copies and were left out, e.g. %s", len(duplicates), len(files), duplicates[0])
    if len(frames) < MIN_IMAGES:
        copies = f" ({len(duplicates)} more are exact copies)" if duplicates else ""
        raise BadInput(
            f"{good} holds {len(frames)} different good picture{'' if len(frames) == 1 else 's'}{copies}; "
            f"training needs at least {MIN_IMAGES}",
            hint="collect more; 50 or more of one part under real light are a good start",
        )
    train, held = split([*range(len(frames))], heldout, seed)
    return GoodImages(
        folder=good,
        train=[frames[i][1] for i in train],
        heldout=[frames[i][1] for i in held],
        train_files=[frames[i][0] for i in train],
        heldout_files=[frames[i][0] for i in held],
        digest=digest.hexdigest(),
        duplicates=duplicates,
    )


def native_size(folder: Path, roi: tuple[int, int, int, int] | None = None) -> tuple[int, int]:
    """(width, height) of the good pictures themselves, or of the inspected part of them.

    Raises:
        BadInput: no pictures, one that cannot be read, or two of different sizes (without `roi`).
    """
    if roi is not None:
        return roi[2], roi[3]
    files = list_images(find_good(folder)[0])
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        height, width = read_image(file).shape[:2]
        sizes.setdefault((width, height), file)
        if len(sizes) > 1:
            (one, first), (other, second) = sizes.items()
            raise BadInput(
                f"the pictures have no common size: {first.name} is {one[0]} x {one[1]} px, {second.name} "
                f"{other[0]} x {other[1]}",
                hint="give --size WxH; pictures of other sizes are then resized",
            )
    return next(iter(sizes))


def split(indices: list[int], heldout: float, seed: int) -> tuple[list[int], list[int]]:
    """Shuffled training and held-out indices (each sorted): round(heldout n) are held out, at least 2, at most n - 2."""
    order = np.random.default_rng(seed).permutation(indices)
    count = min(max(2, math.floor(heldout * len(order) + 0.5)), len(order) - 2)
    return sorted(int(i) for i in order[count:]), sorted(int(i) for i in order[:count])


def labelled_files(root: Path) -> list[tuple[Path, str, Path | None]]:
    """The test images of an MVTec root as (file, kind, mask file or None), sorted; folders without pictures are skipped."""
    found = []
    for kind in sorted(p for p in (root / "test").iterdir() if p.is_dir()):
        try:
            files = list_images(kind)
        except BadInput:
            continue
        found += [(file, kind.name, None if kind.name == "good" else _mask_file(root, file)) for file in files]
    return found


def load_labelled(files: Iterable[tuple[Path, str, Path | None]], recipe: PreprocessRecipe) -> Iterator[Labelled]:
    """Test images one after the other (they are not kept), by what :func:`labelled_files` found.

    Masks go through the same region and resize; a mask is true above half of full white.

    Raises:
        BadInput: one cannot be read, or a mask is of another size than its image.
    """
    for file, kind, mask_file in files:
        raw = read_image(file)
        mask: Mask | None = None
        if kind == "good":
            mask = np.zeros((recipe.height, recipe.width), np.bool_)
        elif mask_file is not None:
            raw_mask = read_image(mask_file)
            if raw_mask.shape != raw.shape:
                raise BadInput(f"{mask_file} has another size than {file}", hint="a mask has one pixel for each image pixel")
            binary = np.where(raw_mask > 127, np.uint8(255), np.uint8(0))
            mask = recipe.apply(binary)[:, :, 0] > 127
        yield Labelled(file, kind, _apply(file, raw, recipe), mask)


def encode_png(image: Image) -> bytes:
    """A frame as PNG, lossless."""
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def _frame(file: Path, recipe: PreprocessRecipe) -> Image:
    return _apply(file, read_image(file), recipe)


def _apply(file: Path, raw: Image, recipe: PreprocessRecipe) -> Image:
    try:
        return recipe.apply(raw)
    except BadInput as error:
        raise BadInput(f"{file}: {error}", hint=error.hint) from error


def _mask_file(root: Path, file: Path) -> Path | None:
    folder = root / "ground_truth" / file.parent.name
    names = (f"{file.stem}_mask.png", f"{file.stem}.png")
    return next((folder / name for name in names if (folder / name).is_file()), None)
