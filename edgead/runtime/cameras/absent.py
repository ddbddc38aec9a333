"""A camera that is not there when the station starts, and the first attempt to open all of them at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgead.errors import CameraError, CameraLost
from edgead.runtime.threads import Supervised
from edgead.types import Camera, Frame

START_S = 10.0
"""How long a start waits for its cameras, all together; one that takes longer is lost at first, and used when it is open."""

_WAITING = "it has not opened yet"


class AbsentCamera:
    """Stands in for a camera that could not be opened: lost, from the beginning. A station that has a way to open it tries again.

    Attributes:
        fault: why.
    """

    live = True

    def __init__(self, fault: CameraError) -> None:
        self.fault = fault if isinstance(fault, CameraLost) else CameraLost(str(fault), hint=fault.hint)

    def grab(self, timeout_s: float) -> Frame:
        """Raises CameraLost, always."""
        raise CameraLost(str(self.fault), hint=self.fault.hint)

    def close(self) -> None:
        """Nothing is open."""


class Opening:
    """Opens a camera on a thread of its own, so that one whose driver takes its time, or hangs, holds up nobody else's start.

    Never are two attempts under way: who asks for the camera again while the first attempt hangs waits for that one.

    Args:
        name: of the camera, for messages and the thread.
        open: raises EdgeadError.
    """

    def __init__(self, name: str, open: Callable[[], Camera]) -> None:
        self._name, self._open = name, open
        self._camera: Camera | None = None
        self._error: BaseException | None = None
        self._taken = self._closed = False
        self._done = threading.Condition()
        self._ended = False
        Supervised(f"open {name}", self._run, restart=False, kind=CameraError).start()

    def first(self, wait_s: float) -> Camera:
        """The camera; one that stands in for it when it is not there, or not open within `wait_s` seconds.

        Raises:
            EdgeadError: whatever is not a camera's absence: a wrong address, a setting that it refuses, a missing package.
        """
        try:
            return self._result(wait_s)
        except CameraError as fault:
            return AbsentCamera(fault)

    def again(self) -> Camera:
        """Open it (again), on the caller's thread. Raises EdgeadError."""
        with self._done:
            fresh = self._taken
        return self._open() if fresh else self._result(START_S)

    def close(self) -> None:
        """Nobody wants what is still being opened."""
        with self._done:
            self._closed = True
            left, self._camera = self._camera, None
        if left is not None:
            left.close()

    def _result(self, wait_s: float) -> Camera:
        with self._done:
            if not self._done.wait_for(lambda: self._ended, wait_s):
                raise CameraLost(f"camera {self._name}: {_WAITING}", hint="its driver or the network takes its time")
            self._taken = True
            camera, self._camera = self._camera, None
            if self._error is not None:
                raise self._error
            assert camera is not None
            return camera

    def _run(self) -> None:
        camera, error = None, None
        try:
            camera = self._open()
        except BaseException as caught:  # noqa: BLE001 - carried to whoever asks for the camera
            error = caught
        with self._done:
            self._camera, self._error, self._ended = camera, error, True
            unwanted = camera if self._closed else None
            self._done.notify_all()
        if unwanted is not None:
            unwanted.close()
