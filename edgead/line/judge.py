"""`python -m edgead.line.judge ORDER`: judges pictures for a shadow (:mod:`edgead.runtime.products.shadow`), at idle priority.

Its argument is an order as JSON: bundle, engine, sha256, trusted, bits, views, ng_views. It then writes one line of JSON,
{"ready": what it judges by} or {"failed": why}. Each picture comes as a line {"shape": [h, w, 3]} and its bytes; each is answered
by a line. It ends with its standard input.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.runtime.loop.inspector import Inspector
    from edgead.runtime.records.basis import Judged

LARGEST = 1 << 30  # bytes of a picture
_PR_SET_PDEATHSIG = 1


def main(order: Mapping[str, Any], pictures: IO[bytes], answers: IO[bytes]) -> None:
    """Open, then answer until there are no more pictures."""
    from edgead.errors import EdgeadError
    from edgead.words import told

    try:
        inspector, judged = opened(order)
    except EdgeadError as error:
        _say(answers, {"failed": told(error)})
        return
    _say(answers, {"ready": judged.facts})
    while header := pictures.readline(1 << 16):
        shape = [int(side) for side in json.loads(header)["shape"]]
        size = math.prod(shape)
        if len(shape) != 3 or not 0 < size <= LARGEST or len(content := pictures.read(size)) != size:
            return
        _say(answers, answer(inspector, judged, shape, content))


def opened(order: Mapping[str, Any]) -> tuple[Inspector, Judged]:
    """The engine that an order names, proved as before any start. Raises EdgeadError."""
    from edgead.budget import LatencyBudget
    from edgead.clock import MonotonicClock
    from edgead.engines.proof import check_reach
    from edgead.errors import BadInput
    from edgead.line.shelf import Shelf
    from edgead.runtime.loop.inspector import Inspector
    from edgead.runtime.records.basis import Judged
    from edgead.signing import read_trusted

    trusted = read_trusted(tuple(Path(key) for key in order["trusted"]))
    loaded = Shelf(1, trusted=trusted).load(Path(order["bundle"]), order["engine"], order["sha256"])
    bundle, record, recipe = loaded.bundle, loaded.record, loaded.bundle.manifest.preprocess
    if order["bits"] not in (None, recipe.bits):
        raise BadInput(
            f"{bundle.path} takes 16-bit pictures as {recipe.bits} bits, the camera was opened for {order['bits']}",
            hint="train both models with the same --bits",
        )
    rule = record.threshold.rule
    check_reach(bundle, record, rule, bundle.golden(), lambda text: print(f"edgead shadow: {text}", file=sys.stderr))
    inspector = Inspector(loaded.engine, recipe, rule, LatencyBudget(None), MonotonicClock())
    model, views = bundle.manifest.files[record.file], (order["views"], order["ng_views"])
    return inspector, Judged(rule, f"{bundle.path.stem}/{record.name}", bundle.digest, model, *views)


def answer(inspector: Inspector, judged: Judged, shape: list[int], content: bytes) -> dict[str, Any]:
    """What is said of a picture."""
    import time

    import numpy as np

    from edgead.runtime.records.basis import HINGES
    from edgead.types import Frame

    image = np.frombuffer(content, np.uint8).reshape(shape)
    found = inspector.inspect(0, Frame(image, "shadow", 0, time.monotonic_ns()))
    hinges = found.cause in HINGES
    return {
        "verdict": found.verdict.value,
        "cause": found.cause,
        "score": found.score if math.isfinite(found.score) else None,
        "reading": judged.reading(found.score, found.anomaly_map) if hinges else None,
        "inference_ms": round(found.times.inference_ms, 3),
        "total_ms": round(found.times.total_ms, 3),
    }


def yield_to_the_line() -> None:
    """Of processor and memory, what the line leaves; and no life after the station's."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for stop in (signal.SIGINT, signal.SIGTERM):  # of a terminal, or of the service's group: the station ends it
        signal.signal(stop, signal.SIG_IGN)


def _say(answers: IO[bytes], told: Mapping[str, Any]) -> None:
    answers.write(json.dumps(told, allow_nan=False).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    yield_to_the_line()
    with os.fdopen(os.dup(1), "wb") as own, suppress(BrokenPipeError):
        os.dup2(2, 1)  # what libraries print must not come between answers
        main(json.loads(sys.argv[1]), sys.stdin.buffer, own)
