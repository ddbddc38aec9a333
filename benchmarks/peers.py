"""edgead beside anomalib 2.7 itself, on the same pictures: accuracy, labels that its engines change, time from picture to score.

    python -m benchmarks._peers.environment                         # once: anomalib in an environment of its own
    python -m benchmarks.peers --json benchmarks/results/peers.json
    python -m benchmarks.peers --latency-only --json benchmarks/results/peers.json    # times anew, on what the first run made

anomalib trains, exports and answers by its own calls in a process of its own (benchmarks/_peers/worker.py); edgead by its own
commands. Both get the same good pictures, backbone weights (EfficientNet-Lite0, the outputs of stages 2 and 4), input size, rows
of PatchCore's bank, and labelled pictures to choose thresholds on; both are judged on other pictures. Two comparisons:

- *the same trained model*: anomalib's checkpoint, run by its torch, its exports, and imported into edgead. A label is flipped
  when an engine's differs from that of anomalib's trained torch model.
- *each tool's own training*: PatchCore as anomalib trains it and as edgead does; edgead's engines against edgead's torch model.

Times are of one picture in the camera's own size; variants take turns in every round, and ratios
are taken within rounds, so that other load on the machine hits all alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._peers import ours, theirs
from benchmarks._peers.case import Case
from benchmarks._peers.environment import DEFAULT, python_of
from benchmarks._peers.process import Worker
from benchmarks._peers.tables import goals
from benchmarks._peers.tables import page as page
from benchmarks._sets import SETS
from edgead.engines.timing import LatencyStats
from edgead.machine import facts
from edgead.training.metrics import auroc

SIZE = 256
"""Input of both, in pixels."""

NAMES = {
    "torch": "anomalib torch", "openvino": "anomalib OpenVINO", "openvino-f32": "anomalib OpenVINO, f32",
    "openvino-fixed": "anomalib OpenVINO, 256 px", "int8_ptq": "anomalib INT8_PTQ",
}  # fmt: skip
TITLES = {"openvino-fp32": "FP32", "openvino-int8": "INT8"}
BURST = 3
"""Counted calls of one variant in a round."""

FRAMES = 4

Clock = Callable[[int], list[float]]
"""So many calls -> milliseconds of each."""


def same_weights(worker: Worker, case: Case, cache: Path, keep: bool) -> dict[str, Any]:
    """AUROC and flipped labels of anomalib's trained model, in its engines and in edgead's."""
    told = theirs.make(worker, case, SIZE, cache)
    trained = told.answers["torch"]
    rows = [_row(case, NAMES[name], "anomalib", one, trained) for name, one in told.answers.items()]
    refused, sources = {}, {}
    for name, taken in imports(case, told, keep).items():
        rows += [_row(case, f"edgead {TITLES[e]}, {name}", "anomalib", taken.answers(case, e), trained) for e in taken.engines()]
        sources[name] = taken.source
        if taken.refused:
            refused[name] = taken.refused
    return {
        "set": case.set, "seed": case.seed, "judged": len(trained.labels), "defects": int(case.defective.sum()),
        "train": len(list((case.data / "train/good").iterdir())), "rows": told.made["rows"], "anomalib_fit_s": told.made["fit_s"],
        "refused": refused, "sources": sources, "variants": rows,
    }  # fmt: skip


def imports(case: Case, told: theirs.Theirs, keep: bool) -> dict[str, ours.Made]:
    """anomalib's checkpoint in edgead: as it is by default, and resized in float where all pictures have one size."""
    made = {"imported": ours.imported(case, told, keep)}
    if case.one_size():
        made["imported exactly"] = ours.imported(case, told, keep, exact=True)
    return made


def own_training(case: Case, row: dict[str, Any], keep: bool) -> None:
    """Add edgead's own PatchCore to the row of its case."""
    model, made = ours.trained(case, SIZE, keep)
    reference, threshold = ours.reference(case, model)
    row["variants"].append(_row(case, "edgead torch", "edgead", reference, reference))
    for engine in made.engines():
        told = made.answers(case, engine)
        same = int(((told.scores >= threshold) != reference.labels).sum())
        found = _row(case, f"edgead {TITLES[engine]}", "edgead", told, reference)
        row["variants"].append({**found, "flips_at_trained_threshold": same})
    row["sources"]["own"] = made.source
    if made.refused:
        row["refused"]["own"] = made.refused


def _row(case: Case, variant: str, weights: str, told: theirs.Answers, trained: theirs.Answers) -> dict[str, Any]:
    truth = case.defective
    return {
        "variant": variant, "weights": weights, "auroc": round(auroc(truth, told.scores), 4),
        "interval": [round(edge, 4) for edge in _interval(truth, told.scores)],
        "flips": int((told.labels != trained.labels).sum()),
        "false_rejects": int((told.labels & ~truth).sum()), "misses": int((~told.labels & truth).sum()),
    }  # fmt: skip


def _interval(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], draws: int = 1000) -> tuple[float, float]:
    """95 % of the AUROC of judged pictures drawn anew, good ones and defects each."""
    rng = np.random.default_rng(0)
    good, bad = scores[~truth], scores[truth]
    wins = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)  # AUROC is its mean
    times_bad, times_good = (rng.multinomial(len(one), np.full(len(one), 1 / len(one)), draws) for one in (bad, good))
    drawn = ((times_bad @ wins) * times_good).sum(1) / wins.size
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def latency(worker: Worker, case: Case, threads: int, rounds: int, max_s: float, cache: Path) -> list[dict[str, Any]]:
    """Milliseconds from the camera's picture to the score, all engines of one case in turn."""
    told = theirs.make(worker, case, SIZE, cache)
    frames = list(itertools.islice(case.judged_pictures(), FRAMES))
    kept = case.folder / "frames.npz"
    np.savez(kept, *frames)
    worker.ask("frames", file=kept)
    precision, lines, clocks = {}, {}, {}
    for variant, name in NAMES.items():
        opened = worker.ask("open", name=name, variant=variant, file=told.file(variant), threads=threads, size=[SIZE, SIZE])
        precision[name], clocks[name] = opened["precision"], _there(worker, name)
    for how, made in {**imports(case, told, keep=True), "": ours.trained(case, SIZE, keep=True)[1]}.items():
        for engine in made.engines():
            name = f"edgead {TITLES[engine]}" + (f", {how}" if how else "")
            lines[name] = ours.Line.open(made.bundle, engine, threads)
            precision[name], clocks[name] = "f32", _here(lines[name], frames)
    try:
        samples = take_turns(clocks, rounds, BURST, max_s)
    finally:
        for name in NAMES.values():
            worker.ask("close", name=name)
        for line in lines.values():
            line.close()
    told_of = {"set": case.set, "seed": case.seed, "threads": threads, "frame_px": f"{frames[0].shape[1]} x {frames[0].shape[0]}"}
    return [{**told_of, "variant": name, "float_layers": precision[name], **row} for name, row in compared(samples).items()]


def _there(worker: Worker, name: str) -> Clock:
    return lambda calls: [float(ms) for ms in worker.ask("clock", name=name, calls=calls)]


def _here(line: Callable[[Any], object], frames: Sequence[Any]) -> Clock:
    def clock(calls: int) -> list[float]:
        taken = []
        for frame in itertools.islice(itertools.cycle(frames), calls):
            began = time.perf_counter()
            line(frame)
            taken.append((time.perf_counter() - began) * 1e3)
        return taken

    return clock


def take_turns(clocks: Mapping[str, Clock], rounds: int, burst: int, max_s: float) -> dict[str, list[list[float]]]:
    """Milliseconds by variant and round. The first round warms up; the first call of each turn finds the others' data in the
    caches, as nothing on a line does, and is not counted. After `max_s` seconds three rounds are enough."""
    samples: dict[str, list[list[float]]] = {name: [] for name in clocks}
    start = time.monotonic()
    for done in range(rounds + 1):
        if done > min(3, rounds) and time.monotonic() - start > max_s:
            break
        for name, clock in clocks.items():
            taken = clock(burst + 1)[1:]
            if done:
                samples[name].append(taken)
    return samples


def compared(samples: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """Percentiles of each variant, and how much longer it takes than edgead's imported INT8 engine (FP32 where that was refused):
    the median over rounds of the ratio of medians, and the ratio of the 95th percentiles."""
    base = next(name for name in ("edgead INT8, imported", "edgead FP32, imported") if name in samples)
    stats = {name: LatencyStats.of([ms for taken in found for ms in taken]) for name, found in samples.items()}
    rows = {}
    for name, found in samples.items():
        ratios = [np.median(one) / np.median(other) for one, other in zip(found, samples[base], strict=True)]
        low, mid, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        rows[name] = {
            "n": stats[name].n, "rounds": len(found), "p50_ms": round(stats[name].p50_ms, 2),
            "p95_ms": round(stats[name].p95_ms, 2),
            "times": round(float(mid), 2), "times_quartiles": [round(float(low), 2), round(float(high), 2)],
            "times_p95": round(stats[name].p95_ms / stats[base].p95_ms, 2), "base": base,
        }  # fmt: skip
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=DEFAULT, help=f"anomalib's (default {DEFAULT})")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--seeds", default="0,1", help="each draws other pictures; the first one is timed")
    parser.add_argument("--threads", default="1", help="thread counts that are timed, one after the other")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-s", type=float, default=90.0, help="seconds of timing for each set, model and thread count")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "edgead-peers", help="keeps what is made")
    parser.add_argument("--keep-bundles", action="store_true", help="also those that another version of edgead made")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--latency-only", action="store_true", help="keep the accuracy in --json FILE, only measure times anew")
    only.add_argument("--accuracy-only", action="store_true", help="keep the times in --json FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    seeds, sets = [int(seed) for seed in args.seeds.split(",")], args.sets.split(",")
    if unknown := set(sets) - set(SETS):
        parser.error(f"unknown set {', '.join(sorted(unknown))}; known: {', '.join(SETS)}")
    if (args.latency_only or args.accuracy_only) and not (args.json and args.json.is_file()):
        parser.error("--latency-only and --accuracy-only need --json FILE of an earlier run")
    python = python_of(args.environment)
    if python is None:
        parser.error(
            f"no environment with anomalib in {args.environment}; make one (2 minutes, 2 GB): "
            f"python -m benchmarks._peers.environment {args.environment}"
        )
    kept = ("cases", "skipped") if args.latency_only else ("latency", "load_while_timed") if args.accuracy_only else ()
    before: dict[str, Any] = json.loads(args.json.read_text("utf-8")) if kept else {}
    content: dict[str, Any] = {"cases": [], "latency": [], "load_while_timed": [], "skipped": {}, **{k: before[k] for k in kept}}
    content |= {"benchmark": "peers", "machine": facts(), "input_px": SIZE, "share": theirs.SHARE}
    _measure(python, _laid(sets, seeds, args.cache, content["skipped"]), args, content)
    print(page(content))
    return 0


def _measure(python: Path, laid: Sequence[Case], args: argparse.Namespace, content: dict[str, Any]) -> None:
    """All that is asked for, written as soon as it is there."""
    with Worker(python, args.cache / "run", args.cache / "worker.log") as worker:
        content["peer"] = worker.ask("hello")
        for case in [] if args.latency_only else laid:
            content["cases"].append(same_weights(worker, case, args.cache, args.keep_bundles))
            _write(args.json, content)
        for case, row in zip([] if args.latency_only else laid, content["cases"], strict=False):
            own_training(case, row, args.keep_bundles)
            _write(args.json, content)
        timed = [] if args.accuracy_only else [case for case in laid if case.seed == laid[0].seed]
        for threads, case in itertools.product((int(count) for count in args.threads.split(",")), timed):
            content["latency"] += latency(worker, case, threads, args.rounds, args.max_s, args.cache)
            content["load_while_timed"].append([round(value, 2) for value in os.getloadavg()])
            _write(args.json, content)


def _laid(sets: Sequence[str], seeds: Sequence[int], cache: Path, skipped: dict[str, str]) -> list[Case]:
    laid = []
    for name in sets:
        try:
            laid += [Case.of(name, seed, cache) for seed in seeds]
        except FileNotFoundError as reason:
            skipped[name] = str(reason)
    return laid


def _write(target: Path | None, content: dict[str, Any]) -> None:
    content["goals"] = goals(content)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
