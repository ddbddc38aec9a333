"""What a value on the command line may be: each type says in its own words what is wrong, and none lets NaN or infinity in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgead.errors import BadInput

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Type = click.ParamType[Any]
else:
    Type = click.ParamType  # that of click 8.1 has no type arguments

LARGEST_SEED = (1 << 32) - 1
"""NumPy, PyTorch and scikit-learn all take it."""


class Wrong(click.BadParameter):
    """A value that cannot be used: what is wrong with it, and how to fix it."""

    def __init__(self, message: str, hint: str = "", ctx: click.Context | None = None, param: click.Parameter | None = None):
        super().__init__(message, ctx, param)
        self.hint = hint


class PathType(Type):
    """A path, not looked at here: whether it is there, and what it must be, the verb says in its own words."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if value == "":  # it would be the current folder
            raise Wrong("is empty", "give a path", ctx, param)
        return Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class Parsed(Type):
    """What a function makes of the text; it raises BadInput, or ValueError with the whole message."""

    def __init__(self, function: Callable[[str], Any], name: str = "text") -> None:
        self.function, self.name = function, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default
            return value
        try:
            return self.function(value)
        except BadInput as error:
            raise Wrong(str(error), error.hint, ctx, param) from error
        except ValueError as error:
            raise Wrong(str(error), "", ctx, param) from error


PATH = PathType()


def whole(least: int | None = None, most: int | None = None) -> Parsed:
    """A whole number; from `least` to `most`, if these are given."""
    span = "" if least is None else f" from {least} on" if most is None else f" from {least} to {most}"

    def parse(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,4000}", text):  # int() takes more: 1_000, other scripts' digits; and refuses longer ones
            value = int(text)
            if (least is None or value >= least) and (most is None or value <= most):
                return value
        raise ValueError(f"{text[:80]!r} is not a whole number{span}")

    return Parsed(parse, "number")


def number(least: float | None = None, most: float | None = None) -> Parsed:
    """A finite number; from `least` to `most`, if these are given."""
    span = "" if least is None else f" from {least:g} on" if most is None else f" from {least:g} to {most:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (least is not None and value < least) or (most is not None and value > most):
            raise ValueError(f"{text[:80]!r} is not a number{span}")
        return value

    return Parsed(parse, "number")


def size(text: str) -> tuple[int, int]:
    """``"256"`` -> (256, 256), ``"320x256"`` -> (320, 256): width and height in pixels."""
    width, times, height = text.lower().partition("x")
    if not all(re.fullmatch(r"[0-9]{1,9}", side) for side in ((width, height) if times else (width,))):
        raise BadInput(f"{text[:80]!r} is not a size", hint="give pixels: 256, or 320x256 (width x height)")
    return int(width), int(height if times else width)


def names(text: str) -> tuple[str, ...]:
    """``"a, b"`` -> ("a", "b"), each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def rectangle(text: str) -> tuple[int, int, int, int]:
    """``"10,20,300,200"``: x, y, width, height in pixels."""
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(r" *[+-]?[0-9]{1,9} *", part) for part in parts):
        raise BadInput(f"{text[:80]!r} is not a rectangle", hint="give x,y,width,height in pixels: 0,0,640,480")
    x, y, width, height = map(int, parts)
    return x, y, width, height


def _frame(text: str) -> tuple[int, int]:
    width, times, height = text.lower().partition("x")
    if not (times and all(re.fullmatch(r"[0-9]{1,5}", side) and 16 <= int(side) <= 16384 for side in (width, height))):
        raise ValueError(f"{text[:80]!r} is not WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(width), int(height)


WHOLE, NUMBER, SEED = whole(), number(), whole(0, LARGEST_SEED)
SIZE, RECTANGLE, FRAME, NAMES = (
    Parsed(size, "size"),
    Parsed(rectangle, "rectangle"),
    Parsed(_frame, "frame"),
    Parsed(names, "names"),
)
