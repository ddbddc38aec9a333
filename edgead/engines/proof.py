"""Before a station runs, or an archive is judged: does this engine answer here as the trained model did?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgead.bundle import Bundle, EngineRecord, Golden
    from edgead.decision import Rule
    from edgead.types import Engine


def prove(bundle: Bundle, record: EngineRecord, engine: Engine) -> float:
    """Ask the engine about two golden frames, the calmest and the most anomalous one (this also warms it up), and the recipe
    about one as the camera gave it.

    Returns:
        What calm maps look like: the median of the trained model's maps, raw model units.

    Raises:
        ParityFailed: it does not answer here as the trained model did, or the recipe makes something else of a camera's picture.
    """
    import numpy as np

    from edgead.engines.golden import recipe_inputs
    from edgead.engines.verify import expected, judge, trained_threshold
    from edgead.errors import ParityFailed
    from edgead.parity import Answers, ask

    golden = bundle.golden()
    reference = golden.reference
    order = np.argsort(reference.scores)
    chosen = sorted({int(order[0]), int(order[-1])})
    images = recipe_inputs(bundle, golden, bundle.manifest.golden_camera[:1])
    asked = ask(engine, [images[i] for i in chosen])
    asked = asked.on(Answers(reference.scores[chosen], reference.maps[chosen]))
    answers = Answers(reference.scores.copy(), reference.maps.copy())  # frames that are not asked count as equal
    answers.scores[chosen], answers.maps[chosen] = asked.scores, asked.maps
    if not judge(expected(bundle, record), golden, answers, trained_threshold(bundle), chosen).passed:
        pairs = ", ".join(f"{a:.4g} instead of {e:.4g}" for a, e in zip(asked.scores, reference.scores[chosen], strict=True))
        raise ParityFailed(
            f"engine {record.name} does not answer as the trained model did: golden frames score {pairs}",
            hint=f"edgead verify {bundle.path} tells more; use another --engine, or export on this device",
        )
    return float(np.median(reference.maps))


def check_reach(
    bundle: Bundle, record: EngineRecord, rule: Rule, golden: Golden, tell: Callable[[str], None], *, strict: bool = False
) -> None:
    """Refuse a bundle by whose own rule every defect would be OK; of a rule that the user gives by hand it is told.

    Args:
        strict: refuse whose rule it ever is.

    Raises:
        ParityFailed: none of the golden defects is NG, and some were at export.
    """
    from edgead.engines.golden import reach
    from edgead.errors import ParityFailed

    own = rule == record.threshold.rule
    found = reach(bundle, record, golden, rule=rule)
    if strict and not own and found.fault:
        raise ParityFailed(f"{record.name}, {rule.describe()}: {found.fault}", hint="give another threshold")
    if own and found.fault:
        raise ParityFailed(
            f"{bundle.path}, {record.name}: {found.fault}",
            hint=f"edgead threshold {bundle.path} --history shows how it came about; --undo takes the last change back",
        )
    if told := found.fault or found.warning:
        tell(f"{record.name}: {told}")
