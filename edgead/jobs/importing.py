"""Another tool's file as a trained model's folder. What needs torch is imported when it is used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle import Threshold, check_target
from edgead.errors import BadInput
from edgead.importers.model import ImportOptions
from edgead.importers.ports import GraphOptions
from edgead.jobs.progress import Progress, silent
from edgead.manifest import Data
from edgead.optional import require
from edgead.trained import Pictures, is_model, read_card

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.importers import Imported
    from edgead.types import Image

LOOKED_AT = 12  # held out pictures that show what rounding changes


@dataclass(frozen=True, slots=True)
class Foreign:
    """How another tool's file is read, and what it does not hold.

    Attributes:
        images: folder of good pictures: for calibration, parity and what the file lacks; None: without.
        threshold: raw score at and above which a part is NG; None: the file's, or chosen from the pictures.
        name: of the part; "" takes the file's.
        options: what the file does not say of the model.
        graph: of an ONNX graph, what it does not say.
    """

    images: Path | None = None
    threshold: float | None = None
    name: str = ""
    options: ImportOptions = field(default_factory=ImportOptions)
    graph: GraphOptions = field(default_factory=GraphOptions)

    def __post_init__(self) -> None:
        check_folder("images", self.images)
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise BadInput(f"a threshold of {self.threshold} decides nothing", hint="give a finite number in raw model units")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import.

    Attributes:
        source: the other tool's file or folder.
        out: folder for the model; an older one there is replaced at the very end.
        foreign: how it is read.
    """

    source: Path
    out: Path
    foreign: Foreign = field(default_factory=Foreign)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was found and written.

    Attributes:
        out: the model's folder.
        imported: the model, its recipe, and what was assumed.
        threshold: its first one.
        notes: what is worth knowing, a line each.
    """

    out: Path
    imported: Imported
    threshold: Threshold
    notes: tuple[str, ...]


def import_model(request: ImportRequest, progress: Progress = silent) -> ImportResult:
    """Read the file and write the trained model's folder.

    Raises:
        BadInput: not recognised, unusable, good pictures are needed, or `out` is something else.
        MissingExtra: a package that reads it is not installed.
        StorageError: the folder cannot be written.
    """
    if not request.source.exists():
        raise BadInput(f"{request.source} does not exist", hint="give a file or a folder that another tool wrote")
    check_target(request.out, "model.json", "a trained model")
    for module in ("torch", "safetensors"):
        require(module, extra="train", why="Importing a model")
    from edgead.importers.folder import NO_PICTURES, generated_frames, write_imported
    from edgead.layout import find_good
    from edgead.survey import settle
    from edgead.training.dataset import load_good
    from edgead.training.evaluate import good_scores

    source, asked = request.source, request.foreign
    progress("reading the model", 0.0)
    imported = _read(source, asked)
    progress("reading the model", 1.0)
    notes: list[str] = []
    good: list[Image] = []
    data, root, camera = Data(), None, list[Path]()
    if asked.images is not None:
        images = load_good(asked.images, imported.recipe, progress=progress,
                           settle=lambda recipe, survey: settle(recipe, survey, recipe.aspect, None))  # fmt: skip
        imported.recipe = images.recipe
        notes += [*images.survey.lines(), *images.survey.warnings(images.recipe, shapes=False)]
        good, held_out, camera = images.train, images.heldout, images.heldout_files
        data, root = images.told(), find_good(asked.images)[1]
        imported.complete(good, held_out)
    else:
        if imported.incomplete:
            raise BadInput(
                f"{source} holds no {imported.incomplete}: they are measured on good pictures", hint="give --images GOOD_DIR"
            )
        held_out = generated_frames(imported.recipe)
        imported.assumptions.append(NO_PICTURES)
    answers = good_scores(imported.detector, held_out)
    notes += _doubts(source, answers, bool(good))
    threshold = _threshold(source, asked, imported, answers if good else None)
    if good:
        over = int((answers >= threshold.value).sum())
        notes.append(f"{over} of {len(answers)} held out good pictures are above the threshold")
        notes += _rounded(source, asked, imported, camera, answers, threshold.value)
    pictures = Pictures(held_out, good, camera=camera)
    write_imported(request.out, imported, threshold, pictures, asked.name or _name(source), data, root)
    return ImportResult(request.out, imported, threshold, tuple(notes))


def is_foreign(source: Path) -> bool:
    """Whether `source` is anything but a folder written by ``edgead train`` or ``edgead import``."""
    return source.exists() and not is_model(source)


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


def check_folder(name: str, folder: Path | None) -> None:
    """Refuse an option for a folder of pictures that is none. Raises BadInput."""
    if folder is not None and not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BadInput(f"--{name} {folder} {what}", hint="give a folder of pictures")


def _read(source: Path, asked: Foreign, frame_size: tuple[int, int] | None = None) -> Imported:
    """The model; with `frame_size`, its pictures are resized in float inside the graph."""
    from edgead.importers import import_model as read
    from edgead.layout import find_good

    images = find_good(asked.images)[0] if asked.images is not None else None
    size = frame_size or asked.options.frame_size
    return read(source, dataclasses.replace(asked.options, images=images, frame_size=size), asked.graph)


def _doubts(source: Path, answers: npt.NDArray[np.float64], real: bool) -> list[str]:
    """What the model's scores of good (or generated) pictures say against it. Raises BadInput: none is finite."""
    import numpy as np

    if not np.isfinite(answers).any():
        raise BadInput(
            f"{source}: the model's scores are not finite (NaN or infinite)", hint="its numbers leave float32: train it again"
        )
    if len(answers) < 2 or np.ptp(answers) != 0.0:
        return []
    told = "good" if real else "generated"
    return [f"the model gives all {len(answers)} {told} pictures the same score, {answers[0]:.6g}: it finds nothing"]


def _threshold(source: Path, asked: Foreign, imported: Imported, scores: npt.NDArray[np.float64] | None) -> Threshold:
    """That which was given, the file's, or one from scores of good pictures. Raises BadInput: there is none."""
    from edgead.thresholds.choose import threshold_from_good

    if asked.threshold is not None:
        return Threshold(asked.threshold, "given by hand")
    if imported.threshold is not None:
        return imported.threshold
    if scores is None:
        raise BadInput(f"{source} holds no threshold", hint="give --images GOOD_DIR to choose one, or --threshold VALUE")
    return threshold_from_good(scores, tool="edgead import")


def _rounded(
    source: Path,
    asked: Foreign,
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

    from edgead.preprocess import read_image
    from edgead.training.evaluate import good_scores

    frames = [read_image(path, imported.recipe.bits) for path in camera[:LOOKED_AT]]
    sizes = {(frame.shape[1], frame.shape[0]) for frame in frames}
    if len(sizes) != 1 or asked.options.roi or imported.incomplete or imported.recipe.resize not in ("antialias", "linear"):
        return []
    (size,) = sizes
    try:
        exact = _read(source, asked, size)
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


def _name(source: Path) -> str:
    source = source.resolve()
    return source.name if source.is_dir() else source.stem
