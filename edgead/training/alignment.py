"""Learn from good pictures how the part is found: the reference picture, where the part lies in it, and the score below which
nothing is a part. Also the picture that shows what was aligned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgead.alignment import (
    COARSE,
    LEAST_TEMPLATE,
    MOST_COARSE,
    MOST_FINE,
    Alignment,
    Placement,
    template_of,
)
from edgead.correlate import silhouette
from edgead.errors import BadInput, PartNotFound
from edgead.models.learning.progress import Progress, silent
from edgead.preprocess import PreprocessRecipe, naming
from edgead.types import Image

Region = tuple[int, int, int, int]

CANDIDATES = 8
"""Pictures that may become the reference."""
ASKED = 60
"""Pictures that the limit is chosen from."""
EMPTIED = 12
"""Of those, so many are searched again with the part painted over."""
TOWARDS = 0.4
"""Where the limit lies on the way from what nothing looks like to the worst good part: defects make parts fit less well."""
ANOTHER = 0.8
"""A place that fits so well, against the best, is another part: such pictures are left out, and do not move the limit."""
LEAST_GAP = 0.08
MARGIN = 0.04
"""Around the part in a region that is found by itself, of its longer side."""
MOST_LOST = 0.1
"""Share of the good pictures in which the part may not be found."""
_LOOKED_AT, _PAINTED = 512, 96
_CELL = 150
_TOUCHES = 0.2
_FEW = 4
_PROVISIONAL = 0.05


@dataclass(frozen=True, slots=True)
class AlignAsked:
    """What the user says of it.

    Attributes:
        by: of :data:`edgead.alignment.KINDS`.
        region: x, y, width, height that hold the part in the reference picture; None: looked for there.
        angle: degrees to either side.
        shift: pixels; None: anywhere.
        reference: a good picture; None: the first one where a region is given, else a typical one.
    """

    by: str
    region: Region | None = None
    angle: float = 180.0
    shift: int | None = None
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Aligned:
    """How the part is found, and what that was learned from.

    Attributes:
        alignment: for the recipe.
        reference: the file of the reference picture.
        asked: pictures whose scores were measured.
        low: the lowest usual score of a part.
        empty: the highest score where there is no (other) part.
        crossed: of `asked`, below a limit chosen from the other half of them.
    """

    alignment: Alignment
    reference: Path
    asked: int
    low: float
    empty: float
    crossed: int

    def lines(self) -> list[str]:
        """For people."""
        a = self.alignment
        far = "anywhere" if a.shift is None else f"shifted by up to {a.shift} px"
        turns = "turned anyhow" if a.angle >= 180 else f"turned by up to {a.angle:g} degrees"
        return [
            f"by {a.by}, {far}, {turns}; reference {self.reference.name}, part at {','.join(map(str, a.region))}",
            f"good parts fit by {self.low:.2f} or more, nothing else in their pictures by more than {self.empty:.2f}; below "
            f"{a.limit:.2f} it is UNKNOWN(part_not_found)",
            f"with a limit from half of {self.asked} pictures, {self.crossed} of the other halves' parts would not be found",
        ]


def learn_alignment(files: Sequence[Path], recipe: PreprocessRecipe, asked: AlignAsked, progress: Progress = silent) -> Aligned:
    """Choose reference and limit.

    Args:
        files: good pictures.
        recipe: says their depth, and where the model looks in the reference picture.

    Raises:
        BadInput: a picture cannot be read, the part is not clear in the reference, or does not stand out from the rest.
    """
    start, reference = _reference(files, recipe, asked)
    others = _spread([file for file in files if file != reference], ASKED)
    scores, rivals, empties = [], [], []
    for i, file in enumerate(others):
        with naming(file):
            picture = recipe.read(file)
            sought = start.seek(picture)
            scores.append(sought.best.score)
            rivals.append(sought.rival)
            if i % max(1, len(others) // EMPTIED) == 0 and sought.rival < ANOTHER * sought.best.score:
                empties.append(start.seek(_emptied(picture, start, sought.best)).best.score)
        progress("finding the part", (i + 1) / len(others))
    if len(scores) < _FEW - 1:
        raise BadInput(f"{len(files)} good pictures are too few to learn how the part is found", hint=f"give {_FEW} or more")
    low, empty, limit = _limit(np.array(scores), np.array(rivals), np.array(empties))
    if low - empty < LEAST_GAP:
        raise BadInput(
            f"the part does not stand out: in good pictures it fits by {low:.2f}, other places fit by {empty:.2f}, reference "
            f"{reference.name}",
            hint="choose another --align kind, give --align-region around what is the same on each part, or bound --align-angle "
            "and --align-shift",
        )
    crossed = 0
    for half in (0, 1):
        own, rest = slice(half, None, 2), slice(1 - half, None, 2)
        crossed += int(
            (np.array(scores[rest]) < _limit(np.array(scores[own]), np.array(rivals[own]), np.array(empties))[2]).sum()
        )
    return Aligned(replace(start, limit=limit), reference, len(scores), low, empty, crossed)


def _limit(
    scores: npt.NDArray[np.float64], rivals: npt.NDArray[np.float64], empties: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """The lowest usual score, the highest where there is no part, and the limit between them."""
    centre = float(np.median(scores))
    spread = max(0.15, 6 * float(np.median(np.abs(scores - centre))))
    low = float(scores[scores >= centre - spread].min())
    elsewhere = np.concatenate([rivals[rivals < ANOTHER * low], empties])  # a second part in a picture is no place without one
    empty = max([0.1, *(float(score) for score in elsewhere)])
    return low, empty, round(min(0.98, max(_PROVISIONAL, empty + TOWARDS * (low - empty))), 3)


def _reference(files: Sequence[Path], recipe: PreprocessRecipe, asked: AlignAsked) -> tuple[Alignment, Path]:
    """The alignment with a provisional limit, and the reference's file."""
    region = asked.region or recipe.roi
    if asked.reference is not None or region is not None:
        file = asked.reference or files[0]
        with naming(file):
            picture = recipe.read(file)
            return _made(picture, region or _found_region(picture), asked), file
    made: list[tuple[Alignment, Path, Image]] = []
    for file in _spread(files, CANDIDATES):
        with naming(file):
            picture = recipe.read(file)
            if (found := find_region(picture)) is not None:
                made.append((_made(picture, found, asked), file, picture))
    if not made:
        raise BadInput(
            "no single part stands out from a plain background in the good pictures",
            hint="say where it lies in one of them: --align-region X,Y,W,H (and --align-reference FILE)",
        )
    least = min(one.region[2] * one.region[3] for one, _, _ in made)  # upright ones take the least room
    upright = [one for one in made if one[0].region[2] * one[0].region[3] <= 1.15 * least]

    def typical(one: tuple[Alignment, Path, Image]) -> float:
        return float(np.median([one[0].seek(picture).best.score for _, file, picture in made if file != one[1]] or [0.0]))

    alignment, file, _ = max(upright, key=typical)
    return alignment, file


def _made(picture: Image, region: Region, asked: AlignAsked) -> Alignment:
    frame = (picture.shape[1], picture.shape[0])
    x, y, w, h = region
    if x < 0 or y < 0 or min(w, h) < LEAST_TEMPLATE or x + w > frame[0] or y + h > frame[1]:
        raise BadInput(
            f"the region {x},{y},{w},{h} (--align-region, or --roi without it) does not lie in a picture of {frame[0]} x "
            f"{frame[1]} px",
            hint=f"give x,y,width,height in pixels, at least {LEAST_TEMPLATE} wide and high",
        )
    reach = None if asked.shift is None else 2 * asked.shift + math.hypot(w, h)
    searched = frame[0] * frame[1] if reach is None else min(frame[0], reach) * min(frame[1], reach)
    most = math.sqrt(MOST_FINE / searched)
    template, size = template_of(picture, region, most)
    if min(size) < LEAST_TEMPLATE or searched * (COARSE / max(w, h)) ** 2 > MOST_COARSE:
        raise BadInput(
            f"a part of {w} x {h} px is too small to be looked for in all of {frame[0]} x {frame[1]} px in time",
            hint="say how far it can be away: --align-shift PX, or let the camera give a smaller picture",
        )
    if asked.by == "silhouette":
        _check_outline(np.asarray(cv2.cvtColor(picture[y : y + h, x : x + w], cv2.COLOR_BGR2GRAY), np.uint8))
    return Alignment(asked.by, region, frame, template, size, _PROVISIONAL, asked.angle, asked.shift)


def _check_outline(grey: npt.NDArray[np.uint8]) -> None:
    """Raises BadInput when the region holds no whole outline."""
    blobs = silhouette(grey, 0.05 * grey.size, 0.98 * grey.size)
    if not blobs or _on_border(blobs[0]) > _TOUCHES:
        raise BadInput(
            "the region holds no part with a clear outline all around",
            hint="give --align-region with some background on all sides, or take --align template or edges",
        )


def _on_border(blob: npt.NDArray[np.uint8]) -> float:
    """The share of the picture's border that a blob covers."""
    return float(np.concatenate([blob[0], blob[-1], blob[:, 0], blob[:, -1]]).mean() / 255)


def _found_region(picture: Image) -> Region:
    if (found := find_region(picture)) is None:
        raise BadInput(
            "no single part stands out from a plain background in the reference picture",
            hint="say where it lies: --align-region X,Y,W,H",
        )
    return found


def find_region(picture: Image) -> Region | None:
    """Where the only part lies on a plain background, with a little margin; None when that is not clear."""
    height, width = picture.shape[:2]
    scale = min(1.0, _LOOKED_AT / max(height, width))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    blobs = silhouette(small, 0.005 * small.size, 0.9 * small.size)
    areas = [int(np.count_nonzero(blob)) for blob in blobs]
    if not blobs or _on_border(blobs[0]) > 0 or (len(areas) > 1 and areas[1] > 0.3 * areas[0]):
        return None
    x, y, w, h = (side / scale for side in cv2.boundingRect(blobs[0]))
    margin = max(2.0, MARGIN * max(w, h))
    left, top = max(0, math.floor(x - margin)), max(0, math.floor(y - margin))
    right, low = min(width, math.ceil(x + w + margin)), min(height, math.ceil(y + h + margin))
    return left, top, right - left, low - top


def _emptied(picture: Image, alignment: Alignment, placement: Placement) -> Image:
    """The picture with the part painted over by what lies around it."""
    inner = cv2.fillConvexPoly(np.zeros(picture.shape[:2], np.uint8), alignment.outline(placement, 1.08), 255)
    scale = min(1.0, _PAINTED / max(inner.shape))
    small, hole = (cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for one in (picture, inner))
    filled = cv2.inpaint(small, (hole > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.where(inner[:, :, None] > 0, large, picture), np.uint8)


def alignment_sheet(files: Sequence[Path], recipe: PreprocessRecipe, most: int = 15) -> Image:
    """A picture for people: camera pictures with the part's outline, each beside what the model sees of it; first the mean of
    them all without and with alignment. Red: it was not found."""
    assert recipe.align is not None
    cells, raw, seen = [], [], []
    for file in _spread(files, most):
        picture = recipe.read(file)
        drawn, thick = picture.copy(), max(2, round(max(picture.shape[:2]) / 150))
        try:
            placement = recipe.align.locate(picture)
            model_input = recipe.apply(picture, placement=placement)
        except PartNotFound:
            cv2.rectangle(drawn, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), (40, 40, 210), 3 * thick)
            cells.append(np.hstack([_cell(drawn), np.full((_CELL, _CELL, 3), 60, np.uint8)]))
            continue
        corners = recipe.align.outline(placement)
        cv2.polylines(drawn, [corners], True, (80, 220, 60), thick, cv2.LINE_AA)
        cv2.polylines(drawn, [corners[:2]], False, (60, 160, 255), 2 * thick, cv2.LINE_AA)
        raw.append(_cell(picture).astype(np.float32))
        seen.append(_cell(model_input).astype(np.float32))
        cells.append(np.hstack([_cell(drawn), _cell(model_input)]))
    if seen:
        cells.insert(0, np.hstack([np.mean(raw, 0), np.mean(seen, 0)]).astype(np.uint8))
    wide = 4
    cells += [np.zeros((_CELL, 2 * _CELL, 3), np.uint8)] * (-len(cells) % wide)
    framed = [cv2.copyMakeBorder(cell, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(30, 30, 30)) for cell in cells]
    return np.asarray(np.vstack([np.hstack(framed[i : i + wide]) for i in range(0, len(framed), wide)]), np.uint8)


def _cell(image: Image) -> Image:
    """The picture in a square, its proportions kept."""
    scale = _CELL / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:_CELL, :_CELL]
    cell = np.full((_CELL, _CELL, 3), 30, np.uint8)
    top, left = (_CELL - small.shape[0]) // 2, (_CELL - small.shape[1]) // 2
    cell[top : top + small.shape[0], left : left + small.shape[1]] = small
    return cell


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    return list(files) if len(files) <= count else [files[i * len(files) // count] for i in range(count)]
