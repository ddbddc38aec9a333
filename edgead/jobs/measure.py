"""How fast engines answer: the same code as the station's loop, timed.

A fresh process for each engine (``python -m edgead.jobs.measure``) tells what only a fresh process can: cold start and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgead import machine
from edgead.budget import LatencyBudget
from edgead.bundle import Bundle
from edgead.clock import MonotonicClock
from edgead.engines import infer_many, open_engine
from edgead.engines.timing import LatencyStats
from edgead.errors import EngineError
from edgead.runtime.loop.inspector import Inspector
from edgead.types import Engine, Frame, Image, StageTimes, Verdict

BURST = 10  # parts that one engine inspects before the next one's turn
STAGES = ("resize", "inference", "decision", "total")
COLD_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine of one bundle, loaded; `load_ms` is the time that took."""

    bundle: Bundle
    name: str
    engine: Engine
    inspector: Inspector
    load_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one engine.

    Attributes:
        bundle: its folder.
        engine, backend, precision: from the manifest.
        samples: timed parts.
        stages: "resize", "inference", "decision", "total" -> milliseconds.
        throughput_per_s: parts per second, one after the other.
        many_per_s: parts per second, several at once (see :func:`many`), or None when not measured.
        load_ms: opening the engine in this process.
        cold_start_ms: process start to the first verdict, or None when not measured.
        resident_mb, peak_mb: memory of a fresh process after some verdicts in MiB, or None.
    """

    bundle: str
    engine: str
    backend: str
    precision: str
    samples: int
    stages: dict[str, LatencyStats]
    throughput_per_s: float
    load_ms: float
    cold_start_ms: float | None = None
    resident_mb: float | None = None
    peak_mb: float | None = None
    many_per_s: float | None = None


def load(bundle: Bundle, name: str, threads: int | None, *, keep: bool = True) -> Candidate:
    """Open one engine; `keep`: as in :func:`edgead.engines.open_engine`.

    Raises:
        EdgeadError: whatever :func:`edgead.engines.open_engine` raises.
    """
    began = time.perf_counter_ns()
    engine = open_engine(bundle, name, threads, keep=keep)
    load_ms = (time.perf_counter_ns() - began) / 1e6
    rule = replace(bundle.manifest.engine(name).threshold.rule, unknown_band=None)  # being unsure is no failure here
    inspector = Inspector(engine, bundle.manifest.preprocess, rule, LatencyBudget(None), MonotonicClock())
    return Candidate(bundle, name, engine, inspector, load_ms)


def camera_picture(bundle: Bundle, size: tuple[int, int]) -> Image:
    """A golden picture enlarged to the camera's (width, height), so that the content is the product's own; noise without one."""
    width, height = size
    golden = bundle.golden().images
    if not golden:
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return bundle.manifest.preprocess.as_camera(golden[0], width, height)


def usual_frame(bundles: Iterable[Bundle]) -> tuple[int, int]:
    """Width, height of a camera's picture to measure with: 1920 x 1080, but a part that is found in it has its size in pixels, so
    that of the first bundle that looks for one."""
    recipes = (bundle.manifest.preprocess for bundle in bundles)
    return next((recipe.align.frame for recipe in recipes if recipe.align is not None), (1920, 1080))


def time_all(
    candidates: Sequence[Candidate],
    *,
    frame: tuple[int, int],
    rounds: int,
    warmup: int,
    tick: Callable[[], None] = lambda: None,
    seen: Callable[[Candidate, Sequence[float]], None] = lambda candidate, totals_ms: None,
) -> list[Result]:
    """Inspect `rounds` bursts of `BURST` parts with each engine in turn, so that noise from outside hits all alike.

    Args:
        candidates: loaded engines; they stay open.
        frame: (width, height) of the camera's picture in pixels.
        rounds: bursts per engine, 1 or more. The first part of a burst, which finds cold caches, is not counted.
        warmup: parts for each engine before anything is counted.
        tick: called after each burst.
        seen: told the milliseconds from arrival to verdict of each part that counts, by engine.

    Raises:
        EngineError: an engine gave no verdict.
    """
    pictures = {c.bundle.path: camera_picture(c.bundle, frame) for c in candidates}
    for candidate in candidates:
        for _ in range(warmup):
            _inspect(candidate, pictures[candidate.bundle.path])
    samples: list[list[StageTimes]] = [[] for _ in candidates]
    for _ in range(rounds):
        for candidate, taken in zip(candidates, samples, strict=True):
            burst = [_inspect(candidate, pictures[candidate.bundle.path]) for _ in range(BURST + 1)]
            taken.extend(burst[1:])
            tick()
    for candidate, taken in zip(candidates, samples, strict=True):
        seen(candidate, [times.total_ms for times in taken])
    return [_result(candidate, taken) for candidate, taken in zip(candidates, samples, strict=True)]


def _inspect(candidate: Candidate, picture: Image) -> StageTimes:
    inspection = candidate.inspector.inspect(1, Frame(picture, "bench", 0, time.monotonic_ns()))
    if inspection.verdict is Verdict.UNKNOWN:
        raise EngineError(f"engine {candidate.name} gives no verdict: {inspection.cause}", hint="run: edgead verify BUNDLE")
    return inspection.times


def _result(candidate: Candidate, taken: Sequence[StageTimes]) -> Result:
    stages = {stage: LatencyStats.of([getattr(times, f"{stage}_ms") for times in taken]) for stage in STAGES}
    record = candidate.bundle.manifest.engine(candidate.name)
    rate = 1000 / stages["total"].mean_ms
    head = (str(candidate.bundle.path), record.name, record.backend, record.precision, len(taken))
    return Result(*head, stages, rate, candidate.load_ms)


def many(candidate: Candidate, *, frame: tuple[int, int], threads: int | None, parts: int, rounds: int = 3) -> float:
    """Parts per second when several are worked on at once, one a core: resize, inference, decision; the median of `rounds`.

    Each single part takes longer than alone, so this is for going through many recorded pictures.
    """
    bundle, cores = candidate.bundle, threads or machine.usable_cores()
    recipe, rule = bundle.manifest.preprocess, candidate.inspector.rule
    picture = camera_picture(bundle, frame)
    engine = open_engine(bundle, candidate.name, cores, streams=cores)
    try:
        rates = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            for score, anomaly_map in infer_many(engine, (recipe.apply(picture) for _ in range(parts))):
                rule.decide(score, anomaly_map)
            rates.append(parts / (time.perf_counter() - began))
        return float(np.median(rates[1:]))
    finally:
        engine.close()


def cold(
    bundle: Path, name: str, *, threads: int | None, frame: tuple[int, int], runs: int, keep: bool = True
) -> dict[str, float]:
    """Start a fresh process `runs` times; medians of cold_start_ms, resident_mb and peak_mb.

    With `keep` the first start may fill the cache of compiled engines; the others find it there.

    Raises:
        EngineError: it failed.
    """
    seen: list[dict[str, float]] = []
    for _ in range(runs):
        settings = (str(threads or 0), str(int(keep)), *map(str, frame))
        command = [sys.executable, "-m", "edgead.jobs.measure", str(bundle), name, *settings]
        try:
            done = subprocess.run(
                [*command, str(time.time_ns())], capture_output=True, text=True, check=True, timeout=COLD_TIMEOUT_S
            )
            seen.append(json.loads(done.stdout.splitlines()[-1]))
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise EngineError(f"a fresh process could not run engine {name}: {said[-1] if said else error!r}") from error
    return {key: float(np.median([one[key] for one in seen])) for key in seen[0]}


def fresh_process(arguments: Sequence[str]) -> dict[str, float]:
    """What the fresh process does: open, inspect one part, note the time; inspect some more, note the memory.

    Args:
        arguments: bundle, engine, threads (0: the backend's choice), 1 to use kept compiled engines, width, height, start (ns
            since the epoch).
    """
    path, name, threads, keep, width, height, started_ns = arguments
    bundle = Bundle.open(Path(path))
    candidate = load(bundle, name, int(threads) or None, keep=keep == "1")
    picture = camera_picture(bundle, (int(width), int(height)))
    _inspect(candidate, picture)
    cold_start_ms = (time.time_ns() - int(started_ns)) / 1e6
    for _ in range(BURST):
        _inspect(candidate, picture)
    memory = {"resident_mb": machine.resident_mb(), "peak_mb": machine.peak_mb()}
    candidate.engine.close()
    return {"cold_start_ms": cold_start_ms, **memory}


if __name__ == "__main__":
    print(json.dumps(fresh_process(sys.argv[1:])))
