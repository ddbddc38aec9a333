"""Where the loop gets its frames from: a live camera through a capture thread, or a recording at the loop's own pace."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from edgead.clock import Clock
from edgead.errors import CameraError, CameraLost, CameraTimeout, EndOfStream
from edgead.runtime.slot import Slot
from edgead.runtime.stats import Stats
from edgead.types import Camera, Frame

BACKOFF_S = (0.5, 10.0)
"""First and longest wait before a lost camera is tried again; it doubles in between."""

_log = logging.getLogger("edgead.camera")


class Feed(Protocol):
    """Frames and faults for the loop, in the order in which they happened."""

    camera: Camera

    def next(self, wait_s: float) -> Frame | CameraError | None:
        """The next frame or fault; None when nothing came within about `wait_s` seconds."""

    def close(self) -> None:
        """Stop capturing; the camera stays open."""


class PullFeed:
    """Asks the camera when the loop is ready: nothing is dropped. For recordings, and for cameras that wait."""

    def __init__(self, camera: Camera, stats: Stats, *, timeout_s: float) -> None:
        self.camera = camera
        self._stats, self._timeout_s = stats, timeout_s

    def next(self, wait_s: float) -> Frame | CameraError | None:
        try:
            frame = self.camera.grab(self._timeout_s)
        except CameraError as fault:
            return fault
        except Exception as error:  # noqa: BLE001 - an adapter's own bug is a lost camera, not a dead station
            return CameraLost(f"the camera's adapter failed: {error!r}")
        self._stats.add_frame()
        return frame

    def close(self) -> None:
        """Nothing to stop."""


class LiveFeed:
    """A capture thread that keeps the newest frame in a slot of depth 1 and brings a lost camera back.

    Args:
        camera: read by the capture thread alone.
        stats: counts frames, overruns and gaps.
        clock: for the back-off.
        timeout_s: seconds without a frame that count as one timeout.
        reopen: opens the camera again after it was lost; None goes on asking the same one.
    """

    def __init__(
        self, camera: Camera, stats: Stats, clock: Clock, *, timeout_s: float, reopen: Callable[[], Camera] | None = None
    ) -> None:
        self.camera = camera
        self._stats, self._clock, self._timeout_s, self._reopen = stats, clock, timeout_s, reopen
        self._slot = Slot()
        self._closing = False
        self._in_grab = False
        self._silent_s = 0.0
        self._losses = 0
        self._last_id: int | None = None
        self._thread = threading.Thread(target=self._capture, name="edgead-capture", daemon=True)
        self._thread.start()

    def next(self, wait_s: float) -> Frame | CameraError | None:
        entry = self._slot.take(wait_s)
        # A camera whose grab() does not keep its own time limit is noticed here, on the loop's side.
        self._silent_s = self._silent_s + wait_s if entry is None and self._in_grab else 0.0
        if self._silent_s > 2 * self._timeout_s + 1:
            self._silent_s = 0.0
            return CameraTimeout("the camera's adapter does not answer")
        return entry

    def close(self) -> None:
        self._closing = True
        self._slot.close()
        self._thread.join(2 * self._timeout_s + 5)
        if self._thread.is_alive():
            _log.error("the camera's adapter does not answer; its thread is left behind")
        while (entry := self._slot.take(0)) is not None:
            if isinstance(entry, Frame):
                self._stats.drop("stopped")

    def _capture(self) -> None:
        while not self._closing:
            try:
                self._in_grab = True
                frame = self.camera.grab(self._timeout_s)
            except EndOfStream as fault:
                self._slot.report(fault)
                return
            except CameraLost as fault:
                self._recover(fault)
            except CameraError as fault:
                self._slot.report(fault)
            except Exception as error:  # noqa: BLE001 - an adapter's own bug is a lost camera, not a dead station
                self._recover(CameraLost(f"the camera's adapter failed: {error!r}"))
            else:
                self._deliver(frame)
            finally:
                self._in_grab = False

    def _deliver(self, frame: Frame) -> None:
        self._losses = 0
        if self._last_id is not None and frame.frame_id > self._last_id + 1:
            self._stats.drop("camera", frame.frame_id - self._last_id - 1)
        self._last_id = frame.frame_id
        self._stats.add_frame()
        if self._slot.put(frame):
            self._stats.drop("overrun")

    def _recover(self, fault: CameraLost) -> None:
        """Report the loss once, then try again with growing pauses until the camera is back or the feed is closed."""
        self._in_grab = False
        self._slot.report(fault)
        _log.warning("camera lost: %s", fault)
        while not self._closing:
            self._pause(min(BACKOFF_S[0] * 2**self._losses, BACKOFF_S[1]))
            self._losses = min(self._losses + 1, 16)
            if self._closing or self._reopen is None:
                return
            try:
                self.camera.close()
                self.camera = self._reopen()
            except Exception as error:  # noqa: BLE001 - whatever the adapter raises, the next attempt may succeed
                _log.warning("camera still lost: %s", error)
                continue
            self._last_id = None
            self._stats.add_reconnect()
            _log.warning("camera is back")
            return

    def _pause(self, duration_s: float) -> None:
        """Sleep in slices, so that a stop is not kept waiting."""
        left = duration_s
        while left > 0 and not self._closing:
            self._clock.sleep(min(left, 0.1))
            left -= 0.1
