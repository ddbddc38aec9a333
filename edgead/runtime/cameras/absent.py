"""A camera that is not there when the station starts, and opening cameras without waiting for those that hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgead.errors import CameraError, CameraLost, EdgeadError
from edgead.runtime.threads import Supervised
from edgead.types import Camera, Frame

START_S = 10.0
"""How long a start waits for its cameras, all together; one that takes longer is lost at first, and used when it is open."""


class AbsentCamera:
    """Stands in for a camera that could not be opened: lost, from the beginning. A station that has a way to open it tries again.

    Attributes:
        fault: why.
    """

    live = True

    def __init__(self, fault: CameraLost) -> None:
        self.fault = fault

    def grab(self, timeout_s: float) -> Frame:
        """Raises CameraLost, always."""
        raise CameraLost(str(self.fault), hint=self.fault.hint)

    def close(self) -> None:
        """Nothing is open."""


class Opening:
    """Opens a camera, and opens it again, on threads of its own: one whose driver takes its time, or hangs, holds nobody up.

    Never are two attempts under way: who asks again while one hangs waits for that one.

    Args:
        name: of the camera, for messages and threads.
        open: raises EdgeadError.
    """

    def __init__(self, name: str, open: Callable[[], Camera]) -> None:
        self._name, self._open = name, open
        self._changed = threading.Condition()
        self._attempt: _Attempt | None = None
        self._closed = False

    def begin(self) -> None:
        """Open it now, and come for it later."""
        with self._changed:
            if self._attempt is None:
                self._attempt = _Attempt(self._name, self._open, self._changed)

    def first(self, wait_s: float) -> Camera:
        """The camera; one that stands in for it when it is not there, or not open within `wait_s` seconds.

        Raises:
            EdgeadError: whatever is not a camera's absence: a wrong address, a setting that it refuses, a missing package.
        """
        try:
            return self._taken(wait_s)
        except CameraError as fault:
            return AbsentCamera(fault if isinstance(fault, CameraLost) else CameraLost(str(fault), hint=fault.hint))
        except EdgeadError:
            raise
        except Exception as error:  # noqa: BLE001 - an adapter's own bug is a lost camera, not a dead station
            return AbsentCamera(CameraLost(f"the adapter of camera {self._name} failed: {error!r}"))

    def __call__(self) -> Camera:
        """Open it again. Raises EdgeadError, and CameraLost when it takes too long or nobody wants it any more."""
        return self._taken(START_S)

    def let_go(self) -> None:
        """Nobody wants it any more: who waits for it returns at once, and what opens later is closed. May be called twice."""
        with self._changed:
            self._closed = True
            if self._attempt is not None:
                self._attempt.unwanted = True
            self._changed.notify_all()
            left = self._attempt.camera if self._attempt is not None else None
            self._attempt = None
        if left is not None:
            left.close()

    def _taken(self, wait_s: float) -> Camera:
        with self._changed:  # `let_go` may come at any moment
            if self._closed:
                raise CameraLost(f"camera {self._name} is not wanted any more", hint="the station is ending")
            self.begin()
            attempt = self._attempt
            assert attempt is not None
            if not self._changed.wait_for(lambda: attempt.ended or self._closed, wait_s) or self._closed:
                raise CameraLost(f"camera {self._name} does not open in time", hint="its driver, or the network, does not answer")
            self._attempt = None
        if attempt.error is not None:
            if not isinstance(attempt.error, Exception):  # a panic of native code, told on this thread: it must not end that
                raise CameraLost(f"the adapter of camera {self._name} failed: {attempt.error!r}"[:300]) from attempt.error
            raise attempt.error
        assert attempt.camera is not None
        return attempt.camera


class _Attempt:
    """One attempt, and how it ended."""

    def __init__(self, name: str, open: Callable[[], Camera], changed: threading.Condition) -> None:
        self._open, self._changed = open, changed
        self.camera: Camera | None = None
        self.error: BaseException | None = None
        self.ended = self.unwanted = False
        Supervised(f"open {name}", self._run, restart=False, kind=CameraError).start()

    def _run(self) -> None:
        camera, error = None, None
        try:
            camera = self._open()
        except BaseException as caught:  # noqa: BLE001 - carried to whoever wants the camera
            error = caught
        with self._changed:
            unwanted = self.unwanted
            self.camera, self.error, self.ended = None if unwanted else camera, error, True
            self._changed.notify_all()
        if unwanted and camera is not None:
            camera.close()
