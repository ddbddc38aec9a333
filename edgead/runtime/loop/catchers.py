"""What the capture thread of a triggered station does with frames: the three ways in which a camera and triggers go together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from edgead.clock import Clock
from edgead.errors import CameraError, CameraLost, CameraTimeout, EndOfStream, FrameDoubtful
from edgead.runtime.loop.ledger import Part
from edgead.runtime.loop.matching import FrameLost, Matcher
from edgead.runtime.loop.stats import Stats
from edgead.types import Camera, Frame, Trigger

LOOK_S = 1.0  # so often a capture thread that waits for triggers shows that it lives
MOST_LATE = 8  # pictures that a camera is emptied of, at most


class RunningCatcher:
    """Triggered, with a camera that runs by itself: each part gets the first frames of its window."""

    def __init__(self, matcher: Matcher, timeout_s: float) -> None:
        self._matcher, self._timeout_s = matcher, timeout_s

    def opened(self, part: Part) -> None:
        """A trigger came (under the ledger's lock)."""
        self._matcher.want(part)

    def before(self, camera: Camera) -> float | None:
        return self._timeout_s

    def frame(self, frame: Frame, lost: int) -> None:
        self._matcher.offer(frame)

    def fault(self, fault: CameraError) -> None:
        self._matcher.fault(fault)

    def back(self) -> None:
        self._matcher.back()

    def let_go(self) -> None:
        """`before` and `fault` do not wait."""


class AskedCatcher:
    """Triggered, with a camera that takes pictures when asked: by its `software_trigger()`, or, a recording, by `grab` itself.

    A frame older than the question is never used. After a picture that did not come in time, the camera is emptied before it is
    asked again; when nothing is found, the next picture may still be the old one, so its part is UNKNOWN, unless the frame's
    number shows that the old one got lost.
    """

    def __init__(self, matcher: Matcher, stats: Stats, clock: Clock, *, views: int, timeout_s: float) -> None:
        self._matcher, self._stats, self._clock, self._views, self._timeout_s = matcher, stats, clock, views, timeout_s
        self._queue: deque[Part] = deque()
        self._left = 0  # pictures to ask for, for the first part in the queue
        self._part: Part | None = None
        self._asked_ns: int | None = None  # when the picture that is waited for was asked for
        self._late = 0  # old pictures that may be on their way still
        self._doubt = 0  # those of them that were not found
        self._emptying = False
        self._closing = False
        self._condition = threading.Condition()

    def opened(self, part: Part) -> None:
        """A trigger came (under the ledger's lock)."""
        self._matcher.want_later(part)
        self.adopt(part)

    def adopt(self, part: Part) -> None:
        """Ask for the pictures of a part that the matcher knows already."""
        with self._condition:
            self._queue.append(part)
            self._condition.notify_all()

    def before(self, camera: Camera) -> float | None:
        part = self._part if self._left else self._next_part()
        if part is None or not self._matcher.wants(part):
            self._left, self._asked_ns = 0, None
            return None
        trigger: Callable[[], None] | None = getattr(camera, "software_trigger", None)
        if self._asked_ns is None and trigger is not None:
            self._emptying = self._late > 0
            if self._emptying:
                return 0.0
            self._asked_ns = self._clock.now_ns()
            trigger()
        remaining_s = (self._matcher.window(part)[1] - self._clock.now_ns()) / 1e9
        return max(0.0, min(self._timeout_s, remaining_s))

    def frame(self, frame: Frame, lost: int) -> None:
        if self._emptying:
            self._late -= 1
            self._stats.drop("unused")
            return
        if self._asked_ns is not None and frame.captured_at_ns < self._asked_ns:
            self._stats.drop("unused")  # it was on its way before this one was asked for
            return
        doubtful, self._doubt = self._doubt > lost, 0
        self._give(FrameDoubtful("it may be the picture of the part before") if doubtful else frame)
        if doubtful:
            self._stats.drop("unused")

    def fault(self, fault: CameraError) -> None:
        if isinstance(fault, (CameraLost, EndOfStream)):
            self._left, self._asked_ns, self._late, self._doubt = 0, None, 0, 0
            self._matcher.fault(fault)
        elif self._emptying:
            if isinstance(fault, CameraTimeout):
                self._doubt = self._late
            self._late = 0 if isinstance(fault, CameraTimeout) else self._late - 1
        else:
            self._late = min(self._late + 1, MOST_LATE) if isinstance(fault, CameraTimeout) else self._late
            self._give(fault)

    def back(self) -> None:
        self._matcher.back()

    def let_go(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def _give(self, view: Frame | CameraError) -> None:
        self._asked_ns = None
        self._left -= 1
        if self._part is not None:
            self._matcher.give(self._part, view)

    def _next_part(self) -> Part | None:
        """The next part whose picture is due, waiting for it; None when the capture ends or the part is late already."""
        with self._condition:
            if not self._closing and not self._queue:
                self._clock.wait(self._condition, self._clock.now_ns() + round(LOOK_S * 1e9))
            if self._closing or not self._queue:
                return None
            part = self._queue.popleft()
            due_ns, until_ns = self._matcher.window(part)
            while not self._closing and self._clock.now_ns() < due_ns:
                self._clock.wait(self._condition, due_ns)
            if self._closing or part.closed or self._clock.now_ns() > until_ns:
                return None
            self._part, self._left = part, self._views
            return part


class ComingCatcher:
    """For a camera that is not there yet: whether it is one that takes pictures when asked is seen when it comes.

    Until then it is lost, so each part has its fault at once.
    """

    def __init__(self, running: RunningCatcher, asked: AskedCatcher) -> None:
        self._running, self._asked = running, asked
        self._now: RunningCatcher | AskedCatcher = running
        self._early: deque[Part] = deque(maxlen=64)  # that came before it was known
        self._lock = threading.Lock()

    def opened(self, part: Part) -> None:
        """A trigger came (under the ledger's lock)."""
        with self._lock:
            self._now.opened(part)
            if self._now is self._running:
                self._early.append(part)

    def before(self, camera: Camera) -> float | None:
        if self._now is self._running and hasattr(camera, "software_trigger"):
            with self._lock:
                self._now = self._asked
                for part in self._early:
                    self._asked.adopt(part)
                self._early.clear()
        return self._now.before(camera)

    def frame(self, frame: Frame, lost: int) -> None:
        self._now.frame(frame, lost)

    def fault(self, fault: CameraError) -> None:
        self._now.fault(fault)

    def back(self) -> None:
        self._now.back()

    def let_go(self) -> None:
        self._running.let_go()
        self._asked.let_go()


class LineCatcher:
    """Triggered by the camera's own hardware line: every frame that arrives, or should have arrived, is a part's.

    With several frames for each part, those that come within the window of the first belong together.

    Args:
        open_part: opens a part for a trigger, with the reason why it cannot be inspected, or "".
    """

    def __init__(
        self,
        matcher: Matcher,
        open_part: Callable[[Trigger | None, int, str], Part | None],
        stats: Stats,
        clock: Clock,
        *,
        views: int,
        timeout_s: float,
    ) -> None:
        self._matcher, self._open_part, self._stats, self._clock = matcher, open_part, stats, clock
        self._views, self._timeout_s = views, timeout_s
        self._triggers = stats.triggers  # ids go on from run to run
        self._part: Part | None = None
        self._left = 0

    def opened(self, part: Part) -> None:
        """A part was opened for a frame (under the ledger's lock)."""
        self._matcher.want_later(part)

    def before(self, camera: Camera) -> float | None:
        return self._timeout_s

    def frame(self, frame: Frame, lost: int) -> None:
        for _ in range(lost):
            self._add(FrameLost("a frame never arrived"), frame.captured_at_ns)
        self._add(frame, frame.captured_at_ns)

    def fault(self, fault: CameraError) -> None:
        now_ns = self._clock.now_ns()
        if isinstance(fault, (CameraTimeout, FrameDoubtful)):
            return  # no part came by; of pictures that are not given, their numbers tell
        if isinstance(fault, (CameraLost, EndOfStream)):
            self._matcher.fault(fault)
            self._left = 0
            if isinstance(fault, CameraLost):
                self._open_part(None, now_ns, "camera_lost")
            return
        self._add(fault, now_ns)

    def back(self) -> None:
        self._matcher.back()

    def let_go(self) -> None:
        """`before` and `fault` do not wait."""

    def _add(self, view: Frame | CameraError, at_ns: int) -> None:
        if self._part is None or not self._left or at_ns > self._matcher.window(self._part)[1]:
            self._triggers += 1
            self._part = self._open_part(Trigger(self._triggers, at_ns, source="camera"), at_ns, "")
            self._left = self._views
        self._left -= 1
        if self._part is not None:
            self._matcher.give(self._part, view)
        elif isinstance(view, Frame):
            self._stats.drop("stopped")
