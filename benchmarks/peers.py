"""The same trained weights on the same pictures, run by edgead and by other tools: from a 1080p BGR frame to a verdict.

    python -m benchmarks.peers --json benchmarks/results/peers.json

Models are trained on elpv once (or taken from --models DIR, as `edgead train` wrote them); all graphs are built once and kept in
--cache DIR, so that further runs only measure. Variants:

- ``edgead ...``: bundles of `edgead export`, run by the station's own inspector (resize, engine, decision). Exact rewrites are
  on, as they are by default; "rewritten" has the lossy ones of `REWRITES` as well, chosen to cost at most half a point.
- ``torch``, ``torch compiled`` (inductor, weights frozen), ``ONNX Runtime``, ``OpenVINO FP32``: the plain graph of the same
  weights (benchmarks/_peers/plain.py), the frame resized by OpenCV's linear rule, which is the fastest. "OpenVINO FP32" keeps
  float layers in FP32, as edgead does.
- ``anomalib ...``: the same graph in OpenVINO as anomalib 2.7 exports and runs it: left to itself, OpenVINO computes in bf16
  where the CPU has it. "any size" is anomalib's default export, which takes the whole frame as float32 and resizes it in the
  graph; "256 px" is its export with a fixed input size, with the frame resized by OpenCV before.
- ``faiss``: PatchCore's features by OpenVINO FP32, nearest rows by faiss' flat index.

AUROC goes through each variant's whole path, from the 1080p frame. Times are medians of rounds in which all variants take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._peers.built import PTQ_PICTURES, Built
from benchmarks._peers.pictures import FRAME_PX, MODELS, Pictures, trained
from benchmarks._peers.runners import Faiss, OnnxRuntime, OpenVino, Ours, Runner, Torch
from edgead.engines.timing import LatencyStats, interleaved
from edgead.machine import facts
from edgead.models.rewrites import Setting
from edgead.training.evaluate import answers
from edgead.training.metrics import auroc

REWRITES: dict[str, dict[str, Setting]] = {
    "patchcore": {"dims": 96, "feature_map": True},
    "simplenet": {"feature_map": True},
    "efficientad": {"conv2": 48, "rotate": "64,16", "feature_map": True},
    "efficientad-separate": {"conv2": 48, "rotate": "64,16", "feature_map": True},
}
"""Rewrites of the "rewritten" variants, beside those that are on by default: the fastest known within half a point of AUROC."""

TOLERATED = 0.005
"""Loss of AUROC that the goals allow."""

BURST = {"efficientad": 1, "efficientad-separate": 1}
"""Calls of one variant in a round; 5 where nothing is said."""

EACH = {"efficientad": 40, "efficientad-separate": 40}
"""Good pictures and defects that AUROC is taken on, each; 75 where nothing is said."""

STAND_IN = (
    "Teacher and student have trunks of their own here, as in the paper: a stand-in made of the model above by disturbing the"
    " student. It tells good from bad no better than chance, so only its times count."
)

REFERENCE = "trained model"
ROW = "{:<13}{:>8}  {:<28}{:>10}{:>10}{:>8}{:>9}".format
TITLES = ("model", "threads", "variant", "p50 ms", "p95 ms", "times", "AUROC")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a model.

    Attributes:
        name: as in the tables.
        open: (what is built, CPU threads) -> its runner; raises Skipped.
        families: the models that it is for.
    """

    name: str
    open: Callable[[Built, int], Runner]
    families: tuple[str, ...] = MODELS


class Skipped(Exception):
    """A variant cannot run here; the message says why."""


def _ours(engine: str, rewritten: bool = False, onnxruntime: bool = False) -> Callable[[Built, int], Runner]:
    def opened(built: Built, threads: int) -> Runner:
        settings = REWRITES[built.family] if rewritten else {}
        if rewritten and not settings:
            raise Skipped("no lossy rewrite is worth it for this model")
        return Ours.open(built.bundle(settings), engine, threads, onnxruntime)

    return opened


def _anomalib(int8: bool, fixed: bool) -> Callable[[Built, int], Runner]:
    def opened(built: Built, threads: int) -> Runner:
        file = built.ptq(not fixed) if int8 else built.plain_onnx(not fixed)
        return OpenVino.open(file, built.detector.image_size if fixed else None, threads)

    return opened


def _openvino(built: Built, threads: int) -> Runner:
    return OpenVino.open(built.plain_onnx(False), built.detector.image_size, threads, f32=True)


def _compiled(built: Built, threads: int) -> Runner:
    if shutil.which("g++") is None:
        raise Skipped("torch.compile needs g++")
    return Torch.compiled(built)


def _faiss(built: Built, threads: int) -> Runner:
    if importlib.util.find_spec("faiss") is None:
        raise Skipped("faiss is not installed")
    return Faiss.open(built, threads)


VARIANTS = (
    Variant("edgead OpenVINO FP32", _ours("openvino-fp32")),
    Variant("edgead OpenVINO INT8", _ours("openvino-int8")),
    Variant("edgead rewritten FP32", _ours("openvino-fp32", True)),
    Variant("edgead rewritten INT8", _ours("openvino-int8", True)),
    Variant("edgead ONNX Runtime FP32", _ours("openvino-fp32", onnxruntime=True)),
    Variant("torch", lambda built, threads: Torch.eager(built)),
    Variant("torch compiled", _compiled),
    Variant("ONNX Runtime", OnnxRuntime.open),
    Variant("OpenVINO FP32", _openvino),
    Variant("anomalib OpenVINO, any size", _anomalib(int8=False, fixed=False)),
    Variant("anomalib OpenVINO, 256 px", _anomalib(int8=False, fixed=True)),
    Variant("anomalib INT8_PTQ, any size", _anomalib(int8=True, fixed=False)),
    Variant("anomalib INT8_PTQ, 256 px", _anomalib(int8=True, fixed=True)),
    Variant("faiss", _faiss, ("patchcore",)),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and on what."""

    threads: tuple[int, ...]
    rounds: int
    max_s: float


def run(built: Built, plan: Plan, skipped: dict[str, str]) -> list[dict[str, Any]]:
    """Accuracy and times of all variants of one model: one row for each thread count and variant."""
    labels = built.pictures.labels
    recipe = built.bundle({}).manifest.preprocess
    asked = built.scores(REFERENCE, lambda frame: answers(built.detector, recipe.apply(frame))[0])
    reference = auroc(labels, np.array(asked))
    rows: list[dict[str, Any]] = []
    for threads in plan.threads:
        torch.set_num_threads(threads)
        runners = _open(built, threads, skipped)
        try:
            spoken = {name: one.precision for name, one in runners.items() if isinstance(one, OpenVino)}
            told = {
                name: auroc(labels, np.array(built.scores(_named(built, name), _score(one)))) for name, one in runners.items()
            }
            took = _timed(built, runners, plan)
        finally:
            for one in runners.values():
                one.close()
        rows += [
            {
                "model": built.family, "threads": threads, "variant": name, **took[name].to_json(),
                "auroc": round(told[name], 4), "trained_auroc": round(reference, 4), "tested": len(labels),
                "float_layers": spoken.get(name, "f32"),
            }
            for name in runners
        ]  # fmt: skip
    return rows


def _open(built: Built, threads: int, skipped: dict[str, str]) -> dict[str, Runner]:
    runners: dict[str, Runner] = {}
    for variant in VARIANTS:
        if built.family in variant.families:
            try:
                runners[variant.name] = variant.open(built, threads)
            except Skipped as reason:
                skipped[f"{built.family}: {variant.name}"] = str(reason)
    return runners


def _named(built: Built, variant: str) -> str:
    """What a variant's scores are kept under: settings included."""
    return f"{variant} {json.dumps(REWRITES[built.family])}" if "rewritten" in variant else variant


def _score(runner: Runner) -> Callable[[Any], float]:
    return lambda frame: runner(frame)[0]


def _timed(built: Built, runners: Mapping[str, Runner], plan: Plan) -> dict[str, LatencyStats]:
    frames = list(itertools.islice(built.pictures.frames(), 4))

    def call(runner: Runner) -> Callable[[], object]:
        turn = itertools.cycle(frames)
        return lambda: runner(next(turn))

    calls = {name: call(one) for name, one in runners.items()}
    return interleaved(calls, rounds=plan.rounds, max_s=plan.max_s, burst=BURST.get(built.family, 5))


def goals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each goal of the project with what was reached, one for each thread count that it speaks of."""
    found: list[dict[str, Any]] = []
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["threads"]) == (model, threads)]
        ms = {row["variant"]: row["p50_ms"] for row in mine}
        best = _best(mine)
        if best is None:
            continue
        if model == "simplenet" and threads == 1:
            found.append(
                {"goal": "SimpleNet on Lite0 under 12 ms on one core", "reached": ms[best], "unit": "ms", "wanted": 12.0}
            )
        wanted = {
            "efficientad": ((3.0, "OpenVINO FP32", ("OpenVINO FP32",)), (2.0, "anomalib's INT8_PTQ", _with(ms, "anomalib INT8"))),
            "patchcore": ((2.0, "anomalib's OpenVINO", _with(ms, "anomalib OpenVINO")),),
        }
        for factor, peer, names in wanted.get(model, ()):
            reached = min((ms[name] for name in names if name in ms), default=float("nan")) / ms[best]
            goal = f"{model}, {threads} thread{'s' * (threads > 1)}: {factor:g} times as fast as {peer}"
            found.append({"goal": goal, "reached": reached, "unit": "times", "wanted": factor})
        found[-1:] = [{**one, "by": best} for one in found[-1:]]
    for one in found:
        one["met"] = one["reached"] <= one["wanted"] if one["unit"] == "ms" else one["reached"] >= one["wanted"]
        one["reached"] = round(one["reached"], 2)
    return found


def _with(names: Mapping[str, Any], start: str) -> tuple[str, ...]:
    return tuple(name for name in names if name.startswith(start))


def _best(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """edgead's fastest variant that loses no more AUROC than the goals allow."""
    fit = [row for row in rows if row["variant"].startswith("edgead") and row["auroc"] >= row["trained_auroc"] - TOLERATED]
    return min(fit, key=lambda row: row["p50_ms"])["variant"] if fit else None


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        best = _best([other for other in rows if (other["model"], other["threads"]) == (row["model"], row["threads"])])
        ours = next((o["p50_ms"] for o in rows if (o["variant"], o["threads"]) == (best, row["threads"])), float("nan"))
        times = f"{row['p50_ms'] / ours:.2f}"
        print(
            ROW(row["model"], row["threads"], row["variant"], f"{row['p50_ms']:.2f}", f"{row['p95_ms']:.2f}", times, row["auroc"])
        )


def page(data: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    lines = [
        "## Against other tools",
        "",
        "The same trained weights and pictures, from a 1080p BGR frame to a verdict: `python -m benchmarks.peers`. Times are"
        " medians of rounds in which all variants take turns in one process; *times* is how much longer than edgead's fastest"
        " variant within half a point of AUROC, which goes through each variant's whole path. The peers run the plain graph of"
        " the weights, with anomalib 2.7's structure"
        f" ({data['anomalib']}).",
    ]
    rows = data["rows"]
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["threads"]) == (model, threads)]
        best = next((row["p50_ms"] for row in mine if row["variant"] == _best(mine)), float("nan"))
        accuracy = f"AUROC of the trained model {mine[0]['trained_auroc']:.4f} on {mine[0]['tested']} frames of elpv"
        lines += ["", f"{model}, {threads} thread{'s' * (threads > 1)} ({accuracy}):", ""]
        lines += ["| variant | p50 ms | p95 ms | times | AUROC | float layers |", "|---|---|---|---|---|---|"]
        for row in sorted(mine, key=lambda row: row["p50_ms"]):
            times = f"{row['p50_ms'] / best:.2f}"
            cells = (
                row["variant"],
                f"{row['p50_ms']:.2f}",
                f"{row['p95_ms']:.2f}",
                times,
                f"{row['auroc']:.4f}",
                row["float_layers"],
            )
            lines.append(f"| {' | '.join(cells)} |")
        if model == "efficientad-separate":
            lines += ["", STAND_IN]
    lines += ["", "| goal | reached | |", "|---|---|---|"]
    lines += [f"| {g['goal']} | {g['reached']:g} {g['unit']} | {'met' if g['met'] else 'missed'} |" for g in data["goals"]]
    lines += [f"- Left out: {what}: {reason}." for what, reason in data["skipped"].items()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of trained models, one a family (default: train them)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "edgead-peers", help="keeps what is built")
    parser.add_argument("--threads", default="1,2", help="thread counts, one after the other (default 1,2)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-s", type=float, default=35.0, help="seconds of timing for each model and thread count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few pictures and rounds, one thread: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    plan = Plan((1,), 2, 10.0) if args.quick else Plan(tuple(int(t) for t in args.threads.split(",")), args.rounds, args.max_s)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    print(ROW(*TITLES), flush=True)
    for family in args.families.split(","):
        if family not in MODELS:
            parser.error(f"unknown model {family}; known: {', '.join(MODELS)}")
        pictures = Pictures(args.seed, 8 if args.quick else EACH.get(family, 75))
        built = Built.of(family, trained(family, args.models, args.cache, args.seed), args.cache, pictures)
        new = run(built, plan, skipped)
        _show(new)
        rows += new
    content = {
        "benchmark": "peers", "machine": facts(), "frame_px": FRAME_PX, "seed": args.seed,
        "rewrites": REWRITES, "ptq_pictures": PTQ_PICTURES, "anomalib": _anomalib_here(), "skipped": skipped,
        "goals": goals(rows), "rows": rows,
    }  # fmt: skip
    for goal in content["goals"]:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['goal']}: {goal['reached']:g} {goal['unit']}")
    for what, reason in skipped.items():
        print(f"skipped {what}: {reason}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    return 0


def _anomalib_here() -> str:
    if importlib.util.find_spec("anomalib") is None:
        return "anomalib itself is not installed: there is no torchvision for the CPU build of torch"
    return "anomalib is installed, but its graphs are rebuilt here all the same, so that weights and answers are the same"


if __name__ == "__main__":
    sys.exit(main())
