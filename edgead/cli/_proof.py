"""Before a station runs: does its engine answer here as the trained model did?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.types import Engine


def prove(bundle: Bundle, record: EngineRecord, engine: Engine) -> float:
    """Ask the engine about two golden frames, the calmest and the most anomalous one (this also warms it up).

    Returns:
        What calm maps look like: the median of the trained model's maps, raw model units.

    Raises:
        ParityFailed: it does not answer here as the trained model did.
    """
    import numpy as np

    from edgead.engines.verify import expected, judge, trained_threshold
    from edgead.errors import ParityFailed
    from edgead.parity import Answers, ask

    golden = bundle.golden()
    reference = golden.reference
    order = np.argsort(reference.scores)
    chosen = sorted({int(order[0]), int(order[-1])})
    asked = ask(engine, [golden.images[i] for i in chosen])
    asked = asked.on(Answers(reference.scores[chosen], reference.maps[chosen]))
    answers = Answers(reference.scores.copy(), reference.maps.copy())  # frames that are not asked count as equal
    answers.scores[chosen], answers.maps[chosen] = asked.scores, asked.maps
    if not judge(expected(bundle, record), golden, answers, trained_threshold(bundle)).passed:
        pairs = ", ".join(f"{a:.4g} instead of {e:.4g}" for a, e in zip(asked.scores, reference.scores[chosen], strict=True))
        raise ParityFailed(
            f"engine {record.name} does not answer as the trained model did: golden frames score {pairs}",
            hint=f"edgead verify {bundle.path} tells more; use another --engine, or export on this device",
        )
    return float(np.median(reference.maps))
