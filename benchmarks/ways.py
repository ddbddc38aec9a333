"""Other ways to make PatchCore's bank and score, in image AUROC against the default's; every way sees the same pictures.

    python -m benchmarks.ways --json benchmarks/results/ways.json
    python -m benchmarks.ways --half judge --seeds 20,21,22,23,24 --ways "default;own 0.5" --json benchmarks/results/ways.json

All pictures of a set (but screws, which has 27 good ones) are in two halves by their names' checksum: "choose" to look at ways,
"judge" for what was chosen. Training and test pictures of a draw are of one half. "default" is what decision 0026 chose. "worst",
the score that a trained model tells, is beside other ways to make one number of a map. 95 % intervals over seeds, which share
pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._sets import SETS, Entry, Sizes
from benchmarks._spread import cell, spread
from edgead.families.patchcore.bank import principal_axes
from edgead.families.patchcore.coreset import greedy_coreset, nearest_rows
from edgead.machine import facts
from edgead.models.backbones import load_backbone
from edgead.models.rows import to_pixels
from edgead.preprocess import PreprocessRecipe
from edgead.training.dataset import load_labelled
from edgead.training.metrics import auroc

NEIGHBOURS = 9
HALVES = ("choose", "judge")
LITE0, LITE12 = "efficientnet_lite0", {"efficientnet_lite1", "efficientnet_lite2"}
BLOCKS: dict[str, tuple[str, ...]] = {LITE0: ("blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14")}
BLOCKS |= dict.fromkeys(LITE12, ("blocks.6", "blocks.14"))


@dataclass(frozen=True, slots=True)
class Way:
    """How a bank is made and asked.

    Attributes:
        layers: places of the layers in `BLOCKS`; the finest comes first.
        backbone: its name.
        gains: what each layer is multiplied by.
        pools: cells that are averaged, a side, of each layer; 2: of 3 x 3 with weights 1 2 1 along each side.
        own: share of a cell itself; the rest is the mean of the cells around and itself.
        border: weight of the outermost cells.
        turns: mirrored and turned copies in training: 1, 2 (left and right), 4 (and up and down), 8 (and transposed).
        share: of the patches of the pictures themselves (not of their copies) that make the bank.
        least: rows of the bank, whatever the share.
        dims: principal dimensions of the bank in which distances are taken; 0: all.
        place: weight of a patch's place, of the features' root mean square.
        scale: of channels: "" (none), "each" (divided by its spread), "whiten", "cosine" (each layer's length is 1).
        shrink: of "whiten": share of the mean variance that is added to each direction's.
        nearest: so many rows' mean squared distance.
        spread: share of the mean squared distance of the rows' own training patches that is taken away from a distance.
    """

    layers: tuple[int, ...] = (1, 3)
    backbone: str = LITE0
    gains: tuple[float, ...] = ()
    pools: tuple[int, ...] = (3, 3, 3)
    own: float = 0.0
    border: float = 0.8
    turns: int = 1
    share: float = 0.01
    least: int = 512
    dims: int = 0
    place: float = 0.0
    scale: str = ""
    shrink: float = 0.1
    nearest: int = 1
    spread: float = 0.0


D = Way()
WAYS: Mapping[str, Way] = {
    "default": D,
    "mirrored, 2": replace(D, turns=2),
    "mirrored, 4": replace(D, turns=4),
    "mirrored and turned, 8": replace(D, turns=8),
    "place 0.3": replace(D, place=0.3),
    "place 1": replace(D, place=1.0),
    "bank 3 %": replace(D, share=0.03),
    "bank 10 %": replace(D, share=0.1),
    "Lite1": replace(D, backbone="efficientnet_lite1", layers=(0, 1)),
    "Lite2": replace(D, backbone="efficientnet_lite2", layers=(0, 1)),
    "blocks 4, 7, 10": replace(D, layers=(1, 2, 3)),
    "blocks 2, 4, 10": replace(D, layers=(0, 1, 3)),
    "blocks 4, 10, 14": replace(D, layers=(1, 3, 4)),
    "block 10": replace(D, layers=(3,)),
    "block 4": replace(D, layers=(1,)),
    "1 x 1 cells": replace(D, pools=(1, 1)),
    "1 x 1, coarse 3 x 3": replace(D, pools=(1, 3)),
    "1 x 1 coarse, fine 3 x 3": replace(D, pools=(3, 1)),
    "3 x 3 cells, 1 2 1": replace(D, pools=(2, 2)),
    "own 0.2": replace(D, own=0.2),
    "own 0.35": replace(D, own=0.35),
    "own 0.5": replace(D, own=0.5),
    "own 0.5, bank 3 %": replace(D, own=0.5, share=0.03),
    "own 0.35, bank 3 %": replace(D, own=0.35, share=0.03),
    "own 0.5, mirrored, 2": replace(D, own=0.5, turns=2),
    "own 0.5, place 0.3": replace(D, own=0.5, place=0.3),
    "own 0.5, place 1": replace(D, own=0.5, place=1.0),
    "own 0.5, Lite1": replace(D, own=0.5, backbone="efficientnet_lite1", layers=(0, 1)),
    "own 0.5, Lite2": replace(D, own=0.5, backbone="efficientnet_lite2", layers=(0, 1)),
    "own 0.5, 1,536 rows": replace(D, own=0.5, least=1536),
    "own 0.5, 2,048 rows": replace(D, own=0.5, least=2048),
    "own 0.5, 2,048 rows of 64": replace(D, own=0.5, least=2048, dims=64),
    "own 0.5, 4,096 rows of 32": replace(D, own=0.5, least=4096, dims=32),
    "1 x 1 cells, bank 3 %": replace(D, pools=(1, 1), share=0.03),
    "1 x 1 cells, border 1": replace(D, pools=(1, 1), border=1.0),
    "1 x 1 cells, place 0.3": replace(D, pools=(1, 1), place=0.3),
    "1 x 1 cells, Lite1": replace(D, pools=(1, 1), backbone="efficientnet_lite1", layers=(0, 1)),
    "1 x 1 cells, whitened, shrunk by 1": replace(D, pools=(1, 1), scale="whiten", shrink=1.0),
    "1 x 1 cells, fine doubled": replace(D, pools=(1, 1), gains=(2.0, 1.0)),
    "1 x 1 cells, coarse doubled": replace(D, pools=(1, 1), gains=(1.0, 2.0)),
    "each channel by its spread": replace(D, scale="each"),
    "whitened": replace(D, scale="whiten"),
    "whitened, shrunk by 1": replace(D, scale="whiten", shrink=1.0),
    "cosine": replace(D, scale="cosine"),
    "3 nearest": replace(D, nearest=3),
    "less the rows' spread": replace(D, spread=1.0),
}


def half(file: Path) -> int:
    return zlib.crc32(file.name.encode()) % 2


class Draw:
    """One seed's pictures; layers of backbones, half precision, when asked for."""

    def __init__(self, name: str, seed: int, which: str, pictures: int, size: int) -> None:
        recipe = PreprocessRecipe(size, size)
        files, entries = drawn(name, seed, which, pictures)
        self.train = [item.image for item in load_labelled([(file, "good", None) for file in files], recipe)]
        test = list(load_labelled(entries, recipe))
        self.test = [item.image for item in test]
        self.defect = np.array([item.defect for item in test])
        self.seed = seed
        self._layers: dict[tuple[str, str, int], list[Tensor]] = {}

    def layers(self, backbone: str, which: str, turn: int = 0) -> list[Tensor]:
        key = (backbone, which, turn)
        if key not in self._layers:
            network = _network(backbone)
            images = [_turned(image, turn) for image in (self.train if which == "train" else self.test)]
            parts = [[m.half() for m in network(to_pixels(images[i : i + 8]))] for i in range(0, len(images), 8)]
            self._layers[key] = [torch.cat(layer) for layer in zip(*parts, strict=True)]
        return self._layers[key]


def drawn(name: str, seed: int, which: str, pictures: int) -> tuple[list[Path], list[Entry]]:
    """Files of one seed, all of one half."""
    files, entries = SETS[name].files(seed, Sizes(1 << 20, 1 << 20, 1 << 20))
    if name != "screws":
        mine = HALVES.index(which)
        files, entries = [f for f in files if half(f) == mine], [e for e in entries if half(e[0]) == mine]
    kinds = {kind for _, kind, _ in entries}
    found: list[Entry] = []
    for kind in sorted(kinds):
        found += [e for e in entries if e[1] == kind][: pictures if kind == "good" else pictures // (len(kinds) - 1)]
    return files[:pictures], found


_networks: dict[str, Any] = {}


def _network(name: str) -> Any:
    if name not in _networks:
        _networks[name] = load_backbone(name, BLOCKS[name])
    return _networks[name]


def _turned(image: Any, turn: int) -> Any:
    image = image[:, ::-1] if turn & 1 else image
    image = image[::-1] if turn & 2 else image
    return np.ascontiguousarray(image.transpose(1, 0, 2) if turn & 4 else image)


def patches(way: Way, layers: Sequence[Tensor]) -> tuple[Tensor, int]:
    """float32 N x P x C, and how many of the channels are the first layer's."""
    maps = []
    for i, place in enumerate(way.layers):
        m = layers[place].float()
        m = way.own * m + (1 - way.own) * pooled(m, way.pools[i])
        rows, columns = (torch.tensor([way.border if j in (0, n - 1) else 1.0 for j in range(n)]) for n in m.shape[-2:])
        m = m * rows[:, None] * columns
        m = F.normalize(m, dim=1) if way.scale == "cosine" else m
        maps.append(m * (way.gains[i] if way.gains else 1.0))
    size = maps[0].shape[-2:]
    grid = torch.cat([F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps], 1)
    return grid.flatten(2).transpose(1, 2).contiguous(), len(maps)


def pooled(m: Tensor, cells: int) -> Tensor:
    if cells != 2:
        return F.avg_pool2d(m, cells, 1, cells // 2, count_include_pad=False)
    along = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.outer(along, along).view(1, 1, 3, 3).expand(m.shape[1], 1, 3, 3)
    there = F.conv2d(torch.ones(1, 1, *m.shape[-2:]), kernel[:1], padding=1)
    return F.conv2d(m, kernel, padding=1, groups=m.shape[1]) / there


def scaler(way: Way, rows: Tensor) -> Callable[[Tensor], Tensor]:
    """What is done to patches N x P x C; fitted on those of training, M x C."""
    centre = rows.mean(0)
    if way.scale == "each":
        gain = 1.0 / rows.std(0).clamp(min=1e-4)
        return lambda p: (p - centre) * gain
    if way.scale == "whiten":
        centred = rows - centre
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        matrix = vectors / (values + way.shrink * values.mean()).sqrt()
        return lambda p: (p - centre) @ matrix
    return lambda p: p - centre


def placed(way: Way, p: Tensor, unit: float) -> Tensor:
    if not way.place:
        return p
    n, cells, _ = p.shape
    side = int(cells**0.5)
    along = torch.linspace(-1.0, 1.0, side)
    where = torch.stack(torch.meshgrid(along, along, indexing="ij"), -1).view(1, cells, 2) * way.place * unit
    return torch.cat([p, where.expand(n, cells, 2)], 2)


def measure(way: Way, draw: Draw) -> dict[str, float]:
    """Image AUROC by ways to reduce a map to a score; CPU seconds."""
    began = time.process_time()
    generator = torch.Generator().manual_seed(draw.seed)
    turns = [patches(way, draw.layers(way.backbone, "train", turn))[0] for turn in range(way.turns)]
    count = max(way.least, round(way.share * turns[0].shape[0] * turns[0].shape[1]))
    scale = scaler(way, torch.cat([t.flatten(0, 1) for t in turns]))
    train = scale(torch.cat(turns))
    unit = float(train.square().sum(2).mean().sqrt())
    rows = placed(way, train, unit).flatten(0, 1)
    chosen = greedy_coreset(rows, count, int(torch.randint(len(rows), (1,), generator=generator)))
    bank = rows[chosen]
    test = placed(way, scale(patches(way, draw.layers(way.backbone, "test"))[0]), unit)
    if way.dims:
        centre = bank.mean(0)
        axes = principal_axes(bank - centre, way.dims).T
        rows, bank, test = ((points - centre) @ axes for points in (rows, bank, test))
    bias = bank.square().sum(1)
    if way.spread:
        own, place = torch.cat([_nearest(c, bank, bias) for c in torch.split(rows, 8192)], 1)
        total = torch.zeros(len(bank)).index_add_(0, place.long(), own)
        bias = bias - way.spread * total / torch.zeros(len(bank)).index_add_(0, place.long(), torch.ones(len(rows))).clamp(min=1)
    neighbours = nearest_rows(bank, NEIGHBOURS)
    told: dict[str, list[float]] = {}
    for one in test:
        table = one.square().sum(1, keepdim=True) + bias - 2 * one @ bank.T
        least = table.topk(way.nearest, 1, largest=False)
        distance = least.values.mean(1)
        if not way.spread:  # else it may be below nothing
            distance = distance.clamp(min=0).sqrt()
        worst = int(distance.argmax())
        around = (one[worst] - bank[neighbours[least.indices[worst, 0]]]).square().sum(1).sqrt()
        weight = float(1 - around.softmax(0)[0])
        for key, value in reduced(distance, weight).items():
            told.setdefault(key, []).append(value)
    found = {key: auroc(draw.defect, np.array(values)) for key, values in told.items()}
    return found | {"cpu_s": time.process_time() - began}


def _nearest(rows: Tensor, bank: Tensor, bias: Tensor) -> Tensor:
    least = (bias - 2 * rows @ bank.T).min(1)
    return torch.stack([(least.values + rows.square().sum(1)).clamp(min=0), least.indices.float()])


def reduced(distance: Tensor, weight: float) -> dict[str, float]:
    """A map's distances P -> scores."""
    side = int(len(distance) ** 0.5)
    grid = distance.view(1, 1, side, side)
    top = distance.sort(descending=True).values
    return {
        "worst": weight * float(top[0]),
        "3 worst": float(top[:3].mean()),
        "10 worst": float(top[:10].mean()),
        "30 worst": float(top[:30].mean()),
        "100 worst": float(top[:100].mean()),
        "worst 3 x 3": float(F.avg_pool2d(grid, 3, 1).amax()),
        "worst of the inner": float(grid[..., 1:-1, 1:-1].amax()),
        "worst less mean": float(top[0] - distance.mean()),
        "worst by mean": float(top[0] / distance.mean()),
    }


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each half, set and way: AUROC by reduction, and gained by seed over the default's worst cell."""
    first = {(r["half"], r["set"], r["seed"]): r["figures"]["worst"] for r in runs if r["way"] == "default"}
    rows = []
    for key in dict.fromkeys((run["half"], run["set"], run["way"]) for run in runs):
        mine = [run for run in runs if (run["half"], run["set"], run["way"]) == key]
        row: dict[str, Any] = {"half": key[0], "set": key[1], "way": key[2], "seeds": [run["seed"] for run in mine]}
        for figure in mine[0]["figures"]:
            row[figure] = spread([run["figures"][figure] for run in mine])
        row["gained"] = {
            figure: spread([run["figures"][figure] - first[run["half"], run["set"], run["seed"]] for run in mine])
            for figure in mine[0]["figures"]
            if figure != "cpu_s" and all((run["half"], run["set"], run["seed"]) in first for run in mine)
        }
        rows.append(row)
    return rows


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--ways", default=";".join(WAYS), help=f"separated by semicolons, of {'; '.join(WAYS)}")
    parser.add_argument("--half", choices=HALVES, default="choose")
    parser.add_argument("--seeds", default="10,11,12,13")
    parser.add_argument("--pictures", type=int, default=50, help="to train on, and to test of each label (default 50)")
    parser.add_argument("--size", type=int, default=256, help="model input size in pixels (default 256)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results here; runs that are there are kept")
    args = parser.parse_args(argv)
    runs: list[dict[str, Any]] = []
    if args.json is not None and args.json.is_file():
        content = json.loads(args.json.read_text("utf-8"))
        if (content["pictures"], content["size"]) != (args.pictures, args.size):
            parser.error(f"{args.json} holds runs of {content['pictures']} pictures at {content['size']} px")
        runs = content["runs"]
    for seed in (int(seed) for seed in args.seeds.split(",")):
        for name in args.sets.split(","):
            draw: Draw | None = None
            for way in args.ways.split(";"):
                told = {"half": args.half, "set": name, "seed": seed, "way": way}
                if any(told.items() <= run.items() for run in runs):
                    continue
                draw = draw or Draw(name, seed, args.half, args.pictures, args.size)
                figures = {key: round(value, 4) for key, value in measure(WAYS[way], draw).items()}
                runs.append({**told, "figures": figures})
                print(name, seed, way, figures, file=sys.stderr, flush=True)
                _write(args.json, {"pictures": args.pictures, "size": args.size}, runs)
    _write(args.json, {"pictures": args.pictures, "size": args.size}, runs)
    _print_table(summarise(runs))
    return 0


def _write(target: Path | None, given: Mapping[str, int], runs: Sequence[Mapping[str, Any]]) -> None:
    if target is not None:
        content = {"benchmark": "ways", "machine": facts(), **given, "summary": summarise(runs), "runs": runs}
        target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    sets = list(dict.fromkeys((row["half"], row["set"]) for row in rows))
    print(f"| way | score | {' | '.join(' '.join(key) for key in sets)} |\n{'|---' * (len(sets) + 2)}|")
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = {(row["half"], row["set"]): row for row in rows if row["way"] == way}
        for score in next(iter(mine.values()))["gained"]:
            cells = (cell(mine[key]["gained"].get(score)) if key in mine else "" for key in sets)
            print(f"| {way} | {score} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
