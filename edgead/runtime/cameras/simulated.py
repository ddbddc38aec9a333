"""A camera that needs no hardware: it looks at the simulated conveyor of :mod:`edgead.runtime.cameras.conveyor`."""

from __future__ import annotations

import math

import numpy as np

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, CameraLost, EndOfStream
from edgead.runtime.cameras.conveyor import DEFECTS, draw_part
from edgead.runtime.cameras.pace import Pace
from edgead.types import Frame

GOOD = "good"
DRIFT_PERIOD = 40  # parts in one swing of the light


class SimulatedCamera:
    """Parts on a conveyor, good ones and some with a defect; ``Frame.source`` tells the truth: "good" or the defect's kind.

    The same arguments give the same pictures. The belt waits for whoever looks late: no part is lost in the camera itself.

    Args:
        seed: of everything that is random.
        fps: parts a second, paced by `clock`; 0 delivers each part as soon as it is asked for.
        defect_rate: share of parts with a defect, 0 to 1.
        drift: how far the light swings around 1.0 as parts go by (0.04 is +-4 %), 0 to 0.5.
        width, height: of the pictures in pixels, each at least 64.
        parts: how many parts come before the belt is empty; None never ends.
        clock: for pacing and time stamps.

    Attributes:
        live: whether a station gives it a capture thread: True when paced by `fps`, else the station asks for each part.

    Raises:
        BadInput: a value out of range.
    """

    time_source = "reading"

    def __init__(
        self,
        *,
        seed: int = 0,
        fps: float = 0.0,
        defect_rate: float = 0.1,
        drift: float = 0.04,
        width: int = 512,
        height: int = 512,
        parts: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        ranges = {
            "seed": (seed, 0, math.inf),
            "fps": (fps, 0, 1000),
            "defect_rate": (defect_rate, 0, 1),
            "drift": (drift, 0, 0.5),
            "width": (width, 64, 8192),
            "height": (height, 64, 8192),
            "parts": (parts or 0, 0, math.inf),
        }
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                limits = f"{low} or more" if high == math.inf else f"{low} to {high}"
                raise BadInput(f"the simulated camera cannot use {name}={value}", hint=f"choose {limits}")
        self._seed, self._parts = seed, parts
        self._defect_rate, self._drift, self._size = defect_rate, drift, (height, width)
        self._clock = clock or MonotonicClock()
        self.live = fps > 0
        self._next_id = 0
        self._pace = Pace(self._clock, fps)
        self._closed = False

    def grab(self, timeout_s: float) -> Frame:
        """The next part.

        Raises:
            CameraTimeout: it comes later than `timeout_s` seconds from now.
            CameraLost: the camera was closed.
            EndOfStream: all `parts` have gone by.
        """
        if self._closed:
            raise CameraLost("the simulated camera is closed", hint="open it again")
        if self._parts is not None and self._next_id >= self._parts:
            raise EndOfStream(f"the conveyor is empty after {self._parts} parts")
        self._pace.wait(timeout_s)
        image, kind = self._draw(self._next_id)
        image.flags.writeable = False
        frame = Frame(image, "simulated", self._next_id, self._clock.now_ns(), source=kind)
        self._next_id += 1
        return frame

    def close(self) -> None:
        self._closed = True

    def _draw(self, index: int) -> tuple[np.typing.NDArray[np.uint8], str]:
        rng = np.random.default_rng([self._seed, index])
        bad = rng.random() < self._defect_rate
        kind = DEFECTS[int(rng.integers(len(DEFECTS)))] if bad else None
        light = 1 + self._drift * math.sin(2 * math.pi * index / DRIFT_PERIOD)
        return draw_part(rng, kind, light, self._size)[0], kind or GOOD
