"""What alignment brings on real parts that are shifted and turned, how well and how fast they are found.

    python -m benchmarks.alignment --set magnetic_tile --seeds 3 --json benchmarks/results/alignment.json
    python -m benchmarks.alignment --times --json benchmarks/results/alignment.json

Real pictures are put on a larger canvas at a random place and turn (any turn; bilinear): casting and screws with the picture's
own border drawn out, magnetic tiles (brought to one size, since each file has another) on a drawn dark belt. The pictures of one
seed are the same in all conditions. PatchCore with its defaults is trained on good ones and judged on held-out ones:

    original        the pictures as they came
    moved           the whole canvas, at the model's input size
    moved_dense     the whole canvas, at as many pixels a part as the originals have (a larger, slower input)
    aligned         the whole canvas with --align: found, shifted and turned back

`auroc` is of pictures in which the part is found; on the line the others are UNKNOWN. `auroc_line` counts those as more
anomalous than all others, since the line rejects them. Errors are of the found move (of a moved picture against the same one
unmoved on the canvas) against the true one; a move that is off by more than 5 % of the part's longer side, or 5 degrees, is
wrong. A casting looks alike however it is turned and a tile as well upside down: no turn is judged of the one, that modulo 180
of the other. `empty` are canvases without a part, `two` with two of them.

Constants of the search were set on drawn parts (tests/turned.py) and on seed 7 of the sets, as were each set's kind and region
(of those tried there, the one that stood out); seeds 0, 1, ... are judged. The draws of seeds come from the same pictures, so
figures are of new moves and splits, not of new products.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks._sets import SETS
from edgead.alignment import KINDS, Alignment, Placement
from edgead.errors import BadInput, PartNotFound
from edgead.families.contract import FitData
from edgead.families.patchcore.fit import fit
from edgead.families.patchcore.options import PatchCoreOptions
from edgead.machine import facts
from edgead.preprocess import PreprocessRecipe, read_image
from edgead.training.alignment import AlignAsked, alignment_sheet, learn_alignment
from edgead.training.evaluate import answers
from edgead.training.metrics import auroc
from edgead.types import Image

Pose = tuple[float, float, float]
"""Of the picture's middle on the canvas, pixels, and its turn, degrees clockwise."""

WRONG_SHIFT, WRONG_TURN = 0.05, 5.0
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for a mean over so many seeds, 95 %."""


@dataclass(frozen=True, slots=True)
class Case:
    """How a set is moved.

    Attributes:
        by: kind of alignment.
        part: width, height that pictures are brought to first.
        canvas: width, height.
        model: width, height of the model's input.
        belt: put on a drawn belt; else the picture's own border is drawn out.
        symmetry: degrees after which the part looks alike; 0: it looks alike however it is turned.
        counts: training pictures, good and defective test pictures.
        margin: of the region that the part is found by, around the picture, pixels.
    """

    by: str
    part: tuple[int, int]
    canvas: tuple[int, int]
    model: tuple[int, int]
    belt: bool
    symmetry: float
    counts: tuple[int, int, int]
    margin: int


CASES = {
    "casting": Case("template", (300, 300), (520, 520), (256, 256), False, 0.0, (60, 40, 40), -24),
    "magnetic_tile": Case("silhouette", (288, 216), (440, 440), (256, 192), True, 180.0, (60, 40, 40), 6),
    "screws": Case("edges", (300, 394), (640, 640), (192, 256), False, 360.0, (16, 9, 40), 0),
}


def put(image: Image, case: Case, pose: Pose, rng: np.random.Generator, canvas: Image | None = None) -> Image:
    """The picture on its canvas."""
    turn = math.radians(pose[2])
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = [(case.part[0] - 1) / 2, (case.part[1] - 1) / 2]
    matrix = np.column_stack([rotate, np.array(pose[:2]) - rotate @ middle])
    if not case.belt:
        return np.asarray(
            cv2.warpAffine(image, matrix, case.canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
    below = belt(case.canvas, rng) if canvas is None else canvas
    inside = cv2.warpAffine(np.ones(image.shape[:2], np.float32), matrix, case.canvas, flags=cv2.INTER_LINEAR)[:, :, None]
    over = cv2.warpAffine(image, matrix, case.canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.rint(below * (1 - inside) + over * inside), np.uint8)


def belt(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """A dark belt: soft noise around grey level 14."""
    noise = cv2.GaussianBlur(rng.normal(0, 18, (size[1], size[0])).astype(np.float32), (0, 0), 2)
    return np.asarray(np.repeat(np.clip(14 + noise, 0, 255)[:, :, None], 3, 2), np.uint8)


def empty(image: Image, case: Case, rng: np.random.Generator) -> Image:
    """A canvas without a part: belt, or what lies at the picture's rim or (screws) in its middle, drawn out."""
    if case.belt:
        return belt(case.canvas, rng)
    height, width = image.shape[:2]
    patch = (
        image[: max(4, height // 40)]
        if case.symmetry == 0
        else image[height * 2 // 5 : height * 3 // 5, width // 3 : width * 2 // 3]
    )
    return np.asarray(cv2.resize(patch, case.canvas, interpolation=cv2.INTER_LINEAR), np.uint8)


def poses(case: Case, count: int, rng: np.random.Generator) -> list[Pose]:
    """Random, with the whole picture on the canvas."""
    found: list[Pose] = []
    for _ in range(count):
        angle = float(rng.uniform(-180, 180))
        cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        half = [(case.part[0] * cos + case.part[1] * sin) / 2 + 2, (case.part[0] * sin + case.part[1] * cos) / 2 + 2]
        x, y = (float(rng.uniform(half[i], case.canvas[i] - half[i])) for i in (0, 1))
        found.append((x, y, angle))
    return found


def still(case: Case) -> Pose:
    return (case.canvas[0] - 1) / 2, (case.canvas[1] - 1) / 2, 0.0


def files_of(name: str, case: Case, seed: int) -> tuple[list[Path], list[Path], list[Path]]:
    """Training, good test and defective test files of a seed."""
    train, entries = SETS[name].find()
    rng = np.random.default_rng(seed)
    good = [file for file, kind, _ in entries if kind == "good"]
    defects = [file for file, kind, _ in entries if kind != "good"]
    if SETS[name].pooled:
        pool = [(train + good)[i] for i in rng.permutation(len(train) + len(good))]
        good, train = pool[: case.counts[1]], pool[case.counts[1] :]
    return tuple(  # type: ignore[return-value]
        [some[i] for i in rng.permutation(len(some))[:count]]
        for some, count in zip((train, good, defects), case.counts, strict=True)
    )


def picture_of(file: Path, case: Case) -> Image:
    return np.asarray(cv2.resize(read_image(file), case.part, interpolation=cv2.INTER_AREA), np.uint8)


def judge(
    train: Sequence[Image], good: Sequence[Image], defects: Sequence[Image], lost: tuple[int, int], seed: int
) -> dict[str, float]:
    """AUROC of PatchCore; `lost` good and defective pictures were not found."""
    size = train[0].shape[:2]
    detector = fit(FitData(train, (size[0], size[1]), seed), PatchCoreOptions())
    scores = np.array([answers(detector, image)[0] for image in (*good, *defects)])
    truth = np.arange(len(scores)) >= len(good)
    line = np.concatenate([scores, np.full(sum(lost), np.inf)])
    labels = np.concatenate([truth, np.arange(sum(lost)) >= lost[0]])
    return {"auroc": auroc(truth, scores), "auroc_line": auroc(labels, np.nan_to_num(line, posinf=1e30))}


def run(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One seed of one set."""
    case = CASES[name]
    rng = np.random.default_rng([seed, 1])
    groups = [[picture_of(file, case) for file in files] for files in files_of(name, case, seed)]
    moves = [poses(case, len(group), rng) for group in groups]
    moves[0][0] = still(case)  # the reference lies straight, as a user would put it
    moved = [[put(image, case, pose, rng) for image, pose in zip(*pair, strict=True)] for pair in zip(groups, moves, strict=True)]
    whole = PreprocessRecipe(*case.model)
    density = max(case.canvas[i] / case.part[i] for i in (0, 1))
    wide, high = (round(case.canvas[i] * case.model[i] / case.part[i] / 16) * 16 for i in (0, 1))
    dense = PreprocessRecipe(wide, high)
    found: dict[str, Any] = {"set": name, "seed": seed, "by": case.by, "density": density}
    for key, recipe, frames in (("original", whole, groups), ("moved", whole, moved), ("moved_dense", dense, moved)):
        train, good, defects = ([recipe.apply(image) for image in group] for group in frames)
        found[key] = judge(train, good, defects, (0, 0), seed)
        print(name, seed, key, found[key], flush=True)
    files = []
    for i, image in enumerate(moved[0]):
        files.append(folder / f"{i:03d}.png")
        cv2.imwrite(str(files[-1]), image)
    left, top = ((case.canvas[i] - case.part[i]) // 2 for i in (0, 1))
    margin = case.margin
    region = (left - margin, top - margin, case.part[0] + 2 * margin, case.part[1] + 2 * margin)
    aligned = learn_alignment(files, whole, AlignAsked(case.by, region, reference=files[0]))
    recipe = replace(whole, roi=(left, top, *case.part), align=aligned.alignment)
    cv2.imwrite(str(folder.parent / f"{name}-{seed}.png"), alignment_sheet(files, recipe))
    kept: list[list[Image]] = []
    lost = []
    for group in moved:
        seen = [one for image in group if (one := _applied(recipe, image)) is not None]
        kept.append(seen)
        lost.append(len(group) - len(seen))
    found["aligned"] = judge(kept[0], kept[1], kept[2], (lost[1], lost[2]), seed)
    found["limit"] = {"low": aligned.low, "empty": aligned.empty, "limit": aligned.alignment.limit, "crossed": aligned.crossed}
    found["found"] = {key: 1 - lost[i] / len(moved[i]) for i, key in enumerate(("train", "good", "defects"))}
    found["error"] = errors(case, aligned.alignment, groups, moves, moved, rng)
    empties = [empty(image, case, rng) for image in groups[1]]
    twos = [np.hstack(moved[1][i : i + 2]) for i in range(0, len(moved[1]) - 1, 2)]
    found["taken_for_one"] = {
        "empty": float(np.mean([_applied(recipe, image) is not None for image in empties])),
        "two": float(np.mean([_applied(recipe, image) is not None for image in twos])),
    }
    print(name, seed, {k: found[k] for k in ("aligned", "limit", "found", "error", "taken_for_one")}, flush=True)
    return found


def _applied(recipe: PreprocessRecipe, image: Image) -> Image | None:
    try:
        return recipe.apply(image)
    except PartNotFound:
        return None


def errors(
    case: Case,
    alignment: Alignment,
    groups: Sequence[Sequence[Image]],
    moves: Sequence[Sequence[Pose]],
    moved: Sequence[Sequence[Image]],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Of found moves of the test pictures against the true ones."""
    shifts, turns, wrong = [], [], 0
    for images, their, canvases in zip(groups[1:], moves[1:], moved[1:], strict=True):
        for image, pose, canvas in zip(images, their, canvases, strict=True):
            try:
                one, other = alignment.locate(put(image, case, still(case), rng)), alignment.locate(canvas)
            except PartNotFound:
                continue
            shift, turn = _off(case, alignment, one, other, pose)
            shifts.append(shift)
            turns.append(turn)
            wrong += shift > WRONG_SHIFT * max(case.part) or turn > WRONG_TURN
    told = {"pairs": float(len(shifts)), "wrong": wrong / max(1, len(shifts))}
    for key, values in (("shift_px", shifts), ("turn_deg", turns)):
        told |= {f"{key}_median": float(np.median(values)), f"{key}_p95": float(np.percentile(values, 95))}
    return told


def _off(case: Case, alignment: Alignment, one: Placement, other: Placement, pose: Pose) -> tuple[float, float]:
    """How far the found move of the part's middle and its turn are from the true one."""
    start = still(case)
    turn = math.radians(pose[2])
    rotate = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    true = rotate @ (np.array([one.x, one.y]) - start[:2]) + pose[:2]
    shift = float(np.hypot(*(true - [other.x, other.y])))
    if case.symmetry == 0:
        return shift, 0.0
    off = (other.angle - one.angle - pose[2] + case.symmetry / 2) % case.symmetry - case.symmetry / 2
    return shift, abs(off)


def times() -> list[dict[str, Any]]:
    """Milliseconds of a 1920 x 1080 picture on one thread: alignment and cut, beside the plain recipe; parts of three sizes."""
    cv2.setNumThreads(1)
    rows = []
    source = SETS["casting"].find()[0][0]
    for part in (200, 400, 700):
        case = replace(CASES["casting"], part=(part, part), canvas=(1920, 1080))
        image = picture_of(source, case)
        rng = np.random.default_rng(0)
        for by in KINDS:
            on_belt = replace(case, belt=by == "silhouette")
            disc = _disc(image) if on_belt.belt else image
            files = [Path(tempfile.gettempdir()) / f"edgead-align-{i}.png" for i in range(5)]
            for file, pose in zip(files, [still(case), *poses(case, 4, rng)], strict=True):
                cv2.imwrite(str(file), put(disc, on_belt, pose, rng))
            region = ((1920 - part) // 2, (1080 - part) // 2, part, part)
            plain = PreprocessRecipe(256, 256, roi=region)
            try:
                aligned = learn_alignment(files, plain, AlignAsked(by, region, reference=files[0]))
            except BadInput as error:
                print(by, part, error, flush=True)
                continue
            recipe, picture = replace(plain, align=aligned.alignment), read_image(files[1])
            took = {"plain_ms": _ms(plain.apply, picture), "aligned_ms": _ms(recipe.apply, picture)}
            row = {"by": by, "part_px": part, **took}
            rows.append(row)
            print(row, flush=True)
            for file in files:
                file.unlink()
    return rows


def _disc(image: Image) -> Image:
    """Bright against the belt: darker corners are cut off."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, (image.shape[1] // 2, image.shape[0] // 2), round(0.42 * image.shape[0]), 255, -1)
    return np.asarray(np.where(mask[:, :, None] > 0, np.maximum(image, 60), 14), np.uint8)


def _ms(call: Callable[[Image], object], picture: Image) -> dict[str, float]:
    """Of CPU time and of the clock, median of 30."""
    call(picture)
    taken: list[tuple[float, float]] = []
    for _ in range(30):
        began = time.thread_time(), time.perf_counter()
        call(picture)
        taken.append((time.thread_time() - began[0], time.perf_counter() - began[1]))
    cpu, wall = (1e3 * np.median([one[i] for one in taken]) for i in (0, 1))
    return {"cpu": round(float(cpu), 2), "wall": round(float(wall), 2)}


def summary(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with 95 % intervals; differences are of the same seed."""
    rows = []
    for name in dict.fromkeys(one["set"] for one in runs):
        own = [one for one in runs if one["set"] == name]
        row: dict[str, Any] = {"set": name, "by": own[0]["by"], "seeds": len(own)}
        for group in ("original", "moved", "moved_dense", "aligned", "found", "error", "taken_for_one"):
            row[group] = {key: _mean([one[group][key] for one in own]) for key in own[0][group]}
        row["aligned_minus"] = {
            other: _mean([one["aligned"]["auroc_line"] - one[other]["auroc_line"] for one in own])
            for other in ("moved", "moved_dense", "original")
        }
        rows.append(row)
    return rows


def _mean(values: npt.ArrayLike) -> dict[str, float]:
    array = np.asarray(values, float)
    half = T95.get(len(array), 1.96) * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return {"mean": round(float(array.mean()), 4), **({"half": round(half, 4)} if math.isfinite(half) else {})}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=tuple(CASES), default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--times", action="store_true", help="milliseconds of 1080p pictures; with neither, rows are made anew")
    parser.add_argument("--sheets", type=Path, help="keep pictures of what was aligned there")
    parser.add_argument("--json", type=Path, help="results are added to it")
    args = parser.parse_args(argv)
    data: dict[str, Any] = {"benchmark": "alignment", "runs": [], "times": []}
    if args.json and args.json.is_file():
        data = json.loads(args.json.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.set:
            for seed in range(args.seeds):
                folder = (args.sheets or Path(scratch)) / f"{name}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                one = run(name, seed, folder)
                data["runs"] = [r for r in data["runs"] if (r["set"], r["seed"]) != (name, seed)] + [one]
                _write(args.json, data)
    if args.times:
        data["times"] = times()
    _write(args.json, data)
    return 0


def _write(target: Path | None, data: dict[str, Any]) -> None:
    data |= {"machine": facts(), "rows": summary(data["runs"])}
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
