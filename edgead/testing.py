"""Public fakes that behave: a clock, a camera, an engine and an output without hardware. NumPy and edgead's own types only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from edgead.clock import Clock
from edgead.errors import CameraLost, EndOfStream, EngineError, OutputError
from edgead.types import AnomalyMap, Frame, Image, Inspection, TensorSpec, Verdict


class FakeClock:
    """A clock that moves only by hand, or as somebody sleeps on it; safe to share between threads."""

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        with self._lock:
            return self._now_ns

    def sleep(self, duration_s: float) -> None:
        self.advance(duration_s)

    def advance(self, duration_s: float) -> None:
        """Let `duration_s` seconds (not negative) pass at once."""
        with self._lock:
            self._now_ns += max(0, round(duration_s * 1e9))


class FakeCamera:
    """Plays a script: pictures are delivered as frames, whole frames as they are, exceptions are raised.

    Args:
        script: H x W x 3 uint8 pictures, frames and exceptions (e.g. ``CameraLost("unplugged")``), in order.
        clock: stamps the frames.
        loop: start again at the end instead of raising EndOfStream.
        live: how a station treats it: True drops frames when it is late, False pulls each one.
    """

    def __init__(
        self, script: Sequence[Image | Frame | Exception], *, clock: Clock | None = None, loop: bool = False, live: bool = False
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
        if isinstance(item, Exception):
            raise item
        if isinstance(item, Frame):
            return item
        image = np.ascontiguousarray(item)
        image.flags.writeable = False
        frame = Frame(image, "fake", self._next_id, self._clock.now_ns())
        self._next_id += 1
        return frame

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Scores by a script (a score may be an exception, which is raised) or by a function of the picture.

    The map is half the score everywhere and the score itself in its middle.

    Args:
        scores: played in a circle, or a function of the H x W x 3 uint8 picture.
        image_size: height, width that it takes.
        map_size: height, width of its map.
        clock, takes_s: advance this clock by so many seconds on each inference.
    """

    def __init__(
        self,
        scores: Sequence[float | Exception] | Callable[[Image], float],
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
        faults: exceptions raised by the first calls of `signal`, in order (the wire then stays as it was).
    """

    def __init__(self, faults: Sequence[Exception] = ()) -> None:
        self.asserted = False
        self.told: list[Inspection] = []
        self.heartbeats = 0
        self.closed = False
        self._faults = list(faults)

    def signal(self, inspection: Inspection) -> None:
        if self.closed:
            raise OutputError("the fake output is closed")
        if self._faults:
            raise self._faults.pop(0)
        self.told.append(inspection)
        self.asserted = inspection.verdict is Verdict.OK

    def heartbeat(self) -> None:
        self.heartbeats += 1

    def fail_safe(self) -> None:
        self.asserted = False

    def close(self) -> None:
        self.fail_safe()
        self.closed = True
