"""Measure latency, throughput, cold start and memory of bundles on this machine, side by side.

Every part takes the station's own path: resize, inference, decision. Engines take turns in short bursts, so that whatever
else the machine does hits all alike. Latency runs from the frame's arrival to the verdict, one part at a time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, EdgeadError

if TYPE_CHECKING:
    from edgead.jobs.bench import Candidate, Result

SUMMARY = "latency per stage, throughput, cold start and memory of bundles, side by side"
COLD_RUNS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="NAME.edgead folders")
    parser.add_argument("--engine", default="all", metavar="NAME", help="one engine of each bundle (default: all of them)")
    parser.add_argument("--rounds", type=_count, default=20, help="bursts of 10 parts per engine (default 20)")
    parser.add_argument("--warmup", type=_count, default=10, help="parts per engine that are not counted (default 10)")
    parser.add_argument("--threads", type=_count, help="CPU threads of one inference (default: the engine's choice)")
    parser.add_argument(
        "--frame",
        type=frame_size,
        metavar="WxH",
        help="camera picture (default 1920x1080; of a model that finds the part in it, its reference picture's size)",
    )
    parser.add_argument(
        "--throughput",
        action="store_true",
        help="also parts per second with several pictures at once, one a core (OpenVINO), for going through recorded pictures: "
        "more of them in the same time, but each one alone takes longer, so not for a line",
    )
    parser.add_argument("--no-cache", action="store_true", help="compile engines anew at each start (see edgead run)")
    parser.add_argument("--no-cold", action="store_true", help="leave out cold start and memory, which need fresh processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, with the machine's facts, as JSON")


def frame_size(text: str) -> tuple[int, int]:
    """``"1920x1080"`` -> (1920, 1080). Raises ArgumentTypeError."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 16384 and 16 <= int(height) <= 16384):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from edgead.cli._console import console

    report = measure(args)
    results: list[Result] = report["results"]
    show(results)
    for skipped in report["skipped"]:
        console().print(f"left out: {skipped['bundle']} {skipped['engine']}: {skipped['why']}")
    facts, (width, height) = report["machine"], report["settings"]["frame"]
    console().print(
        f"{results[0].samples} parts per engine of {width} x {height} px, threads: {args.threads or 'default'}; "
        f"{facts['cpu']}, {facts['cores']} cores"
    )
    if args.json is not None:
        _write(args.json, report)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for.

    Returns:
        "results" (list of Result), "skipped" (engines that cannot run here, and why), "settings", "machine".

    Raises:
        EdgeadError: a bundle is refused, a named engine cannot run here, or none can.
    """
    from edgead import machine
    from edgead.cli._console import progress
    from edgead.jobs.bench import time_all, usual_frame

    candidates, skipped = _open(args)
    frame = args.frame or usual_frame(candidate.bundle for candidate in candidates)
    try:
        with progress() as bar:
            task = bar.add_task("measuring", total=args.rounds * len(candidates))
            results = time_all(candidates, frame=frame, rounds=args.rounds, warmup=args.warmup, tick=lambda: bar.advance(task))
        if args.throughput:
            results = with_many(candidates, results, args, frame)
    finally:
        for candidate in candidates:
            candidate.engine.close()
    if not args.no_cold:
        with progress() as bar:
            task = bar.add_task("cold starts", total=len(results))
            results = with_cold(
                results,
                threads=args.threads,
                frame=frame,
                runs=COLD_RUNS,
                keep=not args.no_cache,
                tick=lambda: bar.advance(task),
            )
    settings = {
        "rounds": args.rounds,
        "warmup": args.warmup,
        "threads": args.threads,
        "frame": list(frame),
        "cache": not args.no_cache,
        "cold_runs": 0 if args.no_cold else COLD_RUNS,
    }
    return {"results": results, "skipped": skipped, "settings": settings, "machine": machine.facts()}


def with_cold(
    results: list[Result],
    *,
    threads: int | None,
    frame: tuple[int, int],
    runs: int,
    keep: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> list[Result]:
    """The same results with cold start and memory, each from `runs` fresh processes; `tick` is called after each engine."""
    from dataclasses import replace

    from edgead.jobs.bench import cold

    done = []
    for result in results:
        seen = cold(Path(result.bundle), result.engine, threads=threads, frame=frame, runs=runs, keep=keep)
        times = {"cold_start_ms": seen["cold_start_ms"], "resident_mb": seen["resident_mb"], "peak_mb": seen["peak_mb"]}
        done.append(replace(result, **times))  # type: ignore[arg-type]
        tick()
    return done


def with_many(
    candidates: list[Candidate], results: list[Result], args: argparse.Namespace, frame: tuple[int, int]
) -> list[Result]:
    """The same results with the parts per second of several at once."""
    from dataclasses import replace

    from edgead.cli._console import progress
    from edgead.jobs.bench import BURST, many

    with progress() as bar:
        task = bar.add_task("several at once", total=len(results))
        done = []
        for candidate, result in zip(candidates, results, strict=True):
            parts = max(BURST, args.rounds * BURST // 4)
            done.append(replace(result, many_per_s=many(candidate, frame=frame, threads=args.threads, parts=parts)))
            bar.advance(task)
    return done


def _open(args: argparse.Namespace) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Load every wanted engine. One that cannot run here is skipped and told, unless it was asked for by name."""
    from edgead.bundle import Bundle
    from edgead.jobs.bench import load

    candidates: list[Candidate] = []
    skipped: list[dict[str, str]] = []
    failure: EdgeadError | None = None
    for bundle in [Bundle.open(path) for path in args.bundles]:
        names = [record.name for record in bundle.manifest.engines] if args.engine == "all" else [args.engine]
        for name in names:
            try:
                candidates.append(load(bundle, name, args.threads, keep=not args.no_cache))
            except EdgeadError as error:
                if args.engine != "all":
                    raise
                failure = error
                skipped.append({"bundle": str(bundle.path), "engine": name, "why": str(error)})
    if not candidates:
        raise failure or BadInput("the bundles hold no engines", hint="export them again")
    return candidates, skipped


TITLES = ("resize", "infer", "decide", "p50", "p95", "p99", "max", "parts/s", "many/s", "load", "cold", "MiB")


def show(results: list[Result]) -> None:
    """One line per engine, the fastest first, aligned but never cut: a pipe or a narrow terminal loses nothing."""
    from rich.text import Text

    from edgead.cli._console import console

    several = len({result.bundle for result in results}) > 1
    names = {id(result): f"{Path(result.bundle).name} {result.engine}" if several else result.engine for result in results}
    width = max(len(name) for name in names.values())
    out = console()
    out.print("milliseconds (stages: medians; p50 to max: frame's arrival to verdict; cold: process start to first verdict)")
    out.print("parts a second: one after the other, and several at once (--throughput)\n")
    out.print(Text(f"{'engine':<{width}}" + "".join(f"{title:>8}" for title in TITLES), style="bold"))
    for result in sorted(results, key=lambda r: r.stages["total"].p50_ms):
        out.print(Text(f"{names[id(result)]:<{width}}" + "".join(f"{cell:>8}" for cell in _cells(result))))
    out.print()


def _cells(result: Result) -> list[str]:
    total = result.stages["total"]
    medians = [f"{result.stages[stage].p50_ms:.2f}" for stage in ("resize", "inference", "decision")]
    spread = [f"{value:.1f}" for value in (total.p50_ms, total.p95_ms, total.p99_ms, total.max_ms)]
    cold = "-" if result.cold_start_ms is None else f"{result.cold_start_ms:.0f}"
    memory = "-" if result.resident_mb is None else f"{result.resident_mb:.0f}"
    many = "-" if result.many_per_s is None else f"{result.many_per_s:.1f}"
    return [*medians, *spread, f"{result.throughput_per_s:.1f}", many, f"{result.load_ms:.0f}", cold, memory]


def _write(file: Path, report: dict[str, Any]) -> None:
    from edgead.bundle import storage_errors

    plain = {**report, "results": [result.to_json() for result in report["results"]]}
    with storage_errors(file):
        file.write_text(json.dumps(plain, indent=2) + "\n", "utf-8")
