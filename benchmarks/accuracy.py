"""Image AUROC (pixel AUROC and PRO where there are masks) of every model on every set, mean and range over seeds.

    python -m benchmarks.accuracy --sets elpv,casting --models patchcore,simplenet --seeds 0,1,2 --json results.json

Each seed shuffles the images anew; models see the same split. Brightness alone is the baseline beside them. The trained torch
models are measured; what engines make of them is the business of `edgead export`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._sets import SETS, Split
from edgead.machine import facts
from edgead.training.evaluate import answers
from edgead.training.fit import FAMILIES, make_fit
from edgead.training.metrics import auroc, brightness_auroc, pixel_auroc, pro

OPTIONS: dict[str, dict[str, Any]] = {"patchcore": {"coreset": 0.01}, "simplenet": {}, "efficientad": {}}
"""What differs from the defaults of `edgead train`."""

GOALS = {("elpv", "patchcore"): 0.94, ("elpv", "simplenet"): 0.92, ("elpv", "efficientad"): 0.88}
"""Image AUROC to reach, mean over seeds."""

FIGURES = ("image_auroc", "pixel_auroc", "pro", "brightness_auroc")


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one split: figures (NaN left out), seconds, and how many images there were."""

    set: str
    model: str
    seed: int
    figures: dict[str, float]
    fit_s: float
    train: int
    good: int
    defects: int


def measure(model: str, name: str, split: Split, seed: int) -> Run:
    """Train one model on a split and take its figures."""
    began = time.monotonic()
    recipe = SETS[name].recipe_of(model)
    detector = make_fit(model, OPTIONS[model], seed)(split.train, (recipe.height, recipe.width), lambda stage, done: None)
    fit_s = time.monotonic() - began
    told = [answers(detector, item.image) for item in split.test]
    labels, images = split.labels, [item.image for item in split.test]
    figures = {
        "image_auroc": auroc(labels, np.array([score for score, _ in told])),
        "brightness_auroc": brightness_auroc(labels, images, split.train),
    }
    masked = [(item.mask, m) for item, (_, m) in zip(split.test, told, strict=True) if item.mask is not None]
    masks, maps = [mask for mask, _ in masked], [anomaly_map for _, anomaly_map in masked]
    if any(bool(mask.any()) for mask in masks):
        figures |= {"pixel_auroc": pixel_auroc(masks, maps), "pro": pro(masks, maps)}
    figures = {key: round(value, 5) for key, value in figures.items() if math.isfinite(value)}
    return Run(name, model, seed, figures, round(fit_s, 1), len(split.train), int((~labels).sum()), int(labels.sum()))


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row for each set and model: mean, lowest and highest of every figure, the goal if there is one."""
    rows = []
    for name, model in dict.fromkeys((run.set, run.model) for run in runs):
        mine = [run for run in runs if (run.set, run.model) == (name, model)]
        row: dict[str, Any] = {"set": name, "model": model, "seeds": [run.seed for run in mine], "goal": GOALS.get((name, model))}
        for key in FIGURES:
            values = [run.figures[key] for run in mine if key in run.figures]
            if values:
                row[key] = {"mean": round(float(np.mean(values)), 4), "min": min(values), "max": max(values)}
        row["fit_s"] = round(float(np.mean([run.fit_s for run in mine])), 1)
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--models", default=",".join(FAMILIES), help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here, after every run")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="start no run after so much time")
    args = parser.parse_args(argv)
    sets, models = args.sets.split(","), args.models.split(",")
    for given, known in ((sets, SETS), (models, FAMILIES)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    runs, skipped = _run_all(sets, models, [int(seed) for seed in args.seeds.split(",")], args.max_minutes, args.json)
    _print_table(summarise(runs), skipped)
    return 0


def _run_all(
    sets: list[str], models: list[str], seeds: list[int], max_minutes: float, target: Path | None
) -> tuple[list[Run], dict[str, str]]:
    began = time.monotonic()
    runs: list[Run] = []
    skipped: dict[str, str] = {}
    for name in sets:
        for seed in seeds:
            for model in models:
                try:
                    split = SETS[name].split(seed, model)
                except FileNotFoundError as reason:
                    skipped[name] = str(reason)
                    break
                if time.monotonic() - began > 60 * max_minutes:
                    skipped[f"{name} {model} seed {seed}"] = f"{max_minutes:g} minutes are over"
                    continue
                runs.append(measure(model, name, split, seed))
                print(f"{name} {model} seed {seed}: {runs[-1].figures} in {runs[-1].fit_s} s", file=sys.stderr, flush=True)
                if target is not None:
                    _write(target, runs, skipped)
    if target is not None:
        _write(target, runs, skipped)
    return runs, skipped


def _write(target: Path, runs: list[Run], skipped: dict[str, str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": "accuracy", "machine": facts(), "options": OPTIONS, "skipped": skipped,
        "summary": summarise(runs), "runs": [asdict(run) for run in runs],
    }  # fmt: skip
    target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _print_table(rows: list[dict[str, Any]], skipped: dict[str, str]) -> None:
    line = "{:<14}{:<13}{:<24}{:<24}{:<24}{:<24}{:<13}{:>6}".format
    print(line("set", "model", "image AUROC", "brightness alone", "pixel AUROC", "PRO", "goal", "fit s"))
    for row in rows:
        cells = [_cell(row.get(key)) for key in ("image_auroc", "brightness_auroc", "pixel_auroc", "pro")]
        goal = "" if row["goal"] is None else f"{row['goal']} {'met' if row['image_auroc']['mean'] >= row['goal'] else 'MISSED'}"
        print(line(row["set"], row["model"], *cells, goal, f"{row['fit_s']:.0f}"))
    machine = facts()
    print(f"mean (lowest to highest); {machine['cpu']}, {machine['cores']} cores")
    for what, reason in skipped.items():
        print(f"skipped {what}: {reason}")


def _cell(figure: dict[str, float] | None) -> str:
    return "" if figure is None else f"{figure['mean']:.3f} ({figure['min']:.3f} to {figure['max']:.3f})"


if __name__ == "__main__":
    sys.exit(main())
