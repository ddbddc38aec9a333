"""Which frame belongs to which part: a frame serves at most one, and never one whose trigger came after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgead.clock import Clock
from edgead.errors import CameraError, CameraLost, CameraTimeout, EndOfStream, FrameDoubtful
from edgead.runtime.loop.ledger import Part
from edgead.runtime.loop.stats import Stats
from edgead.types import Frame

_GONE = (CameraLost, EndOfStream)
KEEP = 8  # frames that are kept for triggers that this process learns of a little later
AGES = 16
LONGEST_AGE_NS = 1_000_000_000
"""How long frames take to come is judged by the last so many, and never taken for more than this."""


@dataclass(eq=False, slots=True)
class _Want:
    part: Part
    from_ns: int
    until_ns: int
    missing: int
    views: deque[Frame | CameraError] = field(default_factory=deque)


class FrameLost(CameraError):
    """A frame that the camera counted never arrived here."""


class Matcher:
    """Gives each frame to the oldest part that still wants one and in whose window it was captured; thread-safe.

    A part's window begins `delay_ns` after its trigger and ends `window_ns` later, or at its deadline if that comes first, or
    just before the next part's begins: from then on the next part is in the picture, and could be a wrong OK for this one.
    A frame may come some time after it was captured: a part waits beyond its window for as long as frames took lately, but only
    until one comes that was captured later. Frames that nobody wants are kept for a moment (a trigger may be learned of later
    than its frame), then counted as dropped, "unused".

    Args:
        clock: of triggers and frames.
        stats: counts unused frames.
        views: frames for each part.
        delay_ns, window_ns: see above; None: until the deadline.
    """

    def __init__(self, clock: Clock, stats: Stats, *, views: int = 1, delay_ns: int = 0, window_ns: int | None = None) -> None:
        self._clock, self._stats = clock, stats
        self._views, self._delay_ns, self._window_ns = views, delay_ns, window_ns
        self._wants: deque[_Want] = deque()  # by age
        self._ring: deque[tuple[int, Frame | CameraError]] = deque()  # when, and what nobody wanted yet
        self._newest_ns = 0  # where the newest part's window begins
        self._gone: CameraError | None = None
        self._ages: deque[int] = deque(maxlen=AGES)  # of the last frames, as they came
        self._seen_ns = 0  # when the newest frame was captured
        self._doubt: tuple[int, FrameDoubtful] | None = None  # the last time that frames came which may be old
        self._condition = threading.Condition()

    def window(self, part: Part) -> tuple[int, int]:
        """The first and the last moment at which a frame of this part may be captured, monotonic ns."""
        start = part.start_ns + self._delay_ns
        ends = [start + self._window_ns] if self._window_ns is not None else []
        if part.deadline_ns is not None:
            ends.append(part.deadline_ns)
        return start, min(ends, default=2**63 - 1)

    def want(self, part: Part) -> None:
        """The part needs its frames; some may have come already. Parts are told in the order of their triggers."""
        with self._condition:
            self._end_windows(self.window(part)[0])
            want = self._add(part)
            kept: deque[tuple[int, Frame | CameraError]] = deque()
            for at_ns, view in self._ring:
                if want.missing and want.from_ns <= at_ns <= want.until_ns:
                    self._give(want, view)
                elif at_ns < self._newest_ns:
                    self._count_unused([view])
                else:
                    kept.append((at_ns, view))
            self._ring = kept

    def want_later(self, part: Part) -> None:
        """The part needs its frames, and they will come through `give` alone."""
        with self._condition:
            self._add(part)

    def offer(self, frame: Frame) -> None:
        """A frame came, for whoever wants it."""
        with self._condition:
            self._gone = None
            self._ages.append(frame.age_ns)
            self._seen_ns = max(self._seen_ns, frame.captured_at_ns)
            self._prune()
            self._hand_over(frame.captured_at_ns, frame)
            self._condition.notify_all()

    def give(self, part: Part, view: Frame | CameraError) -> None:
        """This frame, or this fault, is the part's next view."""
        with self._condition:
            want = self._find(part)
            if want is not None and want.missing:
                self._give(want, view)
            elif isinstance(view, Frame):
                self._stats.drop("unused")

    def fault(self, fault: CameraError) -> None:
        """The camera failed: a lost one costs every part that waits for it, until it is tried again; a picture that cannot be
        used costs the part that it was for; silence, and frames that may be old, are noticed by the parts themselves."""
        with self._condition:
            self._prune()
            if isinstance(fault, _GONE):
                self._gone = fault
                for want in self._wants:
                    self._fail(want, fault)
            elif isinstance(fault, FrameDoubtful):
                self._doubt = self._clock.now_ns(), fault
            elif not isinstance(fault, CameraTimeout):
                self._hand_over(self._clock.now_ns(), fault)

    def take(self, part: Part, wait_s: float) -> Frame | CameraError | None:
        """The part's next view; CameraTimeout after its window, or FrameDoubtful when there were frames that may be old; None
        when there is none within about `wait_s` seconds."""
        with self._condition:
            want = self._find(part)
            if want is None:
                return None
            now_ns = self._clock.now_ns()
            if not want.views and now_ns <= (until_ns := self._until(want)):
                self._clock.wait(self._condition, min(until_ns + 1, now_ns + round(wait_s * 1e9)))
            if want.views:
                return want.views.popleft()
            if self._clock.now_ns() > self._until(want):
                return self._missing(want)
            return None

    def wants(self, part: Part) -> bool:
        """Does the part still need a frame?"""
        with self._condition:
            want = self._find(part)
            return want is not None and want.missing > 0 and not part.closed

    def done(self, part: Part) -> None:
        """The part needs no more frames; those that it did not use are counted."""
        with self._condition:
            want = self._find(part)
            if want is not None:
                self._wants.remove(want)
                self._count_unused(want.views)

    def back(self) -> None:
        """A lost camera is tried again: parts may wait for it."""
        with self._condition:
            self._gone = None

    def clear(self) -> None:
        """Count the frames that are left as dropped, "stopped"."""
        with self._condition:
            self._count_unused([view for _, view in self._ring], "stopped")
            for want in self._wants:
                self._count_unused(want.views, "stopped")
            self._ring.clear()
            self._wants.clear()

    def _add(self, part: Part) -> _Want:
        self._prune()
        want = _Want(part, *self.window(part), missing=self._views)
        self._wants.append(want)
        self._newest_ns = max(self._newest_ns, want.from_ns)
        if self._gone is not None:
            self._fail(want, self._gone)
        return want

    def _end_windows(self, next_from_ns: int) -> None:
        """What is captured from now on shows the next part."""
        for want in self._wants:
            want.until_ns = min(want.until_ns, next_from_ns - 1)
        self._condition.notify_all()

    def _until(self, want: _Want) -> int:
        """Until when a frame of the part's window may come."""
        if self._seen_ns > want.until_ns:
            return want.until_ns  # frames come in their order
        late_ns = want.until_ns + min(max(self._ages, default=0), LONGEST_AGE_NS)
        return late_ns if want.part.deadline_ns is None else max(want.until_ns, min(late_ns, want.part.deadline_ns))

    def _missing(self, want: _Want) -> CameraError:
        if self._doubt is not None and self._doubt[0] >= want.from_ns:
            return self._doubt[1]
        return CameraTimeout("no frame came in the part's window")

    def _find(self, part: Part) -> _Want | None:
        return next((want for want in self._wants if want.part is part), None)

    def _hand_over(self, at_ns: int, view: Frame | CameraError) -> None:
        for want in self._wants:
            if want.missing and want.from_ns <= at_ns <= want.until_ns:
                self._give(want, view)
                return
        if at_ns < self._newest_ns:
            self._count_unused([view])  # later triggers want later frames
            return
        if len(self._ring) == KEEP:
            self._count_unused([self._ring.popleft()[1]])
        self._ring.append((at_ns, view))

    def _give(self, want: _Want, view: Frame | CameraError) -> None:
        if isinstance(view, Frame) and want.part.trigger is not None:
            view = replace(view, trigger_id=want.part.trigger.trigger_id)
        want.views.append(view)
        want.missing -= 1
        self._condition.notify_all()

    def _fail(self, want: _Want, fault: CameraError) -> None:
        want.views.extend([fault] * want.missing)
        want.missing = 0
        self._condition.notify_all()

    def _prune(self) -> None:
        """Forget parts that were closed without the loop (late): in a hang nothing may pile up here."""
        while self._wants and self._wants[0].part.closed:
            self._count_unused(self._wants.popleft().views)

    def _count_unused(self, views: Iterable[Frame | CameraError], cause: str = "unused") -> None:
        count = sum(isinstance(view, Frame) for view in views)
        if count:
            self._stats.drop(cause, count)
