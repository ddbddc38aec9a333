"""How edgead follows a trainer's preprocessing (:mod:`edgead.importers.steps`).

All steps are linear, so they are followed exactly: the first resize or cut is the recipe's, rounded once to 8 bits; all others,
in float and in their order, are inside the graph (:mod:`edgead.models.wrappers.prepared`). Normalisations move no pixel, so they
join into
one; a border that is added after one of them has the pixel value that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.errors import BadInput
from edgead.importers.model import ImportOptions
from edgead.importers.steps import LARGEST_PX, CenterCrop, Normalize, Pad, Resize, Size, Step
from edgead.models.detector import Detector
from edgead.models.wrappers.prepared import Prepared, Scale, Window
from edgead.models.wrappers.resized import Resized
from edgead.preprocess import PreprocessRecipe, list_images, read_image

MOST_PIXELS = 1 << 23
"""Of a network's input: more would take gigabytes before anything is known about the file."""

_EXACT = "--exact-resize WxH, with the size of the camera's pictures, does it inside the graph"


@dataclass(frozen=True, slots=True)
class Followed:
    """How edgead follows the steps.

    Attributes:
        recipe: from the camera's picture to the input of the graph.
        inside: what the graph does first, on pixels; empty: nothing.
        size: of the network's input after that.
        mean, std: the joined normalisation, of RGB 0 to 255; 0 and 255 when there is none.
    """

    recipe: PreprocessRecipe
    inside: tuple[Scale | Window, ...]
    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def place(self, detector: Detector) -> Detector:
        """The detector behind what the graph does first; itself when that is nothing."""
        frame = (self.recipe.height, self.recipe.width)
        if not self.inside:
            return detector
        if len(self.inside) == 1 and isinstance(self.inside[0], Scale) and self.inside[0].mode == "bilinear":
            return Resized(detector, frame, self.inside[0].antialias).eval()
        return Prepared(detector, frame, self.inside).eval()


def follow(steps: Sequence[Step], options: ImportOptions) -> Followed:
    """How edgead follows `steps`.

    Args:
        options: the camera's picture or its size where the steps leave the input's size open; antialias as wanted.

    Raises:
        BadInput: the size stays open, or the recipe does not have the first step; the message says what helps.
    """
    places, mean, std = _joined(steps, options.antialias)
    rest: Sequence[_Place]
    if options.frame_size is not None:
        frame = options.frame_size[::-1]
        host, rest = PreprocessRecipe(frame[1], frame[0], options.roi, "antialias"), places
    else:
        host, rest = _first(places, options)
    inside, size = _inside(rest, (host.height, host.width))
    if size[0] * size[1] > MOST_PIXELS:
        raise BadInput(
            f"a model input of {size[1]} x {size[0]} px is not usable", hint=f"at most {MOST_PIXELS >> 20} megapixels are"
        )
    if options.size is not None and options.size[::-1] != size:
        raise BadInput(
            f"the file tells a model input of {size[1]} x {size[0]} px, not {options.size[0]} x {options.size[1]}",
            hint="leave --size away",
        )
    return Followed(host, inside, size, mean, std)


_Place = tuple[Resize | CenterCrop | Pad, tuple[float, ...]]
"""A step that changes places, and the RGB pixel value (0 to 255) of a border that it adds."""


def _joined(steps: Sequence[Step], antialias: bool | None) -> tuple[list[_Place], tuple[float, ...], tuple[float, ...]]:
    """The steps that change places, and all normalisations as one."""
    places: list[_Place] = []
    mean, std = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    for step in steps:
        if isinstance(step, Normalize):
            mean = tuple(m + s * n for m, s, n in zip(mean, std, step.mean, strict=True))  # type: ignore[assignment]
            std = tuple(s * n for s, n in zip(std, step.std, strict=True))  # type: ignore[assignment]
            if not all(math.isfinite(n) and 1e-6 < abs(n) < 1e9 for n in std):
                raise BadInput("the file's Normalize steps together leave no picture", hint="train with a usual normalisation")
            continue
        value = step.fill if isinstance(step, Pad) else (0.0, 0.0, 0.0)
        fill = tuple(m + s * v for m, s, v in zip(mean, std, value, strict=True))
        if isinstance(step, Resize) and antialias is not None and step.mode in ("bilinear", "bicubic"):
            step = Resize(step.size, step.mode, antialias, step.max_size)
        places.append((step, fill))
    return places, mean, std


def _inside(places: Sequence[_Place], before: Size) -> tuple[tuple[Scale | Window, ...], Size]:
    """What the graph does with pictures of one size, and their size after it."""
    inside: list[Scale | Window] = []
    for step, fill in places:
        if isinstance(step, Resize):
            after = step.output(before)
            if after != before:
                inside.append(Scale(after, step.mode, step.antialias))
        else:
            window = step.window(before, fill)
            after = window.size
            if after != before:
                inside.append(window)
        if not all(1 <= n <= LARGEST_PX for n in after):
            raise BadInput(
                f"the file's steps make {after[1]} x {after[0]} px of {before[1]} x {before[0]} px", hint="no model takes that"
            )
        before = after
    return tuple(inside), before


def _first(places: Sequence[_Place], options: ImportOptions) -> tuple[PreprocessRecipe, Sequence[_Place]]:
    """The recipe for the first steps, and the steps that are left."""
    if not places:
        height, width = _known(options, "the file does not resize its pictures")
        return PreprocessRecipe(width, height, options.roi, "linear"), []
    (step, fill), rest = places[0], places[1:]
    if isinstance(step, CenterCrop):
        if any(abs(value) > 1e-9 for value in fill):
            raise BadInput("the file normalises before its CenterCrop, whose border is then no black", hint=_EXACT)
        return PreprocessRecipe(step.size[1], step.size[0], options.roi, "linear", (0, 0)), rest
    if isinstance(step, Pad):
        raise BadInput("the file's preprocessing begins with the step Pad", hint=_EXACT)
    if step.mode != "bilinear":
        raise BadInput(f"the file resizes by {step.mode}; edgead's recipe resizes bilinearly", hint=_EXACT)
    rule = "antialias" if step.antialias else "linear"
    crop = rest[0][0].size if rest and isinstance(rest[0][0], CenterCrop) else None
    fixed = len(step.size) == 2
    if crop is not None and step.size and step.max_size is None and crop[0] <= step.size[0] and crop[1] <= step.size[-1]:
        before = (step.size[1], step.size[0]) if fixed else (step.size[0], 0)
        return PreprocessRecipe(crop[1], crop[0], options.roi, rule, before), rest[1:]
    if fixed:
        return PreprocessRecipe(step.size[1], step.size[0], options.roi, rule), rest
    height, width = _kept(step, options)
    return PreprocessRecipe(width, height, options.roi, rule), rest


def _kept(step: Resize, options: ImportOptions) -> Size:
    """Height and width of a picture that keeps its proportions."""
    side = f"shorter side {step.size[0]} px" if step.size else "no shorter side"
    if step.max_size is not None:
        side += f", longer side at most {step.max_size} px"
    if options.size is not None:
        after = options.size[::-1]
        short, long = min(after), max(after)
        limit = step.max_size or LARGEST_PX
        if long > limit or (short != step.size[0] and long != limit if step.size else long != limit):
            raise BadInput(f"--size {after[1]}x{after[0]} is not what the file's Resize makes ({side})", hint="give such a size")
        return after
    return _known(options, f"the file's Resize keeps the pictures' proportions ({side})", step)


def _known(options: ImportOptions, why: str, step: Resize | None = None) -> Size:
    """The one size that the camera's pictures have (after `step`), from the region of interest or the good pictures.

    Raises:
        BadInput: it is not known, or there are several.
    """
    if options.size is not None:
        return options.size[::-1]
    fix = "give --images GOOD_DIR with pictures of one size, --roi, or the input's size: --size WxH"
    if options.roi is not None:
        sizes = {(options.roi[3], options.roi[2])}
    elif options.images is not None:
        sizes = _sizes(options.images)
    else:
        raise BadInput(f"{why}, so the input's size is not fixed", hint=fix)
    after = {step.output(size) if step else size for size in sizes}
    if len(after) != 1:
        told = ", ".join(f"{width} x {height}" for height, width in sorted(after)[:4])
        raise BadInput(f"{why}, and those in {options.images} have several: inputs of {told} px", hint=fix)
    return after.pop()


def _sizes(folder: Path) -> set[Size]:
    return {(image.shape[0], image.shape[1]) for image in map(read_image, list_images(folder))}
