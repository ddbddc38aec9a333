"""EfficientAD's fitted student with other ridges: does a student that knows its pictures less by heart part good from bad better?

    python -m benchmarks.student --sets screws,elpv --seeds 0,1,2 --json benchmarks/results/student.json

Pictures as `benchmarks.thresholds` draws them, at 128 px. Teacher and autoencoder are trained once a draw; for each ridge the
student is fitted anew and the quantiles are measured on the held-out pictures. Told: image AUROC, the least misses at 5 % false
rejects that any threshold has, what the default threshold (cross-fitted, from good pictures alone) rejects and misses, and the
median score of pictures of training, of held-out and other good ones, and of defects. Runs of before lack the threshold.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.thresholds import RATE, Drawn, draw, least_missed
from edgead.families.contract import FitData
from edgead.families.efficientad.fit import _Fit, fit, fold_fit
from edgead.families.efficientad.network import EfficientAd
from edgead.families.efficientad.options import EfficientAdOptions
from edgead.machine import facts
from edgead.models.learning.outside import Outside
from edgead.training.crossfit import Scored, cross_fit
from edgead.training.dataset import split
from edgead.training.evaluate import answers, good_scores
from edgead.training.metrics import auroc

PX = 128


def measure(drawn: Drawn, base: EfficientAd, data: FitData, parts: tuple[list[int], list[int]], ridge: float) -> dict[str, Any]:
    """The figures of one ridge; `base` is left as it is. `parts`: places of the pictures trained on, and held out."""
    options, held = EfficientAdOptions(ridge=ridge), [drawn.train[i] for i in parts[1]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        made = copy.deepcopy(base).requires_grad_(False)
        fitting = _Fit(made, data, options, Outside(None))
        fitting.place_student()
        made.eval()
        fitting.set_quantiles(held)
    pictures = {"train": data.images[:20], "held": held, "good": drawn.good, "defects": drawn.defects}
    scores = {name: np.array([answers(made, image)[0] for image in some]) for name, some in pictures.items()}
    good, defects = scores["good"], scores["defects"]
    found = cross_fit(made, fold_fit(made, options)[0], data, 0.0)
    files = [[drawn.files[i] for i in some] for some in parts]
    threshold = Scored.of(files[1], good_scores(made, held), files[0], found).threshold().value
    return {
        "auroc": round(auroc(np.arange(len(good) + len(defects)) >= len(good), np.concatenate([good, defects])), 4),
        "best": round(least_missed(good, defects, RATE), 4),
        "rejected": round(float(np.mean(good >= threshold)), 4),
        "missed": round(float(np.mean(defects < threshold)), 4),
        "median": {name: round(float(np.median(some)), 3) for name, some in scores.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="screws,elpv")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ridges", default="0.01,0.1,1")
    parser.add_argument(
        "--json", type=Path, required=True, help="results; draws that are there already are kept and not done again"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = json.loads(args.json.read_text("utf-8"))["runs"] if args.json.exists() else []
    for seed in map(int, args.seeds.split(",")):
        for name in args.sets.split(","):
            known = {run["ridge"] for run in runs if (run["set"], run["seed"]) == (name, seed)}
            ridges = [ridge for ridge in map(float, args.ridges.split(",")) if ridge not in known]
            if not ridges:
                continue
            drawn = draw(name, seed, 0, PX)
            train, held = split([*range(len(drawn.train))], 0.15, seed)
            data = FitData([drawn.train[i] for i in train], (PX, PX), seed)
            began = time.monotonic()
            base = fit(data, EfficientAdOptions())
            print(f"{name} seed {seed}: trained in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for ridge in ridges:
                found = measure(drawn, base, data, (train, held), ridge)
                runs.append({"set": name, "seed": seed, "ridge": ridge, "pictures": len(train), **found})
                print(runs[-1], flush=True)
                content = {"benchmark": "student", "px": PX, "machine": facts(), "runs": runs}
                args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
