"""What a set of pictures is like: sizes, proportions, depths, channels, EXIF turns, values; and which could not be used.

One survey is filled while a set is read. It tells in few lines what was found, warns of what makes a bad model without an error
(mixed proportions, values in a fraction of the range, tiny pictures), and names every bad file of the set at once.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.errors import BadInput, PartNotFound
from edgead.layout import listed
from edgead.preprocess import PreprocessRecipe, naming, read_raw, same_aspect, to_bgr8
from edgead.types import Image
from edgead.words import one_line

DEPTHS = (8, 10, 12, 14, 16)
"""Of cameras: what 16-bit files are taken to hold, by their largest value."""

DARK = 64
"""Of 255: a set whose brightest pixel stays below uses a quarter of the range."""

NAMED, MORE = 6, 40
"""Bad files told with what is wrong, and by their names alone; there may be hundreds."""


@dataclass(slots=True)
class Survey:
    """Filled by :meth:`read`; nothing of a picture but these numbers is kept.

    Attributes:
        sizes: (width, height) -> pictures.
        kinds: (channels, bits of the file) -> pictures.
        turned: files with an EXIF turn.
        largest: bits of the file -> largest value of all pictures of that depth.
        bad: files that could not be used, and why.
        examples: a file for each size.
        not_found: files in which the recipe does not find the part, which were left out.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[tuple[int, int]] = field(default_factory=Counter)
    turned: list[Path] = field(default_factory=list)
    largest: dict[int, int] = field(default_factory=dict)
    bad: list[tuple[Path, BadInput]] = field(default_factory=list)
    examples: dict[tuple[int, int], Path] = field(default_factory=dict)
    not_found: list[tuple[Path, PartNotFound]] = field(default_factory=list)

    def read(self, file: Path, recipe: PreprocessRecipe) -> Image | None:
        """The camera's picture in a file, noted; None when it cannot be used, which is noted in `bad`."""
        try:
            raw, data = read_raw(file)
            with naming(file):
                image = to_bgr8(raw, recipe.bits)
        except BadInput as error:
            self.bad.append((file, error))
            return None
        self._note(file, raw, data)
        return image

    def use(self, file: Path, recipe: PreprocessRecipe) -> Image | None:
        """The model's input of a file, noted; None when it cannot be used."""
        return self.both(file, recipe)[1]

    def both(self, file: Path, recipe: PreprocessRecipe) -> tuple[Image | None, Image | None]:
        """The camera's picture and the model's input; None and None when the file cannot be used, or the part is not found."""
        image = self.read(file, recipe)
        if image is None:
            return None, None
        try:
            with naming(file):
                return image, recipe.apply(image)
        except PartNotFound as error:
            self.not_found.append((file, error))
            return None, None
        except BadInput as error:
            self.bad.append((file, error))
            return None, None

    def refuse_bad(self, what: str = "pictures") -> None:
        """Raise BadInput when a file could not be used, naming all of them, on a screen at most."""
        if not self.bad:
            return
        if len(self.bad) == 1:
            raise self.bad[0][1]
        place = os.path.commonpath([file.parent for file, _ in self.bad])
        lines = "".join(f"\n  {_without(place, str(error))}" for _, error in self.bad[:NAMED])
        rest = [_without(place, str(file)) for file, _ in self.bad[NAMED:]]
        more = f"\n  and {len(rest)} more: {listed(rest, MORE)}" if rest else ""
        hint = self.bad[0][1].hint or "remove them or replace them"
        raise BadInput(f"{len(self.bad)} {what} cannot be used, in {one_line(place)}:{lines}{more}", hint=hint)

    def _note(self, file: Path, raw: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> None:
        size, bits = (raw.shape[1], raw.shape[0]), 8 * raw.dtype.itemsize
        self.sizes[size] += 1
        self.examples.setdefault(size, file)
        self.kinds[1 if raw.ndim == 2 else raw.shape[2], bits] += 1
        self.largest[bits] = max(self.largest.get(bits, 0), int(raw.max()))
        if exif_turn(data) > 1:
            self.turned.append(file)

    @property
    def count(self) -> int:
        return self.sizes.total()

    @property
    def mixed(self) -> bool:
        """Do the proportions differ?"""
        first = next(iter(self.sizes), (1, 1))
        return not all(same_aspect(first, size) for size in self.sizes)

    @property
    def usual(self) -> tuple[int, int] | None:
        """The commonest size, when all have its proportions."""
        return None if self.mixed or not self.sizes else self.sizes.most_common(1)[0][0]

    @property
    def bits(self) -> int:
        """What the 16-bit pictures really use, by their largest value; 16 without such."""
        largest = self.largest.get(16)
        return 16 if largest is None else next(bits for bits in DEPTHS if largest >> bits == 0)

    def lines(self) -> list[str]:
        """What was read, in one or two lines."""
        if not self.sizes:
            return ["no picture was read"]
        words = [self._sized(), *self._proportions(), _kinds(self.kinds)]
        if self.turned:
            words.append(f"{len(self.turned)} with an EXIF turn")
        return [f"{self.count} pictures: " + ", ".join(words), *self.lost()]

    def lost(self) -> list[str]:
        """What was left out since the part is not found, in one line or none."""
        if not self.not_found:
            return []
        file, error = self.not_found[0]
        names = listed([one.name for one, _ in self.not_found], NAMED)
        return [
            f"{len(self.not_found)} of {self.count} left out, they would be UNKNOWN(part_not_found) on the line: {names} "
            f"({file.name}: {one_line(str(error))})"
        ]

    def warnings(self, recipe: PreprocessRecipe, shapes: bool = True) -> list[str]:
        """What makes a bad model without an error, with what to do; without `shapes` where those are as the model has them."""
        return [*(self._of_shape(recipe) if shapes else ()), *self._of_depth(recipe), *self._of_turns()]

    def _sized(self) -> str:
        if len(self.sizes) == 1:
            return _px(next(iter(self.sizes)))
        least, most = (f(self.sizes, key=lambda s: s[0] * s[1]) for f in (min, max))
        return f"{len(self.sizes)} sizes from {_px(least)} to {_px(most)}"

    def _proportions(self) -> list[str]:
        if not self.mixed:
            return []
        ratios = sorted(width / height for width, height in self.sizes)
        return [f"proportions (width / height) from {ratios[0]:.2f} to {ratios[-1]:.2f}"]

    def _of_shape(self, recipe: PreprocessRecipe) -> list[str]:
        found = []
        seen = Counter[tuple[int, int]]()
        for size, count in self.sizes.items():
            seen[recipe.inspected(*size)[2:]] += count
        if small := [s for s in seen if s[0] < recipe.width / 2 and s[1] < recipe.height / 2]:
            count = sum(seen[s] for s in small)
            worst = min(small, key=lambda s: s[0] * s[1])
            found.append(
                f"{count} of {self.count} pictures are less than half as large as the model's input ({recipe.width} x "
                f"{recipe.height} px), the smallest {_px(worst)} ({self.examples.get(worst, Path()).name}): there is nothing to "
                "see in them that enlarging would bring back; give larger pictures, or a smaller --size"
            )
        other = [s for s in seen if not same_aspect(s, (recipe.width, recipe.height))]
        if recipe.aspect == "stretch" and recipe.crop_from is None and other:
            far = max(other, key=lambda s: abs(np.log(s[0] * recipe.height / (s[1] * recipe.width))))
            factor = far[0] * recipe.height / (far[1] * recipe.width)
            how = f"squeezed in width by up to {factor:.3g}" if factor > 1 else f"squeezed in height by up to {1 / factor:.3g}"
            unlike = ", each differently" if self.mixed and recipe.roi is None else ", all alike"
            found.append(
                f"{sum(seen[s] for s in other)} of {self.count} pictures have other proportions than the model's input and are "
                f"{how} ({_px(far)} to {recipe.width} x {recipe.height}){unlike}; to keep them: --keep-aspect letterbox, or a "
                "--size of their proportions"
            )
        if recipe.aspect == "crop" and other:
            worst = min(other, key=lambda s: _kept(recipe, s))
            found.append(
                f"--keep-aspect crop cuts off up to {1 - _kept(recipe, worst):.0%} of a picture, at both ends of its longer "
                "side: what is there can never be NG; --keep-aspect letterbox keeps it"
            )
        return found

    def _of_depth(self, recipe: PreprocessRecipe) -> list[str]:
        found = []
        if 16 in self.largest and recipe.bits < 16:
            found.append(
                f"16-bit files with values up to {self.largest[16]} only: taken as {recipe.bits} bits, here and on the line "
                "(--bits 16 takes the full range)"
            )
        tops = {bits: (top >> (recipe.bits - 8) if bits == 16 else top) for bits, top in self.largest.items()}
        if tops and max(tops.values()) < DARK:
            found.append(
                f"no pixel of any picture is brighter than {max(tops.values())} of 255: they use a fraction of their range; more "
                "light or exposure shows more of the defects" + (", or give the depth with --bits" if 16 in tops else "")
            )
        if len(tops) > 1:
            found.append("some pictures have 8 bits and some 16: equal light may not give equal numbers")
        return found

    def _of_turns(self) -> list[str]:
        if not self.turned:
            return []
        return [
            f"{len(self.turned)} of {self.count} pictures carry an EXIF turn (e.g. {self.turned[0].name}), which is ignored, as "
            "cameras on a line have none: the model sees them as they lie in the file; turn them for good if that is wrong"
        ]


def settle(recipe: PreprocessRecipe, survey: Survey, aspect: str | None, bits: int | None) -> PreprocessRecipe:
    """The recipe as the pictures want it, where nobody said otherwise: the depth that they use; and a letterbox where their
    proportions differ, since stretching would make each part look different.

    Args:
        aspect, bits: as asked for; None lets the pictures decide.
    """
    if aspect is None:
        mixed = survey.mixed and recipe.roi is None and recipe.crop_from is None
        aspect = "letterbox" if mixed and recipe.aspect == "stretch" else recipe.aspect
    found = survey.bits if bits is None and recipe.bits == 16 else bits or recipe.bits
    return replace(recipe, aspect=aspect, bits=found, pictures=survey.usual)


def exif_turn(data: npt.NDArray[np.uint8]) -> int:
    """The EXIF orientation in a file's bytes: 1 as it is, 2 to 8 mirrored or turned; 1 when there is none."""
    head = data[: 1 << 17].tobytes()
    for mark, skip in ((b"Exif\0\0", 6), (b"eXIf", 4)):
        if (at := head.find(mark)) >= 0:
            return _orientation(head[at + skip :])
    return _orientation(head) if head[:4] in (b"II*\0", b"MM\0*") else 1


def _orientation(tiff: bytes) -> int:
    """Of a TIFF header's first directory, tag 274."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for i in range(min(count, 512)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * i)
            if tag == 274:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _without(place: str, text: str) -> str:
    """In one line, and short of the folder that all have in common."""
    return one_line(text.replace(f"{place}{os.sep}", ""))


def _kept(recipe: PreprocessRecipe, size: Sequence[int]) -> float:
    ratio = size[0] * recipe.height / (size[1] * recipe.width)
    return min(ratio, 1 / ratio)


def _px(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _kinds(kinds: Counter[tuple[int, int]]) -> str:
    names = {1: "grey", 2: "grey with alpha", 3: "colour", 4: "colour with alpha"}
    told = {f"{names.get(channels, channels)} of {bits} bits": count for (channels, bits), count in kinds.items()}
    return next(iter(told)) if len(told) == 1 else " and ".join(f"{count} {what}" for what, count in told.items())
