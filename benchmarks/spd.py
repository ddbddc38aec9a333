"""What SPD pretraining (`edgead pretrain`) brings PatchCore: image and pixel AUROC with published weights and with taught ones.

    python -m benchmarks.spd --json benchmarks/results/spd.json

The backbone is taught on the good training pictures of a split only, PatchCore is fitted on the same ones, both are judged on the
same test pictures. Small splits: 60 pictures to train on (screws 18), 40 good and 40 defective ones to judge (all kinds alike).
Differences are taken split by split; 95 % intervals over them. Nothing was chosen by these figures: settings are the verb's, but
for the steps that are told.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._sets import SETS, Sizes
from benchmarks._spread import spread
from edgead.families import find
from edgead.families.contract import FitData
from edgead.jobs.pretrain import PretrainRequest, pretrain
from edgead.machine import facts
from edgead.models.detector import Detector
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import Labelled, load_labelled
from edgead.training.evaluate import answers
from edgead.training.metrics import auroc, pixel_auroc

SIZE = 256


def judged(detector: Detector, test: Sequence[Labelled]) -> dict[str, float | None]:
    """Image AUROC, and pixel AUROC where all defects have masks."""
    found = [answers(detector, item.image) for item in test]
    labels = np.array([item.defect for item in test])
    masks = [item.mask for item in test if item.mask is not None]
    pixel = pixel_auroc(masks, [anomaly_map for _, anomaly_map in found]) if len(masks) == len(test) else None
    return {"image": auroc(labels, np.array([score for score, _ in found])), "pixel": pixel}


def once(name: str, seed: int, steps: int, batch: int, px: int) -> dict[str, Any]:
    """One split."""
    kinds = len({kind for _, kind, _ in SETS[name].find()[1] if kind != "good"})
    files, entries = SETS[name].files(seed, Sizes(18 if name == "screws" else 60, 40, max(1, 40 // kinds)))
    recipe = PreprocessRecipe(SIZE, SIZE)
    train = [item.image for item in load_labelled([(file, "good", None) for file in files], recipe)]
    test = list(load_labelled(entries, recipe))
    row: dict[str, Any] = {"set": name, "seed": seed, "train": len(train), "test": len(test)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "good"
        folder.mkdir()
        for i, file in enumerate(files):
            (folder / f"{i:04d}{file.suffix}").symlink_to(file)
        weights, began = Path(place) / "taught.safetensors", time.process_time()
        done = pretrain(PretrainRequest((folder,), weights, steps=steps, batch=batch, px=px, seed=seed))
        row |= {"cpu_s": time.process_time() - began, "step": done.step, "moved": done.moved}
        row["apart"] = [done.apart_before, done.apart_after]
        for which, options in (("published", {}), ("taught", {"weights": weights})):
            detector = find("patchcore").bound(options)(FitData(train, (SIZE, SIZE), seed))
            row[which] = judged(detector, test)
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over splits, and what the taught weights bring."""
    lines = ["| set | splits | published | taught | difference | pixels: published | taught |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = [row for row in rows if row["set"] == name]
        pairs = [(row["published"]["image"], row["taught"]["image"]) for row in mine]
        gain = spread([after - before for before, after in pairs])
        told = f"{gain['mean']:+.3f}" + (f" ± {gain['half']:.3f}" if "half" in gain else "")
        pixel = [(row["published"]["pixel"], row["taught"]["pixel"]) for row in mine]
        shown = ["", ""] if None in pixel[0] else [f"{np.mean(side):.3f}" for side in zip(*pixel, strict=True)]
        means = [f"{np.mean(side):.3f}" for side in zip(*pairs, strict=True)]
        lines.append("| " + " | ".join([name, str(len(mine)), *means, told, *shown]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for name in asked.sets:
            rows.append(once(name, seed, asked.steps, asked.batch, asked.px))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if asked.json:
                told = {"machine": facts(), "steps": asked.steps, "batch": asked.batch, "px": asked.px, "rows": rows}
                asked.json.write_text(json.dumps(told, indent=1) + "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
