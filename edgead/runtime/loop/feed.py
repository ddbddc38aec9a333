"""Where the loop gets its frames from: a live camera through a capture thread, or a recording at the loop's own pace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from numbers import Integral
from typing import Protocol

from edgead.clock import Clock
from edgead.errors import CameraError, CameraLost, CameraTimeout, EndOfStream
from edgead.runtime.absent import AbsentCamera, Opening
from edgead.runtime.loop.inspector import one_line
from edgead.runtime.loop.stats import Stats
from edgead.runtime.slot import Slot
from edgead.runtime.threads import Supervised
from edgead.types import Camera, Frame

PATIENCE_S = 5.0
"""An adapter that does not come back for twice its time limit and so long stands still."""
BACKOFF_S = (0.5, 10.0)
"""First and longest wait before a lost camera is tried again; it doubles in between."""
LARGEST_GAP = 1000
"""Frames that may be missing in a row; a larger step of the camera's counter is taken for a counter that began anew."""

_log = logging.getLogger("edgead.camera")


def keeps(camera: Camera) -> bool:
    """Do pictures that nobody has asked for wait in it (a hot folder)? :class:`edgead.types.Camera`"""
    return bool(getattr(camera, "keeps", False))


class Feed(Protocol):
    """Frames and faults for the free-running loop, in the order in which they happened."""

    @property
    def camera(self) -> Camera:
        """The camera in use; it may have been opened again."""

    @property
    def state(self) -> str:
        """Of the camera: "ok", "silent", "lost" or "ended"."""

    @property
    def keeps(self) -> bool:
        """Does each of its pictures wait until the loop takes it?"""

    def next(self, wait_s: float) -> Frame | CameraError | None:
        """The next frame or fault; None when nothing came within about `wait_s` seconds."""

    def close(self) -> None:
        """Stop capturing; the camera stays open."""


class PullFeed:
    """Asks the camera when the loop is ready: nothing is dropped. For recordings, and for cameras that wait."""

    keeps = True

    def __init__(self, camera: Camera, stats: Stats, *, timeout_s: float) -> None:
        self.camera = camera
        self.state = "ok"
        self._stats, self._timeout_s = stats, timeout_s

    def next(self, wait_s: float) -> Frame | CameraError | None:
        try:
            frame = _whole(self.camera.grab(self._timeout_s))
        except CameraError as fault:
            self.state = _state(fault)
            return fault
        except BaseException as error:  # noqa: BLE001 - an adapter's own bug is a lost camera, not a dead station
            self.state = "lost"
            return _broken(error)
        self.state = "ok"
        self._stats.add_frame()
        return frame

    def close(self) -> None:
        """Nothing to stop."""


class Catcher(Protocol):
    """What a capture thread does with its camera's frames; called by that thread alone."""

    def before(self, camera: Camera) -> float | None:
        """Wait until a frame is wanted; returns the seconds to grab for, or None: nothing is wanted now, ask again.

        Raises:
            CameraError: the camera could not be asked.
        """

    def frame(self, frame: Frame, lost: int) -> None:
        """A frame came; so many before it never arrived."""

    def fault(self, fault: CameraError) -> None:
        """The camera failed; EndOfStream is its last word."""

    def back(self) -> None:
        """A lost camera is tried again."""

    def let_go(self) -> None:
        """Called by the thread that stops the capture: `before` and `fault` must return soon."""


class Capture:
    """The thread that owns a live camera: grabs, notices gaps, and brings a lost camera back.

    Args:
        camera: used by the capture thread alone.
        catcher: gets frames and faults.
        stats: counts frames, gaps ("camera") and reconnects.
        clock: for the pauses between attempts to reopen.
        timeout_s: how long the camera may be silent; bounds how long `close` waits.
        reopen: opens a lost camera again; None goes on asking the same one.

    Attributes:
        state: "ok", "silent", "lost" or "ended".
        in_grab: the camera's adapter is being asked right now.
    """

    def __init__(
        self,
        camera: Camera,
        catcher: Catcher,
        stats: Stats,
        clock: Clock,
        *,
        timeout_s: float,
        reopen: Callable[[], Camera] | None = None,
    ) -> None:
        self.camera = camera
        self.in_grab = False
        self.state = "lost" if isinstance(camera, AbsentCamera) else "ok"
        self._catcher, self._stats, self._clock, self._timeout_s, self._reopen = catcher, stats, clock, timeout_s, reopen
        self._closing = False
        self._losses = 0
        self._last_id: int | None = None
        self._lost: CameraLost | None = None  # not brought back yet
        self._thread = Supervised("capture", self._run, died=self._died, patience_s=2 * timeout_s + PATIENCE_S, kind=CameraError)
        self._thread.start()

    @property
    def shown(self) -> str:
        """The state for people: also "silent" when the adapter does not come back, or its thread is gone."""
        return "silent" if self.state == "ok" and self._thread.still else self.state

    def close(self) -> None:
        """End the thread; one whose camera does not answer is left behind."""
        self._closing = True
        self._catcher.let_go()
        if isinstance(self._reopen, Opening):
            self._reopen.let_go()
        if not self._thread.join(2 * self._timeout_s + PATIENCE_S):
            _log.error("the camera's adapter does not answer; its thread is left behind")

    def _run(self) -> None:
        if isinstance(self.camera, AbsentCamera):  # whether or not a picture of it is wanted
            self._recover(self.camera.fault)
        elif self._lost is not None:  # the thread has died of it
            self._bring_back()
        while not self._closing:
            self._thread.turn()
            try:
                timeout_s = self._catcher.before(self.camera)
                if timeout_s is None:
                    continue
                self.in_grab = True
                frame = _whole(self.camera.grab(timeout_s))
                self.in_grab = False
                self._deliver(frame)
            except EndOfStream as fault:
                self.state = "ended"
                self._catcher.fault(fault)
                return
            except CameraLost as fault:
                self._recover(fault)
            except CameraError as fault:
                self.in_grab = False
                self.state = _state(fault)
                self._catcher.fault(fault)
            except Exception as error:  # noqa: BLE001 - an adapter's own bug is a lost camera, not a dead station
                self._recover(_broken(error))
            finally:
                self.in_grab = False

    def _died(self, error: BaseException) -> None:
        """Parts that wait hear of it at once; the camera is opened again before anything else is asked of it."""
        self.in_grab = False
        self.state, self._lost = "lost", _broken(error)
        self._catcher.fault(self._lost)

    def _deliver(self, frame: Frame) -> None:
        self._losses = 0
        self.state = "ok"
        gap = frame.frame_id - self._last_id - 1 if self._last_id is not None else 0
        if gap > LARGEST_GAP:
            _log.warning("the camera's frame counter jumped by %d", gap + 1)
            gap = 1
        if gap > 0:
            self._stats.drop("camera", gap)
        self._last_id = frame.frame_id
        self._stats.add_frame()
        if keeps(self.camera):
            self._thread.rest()  # for as long as nobody asks
        self._catcher.frame(frame, max(0, gap))

    def _recover(self, fault: CameraLost) -> None:
        """Report the loss once, then try again with growing pauses until the camera is back or the feed is closed."""
        self.in_grab = False
        self.state, self._lost = "lost", fault
        self._catcher.fault(fault)
        _log.warning("camera lost: %s", fault)
        self._bring_back()

    def _bring_back(self) -> None:
        self._thread.rest()  # opening a camera may take long
        while not self._closing:
            self._pause(min(BACKOFF_S[0] * 2**self._losses, BACKOFF_S[1]))
            self._losses = min(self._losses + 1, 16)
            if self._closing:
                return
            if self._reopen is not None and not self._open_again(self._reopen):
                continue
            self._lost = None
            self._catcher.back()
            return

    def _open_again(self, reopen: Callable[[], Camera]) -> bool:
        try:
            self.camera.close()
            self.camera = reopen()
        except Exception as error:  # noqa: BLE001 - whatever the adapter raises, the next attempt may succeed
            _log.warning("camera still lost: %s", error)
            return False
        self._last_id = None
        self.state = "ok"
        self._stats.add_reconnect()
        _log.warning("camera is back; what had been: %s", str(self._lost))
        return True

    def _pause(self, duration_s: float) -> None:
        """Sleep in slices, so that a stop is not kept waiting."""
        until_ns = self._clock.now_ns() + round(duration_s * 1e9)
        while not self._closing and (left_ns := until_ns - self._clock.now_ns()) > 0:
            self._clock.sleep(min(left_ns / 1e9, 0.1))


class LiveFeed:
    """Free-running: a capture thread that keeps the newest frame in a slot of depth 1, and all faults.

    For the arguments see :class:`Capture`; frames that nobody took in time are counted as dropped, "overrun". Of a camera that
    `keeps` its pictures until they are asked for, none is replaced: the thread waits.
    """

    def __init__(
        self, camera: Camera, stats: Stats, clock: Clock, *, timeout_s: float, reopen: Callable[[], Camera] | None = None
    ) -> None:
        self._stats, self._timeout_s = stats, timeout_s
        self._slot = Slot()
        self._silent_s = 0.0
        self.keeps = keeps(camera)
        self._capture = Capture(camera, self, stats, clock, timeout_s=timeout_s, reopen=reopen)

    @property
    def camera(self) -> Camera:
        return self._capture.camera

    @property
    def state(self) -> str:
        return self._capture.shown

    def next(self, wait_s: float) -> Frame | CameraError | None:
        entry = self._slot.take(wait_s)
        # A camera whose grab() does not keep its own time limit is noticed here, on the loop's side.
        self._silent_s = self._silent_s + wait_s if entry is None and self._capture.in_grab else 0.0
        if self._silent_s > 2 * self._timeout_s + 1:
            self._silent_s = 0.0
            return CameraTimeout("the camera's adapter does not answer")
        return entry

    def close(self) -> None:
        self._capture.close()
        while (entry := self._slot.take(0)) is not None:
            if isinstance(entry, Frame):
                self._stats.drop("stopped")

    def before(self, camera: Camera) -> float | None:
        self.keeps = keeps(camera)
        return self._timeout_s

    def frame(self, frame: Frame, lost: int) -> None:
        if self.keeps:
            self._slot.leave(frame)
        elif self._slot.put(frame):
            self._stats.drop("overrun")

    def fault(self, fault: CameraError) -> None:
        if not (self.keeps and isinstance(fault, CameraTimeout)):  # no part came by, of which nobody knew
            self._slot.report(fault)

    def back(self) -> None:
        """The next frame says it."""

    def let_go(self) -> None:
        self._slot.close()


def _whole(frame: object) -> Frame:
    """Raises CameraLost: an adapter gave something else, e.g. None when it has no picture."""
    if not isinstance(frame, Frame):
        kind = type(frame).__name__
        raise CameraLost(f"the camera's adapter gave {kind} instead of a frame", hint="it must raise CameraTimeout")
    if not isinstance(frame.frame_id, (int, Integral)):
        raise CameraLost(f"the camera's adapter gave a frame with the id {frame.frame_id!r}", hint="ids count: 0, 1, 2")
    return frame


def _broken(error: BaseException) -> CameraLost:
    return CameraLost(f"the camera's adapter failed: {type(error).__name__}: {one_line(error)}")


def _state(fault: CameraError) -> str:
    if isinstance(fault, CameraTimeout):
        return "silent"
    if isinstance(fault, EndOfStream):
        return "ended"
    return "lost" if isinstance(fault, CameraLost) else "ok"
