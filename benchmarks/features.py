"""What PatchCore's features and coreset should be: borders, and the dimensions in which the coreset is chosen, in AUROC.

    python -m benchmarks.features --json benchmarks/results/features.json

The backbone sees every picture once a seed; all variants are made of its layers. For each: image AUROC; the share of the coreset
that outermost cells take, and of the good test pictures whose worst cell is one of them (12 % of the cells are outermost); and
AUROC of small faint spots planted on good test pictures in the outermost cells (3 px from the edge), in the next ones (12 px) and
in the middle. Real defects of magnetic_tile are told apart, too: more than half of the mask within 16 px of the edge, or none
within 8 px. Sets at 256 px; 95 % intervals over seeds, which share pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._sets import SETS, Sizes
from benchmarks._spread import cell, spread
from edgead.families.patchcore.coreset import greedy_coreset, project
from edgead.families.patchcore.network import PatchCore
from edgead.machine import facts
from edgead.models.backbones import load_backbone
from edgead.models.patches import FEATURES, PatchFeatures
from edgead.models.rows import to_pixels
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import Labelled, Mask, load_labelled
from edgead.training.metrics import auroc
from edgead.types import Image

SIZE, SHARE, MIN_ROWS, NEIGHBOURS, PLANTED, STRENGTH = 256, 0.01, 512, 9, 20, 45.0
ALL = 1 << 20
VARIANTS: Mapping[str, tuple[str, dict[str, Any], int]] = {
    "as the cells are": ("paper", {}, 64),
    "counted as zeros": ("zero_border", {}, 64),
    "weight 0.8": ("quiet_border", {"weight": 0.8}, 64),
    "weight 0.8, exact distances": ("quiet_border", {"weight": 0.8}, ALL),
    "half the cell itself, weight 0.8, exact distances": ("own_cell", {"weight": 0.8, "own": 0.5}, ALL),
}
"""Kind of features, its arguments, and dimensions in which the coreset is chosen."""

PLACES = ("edge", "next", "middle")


class Passed(nn.Module):
    """In a backbone's place: what it is given are its layers already."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.name, self.layers, self.channels = backbone.name, backbone.layers, backbone.channels

    def fix_size(self, image_size: tuple[int, int]) -> None:
        """Nothing depends on it."""

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [m.float() for m in maps]


def spot(image: Image, place: str, rng: np.random.Generator) -> Image:
    """The picture with a soft ellipse of 10 x 7 px, `STRENGTH` grey levels darker or brighter."""
    inset = {"edge": 3, "next": 12}.get(place)
    along = int(rng.integers(28, SIZE - 28))
    if inset is None:
        x, y = (int(v) for v in rng.integers(60, SIZE - 60, 2))
    else:
        x, y = ((along, inset), (along, SIZE - 1 - inset), (inset, along), (SIZE - 1 - inset, along))[int(rng.integers(4))]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    soft = np.clip(1.5 - np.hypot((columns - x) / 5, (rows - y) / 3.5), 0, 1)[..., None]
    sign = -1.0 if image[y, x].mean() > 110 else 1.0
    out: Image = np.clip(image + sign * STRENGTH * soft, 0, 255).astype(np.uint8)
    return out


def where(mask: Mask) -> str:
    """Of a real defect: "edge", "inside" or "" (neither)."""
    inner = int(mask[16:-16, 16:-16].sum())
    if mask.sum() > 2 * inner:
        return "edge"
    return "inside" if mask[8:-8, 8:-8].sum() == mask.sum() else ""


class Draw:
    """One seed's pictures as layers of the backbone, half precision."""

    def __init__(self, backbone: Any, name: str, seed: int, sizes: Sizes) -> None:
        recipe = PreprocessRecipe(SIZE, SIZE)
        files, entries = SETS[name].files(seed, sizes)
        train = [item.image for item in load_labelled([(file, "good", None) for file in files], recipe)]
        self.test: list[Labelled] = list(load_labelled(entries, recipe))
        good = [item.image for item in self.test if not item.defect][:PLANTED]
        rng = np.random.default_rng(seed)
        self.maps = {"train": _layers(backbone, train), "test": _layers(backbone, [item.image for item in self.test])}
        self.maps |= {place: _layers(backbone, [spot(image, place, rng) for image in good]) for place in PLACES}
        self.defect = np.array([item.defect for item in self.test])
        self.seed, self.passed = seed, Passed(backbone)

    def measure(self, kind: str, arguments: Mapping[str, Any], dims: int) -> dict[str, float]:
        features: PatchFeatures = FEATURES[kind](self.passed, **arguments)  # type: ignore[arg-type]
        rows = _patches(features, self.maps["train"])
        cells, side = rows.shape[1], int(rows.shape[1] ** 0.5)
        generator = torch.Generator().manual_seed(self.seed)
        began = time.process_time()
        flat = rows.flatten(0, 1)
        points = project(flat, generator, dims)
        start = int(torch.randint(len(points), (1,), generator=generator))
        chosen = greedy_coreset(points, max(MIN_ROWS, round(SHARE * len(flat))), start)
        found = {"coreset_cpu_s": time.process_time() - began}
        grid = torch.arange(cells).view(side, side)
        outer = torch.ones(cells, dtype=torch.bool)
        outer[grid[1:-1, 1:-1].flatten()] = False
        made = PatchCore.from_bank(features, flat[chosen], NEIGHBOURS, (SIZE, SIZE))
        worst, scores = _judged(made, _patches(features, self.maps["test"]))
        good = scores[~self.defect]
        found["image_auroc"] = auroc(self.defect, scores)
        found["outer_share_of_coreset"] = float(outer[chosen % cells].float().mean())
        found["outer_is_worst"] = float(outer[worst[~self.defect]].float().mean())
        for place in PLACES:
            found[f"planted_{place}"] = _against(good, _judged(made, _patches(features, self.maps[place]))[1])
        places = [where(item.mask) if item.defect and item.mask is not None and item.mask.any() else "" for item in self.test]
        for place in ("edge", "inside"):
            if place in places:
                found[f"real_{place}"] = _against(good, scores[[p == place for p in places]])
        return found


def _layers(backbone: Any, images: Sequence[Image]) -> list[Tensor]:
    parts = [[m.half() for m in backbone(to_pixels(images[i : i + 8]))] for i in range(0, len(images), 8)]
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def _patches(features: PatchFeatures, maps: list[Tensor]) -> Tensor:
    made: Tensor = features(maps)
    return made.flatten(2).transpose(1, 2).contiguous()


def _judged(made: PatchCore, patches: Tensor) -> tuple[Tensor, Any]:
    told = [made.judge(one[None]) for one in patches]
    return torch.stack([d[0].argmax() for d, _ in told]), np.array([float(s) for _, s in told])


def _against(good: Any, found: Any) -> float:
    return auroc(np.r_[np.zeros(len(good), bool), np.ones(len(found), bool)], np.r_[good, found])


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each set and variant, and what its AUROC gains over the first variant, seed by seed."""
    rows = []
    first = {(run["set"], run["seed"]): run["figures"]["image_auroc"] for run in runs if run["variant"] == next(iter(VARIANTS))}
    for name, variant in dict.fromkeys((run["set"], run["variant"]) for run in runs):
        of_both = [run for run in runs if (run["set"], run["variant"]) == (name, variant)]
        mine = [run["figures"] for run in of_both]
        row: dict[str, Any] = {"set": name, "variant": variant, "seeds": len(mine)}
        for key in dict.fromkeys(key for figures in mine for key in figures):
            row[key] = spread([figures[key] for figures in mine if key in figures])
        row["gained"] = spread([run["figures"]["image_auroc"] - first[name, run["seed"]] for run in of_both])
        rows.append(row)
    return rows


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--pictures", type=int, default=50, help="to train on, and to test of each label (default 50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here; runs that are there are kept")
    args = parser.parse_args(argv)
    backbone = load_backbone()
    runs: list[dict[str, Any]] = []
    if args.json is not None and args.json.is_file():
        content = json.loads(args.json.read_text("utf-8"))
        if content["pictures"] != args.pictures:
            parser.error(f"{args.json} holds runs of {content['pictures']} pictures")
        runs = content["runs"]
    for seed in (int(seed) for seed in args.seeds.split(",")):
        for name in args.sets.split(","):
            known = {run["variant"] for run in runs if (run["set"], run["seed"]) == (name, seed)}
            wanted = {variant: made for variant, made in VARIANTS.items() if variant not in known}
            if not wanted:
                continue
            kinds = {kind for _, kind, _ in SETS[name].find()[1]} - {"good"}
            draw = Draw(backbone, name, seed, Sizes(args.pictures, args.pictures, args.pictures // len(kinds)))
            for variant, (kind, arguments, dims) in wanted.items():
                figures = {key: round(value, 4) for key, value in draw.measure(kind, arguments, dims).items()}
                runs.append({"set": name, "seed": seed, "variant": variant, "figures": figures})
                print(name, seed, variant, figures, file=sys.stderr, flush=True)
            _write(args.json, args.pictures, runs)
    _write(args.json, args.pictures, runs)
    _print_table(summarise(runs))
    return 0


def _write(target: Path | None, pictures: int, runs: Sequence[Mapping[str, Any]]) -> None:
    if target is not None:
        content = {"benchmark": "features", "machine": facts(), "pictures": pictures, "summary": summarise(runs), "runs": runs}
        target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row if isinstance(row[key], dict)))
    print(f"| set | variant | {' | '.join(keys)} |\n{'|---' * (len(keys) + 2)}|")
    for row in rows:
        cells = (cell(row.get(key)) for key in keys)
        print(f"| {row['set']} | {row['variant']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
