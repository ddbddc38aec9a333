"""How long one inference takes, several engines compared fairly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from edgead.types import Engine, Image

ROUNDS, FEWEST = 20, 3
MAX_S = 5.0


def interleaved_ms(engines: Mapping[str, Engine], image: Image, rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of one inference per engine, the engines taking turns so that the machine's moods hit all alike.

    Args:
        image: H x W x 3 uint8 BGR at model size.
        rounds: inferences counted per engine; one more warms up. After `MAX_S` seconds `FEWEST` are enough.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    start = time.perf_counter()
    for done in range(rounds + 1):
        if done > FEWEST and time.perf_counter() - start > MAX_S:
            break
        for name, engine in engines.items():
            began = time.perf_counter()
            engine.infer(image)
            times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}
