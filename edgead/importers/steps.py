"""A trainer's preprocessing as typed steps, with torchvision's v2 semantics.

What a file tells is read step by step with all arguments (:func:`read_steps`); what is not known is refused by its name. How
edgead follows the steps is in :mod:`edgead.importers.transforms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgead.errors import BadInput
from edgead.models.streams import Record
from edgead.models.wrappers.prepared import Window

Size = tuple[int, int]
"""Height, width."""

MOST_STEPS = 64
DEEPEST = 16
LARGEST_PX = 8192

_NOTHING = frozenset({
    "ToImage", "ToTensor", "PILToTensor", "ToPureTensor", "Identity", "RGB", "ClampBoundingBoxes", "SanitizeBoundingBoxes",
    "ClampKeyPoints", "SanitizeKeyPoints", "SetClampingMode", "ConvertBoundingBoxFormat",
})  # fmt: skip
"""Steps that leave a colour picture of float32 numbers from 0 to 1, as anomalib gives it, as it is."""

_OWNERS = {"CenterCrop": "anomalib.data.transforms.", "ExportableCenterCrop": "anomalib.data.transforms."}
"""Steps that are known from elsewhere than torchvision and torch, too."""

_ARGUMENTS = {
    "Compose": {"transforms"}, "Resize": {"size", "interpolation", "max_size", "antialias"}, "CenterCrop": {"size"},
    "ExportableCenterCrop": {"size"}, "Pad": {"padding", "fill", "padding_mode"}, "Normalize": {"mean", "std", "inplace"},
    "ToDtype": {"dtype", "scale"}, "ConvertImageDtype": {"dtype"},
}  # fmt: skip
"""All that torchvision has for the steps that do something."""

_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the ways to resize."""


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
    short = _known(name)
    if not isinstance(arguments, dict):
        arguments = {}
    if isinstance(told, dict):  # an object's state holds more than its arguments
        more = [key for key in arguments if key not in _ARGUMENTS.get(short, arguments)]
        if more:
            raise _unusable(short, shown(more[0]), arguments[more[0]])
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


def _known(name: str) -> str:
    """The class's own name; other packages have a Resize, too, which may work otherwise.

    Raises:
        BadInput: it is none of torchvision, torch or anomalib.
    """
    short = name.rsplit(".", 1)[-1]
    if not name.startswith(("torchvision.", "torch.nn.", _OWNERS.get(short, "torchvision."))):
        raise BadInput(
            f"the file's preprocessing has the step {name[:80]!r}, which is none of torchvision", hint="train without it"
        )
    return short


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
