"""Writing to whoever reads our standard output and error: they may stand still (a pager, Ctrl-S), or be gone (a dropped session).

A write of Python's own would wait for them without an end, holding a lock that the interpreter needs to exit.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

SLICE_S = 0.1  # how long a wait is at most before it looks whether it is still wanted
CHUNK = 4096  # bytes of one write: a pipe that is ready takes so many without waiting (PIPE_BUF)


class Outlet:
    """Writes whole texts to a stream, and gives up when told to. Any thread; what waits, waits in the order of the calls.

    Args:
        stream: one with a file descriptor is written to directly; any other (a test's) by its own `write`.
    """

    def __init__(self, stream: TextIO | int) -> None:
        self._stream = stream
        number = stream if isinstance(stream, int) else _number(stream)
        self._number, self._put = _writer(number)
        self._rest = b""  # of a text of which a part was written
        self._closed = False
        self._lock = threading.Lock()

    def write(self, text: str, wait_s: float | None = None) -> bool:
        """Write all of it; False when it was given up: closed, or nobody took it within `wait_s` seconds.

        Raises:
            OSError: the reader is gone, the terminal was hung up, the disk is full.
        """
        until_s = None if wait_s is None else time.monotonic() + wait_s
        if self._put is None:
            assert not isinstance(self._stream, int)
            self._stream.write(text)
            self._stream.flush()
            return True
        if not self._lock.acquire(timeout=-1 if wait_s is None else wait_s):
            return False
        try:
            return self._write(self._put, text.encode("utf-8", "backslashreplace"), until_s)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let go whoever waits, now and later; the stream stays open. May be called twice."""
        self._closed = True
        if self._number >= 0 and self._lock.acquire(timeout=10 * SLICE_S):
            try:
                os.close(self._number)
                self._number = -1
            finally:
                self._lock.release()

    def _write(self, put: Callable[[bytes], int], text: bytes, until_s: float | None) -> bool:
        left = self._rest + text
        try:
            while left and not self._closed:
                try:
                    left = left[put(left[:CHUNK]) :]
                except BlockingIOError:
                    wait_s = SLICE_S if until_s is None else min(SLICE_S, until_s - time.monotonic())
                    if wait_s <= 0:
                        break
                    self._wait(wait_s)
        finally:  # what was begun is finished before the next text, so that lines stay lines
            self._rest = left if len(left) < len(text) else left[: len(left) - len(text)]
        return not left

    def _wait(self, wait_s: float) -> None:
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        poll.poll(wait_s * 1000)


def say(text: str, stream: TextIO, wait_s: float = 2.0) -> None:
    """A last word to people, for as long as somebody may still read it; never raises for want of a reader."""
    outlet = Outlet(stream)
    with suppress(OSError):
        outlet.write(text + "\n", wait_s)
    outlet.close()


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _writer(number: int | None) -> tuple[int, Callable[[bytes], int] | None]:
    """A descriptor of our own, and how to write to it so that it raises BlockingIOError instead of waiting.

    O_NONBLOCK belongs to the open file, which the shell and other programs share: so ours is opened anew, where the system can.
    """
    if number is None:
        return -1, None
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        own = os.dup(number)
        return own, lambda data: _send(own, data)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return own, lambda data: os.write(own, data)
        own = os.dup(number)
        return own, lambda data: _if_ready(own, data)
    own = os.dup(number)
    return own, lambda data: os.write(own, data)


def _if_ready(number: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(number, data)


def _send(number: int, data: bytes) -> int:
    with socket.socket(fileno=os.dup(number)) as connection:
        return connection.send(data, socket.MSG_DONTWAIT)
