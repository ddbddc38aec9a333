"""Public fakes that behave: a clock, a camera, an engine and an output without hardware. NumPy and edgead's own types only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from edgead.clock import Clock
from edgead.errors import CameraLost, CameraTimeout, EndOfStream, EngineError, OutputError
from edgead.types import AnomalyMap, Frame, Image, Inspection, TensorSpec, Verdict

_PATIENCE_S = 0.05
"""Real seconds after which a wait on a fake clock returns for no reason (so that whoever waits can look around)."""
_HANG_S = 30.0
"""Real seconds after which a hanging fake gives up, so that a broken test ends."""


class FakeClock:
    """A clock that moves only by hand, or as somebody sleeps on it; safe to share between threads.

    Whoever waits on it (:meth:`wait`) is woken as it moves. Never move it while holding a lock that a waiting thread needs.

    Args:
        start_ns: what it shows at first.
        manual: sleeping does not move it: a sleeper waits until it is moved by hand, or a few milliseconds of real time.
    """

    def __init__(self, start_ns: int = 1_000_000_000, *, manual: bool = False) -> None:
        self._now_ns = start_ns
        self._manual = manual
        self._lock = threading.Lock()
        self._waiting: list[threading.Condition] = []

    def now_ns(self) -> int:
        with self._lock:
            return self._now_ns

    def sleep(self, duration_s: float) -> None:
        if not self._manual:
            self.advance(duration_s)
            return
        condition = threading.Condition()
        with condition:
            self.wait(condition, self.now_ns() + round(duration_s * 1e9))

    def wait(self, condition: threading.Condition, until_ns: int | None) -> None:
        with self._lock:
            if until_ns is not None and self._now_ns >= until_ns:
                return
            self._waiting.append(condition)
        try:
            condition.wait(_PATIENCE_S)
        finally:
            with self._lock:
                self._waiting.remove(condition)

    def advance(self, duration_s: float) -> None:
        """Let `duration_s` seconds (not negative) pass at once."""
        with self._lock:
            self._now_ns += max(0, round(duration_s * 1e9))
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()


class Hang:
    """In a fake's script: it hangs here until the test lets it go on; then comes what follows in the script.

    Attributes:
        entered: released once for each time that somebody hangs here: ``hang.entered.acquire(timeout=10)``.
    """

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._go = threading.Event()

    def let_go(self) -> None:
        """Let everybody go on, now and later."""
        self._go.set()

    def wait(self) -> None:
        """Hang."""
        self.entered.release()
        self._go.wait(_HANG_S)


class FakeCamera:
    """Plays a script: pictures are delivered as frames, whole frames as they are, exceptions are raised.

    Args:
        script: pictures (H x W x 3 uint8, or whatever else a broken camera delivers), frames, exceptions (e.g.
            ``CameraLost("unplugged")``) and hangs, in order.
        clock: stamps the frames.
        loop: start again at the end instead of raising EndOfStream.
        live: how a station treats it: True drops frames when it is late, False pulls each one.
    """

    time_source = "reading"

    def __init__(
        self,
        script: Sequence[Image | Frame | Exception | Hang],
        *,
        clock: Clock | None = None,
        loop: bool = False,
        live: bool = False,
    ) -> None:
        self.live = live
        self._script = list(script)
        self._clock = clock or FakeClock()
        self._loop = loop and bool(self._script)
        self._position = 0
        self._next_id = 0
        self.closed = False

    def grab(self, timeout_s: float) -> Frame:
        """The next scripted frame; raises what the script says, EndOfStream at its end, CameraLost when closed."""
        if self.closed:
            raise CameraLost("the fake camera is closed")
        if self._position == len(self._script):
            if not self._loop:
                raise EndOfStream("the script has ended")
            self._position = 0
        item = self._script[self._position]
        self._position += 1
        if isinstance(item, Hang):
            item.wait()
            return self.grab(timeout_s)
        if isinstance(item, Exception):
            raise item
        if isinstance(item, Frame):
            return item
        frame = _frame(item, self._next_id, self._clock)
        self._next_id += 1
        return frame

    def close(self) -> None:
        self.closed = True


class PushedCamera:
    """A live camera whose pictures come when the test says so, stamped by the clock at that moment.

    Its `grab` waits by the clock: with a FakeClock a timeout comes only as the clock is moved.

    Args:
        clock: stamps the frames, and times the waiting.
    """

    live = True

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[Frame | Exception | Hang] = deque()
        self._next_id = 0
        self._ended = False
        self._idle = False  # a grab waits for the next push
        self._condition = threading.Condition()
        self.closed = False

    def drained(self) -> bool:
        """Wait (in real time) until all that was pushed was dealt with, and the next grab waits; False: it was not."""
        with self._condition:
            return self._condition.wait_for(lambda: self._idle and not self._items, _HANG_S)

    def push(self, picture: Image | Exception | Hang, *, skipped: int = 0) -> None:
        """The camera takes a picture now, fails, or hangs; `skipped` frames before it got lost (a gap in their ids)."""
        with self._condition:
            if isinstance(picture, np.ndarray):
                self._next_id += skipped
                self._items.append(_frame(picture, self._next_id, self._clock))
                self._next_id += 1
            else:
                self._items.append(picture)
            self._condition.notify_all()

    def end(self) -> None:
        """After what was pushed comes EndOfStream."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def grab(self, timeout_s: float) -> Frame:
        """The next frame; CameraTimeout, CameraLost (closed) or EndOfStream as a real one."""
        until_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        with self._condition:
            while not self._items:
                if self.closed or self._ended:
                    raise EndOfStream("the test ended the camera") if self._ended else CameraLost("the fake camera is closed")
                if self._clock.now_ns() >= until_ns:
                    raise CameraTimeout(f"nothing was pushed within {timeout_s:g} s")
                self._idle = True
                self._condition.notify_all()
                self._clock.wait(self._condition, until_ns)
            self._idle = False
            item = self._items.popleft()
        if isinstance(item, Hang):
            item.wait()
            return self.grab(timeout_s)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        with self._condition:
            self.closed = True
            self._condition.notify_all()


class AskedCamera(PushedCamera):
    """A camera with a software trigger: each call takes the next of `pictures` (then nothing more comes)."""

    def __init__(self, clock: Clock, pictures: Sequence[Image | Exception | Hang]) -> None:
        super().__init__(clock)
        self._pictures = deque(pictures)
        self.asked = 0

    def software_trigger(self) -> None:
        self.asked += 1
        if self._pictures:
            self.push(self._pictures.popleft())


class FakeEngine:
    """Scores by a script (an exception is raised, at a `Hang` it hangs) or by a function of the picture.

    The map is half the score everywhere and the score itself in its middle.

    Args:
        scores: played in a circle, or a function of the H x W x 3 uint8 picture.
        image_size: height, width that it takes.
        map_size: height, width of its map.
        clock, takes_s: advance this clock by so many seconds on each inference.
    """

    def __init__(
        self,
        scores: Sequence[float | Exception | Hang] | Callable[[Image], float],
        *,
        image_size: tuple[int, int] = (64, 64),
        map_size: tuple[int, int] = (8, 8),
        clock: FakeClock | None = None,
        takes_s: float = 0.0,
    ) -> None:
        self.inputs = (TensorSpec("image", (1, *image_size, 3), "uint8"),)
        self.outputs = (TensorSpec("anomaly_map", (1, *map_size), "float32"), TensorSpec("score", (1,), "float32"))
        self._scores, self._map_size = scores, map_size
        self._clock, self._takes_s = clock, takes_s
        self.calls = 0
        self.closed = False

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """The scripted answer. Raises EngineError for a picture of the wrong size or when closed."""
        if self.closed:
            raise EngineError("the fake engine is closed")
        if image.shape != self.inputs[0].shape[1:] or image.dtype != np.uint8:
            raise EngineError(f"the fake engine takes {self.inputs[0].shape[1:]}, not {image.shape} {image.dtype}")
        if self._clock is not None:
            self._clock.advance(self._takes_s)
        score = self._scores(image) if callable(self._scores) else self._scores[self.calls % len(self._scores)]
        self.calls += 1
        if isinstance(score, Hang):
            score.wait()
            return self.infer(image)
        if isinstance(score, Exception):
            raise score
        anomaly_map = np.full(self._map_size, 0.5 * score, np.float32)
        anomaly_map[self._map_size[0] // 2, self._map_size[1] // 2] = score
        return float(score), anomaly_map

    def close(self) -> None:
        self.closed = True


class FakeOutput:
    """Records what it is told; `asserted` is its one wire: True only while the last part was OK.

    Args:
        faults: for the first calls of `signal`, in order: exceptions to be raised (the wire then stays as it was), and hangs.
        clock, takes_s: advance this clock by so many seconds on each `signal`, before the wire changes.

    Attributes:
        told: every inspection that was signalled.
        history: the wire after each `signal` ("OK", "NG", "UNKNOWN") and "safe" for each `fail_safe`.
    """

    def __init__(self, faults: Sequence[Exception | Hang] = (), *, clock: FakeClock | None = None, takes_s: float = 0.0) -> None:
        self.asserted = False
        self.told: list[Inspection] = []
        self.heartbeats = 0
        self.closed = False
        self._faults = list(faults)
        self._clock, self._takes_s = clock, takes_s
        self.history: list[str] = []

    def signal(self, inspection: Inspection) -> None:
        if self.closed:
            raise OutputError("the fake output is closed")
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, Hang):
            fault.wait()
        elif fault is not None:
            raise fault
        if self._clock is not None:
            self._clock.advance(self._takes_s)
        self.history.append(inspection.verdict.value)
        self.told.append(inspection)
        self.asserted = inspection.verdict is Verdict.OK

    def heartbeat(self) -> None:
        self.heartbeats += 1

    def fail_safe(self) -> None:
        self.history.append("safe")
        self.asserted = False

    def close(self) -> None:
        self.fail_safe()
        self.closed = True


def _frame(picture: Image, frame_id: int, clock: Clock) -> Frame:
    image = np.ascontiguousarray(picture)
    image.flags.writeable = False
    return Frame(image, "fake", frame_id, clock.now_ns())
