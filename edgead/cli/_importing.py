"""What `edgead import` and `edgead export FILE` share: the arguments, and from a foreign file to a trained model's folder."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.cli.train import parse_roi, parse_size
from edgead.errors import BadInput
from edgead.manifest import Data
from edgead.trained import Pictures, is_model, read_card

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle import Threshold
    from edgead.importers import Imported
    from edgead.types import Image

LOOKED_AT = 12  # held out pictures that show what rounding changes


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for other tools' files."""
    group = parser.add_argument_group("models of other tools")
    group.add_argument(
        "--images", type=Path, metavar="GOOD_DIR", help="good pictures: for calibration, parity and what the file lacks"
    )
    group.add_argument(
        "--threshold", type=_finite, metavar="VALUE", help="raw score at and above which a part is NG (default: the file's)"
    )
    group.add_argument("--name", default="", help="name of the part (default: the file's)")
    group.add_argument("--roi", metavar="X,Y,W,H", help="inspected part of the camera picture, in pixels (default: all)")
    group.add_argument(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="when shrinking (default: as the model was trained)",
    )
    group.add_argument(
        "--exact-resize", metavar="WxH", help="pictures of this size, resized in float inside the graph as training did it"
    )
    group.add_argument("--weights", type=Path, metavar="FILE", help="weights of the backbone, where the file holds none")
    group.add_argument("--backbone", help="where the file does not name it")
    group.add_argument("--layers", metavar="A,B", help="feature layers, where the file does not name them")
    group.add_argument("--size", metavar="PX|WxH", help="model input size, where the file does not tell it")
    graph = parser.add_argument_group("ONNX graphs")
    graph.add_argument("--input", metavar="NAME", help="the picture input (default: the only one)")
    graph.add_argument("--score", metavar="NAME", help="the score output")
    graph.add_argument("--map", metavar="NAME", help="the map output")
    graph.add_argument("--mean", metavar="A[,B,C]", help="subtracted from values 0 to 255 (default 0)")
    graph.add_argument("--std", metavar="A[,B,C]", help="divides them then (default 255)")
    graph.add_argument("--colour", choices=("rgb", "bgr"), help="order the graph takes (default rgb)")
    graph.add_argument("--layout", choices=("nchw", "nhwc"), help="(default: where the 3 is)")


def check_pictures(name: str, folder: Path | None) -> None:
    """Refuse an option for a folder of pictures that is none. Raises BadInput."""
    if folder is not None and not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BadInput(f"--{name} {folder} {what}", hint="give a folder of pictures")


def _finite(text: str) -> float:
    """A number for argparse; NaN and infinity are none that a score is compared with."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def import_to(args: argparse.Namespace, source: Path, out: Path) -> tuple[Imported, Threshold, list[str]]:
    """Import `source` by the arguments and write the trained model's folder `out`.

    Returns:
        The model, its threshold, and lines to tell the user.

    Raises:
        BadInput: not recognised, unusable, or good pictures are needed.
    """
    import numpy as np

    from edgead.bundle import Threshold
    from edgead.importers import import_model
    from edgead.importers.folder import NO_PICTURES, generated_frames, write_imported
    from edgead.layout import find_good
    from edgead.survey import settle
    from edgead.thresholds.choose import threshold_from_good
    from edgead.training.dataset import load_good
    from edgead.training.evaluate import good_scores

    imported = import_model(source, _options(args), _graph_options(args))
    notes: list[str] = []
    good: list[Image] = []
    data = Data()
    root: Path | None = None
    camera: list[Path] = []
    if args.images is not None:
        images = load_good(args.images, imported.recipe, settle=lambda asked, survey: settle(asked, survey, asked.aspect, None))
        imported.recipe = images.recipe
        notes += [*images.survey.lines(), *images.survey.warnings(images.recipe, shapes=False)]
        good, held_out, camera = images.train, images.heldout, images.heldout_files
        data = images.told()
        root = find_good(args.images)[1]
        imported.complete(good, held_out)
    else:
        if imported.incomplete:
            raise BadInput(
                f"{source} holds no {imported.incomplete}: they are measured on good pictures", hint="give --images GOOD_DIR"
            )
        held_out = generated_frames(imported.recipe)
        imported.assumptions.append(NO_PICTURES)
    answers = good_scores(imported.detector, held_out)
    if not np.isfinite(answers).any():
        raise BadInput(
            f"{source}: the model's scores are not finite (NaN or infinite)", hint="its numbers leave float32: train it again"
        )
    if len(answers) > 1 and np.ptp(answers) == 0.0:
        told = "good" if good else "generated"
        notes.append(f"the model gives all {len(answers)} {told} pictures the same score, {answers[0]:.6g}: it finds nothing")
    scores = answers if good else None
    if args.threshold is not None:
        threshold = Threshold(args.threshold, "given by hand")
    elif imported.threshold is not None:
        threshold = imported.threshold
    elif scores is not None:
        threshold = threshold_from_good(scores, tool="edgead import")
    else:
        raise BadInput(f"{source} holds no threshold", hint="give --images GOOD_DIR to choose one, or --threshold VALUE")
    if scores is not None:
        notes.append(f"{int((scores >= threshold.value).sum())} of {len(scores)} held out good pictures are above the threshold")
        notes += _rounded(args, source, imported, camera, answers, threshold.value)
    write_imported(out, imported, threshold, Pictures(held_out, good, camera=camera), args.name or _name(source), data, root)
    return imported, threshold, notes


def _rounded(
    args: argparse.Namespace,
    source: Path,
    imported: Imported,
    camera: Sequence[Path],
    answers: npt.NDArray[np.float64],
    limit: float,
) -> list[str]:
    """What it changes that resized pictures are rounded to 8 bits before the graph, as a line; none where it is not to be told.

    Args:
        camera: files of held out pictures, which have to be of one size.
        answers: scores of theirs, float64 N.
        limit: the threshold.
    """
    import numpy as np

    from edgead.importers import import_model
    from edgead.preprocess import read_image
    from edgead.training.evaluate import good_scores

    frames = [read_image(path, imported.recipe.bits) for path in camera[:LOOKED_AT]]
    sizes = {(frame.shape[1], frame.shape[0]) for frame in frames}
    if len(sizes) != 1 or args.roi or imported.incomplete or imported.recipe.resize not in ("antialias", "linear"):
        return []
    (size,) = sizes
    try:
        exact = import_model(source, replace(_options(args), frame_size=size), _graph_options(args))
    except BadInput:  # what has no resize in its graph; --exact-resize would say so
        return []
    scores = good_scores(exact.detector, [exact.recipe.apply(frame) for frame in frames])
    before = answers[: len(frames)]
    moved, crossed = float(np.abs(scores - before).max()), int(((scores >= limit) != (before >= limit)).sum())
    if moved == 0.0:
        return []
    return [
        f"pictures are rounded to 8 bits after resizing: it moved the scores of {len(frames)} held out good pictures by up to"
        f" {moved:.3g} (threshold {limit:.6g}), {crossed} of them across it; --exact-resize {size[0]}x{size[1]} resizes in float,"
        " as its training did"
    ]


_INSTEAD = {
    "threshold": "choose it on the bundle: edgead threshold BUNDLE --set VALUE",
    "images": "INT8 is calibrated on --calibration DIR, and engines are compared on --labelled DIR as well",
    "name": "give --name to edgead train",
}
OF_IMPORTS = (
    "images", "threshold", "name", "roi", "antialias", "exact_resize", "weights", "backbone", "layers", "size", "input", "score",
    "map", "mean", "std", "colour", "layout",
)  # fmt: skip


def refuse_import_arguments(args: argparse.Namespace) -> None:
    """Refuse, for an edgead model, what only other tools' files take: the model says all that itself. Raises BadInput."""
    given = [name for name in OF_IMPORTS if getattr(args, name) not in (None, "")]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        hint = _INSTEAD.get(given[0], "the model was trained with its own; train it again to change them")
        raise BadInput(f"{flags}: for other tools' files only, and {args.model} is an edgead model", hint=hint)


def imported_without_pictures(model: Path) -> bool:
    """Whether `model` is a folder that ``edgead import`` wrote without good pictures: those held out in it are generated."""
    try:
        return read_card(model).origin.without_pictures
    except BadInput:  # no such folder: told where it is read
        return False


def with_good_pictures(model: Path, out: Path, folder: Path) -> None:
    """A copy `out` of a model that was imported without pictures, with those of `folder`: some held out, the others for INT8.

    Raises:
        BadInput: no usable pictures.
    """
    from edgead.importers.folder import with_pictures
    from edgead.training.dataset import load_good

    images = load_good(folder, read_card(model).preprocess)
    with_pictures(model, out, Pictures(images.heldout, images.train), images.told())


def is_foreign(source: Path) -> bool:
    """Whether `source` is anything but a folder written by ``edgead train`` or ``edgead import``."""
    return source.exists() and not is_model(source)


def summary(imported: Imported, threshold: Threshold, notes: list[str]) -> str:
    """What was found, as lines."""
    recipe = imported.recipe
    whole = ""
    if recipe.crop_from:
        sizes = " x ".join(str(n or "any") for n in recipe.crop_from)
        whole = (
            f", cut from the middle of {sizes} px" if any(recipe.crop_from) else ", cut from the middle of the picture as it is"
        )
    rows = [
        ("found", imported.source),
        ("pictures", f"{recipe.width} x {recipe.height} px, resized by rule {recipe.resize!r}{whole}"),
        ("threshold", f"{threshold.value:.6g} ({threshold.method})"),
        *(("assumed", line) for line in imported.assumptions),
        *(("note", line) for line in notes),
    ]
    return "\n".join(f"{name:<12}{value}" for name, value in rows)


def _options(args: argparse.Namespace) -> Any:
    from edgead.importers import ImportOptions
    from edgead.layout import find_good

    return ImportOptions(
        antialias=args.antialias,
        frame_size=parse_size(args.exact_resize) if args.exact_resize else None,
        roi=parse_roi(args.roi) if args.roi else None,
        weights=args.weights,
        backbone=args.backbone,
        layers=tuple(args.layers.split(",")) if args.layers else None,
        size=parse_size(args.size) if args.size else None,
        images=find_good(args.images)[0] if args.images is not None else None,
    )


def _graph_options(args: argparse.Namespace) -> Any:
    from edgead.importers.graph import GraphOptions

    mean = _numbers("mean", "0" if args.mean is None else args.mean)
    std = _numbers("std", "255" if args.std is None else args.std)
    return GraphOptions(args.input, args.score, args.map, mean, std, args.colour or "rgb", args.layout)


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)) or (flag == "std" and 0.0 in values):
        raise BadInput(f"--{flag} {text} is not usable", hint="give one number, or three with commas between")
    return values


def _name(source: Path) -> str:
    source = source.resolve()
    return source.name if source.is_dir() else source.stem
