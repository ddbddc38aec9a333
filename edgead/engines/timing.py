"""How long one inference takes, several engines compared fairly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from edgead.types import Engine, Image

ROUNDS, FEWEST, BURST = 20, 3, 4
MAX_S = 5.0
WORTH = 0.05
"""Share of the time that a coarser precision must win to be taken."""

FINEST_FIRST = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class LatencyStats:
    """Milliseconds over `n` samples; percentiles are interpolated, so p99 of fewer than 100 samples is close to the largest."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    min_ms: float

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> LatencyStats:
        """From single times in milliseconds, one or more."""
        p50, p95, p99 = np.percentile(samples_ms, (50, 95, 99))
        return cls(
            len(samples_ms),
            float(np.mean(samples_ms)),
            float(p50),
            float(p95),
            float(p99),
            float(max(samples_ms)),
            float(min(samples_ms)),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    max_s: float = MAX_S,
    burst: int | Mapping[str, int] = 1,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, LatencyStats]:
    """Time several things in turn, so that the machine's moods hit all alike.

    The first round warms up. With a `burst` above 1 each one is called once more than that in a round: its first call finds the
    others' data in the CPU's caches, as no engine on a line does, and is not counted.

    Args:
        calls: what to time by name, e.g. ``functools.partial(engine.infer, image)``.
        rounds: counted rounds, 1 or more.
        max_s: after so many seconds `FEWEST` rounds are enough (all of them when fewer were asked for).
        burst: counted calls of each one in a round; by name where they differ.
        tick: called after each round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for done in range(rounds + 1):
        if done > FEWEST and time.perf_counter() - start > max_s:
            break
        for name, call in calls.items():
            count = burst if isinstance(burst, int) else burst[name]
            taken = [_timed_ms(call) for _ in range(count + (count > 1))]
            if done:
                times[name] += taken[-count:]
        tick()
    return {name: LatencyStats.of(values) for name, values in times.items()}


def in_bursts(engines: Mapping[str, Engine], image: Image, rounds: int = ROUNDS) -> dict[str, LatencyStats]:
    """Milliseconds of one inference per engine, each asked `BURST` times in a row.

    Engines of one process disturb each other: ONNX Runtime's threads spin for a while after each answer, and the engine asked
    next took 26 ms in place of 1.8. Within a burst an engine is as alone as it will be on the line.

    Args:
        image: H x W x 3 uint8 BGR at model size.
    """
    return interleaved({name: partial(engine.infer, image) for name, engine in engines.items()}, rounds=rounds, burst=BURST)


def fastest(stats: Mapping[str, LatencyStats], precisions: Mapping[str, str] | None = None) -> str:
    """The engine whose shortest time is the least: whatever else a machine does only ever adds time. A finer one
    is taken before it unless the coarser one wins `WORTH` of its time: rounding is to be paid for.

    Args:
        precisions: of the engines, of `FINEST_FIRST`; None: they are not told apart.
    """
    least = min(found.min_ms for found in stats.values())
    near = [name for name, found in stats.items() if (1 - WORTH) * found.min_ms < least]
    return min(near, key=lambda name: (FINEST_FIRST.index(precisions[name]) if precisions else 0, stats[name].min_ms))


def wins_no_time(least_ms: Mapping[str, float], engines: Mapping[str, tuple[str, str]]) -> list[str]:
    """In words, the engines of lower precision that win less than `WORTH` over FP32 of the same backend, or nothing at all.

    Args:
        least_ms: shortest times by engine, of one interleaved measurement.
        engines: backend and precision of each.
    """
    floats = {backend: name for name, (backend, precision) in engines.items() if precision == "fp32" and name in least_ms}
    return [
        f"{name} wins no time here: {least_ms[name]:.2f} ms at least, {floats[backend]} {least_ms[floats[backend]]:.2f} ms"
        for name, (backend, precision) in engines.items()
        if precision != "fp32" and name in least_ms and backend in floats
        if least_ms[name] > (1 - WORTH) * least_ms[floats[backend]]
    ]


def interleaved_ms(engines: Mapping[str, Engine], image: Image, rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of one inference per engine, by :func:`interleaved`.

    Args:
        image: H x W x 3 uint8 BGR at model size.
    """
    found = interleaved({name: partial(engine.infer, image) for name, engine in engines.items()}, rounds=rounds)
    return {name: round(stats.p50_ms, 3) for name, stats in found.items()}


def _timed_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3
