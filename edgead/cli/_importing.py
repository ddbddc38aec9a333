"""The options for other tools' files, which `edgead import` and `edgead export FILE` share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgead.cli._options import given
from edgead.cli._types import NUMBER, PATH, RECTANGLE, SIZE, Parsed, names
from edgead.cli._verb import option
from edgead.errors import BadInput

if TYPE_CHECKING:
    from edgead.jobs.importing import Foreign

TOOLS, GRAPHS = "models of other tools", "ONNX graphs"


def _numbers(text: str) -> tuple[float, ...]:
    """One number, or three."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise BadInput(f"{text[:80]!r} is not usable", hint="give one number, or three with commas between")
    return values


def _divisors(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if 0.0 in values:
        raise BadInput(f"{text[:80]!r} is not usable: nothing is divided by 0", hint="give one number, or three, none of them 0")
    return values


_ALL = (
    option(
        "--images",
        type=PATH,
        metavar="GOOD_DIR",
        group=TOOLS,
        help="good pictures: for calibration, parity and what the file lacks",
    ),
    option(
        "--threshold",
        type=NUMBER,
        metavar="VALUE",
        group=TOOLS,
        help="raw score at and above which a part is NG (default: the file's)",
    ),
    option("--name", default="", metavar="TEXT", group=TOOLS, help="name of the part (default: the file's)"),
    option(
        "--roi",
        type=RECTANGLE,
        metavar="X,Y,W,H",
        group=TOOLS,
        help="inspected part of the camera picture, in pixels (default: all)",
    ),
    option("--antialias/--no-antialias", default=None, group=TOOLS, help="when shrinking (default: as the model was trained)"),
    option(
        "--exact-resize",
        type=SIZE,
        metavar="WxH",
        group=TOOLS,
        help="pictures of this size, resized in float inside the graph as training did it",
    ),
    option("--weights", type=PATH, metavar="FILE", group=TOOLS, help="weights of the backbone, where the file holds none"),
    option("--backbone", metavar="NAME", group=TOOLS, help="where the file does not name it"),
    option("--layers", metavar="A,B", group=TOOLS, help="feature layers, where the file does not name them"),
    option("--size", type=SIZE, metavar="PX|WxH", group=TOOLS, help="model input size, where the file does not tell it"),
    option("--input", metavar="NAME", group=GRAPHS, help="the picture input (default: the only one)"),
    option("--score", metavar="NAME", group=GRAPHS, help="the score output"),
    option("--map", metavar="NAME", group=GRAPHS, help="the map output"),
    option(
        "--mean",
        type=Parsed(_numbers, "numbers"),
        metavar="A[,B,C]",
        group=GRAPHS,
        help="subtracted from values 0 to 255 (default 0)",
    ),
    option("--std", type=Parsed(_divisors, "numbers"), metavar="A[,B,C]", group=GRAPHS, help="divides them then (default 255)"),
    option("--colour", type=click.Choice(("rgb", "bgr")), group=GRAPHS, help="order the graph takes (default rgb)"),
    option("--layout", type=click.Choice(("nchw", "nhwc")), group=GRAPHS, help="(default: where the 3 is)"),
)
OF_IMPORTS = (
    "images", "threshold", "name", "roi", "antialias", "exact_resize", "weights", "backbone", "layers", "size", "input", "score",
    "map", "mean", "std", "colour", "layout",
)  # fmt: skip
"""Their names: what :func:`import_options` gives to the verb."""

_INSTEAD = {
    "--threshold": "choose it on the bundle: edgead threshold BUNDLE --set VALUE",
    "--images": "INT8 is calibrated on --calibration DIR, and engines are compared on --labelled DIR as well",
    "--name": "give --name to edgead train",
}


def import_options(function: Any) -> Any:
    """Decorator: the options for other tools' files."""
    for one in reversed(_ALL):
        function = one(function)
    return function


def foreign_of(asked: Mapping[str, Any]) -> Foreign:
    """What these options say, by their names (`OF_IMPORTS`). Raises BadInput."""
    from edgead.importers.model import ImportOptions
    from edgead.importers.ports import GraphOptions
    from edgead.jobs.importing import Foreign

    told = {name: asked[name] for name in ("antialias", "roi", "weights", "backbone", "size")}
    layers = names(asked["layers"]) if asked["layers"] is not None else None
    options = ImportOptions(frame_size=asked["exact_resize"], layers=layers, **told)
    graph = GraphOptions(
        asked["input"], asked["score"], asked["map"], asked["mean"] or (0.0,), asked["std"] or (255.0,),
        asked["colour"] or "rgb", asked["layout"],
    )  # fmt: skip
    return Foreign(asked["images"], asked["threshold"], asked["name"], options, graph)


def refuse_import_options(model: Path) -> None:
    """Refuse, for an edgead model, what only other tools' files take: the model says all that itself. Raises BadInput."""
    if flags := given(*OF_IMPORTS):
        hint = _INSTEAD.get(flags[0], "the model was trained with its own; train it again to change them")
        raise BadInput(f"{', '.join(flags)}: for other tools' files only, and {model} is an edgead model", hint=hint)
