"""Does the engine still answer as the trained model did? Asked about the bundle's golden frames, one in each spare moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgead.clock import Clock
from edgead.errors import BadInput
from edgead.parity import Answers, ask
from edgead.runtime.loop.inspector import one_line
from edgead.types import Engine, Image, Inspection, Verdict

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord

SELFCHECK_FAILED = "selfcheck_failed"
RETRY_S = 10.0
"""A check that failed is repeated so soon, at the latest."""

SAFETY = 1.5  # a golden frame may take so much longer than the slowest part's inference
RECENT = 50  # parts that tell what the line is like
ENOUGH = 10  # of them


class SelfCheck:
    """A check in steps of one inference each; belongs to the station's loop.

    Args:
        engine: is asked.
        images: golden frames, H x W x 3 uint8 BGR at model size.
        judged: told the answers, says what is wrong with them, "" when nothing is.
        every_s: from the end of a check to the beginning of the next; the first one begins after so long, too.
        clock: the station's.

    Attributes:
        engine, every_s: see above.

    Raises:
        BadInput: no frames, or a period that is not above 0.
    """

    def __init__(
        self, engine: Engine, images: Sequence[Image], judged: Callable[[Answers], str], *, every_s: float, clock: Clock
    ) -> None:
        if not images or not every_s > 0:
            raise BadInput("a self-check needs golden frames and a period above 0 s")
        self.engine, self.every_s = engine, every_s
        self._images, self._judged, self._clock = tuple(images), judged, clock
        self._every_ns, self._retry_ns = round(every_s * 1e9), round(min(every_s, RETRY_S) * 1e9)
        self._answers: list[Answers] = []
        self._due_ns = clock.now_ns() + self._every_ns

    @classmethod
    def of_bundle(cls, bundle: Bundle, record: EngineRecord, engine: Engine, *, every_s: float, clock: Clock) -> SelfCheck:
        """All golden frames of a bundle, judged as `edgead verify` does; those that are there as the camera gave them go through
        the recipe, once.

        Raises:
            BundleError: they cannot be read.
            ParityFailed: the recipe does not make of them what it made at export.
        """
        from edgead.engines.golden import recipe_inputs
        from edgead.engines.verify import expected, judge, trained_threshold

        golden, wanted, threshold = bundle.golden(), expected(bundle, record), trained_threshold(bundle)

        def judged(answers: Answers) -> str:
            found = judge(wanted, golden, answers, threshold)
            if found.passed:
                return ""
            return (
                f"engine {record.name} answers otherwise than the trained model: score error {found.parity.score_error:.2g} "
                f"(limit {found.score_limit:.2g}), map error {found.parity.map_error:.2g} (limit {found.map_limit:.2g})"
            )

        return cls(engine, recipe_inputs(bundle, golden), judged, every_s=every_s, clock=clock)

    def due(self) -> bool:
        """Is there something to ask?"""
        return self._clock.now_ns() >= self._due_ns

    def waited_s(self) -> float:
        """For how long it has been due."""
        return max(0.0, (self._clock.now_ns() - self._due_ns) / 1e9)

    def step(self) -> str | None:
        """Ask about one golden frame.

        Returns:
            None while the check goes on; at its end "" when the engine answers as it should, else what is wrong, in words.
        """
        try:
            self._answers.append(ask(self.engine, [self._images[len(self._answers)]]))
            if len(self._answers) < len(self._images):
                return None
            fault = self._judged(_joined(self._answers))
        except BaseException as error:  # noqa: BLE001 - whatever a backend raises, the check has failed
            fault = f"the engine failed on a golden frame: {one_line(error)}"
        self._answers.clear()
        self._due_ns = self._clock.now_ns() + (self._retry_ns if fault else self._every_ns)
        return fault


class SpareTime:
    """Is there time for one more inference before a part would be late because of it?

    There is when a part that came at this very moment would still be in time; or when the last 50 parts came so far apart that
    none is expected before it is over.

    Args:
        budget_ms: of each part; None: there is always time.
    """

    def __init__(self, budget_ms: float | None) -> None:
        self._budget_ms = budget_ms
        self._spent_ms: deque[tuple[float, float]] = deque(maxlen=RECENT)  # total, inference
        self._gaps_ms: deque[float] = deque(maxlen=RECENT)
        self._last_ns: int | None = None

    @property
    def known(self) -> bool:
        """Has a part been inspected? Before, nothing is known, and there is no time."""
        return bool(self._spent_ms)

    def seen(self, inspection: Inspection) -> None:
        """Told each verdict."""
        start_ns = _start_ns(inspection)
        if start_ns is None:
            return
        if self._last_ns is not None:
            self._gaps_ms.append((start_ns - self._last_ns) / 1e6)
        self._last_ns = start_ns
        if inspection.verdict is not Verdict.UNKNOWN:
            self._spent_ms.append((inspection.times.total_ms, inspection.times.inference_ms))

    def there(self, now_ns: int) -> bool:
        """Is there time now?"""
        if self._budget_ms is None:
            return True
        spent, gaps = tuple(self._spent_ms), tuple(self._gaps_ms)
        if not spent or self._last_ns is None:
            return False
        need_ms = SAFETY * max(inference_ms for _, inference_ms in spent)
        if max(total_ms for total_ms, _ in spent) + need_ms <= self._budget_ms:
            return True
        return len(gaps) >= ENOUGH and need_ms <= min(gaps) - (now_ns - self._last_ns) / 1e6


def _start_ns(inspection: Inspection) -> int | None:
    if inspection.trigger is not None:
        return inspection.trigger.at_ns
    return inspection.frame.captured_at_ns if inspection.frame is not None else None


def _joined(answers: Sequence[Answers]) -> Answers:
    return Answers(np.concatenate([a.scores for a in answers]), np.concatenate([a.maps for a in answers]))
