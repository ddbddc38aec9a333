"""The first threshold that training gives from good pictures alone: false rejects and misses, before, now and best in hindsight.

    python -m benchmarks.thresholds --sets elpv,casting --models patchcore --seeds 0,1,2,3,4 --json results.json

Each seed draws 80 good pictures (screws: 18), 100 other good ones and 100 defects, a few of each kind (screws: what is left). The
model is trained as `edgead train` does at 256 px, with no label. *Before* is the threshold from the held-out pictures alone, at
1 %, *now* the default. Both are counted on the test pictures, beside the least misses that any threshold has there with at most
5 % false rejects (`best`) and with no more false rejects than *now* has (`best_same`): thresholds that nobody can choose who has
not seen the defects. --planted puts so many defects among the good pictures of training.

Features of a picture are computed once for all models and folds of a seed (with --remember they are kept in half precision for
later runs); the rest is the code of `edgead train`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks._sets import SETS
from edgead.families import find, trained
from edgead.families.contract import FitData
from edgead.machine import facts
from edgead.models.patches import PatchFeatures
from edgead.models.usual import TRAINED
from edgead.preprocess import PreprocessRecipe
from edgead.survey import Survey, settle
from edgead.thresholds.choose import threshold_from_good
from edgead.training.crossfit import Scored, cross_fit
from edgead.training.dataset import split
from edgead.training.evaluate import answers, good_scores
from edgead.training.metrics import auroc
from edgead.types import Image

GOOD, GOOD_OF_SCREWS, TESTED = 80, 18, 100
RATE = 0.05
FIGURES = ("auroc", "rejected_before", "missed_before", "rejected", "missed", "best", "best_same")
STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantile of Student's distribution for so many runs."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures of one seed at model size, and the files of the good ones for training."""

    files: list[Path]
    train: list[Image]
    good: list[Image]
    defects: list[Image]


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one draw; rates are shares, seconds those of this run."""

    set: str
    model: str
    seed: int
    planted: int
    how: str
    auroc: float
    rejected_before: float
    missed_before: float
    rejected: float
    missed: float
    best: float
    best_same: float
    planted_named: int
    fit_s: float
    crossfit_s: float


def draw(name: str, seed: int, planted: int, px: int) -> Drawn:
    """The pictures of a seed; planted defects take the places of good ones."""
    chosen = SETS[name]
    train, entries = chosen.find()
    rng = np.random.default_rng([seed, 77])
    good = [file for file, kind, _ in entries if kind == "good"]
    if chosen.pooled:
        pool = _some(train + good, len(train) + len(good), rng)
        held = GOOD_OF_SCREWS if name == "screws" else GOOD
        train, good = pool[:held], pool[held : held + TESTED]
    else:
        train, good = _some(train, GOOD, rng), _some(good, TESTED, rng)
    kinds = sorted({kind for _, kind, _ in entries if kind != "good"})
    each = [_some([f for f, k, _ in entries if k == kind], -(-TESTED // len(kinds)), rng) for kind in kinds]
    defects = [file for files in each for file in files]
    if planted:
        train = [*train[planted:], *(defects.pop(int(i)) for i in rng.permutation(len(defects) - planted)[:planted])]
    recipe, survey = PreprocessRecipe(px, px), Survey()
    for file in train:
        survey.use(file, recipe)
    recipe = settle(recipe, survey, None, None)
    read = [[recipe.apply(recipe.read(file)) for file in files] for files in (train, good, defects)]
    return Drawn(train, *read)


def measure(model: str, name: str, seed: int, planted: int, drawn: Drawn) -> Run:
    """Train, choose both thresholds, count."""
    train, held = split([*range(len(drawn.train))], 0.15, seed)
    size = (drawn.train[0].shape[0], drawn.train[0].shape[1])
    data = FitData([drawn.train[i] for i in train], size, seed)
    began = time.monotonic()
    detector = find(model).bound({})(data)
    fit_s = time.monotonic() - began
    scores = good_scores(detector, [drawn.train[i] for i in held])
    again, _ = find(model).fold_fit({}, detector)
    found = cross_fit(detector, again, data, 0.0)  # however slow this box is just now
    crossfit_s = time.monotonic() - began - fit_s
    scored = Scored.of([drawn.files[i] for i in held], scores, [drawn.files[i] for i in train], found)
    good, defects = (np.array([answers(detector, image)[0] for image in some]) for some in (drawn.good, drawn.defects))
    before, now = threshold_from_good(scores).value, scored.threshold().value
    spoilt = {drawn.files[i] for i in range(len(drawn.files) - planted, len(drawn.files))}
    rejected = float(np.mean(good >= now))
    return Run(
        name, model, seed, planted, found.how,
        auroc=auroc(np.arange(len(good) + len(defects)) >= len(good), np.concatenate([good, defects])),
        rejected_before=float(np.mean(good >= before)), missed_before=float(np.mean(defects < before)),
        rejected=rejected, missed=float(np.mean(defects < now)),
        best=least_missed(good, defects, RATE), best_same=least_missed(good, defects, rejected),
        planted_named=len(spoilt & {scored.files[i] for i in scored.odd()}),
        fit_s=round(fit_s, 1), crossfit_s=round(crossfit_s, 1),
    )  # fmt: skip


def least_missed(good: Floats, defects: Floats, rejected: float) -> float:
    """The least share of defects that a threshold misses which rejects at most this share of the good ones."""
    allowed = math.floor(rejected * len(good) + 1e-9)
    if allowed >= len(good):
        return 0.0
    return float(np.mean(defects <= np.sort(good)[::-1][allowed]))


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean and half the 95 % interval of every figure, for each set and model."""
    rows = []
    for key in dict.fromkeys((run.set, run.model, run.planted) for run in runs):
        mine = [run for run in runs if (run.set, run.model, run.planted) == key]
        row: dict[str, Any] = {"set": key[0], "model": key[1], "planted": key[2], "seeds": [run.seed for run in mine]}
        row["how"] = mine[0].how
        for figure in FIGURES:
            row[figure] = _mean([getattr(run, figure) for run in mine])
        row["above_best"] = _mean([run.missed - run.best for run in mine])
        row["above_best_same"] = _mean([run.missed - run.best_same for run in mine])
        row["planted_named"] = sum(run.planted_named for run in mine)
        rows.append(row)
    return rows


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    n = len(values)
    half = STUDENT.get(n, 1.96) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return {"mean": round(float(np.mean(values)), 4), "half": None if half is None else round(half, 4)}


@contextmanager
def remembered(file: Path | None) -> Iterator[None]:
    """Patch features of a picture are computed once; those in `file`, not even that."""
    known: dict[tuple[str, bytes], Tensor] = torch.load(file) if file is not None and file.exists() else {}
    before, compute = len(known), PatchFeatures.forward

    def forward(self: PatchFeatures, pixels: Tensor) -> Tensor:
        found = []
        for one in torch.split(pixels, 1):
            key = (type(self).__name__, hashlib.sha256(one.contiguous().numpy().tobytes()).digest())
            if key not in known:
                with torch.no_grad():
                    known[key] = compute(self, one)
            found.append(known[key].float())
        return torch.cat(found)

    with mock.patch.object(PatchFeatures, "forward", forward):
        yield
    if file is not None and len(known) > before:
        torch.save({key: value.half() for key, value in known.items()}, file)


def _some(items: Sequence[Any], count: int, rng: np.random.Generator) -> list[Any]:
    return [items[i] for i in rng.permutation(len(items))[:count]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--models", default="patchcore,simplenet", help=f"of {', '.join(trained())}")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--planted", type=int, default=0, help="defects among the good pictures of training")
    parser.add_argument("--px", type=int, default=256)
    parser.add_argument("--remember", type=Path, metavar="DIR", help="folder for features")
    parser.add_argument("--json", type=Path, help="results; runs that are there already are kept and not done again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(args.json.read_text("utf-8"))["runs"] if args.json and args.json.exists() else []
    runs = [Run(**run) for run in known]
    for seed in map(int, args.seeds.split(",")):
        for name in args.sets.split(","):
            models = [m for m in args.models.split(",") if not _there(runs, name, m, seed, args.planted)]
            if not models:
                continue
            drawn = draw(name, seed, args.planted, args.px)
            with remembered(args.remember and args.remember / f"{name}_{seed}_{args.px}.pt"):
                for model in models:
                    runs.append(measure(model, name, seed, args.planted, drawn))
                    print(runs[-1], file=sys.stderr, flush=True)
                    if args.json:
                        _write(args.json, args.px, runs)
    _print(summarise(runs))
    return 0


def _there(runs: Sequence[Run], name: str, model: str, seed: int, planted: int) -> bool:
    return any((run.set, run.model, run.seed, run.planted) == (name, model, seed, planted) for run in runs)


def _write(target: Path, px: int, runs: Sequence[Run]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": "thresholds", "px": px, "features": TRAINED, "machine": facts(), "summary": summarise(runs),
        "runs": [asdict(run) for run in runs],
    }  # fmt: skip
    target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _print(rows: Sequence[dict[str, Any]]) -> None:
    line, shown = "{:<14}{:<12}{:>8}{:>6}".format, (*FIGURES, "above_best", "above_best_same")
    print(line("set", "model", "planted", "runs") + "".join(f"{figure:>17}" for figure in shown))
    for row in rows:
        cells = [row[figure] for figure in shown]
        told = [f"{cell['mean']:.3f}" + ("" if cell["half"] is None else f" +- {cell['half']:.3f}") for cell in cells]
        print(line(row["set"], row["model"], row["planted"], len(row["seeds"])) + "".join(f"{one:>17}" for one in told))


if __name__ == "__main__":
    sys.exit(main())
