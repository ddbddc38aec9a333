"""Pictures to train on: a folder of good ones with all that lies below it, or a folder in MVTec layout (:mod:`edgead.layout`).

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
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.alignment import Placement
from edgead.errors import BadInput, PartNotFound
from edgead.layout import Found, find_good, good_pictures, not_taken
from edgead.layout import leave_out as without
from edgead.manifest import Data
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe, naming, read_image
from edgead.survey import Survey
from edgead.training.alignment import MOST_LOST, AlignAsked, Aligned, learn_alignment
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
        digest: SHA-256 (hexadecimal) over the file names and frames of all images, sorted by path, and the recipe.
        recipe: that made the frames.
        survey: what the pictures are like.
        found: where they lay, and what was left out there.
        duplicates: files left out because an image before has exactly the same frame.
        left_out: files left out because they were asked to be.
        aligned: how the part is found; None where it is not looked for.
    """

    folder: Path
    train: list[Image]
    heldout: list[Image]
    train_files: list[Path]
    heldout_files: list[Path]
    digest: str
    recipe: PreprocessRecipe
    survey: Survey
    found: Found
    duplicates: list[Path] = field(default_factory=list)
    left_out: tuple[Path, ...] = ()
    aligned: Aligned | None = None

    @property
    def count(self) -> int:
        return len(self.train) + len(self.heldout)

    def told(self) -> Data:
        """For the trained model's card."""
        return Data(str(self.folder), self.count, self.digest)


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


Settle = Callable[[PreprocessRecipe, Survey], PreprocessRecipe]
"""From the recipe that is asked for and what the pictures are like to the recipe to use."""


def load_good(
    folder: Path,
    recipe: PreprocessRecipe,
    heldout: float = 0.15,
    seed: int = 0,
    progress: Progress = silent,
    settle: Settle | None = None,
    leave_out: Sequence[str] = (),
    align: AlignAsked | None = None,
) -> GoodImages:
    """Read all pictures below the folder, apply the recipe, drop exact copies, and split.

    The held-out part is `heldout` of the images, rounded, and at least 2; at least 2 stay for training.

    Args:
        settle: may change the recipe once the pictures are known; they are read once more then.
        leave_out: pictures that are not taken, by their paths below the folder.
        align: learn how the part is found, from the same pictures. Those in which it is not found then are left out.

    Raises:
        BadInput: no images, some that cannot be used (all of them named), fewer than `MIN_IMAGES` different ones, a share outside
            (0, 1), a picture to leave out that is not there, folders of defects or masks below the folder, or (with `align`) a
            part that does not stand out, or that is not found in more than `MOST_LOST` of them.
    """
    if not 0.0 < heldout < 1.0:
        raise BadInput(f"a held-out share of {heldout} is not usable", hint="give a number between 0 and 1, such as 0.15")
    place, root = find_good(folder)
    found, away = without(good_pictures(place), leave_out)
    found.skipped.update(not_taken(folder, place, root))
    aligned = None
    if align is not None:
        recipe, aligned = _aligned(found, recipe, align, settle, progress)
    survey, read = _read_all(found, recipe, progress)
    if settle is not None and (settled := settle(recipe, survey)) != recipe:
        again = replace(settled, pictures=recipe.pictures) != recipe
        recipe = settled
        if again:
            survey, read = _read_all(found, recipe, progress)
    survey.refuse_bad("good pictures")
    if len(survey.not_found) > max(1, MOST_LOST * len(found.files)):
        raise BadInput(
            f"good pictures in {found.folder}: {survey.lost()[0]}",
            hint="remove them if they show no whole part, else align by another kind or region",
        )
    return replace(_split(found, recipe, survey, read, heldout, seed), left_out=away, aligned=aligned)


def _aligned(
    found: Found, recipe: PreprocessRecipe, asked: AlignAsked, settle: Settle | None, progress: Progress
) -> tuple[PreprocessRecipe, Aligned]:
    """The recipe with alignment, and how that was learned; the model looks at the part where nobody said where."""
    survey = Survey()
    for i, file in enumerate(found.files):
        survey.read(file, recipe)
        progress("reading", (i + 1) / len(found.files))
    survey.refuse_bad("good pictures")
    if settle is not None:
        recipe = replace(recipe, bits=settle(recipe, survey).bits)
    aligned = learn_alignment(found.files, recipe, asked, progress)
    return replace(recipe, roi=recipe.roi or aligned.alignment.region, align=aligned.alignment), aligned


def _read_all(found: Found, recipe: PreprocessRecipe, progress: Progress) -> tuple[Survey, list[tuple[Path, Image]]]:
    survey = Survey()
    frames: list[tuple[Path, Image]] = []
    for i, file in enumerate(found.files):
        if (frame := survey.use(file, recipe)) is not None:
            frames.append((file, frame))
        progress("reading", (i + 1) / len(found.files))
    return survey, frames


def _split(
    found: Found, recipe: PreprocessRecipe, survey: Survey, read: list[tuple[Path, Image]], heldout: float, seed: int
) -> GoodImages:
    digest = hashlib.sha256(repr(replace(recipe, pictures=None).to_json()).encode())
    seen: dict[bytes, Path] = {}
    frames: list[tuple[Path, Image]] = []
    duplicates: list[Path] = []
    for file, frame in read:
        key = hashlib.sha256(frame.tobytes()).digest()
        digest.update(os.fsencode(file.name) + b"\0" + key)
        if key in seen:
            duplicates.append(file)
        else:
            seen[key] = file
            frames.append((file, frame))
    if duplicates:
        _log.warning("%d of %d images are exact copies and were left out, e.g. %s", len(duplicates), len(read), duplicates[0])
    if len(frames) < MIN_IMAGES:
        copies = f" ({len(duplicates)} more are exact copies)" if duplicates else ""
        raise BadInput(
            f"{found.folder} holds {len(frames)} different good picture{'' if len(frames) == 1 else 's'}{copies}; "
            f"training needs at least {MIN_IMAGES}",
            hint="collect more; 50 or more of one part under real light are a good start",
        )
    train, held = split([*range(len(frames))], heldout, seed)
    return GoodImages(
        folder=found.folder,
        train=[frames[i][1] for i in train],
        heldout=[frames[i][1] for i in held],
        train_files=[frames[i][0] for i in train],
        heldout_files=[frames[i][0] for i in held],
        digest=digest.hexdigest(),
        recipe=recipe,
        survey=survey,
        found=found,
        duplicates=duplicates,
    )


def native_size(folder: Path, roi: tuple[int, int, int, int] | None = None) -> tuple[int, int]:
    """(width, height) of the good pictures themselves, or of the inspected part of them.

    Raises:
        BadInput: no pictures, one that cannot be read, or two of different sizes (without `roi`).
    """
    if roi is not None:
        return roi[2], roi[3]
    files = good_pictures(find_good(folder)[0]).files
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


def load_labelled(files: Iterable[tuple[Path, str, Path | None]], recipe: PreprocessRecipe) -> Iterator[Labelled]:
    """Test images one after the other (they are not kept), by what :func:`edgead.layout.labelled` found.

    Masks go through the same alignment, region, proportions and resize; a mask is true above half of full white. Pictures in
    which the part is not found are left out: on the line they are UNKNOWN, whatever the model would say.

    Raises:
        BadInput: one cannot be read, or a mask is of another size than its image.
    """
    for file, kind, mask_file in files:
        raw = recipe.read(file)
        mask: Mask | None = None
        with naming(file):
            try:
                placement = recipe.locate(raw)
                image = recipe.apply(raw, placement=placement)
            except PartNotFound:
                continue
            if kind == "good":
                mask = np.zeros((recipe.height, recipe.width), np.bool_)
            elif mask_file is not None:
                mask = _at_model_size(_binary(mask_file, raw), recipe, placement) > 127
        yield Labelled(file, kind, image, mask)


def read_mask(file: Path, raw: Image, recipe: PreprocessRecipe, placement: Placement | None) -> Mask:
    """The mask of a defect at model size, as of :func:`load_labelled`; where the defect is too small for that, all that it
    touches. False everywhere: the defect lies outside of what the model looks at.

    Args:
        raw: the camera's picture.
        placement: where the part lies in it.

    Raises:
        BadInput: it cannot be read, is of another size than the picture, or marks nothing.
    """
    binary = _binary(file, raw)
    if not binary.any():
        raise BadInput(f"the mask {file} marks nothing", hint="a mask is white (255) on the defect and black (0) elsewhere")
    small = _at_model_size(binary, recipe, placement)
    if (small > 127).any():
        return np.asarray(small > 127)
    whole = _at_model_size(np.zeros_like(binary), recipe, placement)  # what the recipe adds itself: bars
    return np.asarray(small != whole)


def _binary(file: Path, raw: Image) -> Image:
    """A mask's file, 0 or 255 of the picture's shape: it is set above half of full white."""
    mask = read_image(file)
    if mask.shape != raw.shape:
        raise BadInput(f"{file} has another size than its picture", hint="a mask has one pixel for each image pixel")
    return np.asarray(np.where(mask > 127, np.uint8(255), np.uint8(0)), np.uint8)


def _at_model_size(mask: Image, recipe: PreprocessRecipe, placement: Placement | None) -> npt.NDArray[np.uint8]:
    found: Image = recipe.apply(mask, placement=placement)
    return found[:, :, 0]
