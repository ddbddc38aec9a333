"""What a bundle says of some pictures, and where it sees it. Needs neither torch nor onnx."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2

from edgead.bundle import storage_errors
from edgead.disk import write_file
from edgead.errors import BadInput
from edgead.jobs.pages import drawn, figure, page, small_jpeg
from edgead.jobs.progress import Progress, Ticking, silent
from edgead.jobs.score import Judge
from edgead.preprocess import list_images, read_image
from edgead.types import Frame, Inspection

SHEET = "index.html"
SIDE = 640
"""Of a picture on the sheet; the PNG files have the camera's own size."""
HINT = "free space, or choose another folder with -o"


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture.

    Attributes:
        file: of the camera's picture.
        verdict: on it.
        cause: why it is UNKNOWN; "" otherwise.
        score: raw model units; null for none.
        drawn: the picture with map, threshold and verdict; null without a folder, or where the file cannot be read.
    """

    file: str
    verdict: str
    cause: str
    score: float | None
    drawn: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a bundle says of some pictures.

    Attributes:
        bundle: its folder.
        engine: that answered.
        rule: what decides, in words.
        threshold: raw model units.
        pictures: in the order in which they were given.
        sheet: all of them on one page; null without a folder.
    """

    bundle: str
    engine: str
    rule: str
    threshold: float
    pictures: tuple[ShownPicture, ...]
    sheet: str | None


def show(
    bundle: Path,
    images: Sequence[Path],
    out: Path | None = None,
    *,
    engine: str | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Shown:
    """Judge pictures, and draw what was seen.

    Args:
        bundle: its folder.
        images: files, or folders of them (not those below).
        out: folder, made if need be, for a PNG file of each and a page with all; None: nothing is drawn.
        engine: of the bundle; None: its default.
        threads: CPU threads of one inference.
        progress: told the stage.

    Raises:
        BadInput: no pictures, or they would lie among the drawn ones.
        BundleError, MissingExtra, EngineError: the bundle or its engine does not open here.
        StorageError: the folder cannot be written.
    """
    files = _files(images)
    if out is not None:
        _check(out, files)
    tick = Ticking(progress, "judging pictures", len(files))
    said: list[ShownPicture] = []
    tiles: list[str] = []
    with Judge.open(bundle, engine, threads=threads) as judge:
        recipe = judge.bundle.manifest.preprocess
        for number, file in enumerate(files, 1):
            found, image = judge.ask(partial(read_image, file, recipe.bits), str(file))
            if found.frame is None and image is not None:  # it could not be judged, and is shown all the same
                found = replace(found, frame=Frame(image, judge.record.name, number, 0, source=str(file)))
            picture = None if found.frame is None or out is None else drawn(found, recipe)
            place = None if picture is None or out is None else out / f"{number:0{len(str(len(files)))}}-{file.stem}.png"
            if picture is not None and place is not None:
                with storage_errors(place, HINT):
                    write_file(place, cv2.imencode(".png", picture)[1].tobytes())
            score = found.score if math.isfinite(found.score) else None
            said.append(ShownPicture(str(file), found.verdict.value, found.cause, score, None if place is None else str(place)))
            tiles.append(figure(None if picture is None else small_jpeg(picture, SIDE), _caption(file, found)))
            tick()
        sheet = None if out is None else out / SHEET
        about = f"{judge.record.name}; {judge.rule.describe()}"
        if sheet is not None:
            with storage_errors(sheet, HINT):
                write_file(sheet, page(f"edgead show: {bundle}", about, tiles).encode("utf-8", "backslashreplace"))
        told = str(bundle), judge.record.name, judge.rule.describe(), judge.rule.level
    return Shown(*told, tuple(said), None if sheet is None else str(sheet))


def _files(images: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in images:
        if not path.exists():
            raise BadInput(f"there is no picture {path}", hint="check the path")
        found += list_images(path) if path.is_dir() else [path]
    return found


def _check(out: Path, files: Sequence[Path]) -> None:
    """Raises BadInput, StorageError."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is not a folder", hint="give a folder with -o")
    if any(file.absolute().parent == out.absolute() for file in files):
        raise BadInput(f"drawn pictures would lie among those in {out}", hint="give another folder with -o")
    with storage_errors(out, HINT):
        out.mkdir(parents=True, exist_ok=True)


def _caption(file: Path, found: Inspection) -> str:
    score = f"score {found.score:.5g} of {found.threshold:.5g}" if math.isfinite(found.score) else ""
    return ", ".join(word for word in (file.name, found.verdict.value, found.cause, score) if word)
