"""From a part and its frames to a finding: picture checks, the choice of the engine, stage limits, lateness."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgead.budget import LatencyBudget
from edgead.clock import Clock
from edgead.decision import Rule
from edgead.errors import BadInput, CameraError, CameraLost, CameraTimeout, EndOfStream, FrameDoubtful
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.combine import Combine
from edgead.runtime.loop.inspector import Inspector, one_line
from edgead.runtime.loop.ledger import LATE, Part, told_late
from edgead.runtime.loop.matching import FrameLost
from edgead.runtime.loop.stats import Answering
from edgead.runtime.records.basis import Judged
from edgead.types import AnomalyMap, Engine, Frame, Image, Inspection, StageTimes, TensorSpec, Verdict

LIMITED = ("wait", "resize", "inference", "decision")
"""Stages that may have a limit of their own."""
SAMPLE = 8  # a frozen picture is suspected by every 8th pixel of every 8th row, then compared as a whole
FORGET = 0.98  # how fast a slow engine is forgiven: per part that its replacement answered


@dataclass(frozen=True, slots=True)
class Answerer:
    """An engine with what belongs to it.

    Attributes:
        engine: answers; whoever made it closes it.
        recipe: its preprocess recipe.
        rule: what makes a part NG; a number is the score at and above which it is, raw model units.
        name: for records.
        bundle: SHA-256 of its bundle's manifest, for records; "" when there is none.
        model: SHA-256 of the engine's file, likewise.
    """

    engine: Engine
    recipe: PreprocessRecipe
    rule: Rule | float
    name: str = ""
    bundle: str = ""
    model: str = ""


class PictureCheck:
    """Is this a picture that the camera takes? Size and standstill.

    Args:
        size: height, width that every picture must have; None: that of the first one.
        frozen_after: so many consecutive pictures with identical pixels are a frozen camera; None: not looked for.

    Raises:
        BadInput: a standstill of fewer than 2 pictures.
    """

    def __init__(self, size: tuple[int, int] | None = None, frozen_after: int | None = None) -> None:
        if frozen_after is not None and frozen_after < 2:
            raise BadInput(f"a camera is not frozen after {frozen_after} picture", hint="give 2 or more")
        self._size, self._frozen_after = size, frozen_after
        self._last: Image | None = None
        self._same = 0

    def fault(self, image: Image) -> str:
        """The cause of UNKNOWN, "wrong_size: ..." or "frozen_picture", or ""; call it with each picture, in order."""
        size = (image.shape[0], image.shape[1])
        self._size = self._size or size
        if size != self._size:
            return f"wrong_size: {size[1]} x {size[0]} px, not {self._size[1]} x {self._size[0]}"
        if self._frozen_after is None:
            return ""
        self._same = self._same + 1 if self._last is not None and _identical(image, self._last) else 1
        self._last = image
        return "frozen_picture" if self._same >= self._frozen_after else ""


class Examiner:
    """Makes findings. `view` and `finding` belong to the loop; `unknown` and `lateness` may be called by any thread.

    With a `fallback`, a part that the main engine, at its last pace, would not finish in time together with those that wait
    behind it, is answered by the fallback. The main engine is forgiven slowly, so that it gets another chance.

    `change` puts another engine in the place of both: for parts that begin (:attr:`Part.start_ns`) from that moment on. All views
    of a part are answered by the same engine, and parts that wait already by the one that was there when they came.

    Args:
        main: the engine.
        clock: of triggers and frames.
        combine: how views become one verdict.
        fallback: a faster engine.
        check: of each picture; None looks at none.
        limits_ms: limits of single stages, by their names in `LIMITED`.
        late_verdict: NG or UNKNOWN.
        settling: frames and margin of :class:`edgead.runtime.loop.combine.Settle`, for records.

    Raises:
        BadInput: recipe and engine do not fit, a stage that does not exist, or a limit that is not above 0.
    """

    def __init__(
        self,
        main: Answerer,
        clock: Clock,
        *,
        combine: Combine,
        fallback: Answerer | None = None,
        check: PictureCheck | None = None,
        limits_ms: Mapping[str, float] | None = None,
        late_verdict: Verdict = Verdict.UNKNOWN,
        settling: tuple[int, float] = (1, 0.0),
    ) -> None:
        self._limits_ms = dict(limits_ms or {})
        for stage, limit_ms in self._limits_ms.items():
            if stage not in LIMITED or not limit_ms > 0:
                raise BadInput(
                    f"the stage limit {stage}={limit_ms} ms cannot be kept", hint=f"stages: {', '.join(LIMITED)}; above 0"
                )
        self._clock, self._combine, self._check, self._late_verdict = clock, combine, check, late_verdict
        self._size: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._way = (combine.views, combine.ng_views, *settling)
        self._eras = [_Era(main, fallback, clock, self._way)]  # the last one is the present one

    def unknown(self, part: Part, cause: str) -> Inspection:
        """UNKNOWN, with what is known of the part."""
        total_ms = (self._clock.now_ns() - part.start_ns) / 1e6
        times = StageTimes(total_ms=total_ms)
        main = self._era(part).main
        return Inspection(
            part.part_id, Verdict.UNKNOWN, cause, math.nan, main.threshold, None, times, part.frame, basis=main.basis
        )

    def change(self, main: Answerer, fallback: Answerer | None = None, retired: Callable[[], None] = lambda: None) -> None:
        """Parts that begin from now on are answered by `main`; from any thread.

        Args:
            main, fallback: as in the constructor.
            retired: called by `retire` when the engines before them are no longer used.

        Raises:
            BadInput: recipe and engine do not fit, or the recipe does not fit the camera's pictures. Then nothing has changed.
        """
        era = _Era(main, fallback, self._clock, self._way)
        if self._size is not None:
            main.recipe.check_size(self._size[1], self._size[0])
        with self._lock:
            old = self._eras[-1]
            if old.main.answerer.engine is main.engine:  # only its rule is another: what was wrong with it still is
                era.barred = old.barred
            old.retired, old.until_ns = retired, self._clock.now_ns()
            self._eras.append(era)

    def answering(self) -> dict[str, Answering]:
        """Who answers parts that begin now; from any thread."""
        with self._lock:
            era = self._eras[-1]
        found = {"main": era.main, **({"fallback": era.fallback} if era.fallback is not None else {})}
        return {role: Answering(one.answerer.name, one.answerer.bundle) for role, one in found.items()}

    def retire(self, patience_ns: int) -> None:
        """Let go of engines that were replaced longer ago than a part may be open. By the loop, between two looks."""
        while len(self._eras) > 1 and self._clock.now_ns() > (self._eras[0].until_ns or 0) + patience_ns:
            with self._lock:
                old = self._eras.pop(0)
            old.retired()

    def bar(self, engine: Engine, cause: str) -> None:
        """This main engine is not to be believed: its parts are UNKNOWN with this cause; "" ends that. From any thread."""
        with self._lock:
            for era in self._eras:
                if era.main.answerer.engine is engine:
                    era.barred = cause

    def lateness(self, part: Part, cause: str, finding: Inspection | None) -> Inspection:
        """The verdict on a part that is late, with or without a finding."""
        if finding is not None:
            return told_late(finding, cause, self._late_verdict)
        return replace(self.unknown(part, cause), verdict=self._late_verdict)

    def view(self, part: Part, entry: Frame | CameraError, *, waiting: int = 0) -> Inspection:
        """The verdict on one frame, or on its absence; raises nothing of what cameras and engines do wrong."""
        if isinstance(entry, CameraError):
            return replace(self.unknown(part, cause_of(entry)), frame=None)
        part.frame = entry
        try:
            return self._look(part, entry, waiting)
        except BaseException as error:  # noqa: BLE001 - no frame, however odd, may end the loop
            return self.unknown(part, f"bad_frame: {one_line(error)}")

    def finding(self, part: Part, views: Sequence[Inspection]) -> Inspection:
        """The part's verdict, its views combined, with the times from its beginning and the stage limits applied."""
        inspection = self._combine.inspection(views)
        times = inspection.times
        total_ms = (self._clock.now_ns() - part.start_ns) / 1e6
        wait_ms = max(0.0, total_ms - times.resize_ms - times.inference_ms - times.decision_ms)
        times = replace(times, wait_ms=wait_ms, total_ms=total_ms)
        inspection = replace(inspection, times=times)
        for stage, limit_ms in self._limits_ms.items():
            if getattr(times, f"{stage}_ms") > limit_ms:
                return told_late(inspection, f"{LATE}: {stage}", self._late_verdict)
        return inspection

    def _look(self, part: Part, entry: Frame, waiting: int) -> Inspection:
        now_ns = self._clock.now_ns()
        if part.deadline_ns is not None and now_ns > part.deadline_ns:
            return self.lateness(part, f"{LATE}: {part.stage}", None)
        image = entry.image
        if (
            not isinstance(image, np.ndarray)
            or image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[2] != 3
            or not image.size
        ):
            return self.unknown(part, "bad_frame: the camera's adapter gave no H x W x 3 uint8 picture")
        if self._check is not None and (cause := self._check.fault(entry.image)):
            return self.unknown(part, cause)
        self._size = (image.shape[0], image.shape[1])
        era = self._era(part)
        if era.barred:
            return self.unknown(part, era.barred)
        part.enter("resize", now_ns)
        answering = self._choose(era, part, now_ns, waiting)
        inspection = answering.inspect(part, entry)
        if answering is era.main:
            times = inspection.times
            era.main_ms = times.resize_ms + times.inference_ms + times.decision_ms
        return inspection

    def _era(self, part: Part) -> _Era:
        with self._lock:
            return next(era for era in self._eras if era.until_ns is None or part.start_ns < era.until_ns)

    def _choose(self, era: _Era, part: Part, now_ns: int, waiting: int) -> _Answering:
        if era.fallback is None or part.deadline_ns is None:
            return era.main
        if era.main_ms * (1 + waiting) * self._combine.views <= (part.deadline_ns - now_ns) / 1e6:
            return era.main
        era.main_ms *= FORGET
        return era.fallback


class _Era:
    """The engines between two changes."""

    def __init__(
        self, main: Answerer, fallback: Answerer | None, clock: Clock, way: tuple[int, int, int, float] = (1, 1, 1, 0.0)
    ) -> None:
        self.main = _Answering(main, clock, way)
        self.fallback = _Answering(fallback, clock, way) if fallback is not None else None
        self.main_ms = 0.0
        self.barred = ""
        self.until_ns: int | None = None  # parts that begin from then on are not theirs; None: the present engines
        self.retired: Callable[[], None] = lambda: None


class _Answering:
    """An inspector whose engine tells the part when its inference begins and ends: so the referee knows where a part hangs."""

    def __init__(self, answerer: Answerer, clock: Clock, way: tuple[int, int, int, float]) -> None:
        self.answerer, self._clock = answerer, clock
        self.basis = Judged(Rule.of(answerer.rule), answerer.name, answerer.bundle, answerer.model, *way)
        self._part: Part | None = None
        self._inspector = Inspector(self, answerer.recipe, answerer.rule, LatencyBudget(None), clock)
        self.threshold = self._inspector.threshold

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.answerer.engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.answerer.engine.outputs

    def inspect(self, part: Part, frame: Frame) -> Inspection:
        self._part = part
        return replace(self._inspector.inspect(part.part_id, frame), engine=self.answerer.name, basis=self.basis)

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        assert self._part is not None
        self._part.enter("inference", self._clock.now_ns())
        try:
            return self.answerer.engine.infer(image)
        finally:
            self._part.enter("decision", self._clock.now_ns())

    def close(self) -> None:
        """The engine belongs to whoever made it."""


def cause_of(fault: CameraError) -> str:
    """The cause of UNKNOWN that a camera's fault is told with."""
    for kind, cause in (
        (CameraTimeout, "camera_timeout"),
        (CameraLost, "camera_lost"),
        (EndOfStream, "end_of_stream"),
        (FrameLost, "frame_lost"),
        (FrameDoubtful, "frame_doubtful"),
    ):
        if isinstance(fault, kind):
            return cause
    return f"unreadable_image: {one_line(fault)}"


def _identical(image: Image, other: Image) -> bool:
    if image.shape != other.shape or not np.array_equal(image[::SAMPLE, ::SAMPLE], other[::SAMPLE, ::SAMPLE]):
        return False
    return bool(np.array_equal(image, other))
