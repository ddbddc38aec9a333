"""The host side of one picture: resizing it to the model's input by each rule, and everything but inference.

    python -m benchmarks.resize --json benchmarks/results/resize.json

- *Rules*: `PreprocessRecipe.apply` of camera pictures (uint8 BGR, drawn with noise) into a buffer, one thread; `box` also right
  after the picture was written, as by a camera's decoder: much of it is in the CPU's caches then.
- *Host side*: an `Inspector` around an engine that answers at once with a new map, as engines do: resize, copies, map and
  decision. "before" is what edgead did until it had the rule "box": area, a new input and two copies of a map at its size.
- Four pictures take turns, so that otherwise they are not in the CPU's caches.
- *Difference* from area: mean absolute grey levels, which is what a rule leaves of aliasing (and its rounding).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.budget import LatencyBudget
from edgead.clock import MonotonicClock
from edgead.decision import Rule
from edgead.engines.timing import interleaved
from edgead.machine import facts
from edgead.preprocess import RESIZE_RULES, PreprocessRecipe
from edgead.runtime.loop.inspector import Inspector
from edgead.types import AnomalyMap, Frame, Image, TensorSpec

PICTURES = {"1080p": (1080, 1920), "5 MP": (2048, 2448), "4K": (2160, 3840)}
"""Height and width; 5 MP is a monochrome industrial camera's, delivered as BGR."""

SIZES_PX = (256, 512)
TURNS = 4
STRIDE = 8
"""Of the feature map: 32 x 32 at 256 px, as PatchCore and SimpleNet have it."""

GOAL_MS = 1.0
JUST_WRITTEN = "box, just written"


class Instant:
    """An engine that answers at once."""

    def __init__(self, size_px: int, map_px: int) -> None:
        self.inputs = (TensorSpec("image", (1, size_px, size_px, 3), "uint8"),)
        self.outputs = (TensorSpec("anomaly_map", (1, map_px, map_px), "float32"), TensorSpec("score", (1,), "float32"))
        self._told = np.random.default_rng(0).random((map_px, map_px), np.float32)

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        return 0.5, self._told.copy()

    def close(self) -> None:
        pass


def picture(height: int, width: int) -> Image:
    """Edges and texture at all scales with the noise of a camera, height x width x 3 uint8."""
    rng = np.random.default_rng(0)
    image = np.full((height, width), 110, np.float32)
    for _ in range(60):
        at, size = rng.integers(0, (width, height)), int(rng.integers(2, height // 8))
        cv2.circle(image, at.tolist(), size, float(rng.integers(40, 220)), int(rng.integers(1, 9)), cv2.LINE_AA)
    image += rng.normal(0, 5, image.shape)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def taking_turns(use: Callable[[Image], object], images: Sequence[Image]) -> Callable[[], object]:
    """Use the next picture on each call."""
    following = itertools.cycle(images)
    return lambda: use(next(following))


def just_written_ms(use: Callable[[Image], object], images: Sequence[Image], rounds: int) -> float:
    """Median milliseconds of using a picture that was written right before."""
    frame, taken = np.empty_like(images[0]), []
    for image in itertools.islice(itertools.cycle(images), max(rounds, TURNS)):
        np.copyto(frame, image)
        began = time.perf_counter()
        use(frame)
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def host_sides(size_px: int) -> dict[str, Callable[[Image], object]]:
    """Everything but inference, by what is done."""
    clock, rule = MonotonicClock(), Rule(2.0)
    area, engine = PreprocessRecipe(size_px, size_px, resize="area"), Instant(size_px, size_px)

    def before(image: Image) -> object:
        score, found = engine.infer(area.apply(image))
        return rule.decide(score, np.array(found, np.float32))

    def inspected(inspector: Inspector, image: Image) -> object:
        return inspector.inspect(1, Frame(image, "benchmark", 0, clock.now_ns()))

    uses: dict[str, Callable[[Image], object]] = {"before": before}
    for name, map_px in (("box", size_px), ("box, feature_map", size_px // STRIDE), ("box, score_only", 1)):
        recipe = PreprocessRecipe(size_px, size_px, resize="box")
        uses[name] = partial(inspected, Inspector(Instant(size_px, map_px), recipe, rule, LatencyBudget(None), clock))
    return uses


def run(quick: bool) -> dict[str, Any]:
    """Medians in milliseconds of all pictures and sizes."""
    rounds, max_s = (3, 1.0) if quick else (40, 12.0)
    rules: list[dict[str, Any]] = []
    hosts: list[dict[str, Any]] = []
    for name, (height, width) in PICTURES.items():
        image = picture(height, width)
        images = [image.copy() for _ in range(TURNS)]
        for size_px in SIZES_PX:
            head = {"picture": name, "size_px": size_px}
            recipes = {rule: PreprocessRecipe(size_px, size_px, resize=rule) for rule in RESIZE_RULES}
            out = np.empty((size_px, size_px, 3), np.uint8)
            calls = {r: taking_turns(partial(recipe.apply, out=out), images) for r, recipe in recipes.items()}
            found = interleaved(calls, rounds=rounds, max_s=max_s)
            exact = recipes["area"].apply(image).astype(np.int16)
            off = {r: float(np.abs(recipe.apply(image) - exact).mean()) for r, recipe in recipes.items()}
            took = {r: stats.p50_ms for r, stats in found.items()}
            took[JUST_WRITTEN] = just_written_ms(partial(recipes["box"].apply, out=out), images, rounds)
            rules.append({**head, "ms": took, "from_area": off})
            sides = {what: taking_turns(use, images) for what, use in host_sides(size_px).items()}
            host = interleaved(sides, rounds=rounds, max_s=max_s)
            hosts.append({**head, "ms": {what: stats.p50_ms for what, stats in host.items()}})
    return {"machine": facts(), "quick": quick, "threads": 1, "goal_ms": GOAL_MS, "rules": rules, "host": hosts}


def tables(data: dict[str, Any]) -> tuple[str, str]:
    """Both tables in Markdown: milliseconds of each rule (and how far it is from area), and of the host side."""
    rules, sides = list(data["rules"][0]["ms"]), list(data["host"][0]["ms"])
    first = [f"| picture | to | {' | '.join(rules)} |", f"|---|---|{'---|' * len(rules)}"]
    for row in data["rules"]:
        cells = [f"{row['ms'][r]:.2f}" + (f" ({row['from_area'][r]:.2f})" if row["from_area"].get(r) else "") for r in rules]
        first.append(f"| {row['picture']} | {row['size_px']} px | {' | '.join(cells)} |")
    second = [f"| picture | to | {' | '.join(sides)} | now / before |", f"|---|---|{'---|' * len(sides)}---|"]
    for row in data["host"]:
        share = row["ms"]["box, feature_map"] / row["ms"]["before"]
        cells = [f"{row['ms'][side]:.2f}" for side in sides]
        second.append(f"| {row['picture']} | {row['size_px']} px | {' | '.join(cells)} | {share:.0%} |")
    return "\n".join(first), "\n".join(second)


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    rules, sides = tables(data)
    full_hd = next(row["ms"] for row in data["rules"] if row["picture"] == "1080p" and row["size_px"] == SIZES_PX[0])
    took = [f"{full_hd[r]:.2f} ms ({'met' if full_hd[r] < data['goal_ms'] else 'MISSED'})" for r in (JUST_WRITTEN, "box")]
    return f"""## The host side

From the camera's buffer to the model's input, and everything else but inference, on {data["threads"]} thread, four pictures
taking turns. The rule `box` averages blocks of 2 x 2 pixels as long as the picture stays large enough, then is bilinear; `area`
averages exactly the covered pixels. Milliseconds, and in brackets the mean absolute difference from `area` in grey levels on a
drawn picture with edges and noise.

{rules}

Goal: 1080p to 256 px by `box` below {data["goal_ms"]:g} ms: {took[0]} for a picture just written, as a camera's decoder does,
so that much of it is in the CPU's caches; {took[1]} for one that has left them.

Milliseconds of the host side in all, around an engine that answers at once. "before": `area`, a new input array and two copies of
a map at the input's size. `feature_map` and `score_only` are rewrites: a map at the network's own resolution, or none; "now" is
with the first.

{sides}

Limits: decoding a compressed stream and drawing the overlay are not in it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there")
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it runs")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    data = run(args.quick)
    print("\n\n".join(tables(data)))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
