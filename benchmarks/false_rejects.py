"""Does the promised false-reject rate hold? Thresholds chosen on random halves of good pictures, counted on the others.

    python -m benchmarks.false_rejects --json benchmarks/results/false_rejects.json
    python -m benchmarks.false_rejects --bundle part.edgead --good pictures/ --max-false-reject 0.05

For each distribution of scores, n good ones choose a threshold and 20,000 fresh ones are counted, 1,000 times. `promised` is what
these n guarantee on average, `counted` what came out on average, `worst 5 %` the rate that the unluckiest 5 % of thresholds
exceeded, and `bound` what was told of a single threshold with 95 % confidence; those two agree where scores have no ties. With n
too small for the asked rate, the threshold is an extrapolation and `promised` is larger than `asked`. With --bundle, real
pictures are scored by an engine and split into halves at random: that makes the halves exchangeable, so it shows the arithmetic
on real scores, and not what another day's light does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgead.decision import PixelRule
from edgead.machine import facts
from edgead.thresholds.choose import next_float32
from edgead.thresholds.conformal import from_good
from edgead.thresholds.pictures import ask_pictures, list_pictures

Scores = npt.NDArray[Any]
Draw = Callable[[np.random.Generator, int], Scores]

SCORES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=1.5, size=n),
    "heavy tail (t, 1.5)": lambda rng, n: rng.standard_t(1.5, size=n),
    "ties (0.1 steps)": lambda rng, n: np.round(rng.exponential(size=n), 1),
}
CASES = ((30, 0.05), (100, 0.05), (400, 0.05), (30, 0.01), (100, 0.01), (400, 0.01), (400, 0.001), (1000, 0.001))
ROW = "{:<22}{:>6}{:>9}{:>11}{:>11}{:>12}{:>9}".format


def area_statistics(rng: np.random.Generator, n: int, size: int = 24) -> Scores:
    """By area: the statistics of n smooth random maps, for pieces of 6 map pixels."""
    noise = rng.normal(size=(n, size, size)).astype(np.float32)
    pixel = PixelRule(0.0, 6)
    return np.array([pixel.statistic(np.asarray(cv2.GaussianBlur(one, (0, 0), 1.2), np.float32)) for one in noise])


def simulate(
    name: str, pools: Callable[[], Scores], n: int, rate: float, splits: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Choose on n, count on the rest, `splits` times; `pools` gives each split's scores."""
    counted = np.empty(splits)
    for i in range(splits):
        pool = rng.permutation(pools().astype(np.float32))
        choice = from_good(pool[:n], rate)
        counted[i] = (pool[n:] >= next_float32(choice.cut)).mean()
    return {
        "scores": name, "n": n, "asked": rate, "guaranteed": choice.guaranteed, "promised": choice.rate,
        "counted": float(counted.mean()), "standard_error": float(counted.std() / math.sqrt(splits)),
        "worst_5_percent": float(np.quantile(counted, 0.95)), "bound": choice.bound,
    }  # fmt: skip


def of_bundle(path: Path, good: Path, engine_name: str | None) -> dict[str, Scores]:
    """Scores of real pictures by an engine of a bundle."""
    from edgead.bundle import Bundle
    from edgead.engines import open_engine

    bundle = Bundle.open(path)
    name = bundle.manifest.engine(engine_name).name
    engine = open_engine(bundle, name)
    try:
        asked = ask_pictures(list_pictures([good]), bundle.manifest.preprocess, {name: (engine, lambda score, _: float(score))})
    finally:
        engine.close()
    return {f"{bundle.manifest.name} {name}": asked.statistics[name]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="real scores instead of drawn ones")
    parser.add_argument("--good", type=Path, help="good pictures for --bundle")
    parser.add_argument("--engine", help="of the bundle (default: its default)")
    parser.add_argument("--max-false-reject", type=float, default=0.05, help="for --bundle")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if (args.bundle is None) != (args.good is None):
        parser.error("--bundle and --good go together")
    rng = np.random.default_rng(args.seed)
    print(ROW("scores", "n", "asked", "promised", "counted", "worst 5 %", "bound"))
    rows: list[dict[str, Any]] = []

    def add(name: str, pools: Callable[[], Scores], n: int, rate: float) -> None:
        row = simulate(name, pools, n, rate, args.splits, rng)
        rows.append(row)
        shares = (f"{100 * row[key]:.3g} %" for key in ("asked", "promised", "counted", "worst_5_percent", "bound"))
        print(ROW(name, n, *shares), flush=True)

    if args.bundle is not None:
        for name, scores in of_bundle(args.bundle, args.good, args.engine).items():
            add(name, lambda scores=scores: scores, len(scores) // 2, args.max_false_reject)  # type: ignore[misc]
    else:
        for name, draw in SCORES.items():
            for n, rate in CASES:
                add(name, lambda draw=draw, n=n: draw(rng, n + 20_000), n, rate)  # type: ignore[misc]
        maps = area_statistics(rng, 600)
        add("by area, 24 x 24 map", lambda: maps, 200, 0.05)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": "false_rejects", "splits": args.splits, "seed": args.seed, "machine": facts(), "rows": rows}
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
