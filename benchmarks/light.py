"""All pictures of the line 5 to 30 % darker or brighter than those of training: does drift tell it, what does the model say?

    python -m benchmarks.light --json benchmarks/results/light.json

Each seed draws pictures as benchmarks.thresholds does. The light of 80 good pictures is what training notes in a bundle; of the
100 others, 20 or 100 at random, shifted, are what a line has seen last; `told` is the share of 300 such draws that drift tells.
On the sets of --model-sets a model is trained, and 50 good pictures and 50 defects are counted at each shift.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._sets import SETS
from benchmarks.thresholds import Drawn, draw
from edgead.families import find
from edgead.families.contract import FitData
from edgead.machine import facts
from edgead.runtime.products.drift import STEADY, Look, TrainedLight
from edgead.training.crossfit import Scored, cross_fit
from edgead.training.dataset import split
from edgead.training.evaluate import good_scores, light_of
from edgead.types import Image

SHIFTS = (0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3)
ASKED = (0.8, 0.9, 1.0, 1.1, 1.2)
DRAWS, COUNTED = 300, 50


def shifted(image: Image, factor: float) -> Image:
    """Every grey level times `factor`, cut off at white."""
    return np.asarray(np.clip(np.rint(image.astype(np.float32) * factor), 0, 255), np.uint8)


def told(drawn: Drawn, seed: int) -> dict[str, list[float]]:
    """Of windows of each length, the share in which each of `SHIFTS` is told."""
    known = TrainedLight.of(light_of(drawn.train))
    assert known is not None
    rng, found = np.random.default_rng(seed), {}
    levels = np.array([[Look.of(shifted(image, factor)).light for image in drawn.good] for factor in SHIFTS])
    for count in STEADY:
        windows = rng.integers(0, levels.shape[1], (DRAWS, count))
        found[str(count)] = [float(np.mean([abs(known.shift(row[w].tolist())) > 1 for w in windows])) for row in levels]
    return found


def answered(model: str, drawn: Drawn, seed: int) -> list[dict[str, float]]:
    """False rejects and misses at the default threshold, for each of `ASKED`."""
    train, held = split([*range(len(drawn.train))], 0.15, seed)
    images, size = [drawn.train[i] for i in train], drawn.train[0].shape[:2]
    fit, data = find(model).bound({}), FitData(images, (size[0], size[1]), seed)
    detector = fit(data)
    found = cross_fit(detector, fit, data, 0.0)
    files = [drawn.files[i] for i in held], [drawn.files[i] for i in train]
    threshold = Scored.of(files[0], good_scores(detector, [drawn.train[i] for i in held]), files[1], found).threshold().value
    rows = []
    for factor in ASKED:
        good, defects = (
            good_scores(detector, [shifted(image, factor) for image in some[:COUNTED]])
            for some in (drawn.good, _spread(drawn.defects))
        )
        rows.append({
            "shift": factor, "rejected": float(np.mean(good >= threshold)), "missed": float(np.mean(defects < threshold))
        })  # fmt: skip
    return rows


def _spread(images: Sequence[Image]) -> list[Image]:
    """`COUNTED` of them, of all kinds of defect."""
    return [images[i * len(images) // COUNTED] for i in range(min(COUNTED, len(images)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--model", default="patchcore")
    parser.add_argument("--model-seeds", default="0", help="of the sets that --model-sets names")
    parser.add_argument("--model-sets", default="elpv,casting")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds, asked = [int(seed) for seed in args.seeds.split(",")], [int(seed) for seed in args.model_seeds.split(",")]
    rows: list[dict[str, Any]] = []
    print("{:<14}{:>8}".format("set", "pictures") + "".join(f"{factor:>7}" for factor in SHIFTS))
    for name in args.sets.split(","):
        draws = {seed: draw(name, seed, 0, 256) for seed in seeds}
        each = [told(drawn, seed) for seed, drawn in draws.items()]
        row: dict[str, Any] = {"set": name, "seeds": seeds, "shifts": SHIFTS}
        row["told"] = {count: np.mean([one[count] for one in each], 0).round(3).tolist() for count in each[0]}
        if name in args.model_sets.split(","):
            row["model"] = {"family": args.model, "seeds": asked, "runs": [answered(args.model, draws[s], s) for s in asked]}
        rows.append(row)
        for count, shares in row["told"].items():
            print(f"{name:<14}{count:>8}" + "".join(f"{share:>7.2f}" for share in shares), flush=True)
        for run in row.get("model", {}).get("runs", ()):
            for one in run:
                print(f"  light x {one['shift']}: {one['rejected']:.0%} of good rejected, {one['missed']:.0%} of defects missed")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"benchmark": "light", "machine": facts(), "rows": rows}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
