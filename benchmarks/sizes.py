"""Image AUROC and milliseconds against the input size, and what the rule of `edgead train` would have taken.

    python -m benchmarks.sizes --json benchmarks/results/sizes.json
    python -m benchmarks.sizes --only ms

Four sets of real pictures (300 px, 200 to 600, 600 x 789 px), and "plates": 1024 x 1024 px, made of 4 x 4 crops of 256 px from
magnetic_tile at their own resolution, in a defective one one crop with a real defect (blowhole, break, crack, fray), mostly under
0.1 % of the plate. Each seed shuffles the pictures anew. At each size a whole PatchCore is fitted and asked about real defects;
beside it stands what the rule's quick look at drawn defects says. `GAIN`, the standard error and `ENLARGED` of
:mod:`edgead.training.sizing` were chosen on casting and magnetic_tile (seed 0 of an earlier draw); the others judge.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks._sets import SETS, Entry, _draw
from benchmarks._spread import spread
from edgead.calibration.judging.deviation import auroc, auroc_error, paired_error
from edgead.families import find
from edgead.families.contract import FitData
from edgead.families.patchcore.fit import fit
from edgead.families.patchcore.options import PatchCoreOptions
from edgead.families.sizes import USUAL_PX
from edgead.machine import facts
from edgead.preprocess import PreprocessRecipe, read_image, same_aspect
from edgead.training.evaluate import answers
from edgead.training.sizing import (
    BUDGET_MS,
    Quick,
    Subject,
    Tried,
    best,
    cpu_ms,
    shaped,
)  # fmt: skip
from edgead.types import Image

SIDES = {
    "casting": (192, 256, 384),
    "magnetic_tile": (192, 256, 384),
    "elpv": (192, 256, 384),
    "plates": (256, 384, 512),
    "screws": (256, 384, 512),
}
"""Larger ones take hours on two cores; --sides 128,...,1024 asks for them."""

TRAIN, GOOD, DEFECTS = 40, 30, 30
"""Pictures at most: to fit on, good and defective ones to be asked about."""

CROP_PX, CROPS = 256, 4
SMALL = ("blowhole", "break", "crack", "fray")
MS_SIDES = (128, 256, 384, 512)
ROWS = 2048
BUDGETS_MS = (10.0, BUDGET_MS, 100.0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Files of one draw: good ones to fit on, and (file, defective) to be asked about."""

    train: list[Path]
    test: list[tuple[Path, bool]]


def draw(name: str, seed: int, folder: Path) -> Drawn:
    """One draw of a set; plates are written to `folder`. Raises FileNotFoundError when the set is absent."""
    if name == "plates":
        return _plates(seed, folder)
    own = SETS[name]
    train, entries = own.find()
    rng = np.random.default_rng(seed)
    good = [file for file, kind, _ in entries if kind == "good"]
    if own.pooled:
        pool = _draw(train + good, len(train) + len(good), rng)
        held = min(GOOD, own.sizes.good)
        train, good = pool[held:], pool[:held]
    defects = _draw([file for file, kind, _ in entries if kind != "good"], DEFECTS, rng)
    test = [(file, False) for file in _draw(good, GOOD, rng)] + [(file, True) for file in defects]
    return Drawn(_draw(train, TRAIN, rng), test)


def _plates(seed: int, folder: Path) -> Drawn:
    """Good plates to fit on, 24 good and 30 defective ones; no crop of the first is in the others."""
    train, entries = SETS["magnetic_tile"].find()
    rng = np.random.default_rng([seed, 7])
    order = _draw(train, len(train), rng)
    good = [file for file, kind, _ in entries if kind == "good"]
    bad = _draw([entry for entry in entries if entry[1] in SMALL and entry[2] is not None and _centre(entry)], DEFECTS, rng)
    each = CROPS * CROPS

    def plate(crops: Sequence[Image], name: str) -> Path:
        rows = [np.concatenate(crops[i * CROPS : (i + 1) * CROPS], 1) for i in range(CROPS)]
        cv2.imwrite(str(folder / name), np.concatenate(rows, 0))
        return folder / name

    def crops(files: Sequence[Path]) -> list[Image]:
        return [_crop(image, (image.shape[0] / 2, image.shape[1] / 2)) for image in map(read_image, files)]

    fitted = [plate(crops(order[i * each : (i + 1) * each]), f"train{i}.png") for i in range(len(order) // each)][:TRAIN]
    test = [(plate(crops(_draw(good, each, rng)), f"good{i}.png"), False) for i in range(24)]
    for i, entry in enumerate(bad):
        chosen = crops(_draw(good, each, rng))
        centre = _centre(entry)
        assert centre is not None
        chosen[int(rng.integers(each))] = _crop(read_image(entry[0]), centre)
        test.append((plate(chosen, f"bad{i}.png"), True))
    return Drawn(fitted, test)


def _centre(entry: Entry) -> tuple[float, float] | None:
    """Row and column of the middle of a defect by its mask; None when that is black."""
    assert entry[2] is not None
    rows, columns = np.nonzero(read_image(entry[2])[:, :, 0] > 127)
    return (float(rows.mean()), float(columns.mean())) if len(rows) else None


def _crop(image: Image, centre: tuple[float, float]) -> Image:
    """256 x 256 px about a place, mirrored where the picture ends."""
    half = CROP_PX // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    top, left = (
        int(np.clip(at, min(half, side / 2), max(side - half, side / 2)))
        for at, side in zip(centre, image.shape[:2], strict=True)
    )
    return padded[top : top + CROP_PX, left : left + CROP_PX]


def measure(name: str, seed: int, folder: Path, sides: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each size: real and drawn AUROC; and the choices of the rule."""
    drawn = draw(name, seed, folder)
    sizes = {(image.shape[1], image.shape[0]) for image in map(read_image, drawn.train)}
    square = not all(same_aspect(next(iter(sizes)), size) for size in sizes)
    native = sorted(sizes, key=lambda size: size[0] * size[1])[len(sizes) // 2]
    recipe = PreprocessRecipe(USUAL_PX, USUAL_PX, aspect="letterbox" if square else "stretch")
    subject = Subject(find("patchcore").size_rule({}), recipe, native, square, drawn.train, seed)
    ratio = 1.0 if square else native[0] / native[1]
    shapes = [shaped(side, ratio, 16, 32) for side in sides]
    quick = Quick(subject, shapes)
    rows, tried, scores = [], [], {}
    for i, (side, (width, height)) in enumerate(zip(sides, shapes, strict=True)):
        began = time.monotonic()
        scores[i] = quick.scores(i)
        look_s = time.monotonic() - began
        bank = subject.rule.banks(width * height, len(drawn.train))[0]
        larger = width * height > USUAL_PX**2
        sized = PreprocessRecipe(width, height, aspect=recipe.aspect)
        options = PatchCoreOptions(coreset=bank) if larger and bank else PatchCoreOptions()
        detector = fit(FitData([sized.apply(read_image(file)) for file in drawn.train], (height, width), seed), options)
        told = np.array([answers(detector, sized.apply(read_image(file)))[0] for file, _ in drawn.test], np.float32)
        bad = np.array([defect for _, defect in drawn.test])
        rows.append({
            "set": name, "seed": seed, "side": side, "width": width, "height": height, "native": list(native), "bank": bank,
            "real": auroc(told[~bad], told[bad]), "real_error": auroc_error(told[~bad], told[bad]),
            "drawn": auroc(*scores[i]), "drawn_error": auroc_error(*scores[i]), "share": quick.share,
            "train": len(drawn.train), "good": int((~bad).sum()), "defects": int(bad.sum()),
            "quick_s": round(look_s, 1), "took_s": round(time.monotonic() - began, 1),
        })  # fmt: skip
        ms = _predicted_ms(subject, (height, width), bank or ROWS)
        tried.append(Tried(width, height, ms, bank if larger else None, True))
        rows[-1]["ms"] = round(ms, 2)
        print(rows[-1], file=sys.stderr, flush=True)
    for row, one in zip(rows, scores.values(), strict=True):
        row["change_error"] = paired_error(one, scores[len(rows) - 1])
    _add_choices(rows, tried, scores, native)
    return rows


def _add_choices(rows: list[dict[str, Any]], tried: list[Tried], scores: dict[int, Any], native: tuple[int, int]) -> None:
    """What the rule takes of the sizes from the usual one up, for some budgets."""
    for budget in BUDGETS_MS:
        own = [i for i, one in enumerate(tried) if rows[i]["side"] >= USUAL_PX]
        judged = [Tried(one.width, one.height, one.ms, one.rows, one.ms <= budget) for one in (tried[i] for i in own)]
        place, why = best(judged, {k: scores[i] for k, i in enumerate(own)}, native)
        for i, row in enumerate(rows):
            row.setdefault("chosen_for_ms", []).extend([budget] if i == own[place] else [])
            row.setdefault("why", {}).update({f"{budget:g}": why} if i == own[place] else {})


def _predicted_ms(subject: Subject, size: tuple[int, int], rows: int | None) -> float:
    """What `edgead train` would say of this size, without the resize."""
    engine, detector = subject.rule.engine, subject.rule.unfitted(size, rows)
    picture = torch.zeros(1, *size, 3, dtype=torch.uint8)
    with torch.no_grad():
        return engine.factor() * cpu_ms(lambda: detector(picture))


def times() -> list[dict[str, Any]]:
    """PyTorch's CPU time of one picture on one thread, and what `edgead train` predicts from it for this machine."""
    rows = []
    for family in ("patchcore", "simplenet", "efficientad"):
        rule = find(family).size_rule({})
        for side in MS_SIDES:
            detector = rule.unfitted((side, side), ROWS)
            picture = torch.zeros(1, side, side, 3, dtype=torch.uint8)
            with torch.no_grad():
                torch_ms = cpu_ms(lambda detector=detector, picture=picture: detector(picture))  # type: ignore[misc]
            predicted = rule.engine.factor() * torch_ms
            rows.append({"family": family, "side": side, "torch_ms": round(torch_ms, 2), "predicted_ms": round(predicted, 2)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def summarise(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each set and size: means over seeds with 95 % intervals (Student's t; of one seed DeLong's)."""
    rows = []
    for key in dict.fromkeys((run["set"], run["side"]) for run in runs):
        mine = [run for run in runs if (run["set"], run["side"]) == key]
        row: dict[str, Any] = {"set": key[0], "side": key[1], "width": mine[0]["width"], "height": mine[0]["height"]}
        row |= {figure: _mean([run[figure] for run in mine], mine[0][f"{figure}_error"]) for figure in ("real", "drawn")}
        row["ms"] = _mean([run["ms"] for run in mine], 0.0)
        row["chosen"] = {f"{b:g}": sum(b in run["chosen_for_ms"] for run in mine) for b in BUDGETS_MS}
        rows.append({**row, "seeds": len(mine)})
    return rows


def regret(runs: Sequence[dict[str, Any]], budget: float = BUDGET_MS) -> list[dict[str, Any]]:
    """For each set: the mean real AUROC of what the rule took, of the usual size, and of the size that is best in hindsight."""
    rows = []
    for name in dict.fromkeys(run["set"] for run in runs):
        mine = [run for run in runs if run["set"] == name]
        means = {side: float(np.mean([r["real"] for r in mine if r["side"] == side])) for side in {r["side"] for r in mine}}
        ms = {r["side"]: r["ms"] for r in mine}
        allowed = {side: value for side, value in means.items() if ms[side] <= budget or side <= USUAL_PX}
        top = max(allowed, key=lambda side: allowed[side])
        rows.append({
            "set": name, "taken": round(float(np.mean([r["real"] for r in mine if budget in r["chosen_for_ms"]])), 4),
            "taken_sides": sorted(r["side"] for r in mine if budget in r["chosen_for_ms"]), "usual": round(means[USUAL_PX], 4),
            "hindsight": round(allowed[top], 4), "hindsight_side": top,
        })  # fmt: skip
    return rows


def _mean(values: Sequence[float], error: float) -> dict[str, float]:
    return {"half": round(1.96 * error, 4), **spread(values)}


def _runs(sets: Sequence[str], seeds: Sequence[int], max_minutes: float, sides: Sequence[int]) -> Iterator[list[dict[str, Any]]]:
    began = time.monotonic()
    for seed in seeds:
        for name in sets:
            if time.monotonic() - began > 60 * max_minutes:
                print(f"{name} seed {seed} left out: {max_minutes:g} minutes are over", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory() as folder:
                yield measure(name, seed, Path(folder), sides or SIDES[name])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SIDES), help=f"of {', '.join(SIDES)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sides", default="", help="px, in place of each set's own")
    parser.add_argument("--only", choices=("ms",), help="times alone")
    parser.add_argument("--max-minutes", type=float, default=240.0, help="start no set after so much time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here, after every set")
    args = parser.parse_args(argv)
    sets = args.sets.split(",")
    if unknown := set(sets) - set(SIDES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SIDES)}")
    sides = [int(side) for side in args.sides.split(",") if side]
    content: dict[str, Any] = {
        "benchmark": "sizes",
        "machine": facts(),
        "times": times() if args.only else [],
        "summary": [],
        "regret": [],
        "runs": [],
    }
    for rows in () if args.only else _runs(sets, [int(seed) for seed in args.seeds.split(",")], args.max_minutes, sides):
        content["runs"] += rows
        content |= {"summary": summarise(content["runs"]), "regret": regret(content["runs"])}
        if args.json is not None:
            args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    print("\n".join(line for table in tables(content) for line in (*table, "")))
    return 0


def tables(content: dict[str, Any]) -> tuple[list[str], list[str]]:
    """For docs/which-model.md: AUROC and ms by size; and the rule against the usual size and hindsight."""
    sizes = [
        "| set | size | real defects | drawn defects | ms, predicted | taken at 30 ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["summary"]:
        real, drawn = (f"{row[key]['mean']:.3f} ± {row[key]['half']:.3f}" for key in ("real", "drawn"))
        chosen = f"{row['chosen'][f'{BUDGET_MS:g}']} of {row['seeds']}"
        size = f"{row['width']} x {row['height']}"
        sizes.append(f"| {row['set']} | {size} | {real} | {drawn} | {row['ms']['mean']:.1f} | {chosen} |")
    rule = ["| set | taken at 30 ms | 256 px | best in hindsight |", "|---|---|---|---|"]
    for row in content["regret"]:
        sides, top = ", ".join(map(str, row["taken_sides"])), f"{row['hindsight']:.3f} ({row['hindsight_side']})"
        rule.append(f"| {row['set']} | {row['taken']:.3f} ({sides}) | {row['usual']:.3f} | {top} |")
    return sizes, rule


if __name__ == "__main__":
    sys.exit(main())
