"""A trainer's preprocessing as typed steps, with torchvision's v2 semantics, and how edgead follows them.

What a file tells is read step by step with all arguments (:func:`read_steps`); what is not known is refused by its name. All
steps are linear, so they are followed exactly (:func:`follow`): the first resize or cut is the recipe's, rounded once to 8 bits;
all others, in float and in their order, are inside the graph (:mod:`edgead.models.prepared`). Normalisations move no pixel, so
they join into one; a border that is added after one of them has the pixel value that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.errors import BadInput
from edgead.importers.model import ImportOptions
from edgead.importers.streams import Record
from edgead.models.detector import Detector
from edgead.models.prepared import Prepared, Scale, Window
from edgead.models.resized import Resized
from edgead.preprocess import PreprocessRecipe, list_images, read_image

Size = tuple[int, int]
"""Height, width."""

MOST_STEPS = 64
DEEPEST = 16
LARGEST_PX = 8192
MOST_PIXELS = 1 << 23
"""Of a network's input: more would take gigabytes before anything is known about the file."""

_NOTHING = frozenset({
    "ToImage", "ToTensor", "PILToTensor", "ToPureTensor", "Identity", "RGB", "ClampBoundingBoxes", "SanitizeBoundingBoxes",
    "ClampKeyPoints", "SanitizeKeyPoints", "SetClampingMode", "ConvertBoundingBoxFormat",
})  # fmt: skip
"""Steps that leave a colour picture of float32 numbers from 0 to 1, as anomalib gives it, as it is."""

_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the ways to resize."""

_EXACT = "--exact-resize WxH, with the size of the camera's pictures, does it inside the graph"


@dataclass(frozen=True, slots=True)
class Resize:
    """To `size` (height, width), or (one number) by the shorter side, or (none) by `max_size` for the longer one."""

    size: tuple[int, ...]
    mode: str = "bilinear"
    antialias: bool = True
    max_size: int | None = None

    def output(self, before: Size) -> Size:
        """The size of a picture of size `before` after it, by torchvision's rule."""
        if len(self.size) == 2:
            return self.size[0], self.size[1]
        short, long = min(before), max(before)
        if self.size:
            small, large = self.size[0], int(self.size[0] * long / short)
            if self.max_size is not None and large > self.max_size:
                small, large = int(self.max_size * small / large), self.max_size
        else:
            assert self.max_size is not None
            small, large = int(self.max_size * short / long), self.max_size
        return (large, small) if before[1] <= before[0] else (small, large)


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The middle of the picture; where that is smaller, a border of zeros is added first."""

    size: Size

    def window(self, before: Size, fill: tuple[float, ...]) -> Window:
        places = []
        for have, want in zip(before, self.size, strict=True):
            border = max(0, (want - have) // 2)  # the border's odd pixel is at the end
            places.append(-border if want >= have else round((have - want) / 2.0))
        return Window((places[0], places[1]), self.size, fill)


@dataclass(frozen=True, slots=True)
class Pad:
    """A border of one value: left, top, right, bottom in pixels."""

    border: tuple[int, int, int, int]
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def window(self, before: Size, fill: tuple[float, ...]) -> Window:
        left, top, right, bottom = self.border
        return Window((-top, -left), (before[0] + top + bottom, before[1] + left + right), fill)


@dataclass(frozen=True, slots=True)
class Normalize:
    """(value - mean) / std, of red, green and blue."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


Step = Resize | CenterCrop | Pad | Normalize


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


def read_steps(told: Any) -> tuple[Step, ...]:
    """The steps that a file tells: anomalib's description, or the state of a torchvision object.

    Raises:
        BadInput: a step that edgead does not have, or one with arguments that it does not have or that are no arguments.
    """
    steps: list[Step] = []
    for name, arguments in _flat(told, 0):
        step = _step(name, arguments)
        if step is not None:
            steps.append(step)
        if len(steps) > MOST_STEPS:
            raise BadInput(f"the file's preprocessing has more than {MOST_STEPS} steps", hint="do not trust this file")
    return tuple(steps)


def _flat(told: Any, depth: int) -> list[tuple[str, Mapping[str, Any]]]:
    """(class name, arguments) of each step, containers unpacked."""
    if depth > DEEPEST:
        raise BadInput("the file's preprocessing is nested too deep", hint="do not trust this file")
    if isinstance(told, Record):
        name, arguments = told.name, told.state
    elif isinstance(told, dict) and isinstance(told.get("class_path"), str):
        name, arguments = told["class_path"], told.get("init_args") or {}
    else:
        raise BadInput("the file's preprocessing cannot be read", hint="export from anomalib with the default pre-processor")
    short = name.rsplit(".", 1)[-1]
    if not isinstance(arguments, dict):
        arguments = {}
    if short not in ("Compose", "Sequential", "ModuleList"):
        return [(short, arguments)]
    inner = arguments.get("transforms")
    if inner is None and isinstance(arguments.get("_modules"), dict):
        inner = list(arguments["_modules"].values())
    if not isinstance(inner, (list, tuple)):
        raise BadInput(f"the file's step {short} tells no steps", hint="export from anomalib with the default pre-processor")
    if len(inner) > MOST_STEPS:
        raise BadInput(f"the file's preprocessing has more than {MOST_STEPS} steps", hint="do not trust this file")
    found: list[tuple[str, Mapping[str, Any]]] = []
    for one in inner:
        found.extend(_flat(one, depth + 1))
        if len(found) > MOST_STEPS:
            raise BadInput(f"the file's preprocessing has more than {MOST_STEPS} steps", hint="do not trust this file")
    return found


def _step(name: str, arguments: Mapping[str, Any]) -> Step | None:
    """One step by its name; None for those that leave pictures as they are."""
    if name == "Resize":
        return _resize(arguments)
    if name in ("CenterCrop", "ExportableCenterCrop"):
        size = _whole(name, arguments, "size", (1, 2))
        return CenterCrop((size[0], size[-1]))
    if name == "Pad":
        return _pad(arguments)
    if name == "Normalize":
        mean, std = (_colours(name, arguments, key) for key in ("mean", "std"))
        if 0.0 in std:
            raise _unusable(name, "std", arguments.get("std"))
        return Normalize(mean, std)
    if name in ("ToDtype", "ConvertImageDtype"):
        kind = arguments.get("dtype", "torch.float32")
        if isinstance(kind, dict) and len(kind) == 1:
            kind = next(iter(kind.values()))
        path = getattr(kind, "path", getattr(kind, "name", kind))
        if str(path if isinstance(path, str) else type(path).__name__).rsplit(".", 1)[-1] != "float32":
            raise _unusable(name, "dtype", kind)
        return None
    if name in _NOTHING:
        return None
    raise BadInput(f"the file's preprocessing has the step {name[:60]}, which edgead does not have", hint="train without it")


def _resize(arguments: Mapping[str, Any]) -> Resize:
    max_size = arguments.get("max_size")
    if max_size is not None:
        max_size = _whole("Resize", arguments, "max_size", (1,))[0]
    size = () if arguments.get("size") is None else _whole("Resize", arguments, "size", (1, 2))
    if (not size and max_size is None) or (len(size) == 2 and max_size is not None):
        raise _unusable("Resize", "max_size", max_size)
    if len(size) == 1 and max_size is not None and max_size <= size[0]:
        raise _unusable("Resize", "max_size", max_size)
    told = arguments.get("interpolation", "bilinear")
    if isinstance(told, Record):
        told = told.arguments[0] if told.arguments else None
    mode = _MODES.get(told, "") if isinstance(told, int) else told.rsplit(".", 1)[-1].lower() if isinstance(told, str) else ""
    mode = mode.replace("_", "-")
    if mode not in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        raise _unusable("Resize", "interpolation", told)
    antialias = arguments.get("antialias", True)
    if antialias not in (True, False, None, "warn"):  # "warn": torchvision 0.15 and 0.16, which then did without for tensors
        raise _unusable("Resize", "antialias", antialias)
    return Resize(size, mode, antialias is True and mode in ("bilinear", "bicubic"), max_size)


def _pad(arguments: Mapping[str, Any]) -> Pad:
    if arguments.get("padding_mode", "constant") != "constant":
        raise _unusable("Pad", "padding_mode", arguments.get("padding_mode"))
    border = _whole("Pad", arguments, "padding", (1, 2, 4), least=0)
    left, top, right, bottom = border * (4 // len(border))
    fill = arguments.get("fill", 0)
    return Pad((left, top, right, bottom), _colours("Pad", {"fill": 0 if fill is None else fill}, "fill"))


def _whole(step: str, arguments: Mapping[str, Any], key: str, counts: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    """Whole numbers of pixels; one number alone counts as one."""
    value = arguments.get(key)
    values = value if isinstance(value, (list, tuple)) else [value]
    if len(values) not in counts or not all(type(n) is int and least <= n <= LARGEST_PX for n in values):
        raise _unusable(step, key, value)
    return tuple(values)


def _colours(step: str, arguments: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    """Three numbers; one alone counts for all colours."""
    value: Any = arguments.get(key)
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    if len(values) not in (1, 3) or not all(type(n) in (int, float) and abs(n) < 1e6 for n in values):
        raise _unusable(step, key, value)
    red, green, blue = (float(n) for n in (values if len(values) == 3 else [*values] * 3))
    return red, green, blue


def _unusable(step: str, key: str, value: Any) -> BadInput:
    return BadInput(f"the file's step {step} has {key} {shown(value)}, which edgead cannot follow", hint="train without it")


def shown(value: Any) -> str:
    """A value of a file in a message: short, however large it is."""
    if isinstance(value, (list, tuple)):
        inner = ", ".join(shown(one) if not isinstance(one, (list, tuple, dict)) else "..." for one in value[:4])
        return f"[{inner}{', ...' if len(value) > 4 else ''}]"
    if isinstance(value, int) and abs(value) > 1 << 64:
        return "a number of many digits"
    if value is None or isinstance(value, (str, int, float)):
        return repr(value[:40] if isinstance(value, str) else value)
    return f"a {type(value).__name__}" if not isinstance(value, Record) else value.name[:60]


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
