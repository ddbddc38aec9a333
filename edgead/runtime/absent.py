"""A camera that is not there when the station starts, and opening cameras without waiting for those that hang."""

from __future__ import annotations

from collections.abc import Callable

from edgead.errors import CameraError, CameraLost, EdgeadError
from edgead.runtime.opening import Attempts
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


class Opening(Attempts[Camera]):
    """A camera's attempts.

    Args:
        name: of the camera, for messages and threads.
        open: raises EdgeadError.
    """

    def __init__(self, name: str, open: Callable[[], Camera]) -> None:
        super().__init__(f"camera {name}", open, CameraLost)

    def first(self, wait_s: float) -> Camera:
        """The camera; one that stands in for it when it is not there, or not open within `wait_s` seconds.

        Raises:
            EdgeadError: whatever is not a camera's absence: a wrong address, a setting that it refuses, a missing package.
        """
        try:
            return self.take(wait_s)
        except CameraError as fault:
            return AbsentCamera(fault if isinstance(fault, CameraLost) else CameraLost(str(fault), hint=fault.hint))

    def __call__(self) -> Camera:
        """Open it again. Raises EdgeadError, and CameraLost when it takes too long or nobody wants it any more."""
        return self.take(START_S)

    def take(self, wait_s: float) -> Camera:
        try:
            return super().take(wait_s)
        except EdgeadError:
            raise
        except BaseException as error:  # an adapter's bug or panic is a lost camera; it must not end this thread
            raise CameraLost(f"the adapter of {self._what} failed: {error!r}"[:300]) from error
