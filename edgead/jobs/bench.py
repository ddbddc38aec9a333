"""Latency, throughput, cold start and memory of bundles' engines on this machine, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgead import machine
from edgead.bundle import Bundle
from edgead.errors import BadInput, EdgeadError
from edgead.jobs.measure import BURST, Candidate, Result, cold, load, many, time_all, usual_frame
from edgead.jobs.progress import LeftOut, Progress, Ticking, silent


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure, and how.

    Attributes:
        bundles: their folders.
        engine: one engine of each bundle; null: all of them.
        rounds: bursts of 10 parts for each engine.
        warmup: parts for each engine that are not counted.
        threads: CPU threads of one inference; null: the engine's choice.
        frame: width, height of the camera's picture; null: 1920 x 1080, or that of the reference picture of a model that finds
            the part in it.
        throughput: also parts per second with several pictures at once.
        cache: take compiled engines from the user's cache.
        cold_runs: fresh processes for cold start and memory of each engine; 0 leaves them out.
    """

    bundles: tuple[Path, ...]
    engine: str | None = None
    rounds: int = 20
    warmup: int = 10
    threads: int | None = None
    frame: tuple[int, int] | None = None
    throughput: bool = False
    cache: bool = True
    cold_runs: int = 3

    def __post_init__(self) -> None:
        if not self.bundles or min(self.rounds, self.warmup) < 1 or self.cold_runs < 0:
            raise BadInput("there is nothing to measure", hint="give a bundle, 1 round and 1 part to warm up, or more")


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured.

    Attributes:
        results: of each engine.
        skipped: engines that cannot run here.
        settings: how it was measured.
        machine: facts of this machine.
    """

    results: tuple[Result, ...]
    skipped: tuple[LeftOut, ...]
    settings: BenchRequest
    machine: Mapping[str, Any]


Seen = Callable[[Candidate, Sequence[float]], None]
"""Told an engine, and milliseconds from arrival to verdict of each of its parts."""


def bench(request: BenchRequest, progress: Progress = silent, seen: Seen = lambda candidate, totals_ms: None) -> BenchResult:
    """Measure everything that was asked for.

    Args:
        request: what that is.
        progress: told the stages.
        seen: told the single latencies.

    Raises:
        EdgeadError: a bundle is refused, a named engine cannot run here, or none can.
    """
    candidates, skipped = _open(request)
    frame = request.frame or usual_frame(candidate.bundle for candidate in candidates)
    try:
        tick = Ticking(progress, "measuring", request.rounds * len(candidates))
        results = time_all(candidates, frame=frame, rounds=request.rounds, warmup=request.warmup, tick=tick, seen=seen)
        if request.throughput:
            results = _with_many(candidates, results, request, frame, progress)
    finally:
        for candidate in candidates:
            candidate.engine.close()
    if request.cold_runs:
        tick = Ticking(progress, "cold starts", len(results))
        results = with_cold(
            results, threads=request.threads, frame=frame, runs=request.cold_runs, keep=request.cache, tick=tick
        )  # fmt: skip
    return BenchResult(tuple(results), tuple(skipped), replace(request, frame=frame), machine.facts())


def with_cold(
    results: Sequence[Result],
    *,
    threads: int | None,
    frame: tuple[int, int],
    runs: int,
    keep: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> list[Result]:
    """The same results with cold start and memory, each from `runs` fresh processes; `tick` is called after each engine."""
    done = []
    for result in results:
        seen = cold(Path(result.bundle), result.engine, threads=threads, frame=frame, runs=runs, keep=keep)
        start, resident, peak = seen["cold_start_ms"], seen["resident_mb"], seen["peak_mb"]
        done.append(replace(result, cold_start_ms=start, resident_mb=resident, peak_mb=peak))
        tick()
    return done


def _with_many(
    candidates: Sequence[Candidate],
    results: Sequence[Result],
    request: BenchRequest,
    frame: tuple[int, int],
    progress: Progress,
) -> list[Result]:
    """The same results with the parts per second of several at once."""
    tick, parts, done = Ticking(progress, "several at once", len(results)), max(BURST, request.rounds * BURST // 4), []
    for candidate, result in zip(candidates, results, strict=True):
        done.append(replace(result, many_per_s=many(candidate, frame=frame, threads=request.threads, parts=parts)))
        tick()
    return done


def _open(request: BenchRequest) -> tuple[list[Candidate], list[LeftOut]]:
    """Load every wanted engine. One that cannot run here is skipped and told, unless it was asked for by name."""
    candidates: list[Candidate] = []
    skipped: list[LeftOut] = []
    failure: EdgeadError | None = None
    for bundle in [Bundle.open(path) for path in request.bundles]:
        records = bundle.manifest.engines if request.engine is None else (bundle.manifest.engine(request.engine),)
        for record in records:
            try:
                candidates.append(load(bundle, record.name, request.threads, keep=request.cache))
            except EdgeadError as error:
                if request.engine is not None:
                    raise
                failure = error
                skipped.append(LeftOut(str(bundle.path), record.name, record.backend, str(error), error.hint))
    if not candidates:
        raise failure or BadInput("the bundles hold no engines", hint="export them again")
    return candidates, skipped
