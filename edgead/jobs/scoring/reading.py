"""Where a picture's bytes come from: the disk, or any file system of fsspec. Whatever is wrong with one picture is BadInput."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edgead.clock import Clock, MonotonicClock
from edgead.disk import NotPlain, read_file
from edgead.errors import BadInput, MissingExtra, StorageError
from edgead.optional import require
from edgead.preprocess import decoded, to_bgr8
from edgead.runtime.redact import redact
from edgead.types import Image
from edgead.words import keep_secret, one_line, unicode_only

LARGEST = 1 << 30
"""Bytes of a picture file."""

AHEAD = 8
"""Pictures that are fetched at once from a file system that is not this machine's."""

RETRY_S = (0.5, 2.0)
"""Waits between tries to fetch a picture."""

LOST = 20
"""So many fetches in a row that fail, not for want of a file or a right, are a store that is away."""

_OF_THE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def is_address(text: str) -> bool:
    """Is this on a file system that fsspec opens, and not a path of this machine? ``file://`` is one of this machine."""
    return "://" in text and not text.startswith("file://")


def local(text: str) -> str:
    """``file:///a/b`` -> ``/a/b``; other paths as they are."""
    return text.removeprefix("file://")


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path on it.

    Raises:
        MissingExtra: fsspec, or the package of this kind of address, is not installed.
        BadInput: nobody knows this kind of address, or it cannot be opened.
    """
    fsspec = require("fsspec", extra="score", why="Reading from an address")
    if password := _password(address):
        keep_secret(password)
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        kind = address.partition("://")[0]
        raise MissingExtra(f"reading {kind}:// needs a package: {one_line(str(error))}", hint="install what it names") from error
    except Exception as error:  # each file system raises its own
        raise BadInput(f"cannot open {redact(address)}: {one_line(str(error))}", hint="check the address") from error
    return system, path


def _password(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:
        return ""


class Reader:
    """Reads the pictures of a source, by its items (:mod:`edgead.jobs.scoring.sources`).

    Args:
        folder: that relative paths of this machine start from.
        base: address of the file system that all items are paths on; "": items are paths of this machine or whole addresses.
        bits: that 16-bit pictures use.
    """

    def __init__(self, folder: str, base: str, bits: int, clock: Clock | None = None) -> None:
        self._folder, self._bits, self._clock = Path(folder), bits, clock or MonotonicClock()
        self._system = file_system(base)[0] if base else None
        self._failed = 0  # fetches in a row
        self.remote = bool(base)

    def shown(self, item: str) -> str:
        """The item as the table has it: without secrets, and as text that every file can hold."""
        text = str(self._system.unstrip_protocol(item)) if self._system is not None else item
        return str(unicode_only(redact(text)))

    def picture(self, item: str, content: bytes | BadInput) -> Image:
        """The picture of these bytes, H x W x 3 uint8 BGR. Raises BadInput."""
        if isinstance(content, BadInput):
            raise content
        try:
            return to_bgr8(decoded(np.frombuffer(content, np.uint8), self.shown(item)), self._bits)
        except MemoryError as error:
            raise BadInput(f"{self.shown(item)} is larger than this machine's memory") from error

    def all(self, items: Iterable[str]) -> Iterator[bytes | BadInput]:
        """The bytes of each, or what is wrong with it; several are fetched at once where each takes its time.

        Raises:
            StorageError: the store they lie in is away.
        """
        if not self.remote:
            yield from map(self.read, items)
            return
        with ThreadPoolExecutor(AHEAD, "edgead-fetch") as pool:
            yield from _ahead(pool, self.read, items)

    def read(self, item: str) -> bytes | BadInput:
        """The bytes of one, or what is wrong with it. Raises StorageError: the store is away."""
        if not item:
            return BadInput("the list names no picture here")
        try:
            if self._system is None and not is_address(item):
                return read_file(self._folder / local(item), LARGEST)
        except NotPlain as error:
            return BadInput(f"{self.shown(item)}: {error.strerror}")
        except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL inside
            return BadInput(f"cannot read {self.shown(item)}: {getattr(error, 'strerror', None) or error}")
        try:
            system, path = (self._system, item) if self._system is not None else file_system(item)
        except (BadInput, MissingExtra) as error:
            return BadInput(str(error))
        return self._fetched(item, lambda: system.cat_file(path))

    def _fetched(self, item: str, fetch: Callable[[], bytes]) -> bytes | BadInput:
        for wait_s in (*RETRY_S, None):
            try:
                content = fetch()
            except Exception as error:  # noqa: BLE001 - each file system raises its own, and none may end the run
                fault = BadInput(f"cannot read {self.shown(item)}: {one_line(str(error)) or type(error).__name__}")
                if isinstance(error, _OF_THE_FILE):
                    return fault
                if wait_s is not None:
                    self._clock.sleep(wait_s)
                continue
            self._failed = 0
            return content
        self._failed += 1
        if self._failed >= LOST:
            raise StorageError(
                f"{LOST} pictures in a row could not be fetched: {fault}", hint="the same command goes on once the store is back"
            )
        return fault


def _ahead(pool: ThreadPoolExecutor, read: Callable[[str], bytes | BadInput], items: Iterable[str]) -> Iterator[bytes | BadInput]:
    """In the items' order, with no more than `AHEAD` in memory."""
    running: deque[Future[bytes | BadInput]] = deque()
    try:
        for item in items:
            running.append(pool.submit(read, item))
            if len(running) >= AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for left in running:
            left.cancel()
