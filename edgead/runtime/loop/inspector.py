"""From one frame to one verdict. Whatever goes wrong on the way is UNKNOWN with its cause, never OK."""

from __future__ import annotations

import math

import numpy as np

from edgead.budget import LatencyBudget
from edgead.clock import Clock
from edgead.decision import Rule, tells_no_map
from edgead.errors import BadInput, PartNotFound
from edgead.preprocess import PreprocessRecipe
from edgead.types import AnomalyMap, Engine, Frame, Image, Inspection, StageTimes, Verdict


class Inspector:
    """Alignment, resize, inference and decision, timed (alignment is told as part of the resize). Used by one thread at a time.

    Every picture is resized into the same buffer, which the engine reads without a copy. Maps stay as the engine tells them:
    those at the network's own resolution are enlarged only where a rule by area needs it, and where somebody draws them.

    Args:
        engine: answers; used by one thread at a time.
        recipe: from the camera's picture to the model's input.
        rule: what makes a part NG; a number is the score at and above which it is, raw model units.
        budget: from the frame's arrival to the verdict.
        clock: the one that stamped the frames.

    Raises:
        BadInput: the threshold is not a finite number, the rule could never say NG on this engine's maps, or the engine takes
            another size than the recipe gives.
    """

    def __init__(self, engine: Engine, recipe: PreprocessRecipe, rule: Rule | float, budget: LatencyBudget, clock: Clock) -> None:
        self.rule = Rule.of(rule)
        if self.rule.pixel is not None:
            self.rule.check(_map_shape(engine))
        wanted = tuple(engine.inputs[0].shape[1:3])
        if wanted != (recipe.height, recipe.width):
            raise BadInput(
                f"the recipe gives {recipe.width} x {recipe.height} px, the engine takes {wanted[1]} x {wanted[0]} px",
                hint="use the recipe of the engine's own bundle",
            )
        self._engine, self._recipe, self._budget, self._clock = engine, recipe, budget, clock
        self._input: Image = np.empty((recipe.height, recipe.width, 3), np.uint8)
        self._has_map = not tells_no_map(_map_shape(engine))
        self.threshold = self.rule.level

    def inspect(self, part_id: int, frame: Frame) -> Inspection:
        """The verdict on one frame; raises nothing of what cameras and engines do wrong.

        Causes of UNKNOWN: "late" (the budget was over before, then nothing is inferred, or after), "bad_frame: ..." (the
        recipe cannot use the picture), "part_not_found: ..." (it aligns, and there is not one part, whole), "engine_error:
        ...", and those of :meth:`edgead.decision.Rule.decide`.
        """
        started = self._clock.now_ns()
        deadline = self._budget.start(frame.captured_at_ns)
        score, anomaly_map, marks = math.nan, None, [started]
        if deadline is not None and deadline.passed(started):
            cause = "late"
        else:
            score, anomaly_map, cause = self._answer(frame.image, marks)
        verdict = Verdict.UNKNOWN
        if not cause:
            verdict, cause = self.rule.decide(score, anomaly_map)
        decided = self._clock.now_ns()
        if deadline is not None and deadline.passed(decided):
            verdict, cause = Verdict.UNKNOWN, cause or "late"
        times = _times(frame.captured_at_ns, marks, decided)
        return Inspection(part_id, verdict, cause, score, self.threshold, anomaly_map, times, frame)

    def unknown(self, part_id: int, cause: str) -> Inspection:
        """The verdict on a part that has no frame."""
        return Inspection(part_id, Verdict.UNKNOWN, cause, math.nan, self.threshold, None, StageTimes(), None)

    def _answer(self, image: Image, marks: list[int]) -> tuple[float, AnomalyMap | None, str]:
        """Score, map and cause of failure; notes the time after each stage."""
        try:
            resized = self._recipe.apply(image, self._input)
        except PartNotFound as error:
            return math.nan, None, f"part_not_found: {one_line(error)}"
        except BaseException as error:  # noqa: BLE001 - no picture, however broken, may end the loop
            return math.nan, None, f"bad_frame: {one_line(error)}"
        marks.append(self._clock.now_ns())
        try:
            score, found = self._engine.infer(resized)
            anomaly_map = np.asarray(found, np.float32)  # the caller's own by contract; what is no map has no finite values
            score = float(score)
        except BaseException as error:  # noqa: BLE001 - nor may a backend; panics of native code are no Exceptions
            return math.nan, None, f"engine_error: {one_line(error)}"
        finally:
            marks.append(self._clock.now_ns())
        return score, anomaly_map if self._has_map else None, ""


def _map_shape(engine: Engine) -> tuple[int, ...]:
    return next(t.shape for t in engine.outputs if t.name == "anomaly_map")[-2:]


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks, in at most 200 characters."""
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]


def _times(captured_ns: int, marks: list[int], decided_ns: int) -> StageTimes:
    """Stages that did not happen took 0 ms."""
    ends = [*marks[1:], *([marks[-1]] * (3 - len(marks)))]
    resize, inference = ends[0] - marks[0], ends[1] - ends[0]
    return StageTimes(
        wait_ms=(marks[0] - captured_ns) / 1e6,
        resize_ms=resize / 1e6,
        inference_ms=inference / 1e6,
        decision_ms=(decided_ns - ends[1]) / 1e6,
        total_ms=(decided_ns - captured_ns) / 1e6,
    )
