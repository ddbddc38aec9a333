"""Opening things without waiting for those that hang: on threads of their own, one attempt at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from edgead.errors import EdgeadError
from edgead.runtime.threads import Supervised


class Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closes)


class Attempts(Generic[T]):
    """Opens something, and opens it again, on threads of its own: one whose driver takes its time, or hangs, holds nobody up.

    Never are two attempts under way: who asks again while one hangs waits for that one.

    Args:
        what: its name, for messages and threads, e.g. "camera top".
        open: raises EdgeadError.
        kind: what it means that it does not open in time: CameraLost, OutputError.
    """

    def __init__(self, what: str, open: Callable[[], T], kind: type[EdgeadError]) -> None:
        self._what, self._open, self._kind = what, open, kind
        self._changed = threading.Condition()
        self._attempt: _Attempt[T] | None = None
        self._closed = False

    def begin(self) -> None:
        """Open it now, and come for it later."""
        with self._changed:
            if self._attempt is None:
                self._attempt = _Attempt(self._what, self._open, self._kind, self._changed)

    def take(self, wait_s: float) -> T:
        """It, once it is open. Raises what `open` raised, and `kind` when that takes too long or nobody wants it any more."""
        with self._changed:  # `let_go` may come at any moment
            if self._closed:
                raise self._kind(f"{self._what} is not wanted any more", hint="the station is ending")
            self.begin()
            attempt = self._attempt
            assert attempt is not None
            if not self._changed.wait_for(lambda: attempt.ended or self._closed, wait_s) or self._closed:
                raise self._kind(f"{self._what} does not open in time", hint="its driver, or the network, does not answer")
            self._attempt = None
        if attempt.error is not None:
            raise attempt.error
        assert attempt.found is not None
        return attempt.found

    def let_go(self) -> None:
        """Nobody wants it any more: who waits for it returns at once, and what opens later is closed. May be called twice."""
        with self._changed:
            self._closed = True
            if self._attempt is not None:
                self._attempt.unwanted = True
            self._changed.notify_all()
            left = self._attempt.found if self._attempt is not None else None
            self._attempt = None
        if left is not None:
            left.close()


class _Attempt(Generic[T]):
    """One attempt, and how it ended."""

    def __init__(self, what: str, open: Callable[[], T], kind: type[EdgeadError], changed: threading.Condition) -> None:
        self._open, self._changed = open, changed
        self.found: T | None = None
        self.error: BaseException | None = None
        self.ended = self.unwanted = False
        Supervised(f"open {what}", self._run, restart=False, kind=kind).start()

    def _run(self) -> None:
        found, error = None, None
        try:
            found = self._open()
        except BaseException as caught:  # noqa: BLE001 - carried to whoever wants it
            error = caught
        with self._changed:
            unwanted = self.unwanted
            self.found, self.error, self.ended = None if unwanted else found, error, True
            self._changed.notify_all()
        if unwanted and found is not None:
            found.close()
