"""Pictures of defects that take part in a training: read as the good ones are, each with its mask where there is one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgead.errors import BadInput, PartNotFound
from edgead.families.contract import Defect
from edgead.layout import Defects, LabelledFile, defect_pictures, listed, skipped_lines
from edgead.manifest import Data
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe, frame_digest, naming
from edgead.survey import Survey
from edgead.training.dataset import Mask, read_mask


@dataclass(frozen=True, slots=True)
class DefectImages:
    """Pictures of defects after the recipe.

    Attributes:
        found: where they lay, and what was left out there, folder by folder.
        files, defects: those that take part, in the same order.
        told: of each folder, for the trained model's card; digests are SHA-256 in hex over recipe, names, frames and masks.
        survey: what they are like.
        duplicates: left out because one before has exactly the same frame.
        unseen: left out because their masks lie outside of what the model looks at.
        recipe: that made the frames.
    """

    found: tuple[Defects, ...]
    files: tuple[Path, ...]
    defects: tuple[Defect, ...]
    told: tuple[Data, ...]
    survey: Survey
    duplicates: tuple[Path, ...]
    unseen: tuple[Path, ...]
    recipe: PreprocessRecipe

    def lines(self) -> list[str]:
        """What was read and left out."""
        lines = [*(f"{found.folder}: {found.told()}" for found in self.found), *self.survey.lines()]
        for files, why in ((self.duplicates, "exact copies of others"), (self.unseen, "outside of what the model looks at")):
            if files:
                lines.append(f"left out: {len(files)} {why} ({listed(file.name for file in files)})")
        skipped = sum((found.skipped for found in self.found), Counter[str]())
        return [*lines, *(f"left out: {line}" for line in skipped_lines(skipped))]

    def warnings(self) -> list[str]:
        """What may teach a model something else than the defects."""
        strange = [(size, why) for size in self.survey.sizes if (why := self.recipe.strange(*size))]
        if not strange:
            return []
        count = sum(self.survey.sizes[size] for size, _ in strange)
        return [
            f"{count} of {self.survey.count} pictures of defects are of other sizes than the good ones, which a model can learn "
            f"instead of the defects ({self.survey.examples[strange[0][0]].name}: {strange[0][1]})"
        ]


def load_defects(
    folders: Sequence[Path],
    recipe: PreprocessRecipe,
    good: Collection[str] = (),
    masks: bool = False,
    progress: Progress = silent,
) -> DefectImages:
    """Read all pictures of defects below some folders (:func:`edgead.layout.defect_pictures`), as the good ones were read.

    Args:
        recipe: of the good pictures.
        good: digests of their frames (:func:`edgead.preprocess.frame_digest`).
        masks: each needs one.
        progress: told the stage "reading defects".

    Raises:
        BadInput: no pictures there, some that cannot be used (all of them named), one without the mask that is needed, one that
            is among the good ones too, or none that is left.
    """
    found = [defect_pictures(folder) for folder in folders]
    items = [item for one in found for item in one.files]
    if masks and (without := [item.file for item in items if item.mask is None]):
        raise BadInput(
            f"{without[0]} has no mask ({len(without)} of {len(items)} have none), and on tiles nobody knows then which of them "
            "show the defect",
            hint="put NAME_mask.png beside it, white on the defect, or train without --tiles",
        )
    survey, kept, told = Survey(), dict[str, tuple[Path, Defect]](), list[Data]()
    duplicates, unseen = list[Path](), list[Path]()
    done = 0
    for one in found:
        digest = hashlib.sha256(repr(replace(recipe, pictures=None).to_json()).encode())
        for item in one.files:
            if (defect := _read(item, recipe, survey)) is not None:
                key = frame_digest(defect.image)
                if key in good:
                    raise BadInput(f"{item.file} is also among the good pictures", hint="a picture is one or the other")
                digest.update(
                    os.fsencode(item.file.name) + key.encode() + (b"" if defect.mask is None else defect.mask.tobytes())
                )
                if defect.mask is not None and not defect.mask.any():
                    unseen.append(item.file)
                elif key in kept:
                    duplicates.append(item.file)
                else:
                    kept[key] = (item.file, defect)
            done += 1
            progress("reading defects", done / len(items))
        told.append(Data(str(one.folder.resolve()), len(one.files), digest.hexdigest()))
    survey.refuse_bad("pictures of defects")
    if not kept:
        lost = survey.lost() or [f"the masks of all {len(unseen)} lie outside of what the model looks at"]
        raise BadInput(
            f"pictures of defects in {listed(map(str, folders))}: {lost[0]}", hint="give pictures that show defects of this part"
        )
    files, defects = zip(*kept.values(), strict=True)
    return DefectImages(tuple(found), files, defects, tuple(told), survey, tuple(duplicates), tuple(unseen), recipe)


def _read(item: LabelledFile, recipe: PreprocessRecipe, survey: Survey) -> Defect | None:
    """One of them; None when it cannot be used, which the survey notes."""
    if (raw := survey.read(item.file, recipe)) is None:
        return None
    try:
        with naming(item.file):
            placement = recipe.locate(raw)
            image = recipe.apply(raw, placement=placement)
            mask = None if item.mask is None else read_mask(item.mask, raw, recipe, placement)
    except PartNotFound as error:
        survey.not_found.append((item.file, error))
    except BadInput as error:
        survey.bad.append((item.file, error))
    else:
        return Defect(image, mask)
    return None


def defects_on(images: Sequence[Defect], boxes: Sequence[tuple[slice, slice]], most: int) -> list[Defect]:
    """The tiles of pictures of defects that show them: of each picture those with at least a tenth of the defect's pixels that
    the fullest tile has, the fullest first, and at most so many.

    Args:
        images: each with its mask.
        boxes: rows and columns of each tile.
    """
    found: list[Defect] = []
    for one in images:
        mask: Mask = one.mask  # type: ignore[assignment]  # load_defects has seen to it
        counts = [int(mask[box].sum()) for box in boxes]
        order = sorted(range(len(boxes)), key=lambda k: -counts[k])[:most]
        found += [Defect(one.image[boxes[k]], mask[boxes[k]]) for k in order if 10 * counts[k] >= counts[order[0]]]
    return found
