"""How near the silicon's limit the engines run: the original model's operations over the measured time, against matrix peaks.

    python -m benchmarks.limit --json benchmarks/results/limit.json

- The *original graph* is the trained model without any rewrite: for EfficientAD with teacher, student and autoencoder computed
  separately, as in the paper; for PatchCore with the bank that was trained (the first percent of the patches, no smaller). Its
  operations are those of its convolutions and matrix products, 2 a multiplication; nothing else is counted.
- The *peak* is the fastest of some large dense products in OpenVINO, FP32 and INT8, timed in the same rounds as the engines.
- The *effective rate* is the original operations over an engine's time from the model-size picture to score and map. Doing less
  work counts as being faster, so it can exceed the peak.

Models are trained on elpv once and kept in --cache. Every executed node above 10 % of an engine's time has a line, with its own
rate (0: it multiplies no matrices).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._limit.built import Built
from benchmarks._limit.pictures import MODELS, picture, trained
from benchmarks._limit.rates import best_peak, gflop, profile
from edgead.engines import open_engine
from edgead.engines.timing import interleaved
from edgead.machine import facts
from edgead.models.rewrites import Setting

ENGINES = {
    "FP32": ("openvino-fp32", False),
    "INT8": ("openvino-int8", False),
    "FP32 rewritten": ("openvino-fp32", True),
    "INT8 rewritten": ("openvino-int8", True),
}
"""Engine of the bundle, and whether it has the lossy rewrites."""

REWRITES: dict[str, dict[str, Setting]] = {
    "patchcore": {"dims": 96, "feature_map": True},
    "simplenet": {"feature_map": True},
    "efficientad": {"conv2": 48, "rotate": "64,16", "feature_map": True},
    "efficientad-separate": {"conv2": 48, "rotate": "64,16", "feature_map": True},
}
"""Lossy rewrites of the "rewritten" engines, beside those that are on by default: the fastest known within half a point of
AUROC."""

BURST = {"efficientad": 1, "efficientad-separate": 1}
"""Calls of one engine in a round; 5 where nothing is said."""

GOALS = {"efficientad": 2.5, "efficientad-separate": 2.5, "patchcore": 1.0, "simplenet": 1.0}
"""Effective rate of the best engine over the FP32 peak."""

TOLD = 0.10
"""Share of an engine's time from which a layer has a line."""

ROW = "{:<13}{:>8}  {:<16}{:>9}{:>10}{:>12}{:>12}{:>12}".format
TITLES = ("model", "threads", "engine", "ms", "GFLOP/s", "of FP32 peak", "of INT8 peak", "own GFLOP")


def run(built: Built, threads: int, rounds: int, max_s: float) -> list[dict[str, Any]]:
    """One row for each engine of one model."""
    original = gflop(built.original())
    shown = picture(built.detector.image_size)
    chosen = {name: (engine, REWRITES[built.family] if lossy else {}) for name, (engine, lossy) in ENGINES.items()}
    chosen = {name: one for name, one in chosen.items() if "rewritten" not in name or one[1]}
    files = {name: _file(built, engine, settings) for name, (engine, settings) in chosen.items()}
    engines = {name: open_engine(built.bundle(settings), engine, threads) for name, (engine, settings) in chosen.items()}
    peaks = {f"{kind} peak": best_peak(threads, kind == "INT8") for kind in ("FP32", "INT8")}
    calls: dict[str, Callable[[], object]] = {name: partial(engine.infer, shown) for name, engine in engines.items()}
    calls |= {name: call for name, (_, call, _) in peaks.items()}
    try:
        took = interleaved(calls, rounds=rounds, max_s=max_s, burst=BURST.get(built.family, 5))
    finally:
        for engine in engines.values():
            engine.close()
    rates = {name: work / took[name].p50_ms * 1e3 for name, (_, _, work) in peaks.items()}
    feed = {"image": shown[None]}
    rows = []
    for name in engines:
        rate = original / took[name].p50_ms * 1e3
        layers = [one.to_json() for one in profile(files[name], feed, threads) if one.share >= TOLD]
        rows.append({
            "model": built.family, "threads": threads, "engine": name, **took[name].to_json(),
            "original_gflop": round(original, 4), "own_gflop": round(gflop(files[name]), 4), "gflop_per_s": round(rate, 2),
            "fp32_peak": round(rates["FP32 peak"], 2), "int8_peak": round(rates["INT8 peak"], 2),
            "of_fp32_peak": round(rate / rates["FP32 peak"], 4), "of_int8_peak": round(rate / rates["INT8 peak"], 4),
            "peak_kernels": {kind: one for kind, (one, _, _) in peaks.items()}, "layers": layers,
        })  # fmt: skip
    return rows


def _file(built: Built, engine: str, settings: Mapping[str, Any]) -> Path:
    bundle = built.bundle(settings)
    return bundle.path / bundle.manifest.engine(engine).file


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each model's best engine against its goal, for each thread count."""
    found = []
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in rows):
        best = max(
            (row for row in rows if (row["model"], row["threads"]) == (model, threads)), key=lambda row: row["of_fp32_peak"]
        )
        found.append({
            "goal": f"{model}, {threads} thread{'s' * (threads > 1)}: above {GOALS[model]:.0%} of the FP32 peak",
            "reached": best["of_fp32_peak"], "wanted": GOALS[model], "by": best["engine"],
            "met": best["of_fp32_peak"] > GOALS[model],
        })  # fmt: skip
    return found


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    lines = [
        "## Against the silicon",
        "",
        "The operations of the original graph over an engine's time, against the fastest large dense product that OpenVINO runs"
        " here, timed in the same rounds: `python -m benchmarks.limit`. Operations that a rewrite saves count as done, so rates"
        " can exceed the peak. EfficientAD's original graph has separate networks, as in the paper; PatchCore's has the bank that"
        " was trained. Times are medians, from the model-size picture to score and map.",
        "",
        "| model | threads | engine | ms | original GFLOP | own GFLOP | GFLOP/s | of FP32 peak | of INT8 peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in data["rows"]:
        cells = [r["model"], str(r["threads"]), r["engine"], f"{r['p50_ms']:.2f}", f"{r['original_gflop']:.3g}"]
        cells += [f"{r['own_gflop']:.3g}", f"{r['gflop_per_s']:.0f}", f"{r['of_fp32_peak']:.0%}", f"{r['of_int8_peak']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    peaks = {row["threads"]: row for row in data["rows"]}
    told = [f"{t} thread{'s' * (t > 1)}: {r['fp32_peak']:.0f} in FP32, {r['int8_peak']:.0f} in INT8" for t, r in peaks.items()]
    lines += ["", f"Measured peaks in GFLOP/s: {'; '.join(told)}.", "", "| goal | reached | |", "|---|---|---|"]
    lines += [f"| {g['goal']} | {g['reached']:.0%} ({g['by']}) | {'met' if g['met'] else 'missed'} |" for g in data["goals"]]
    lines += ["", f"Layers above {TOLD:.0%} of an engine's time, on one thread (a kernel's own rate, 0: no product):", ""]
    lines += ["| model | engine | layer | kernel | ms | share | GFLOP/s |", "|---|---|---|---|---|---|---|"]
    for r in data["rows"]:
        if r["threads"] == min(peaks):
            for layer in r["layers"]:
                figures = [f"{layer['ms']:.2f}", f"{layer['share']:.0%}", f"{layer['gflop_per_s']:.0f}"]
                lines.append(f"| {' | '.join([r['model'], r['engine'], layer['name'], layer['kernel'], *figures])} |")
    return "\n".join(lines) + "\n"


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        shares = (f"{row['of_fp32_peak']:.0%}", f"{row['of_int8_peak']:.0%}", f"{row['own_gflop']:.3g}")
        print(ROW(row["model"], row["threads"], row["engine"], f"{row['p50_ms']:.2f}", f"{row['gflop_per_s']:.0f}", *shares))
        for layer in row["layers"]:
            name = layer["name"] if len(layer["name"]) < 50 else "..." + layer["name"][-47:]
            told = f"{layer['share']:>9.0%} {layer['ms']:>8.2f} ms {layer['gflop_per_s']:>7.0f} GFLOP/s"
            print(f"{told}  {layer['kernel']:<28}{name}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of trained models, one a family (default: train them)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "edgead-limit", help="keeps what is built")
    parser.add_argument("--threads", default="1,2", help="thread counts, one after the other (default 1,2)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-s", type=float, default=20.0, help="seconds of timing for each model and thread count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few rounds, one thread: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    threads = (1,) if args.quick else tuple(int(t) for t in args.threads.split(","))
    rows: list[dict[str, Any]] = []
    print(ROW(*TITLES), flush=True)
    for family in args.families.split(","):
        if family not in MODELS:
            parser.error(f"unknown model {family}; known: {', '.join(MODELS)}")
        model_dir = trained(family, args.models, args.cache, args.seed)
        built = Built.of(family, model_dir, args.cache)
        for count in threads:
            new = run(built, count, 3 if args.quick else args.rounds, args.max_s)
            _show(new)
            rows += new
    content = {
        "benchmark": "limit",
        "machine": facts(),
        "seed": args.seed,
        "rewrites": REWRITES,
        "goals": goals(rows),
        "rows": rows,
    }
    for goal in content["goals"]:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['goal']}: {goal['reached']:.0%} ({goal['by']})")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
