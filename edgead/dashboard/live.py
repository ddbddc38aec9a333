"""What stations tell: their datagrams, received without making anybody wait (:mod:`edgead.runtime.supervision.live`)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgead.errors import StorageError

AT_ONCE = 64  # datagrams read before others have their turn
LONGEST = 1 << 20
ROOM = 4 << 20  # bytes that may wait in a socket, as far as the system grants it
RETRY_S = 5.0

_log = logging.getLogger("edgead.dashboard")


class Listener:
    """A socket in each folder, while the event loop runs.

    Args:
        folders: as `supervision.live` names them.
        told: called on the event loop with each message and the picture that belongs to it (b"" for none).
    """

    def __init__(self, folders: Iterable[Path], told: Callable[[dict[str, Any], bytes], None]) -> None:
        self._folders, self._told = sorted(set(folders)), told
        self._sockets: dict[Path, socket.socket] = {}
        self._failed: set[Path] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Listen, on the running event loop; a folder in which nobody can listen is tried again."""
        self._loop = asyncio.get_running_loop()
        for folder in self._folders:
            path = self._path(folder)
            if folder in self._sockets and path.exists():
                continue
            self._drop(folder)
            try:
                self._listen(folder, path)
                self._failed.discard(folder)
            except OSError as error:
                if folder not in self._failed:
                    _log.warning("%s: stations cannot be heard: %s", folder, error.strerror or error)
                self._failed.add(folder)
        self._again = self._loop.call_later(RETRY_S, self.open)

    def close(self) -> None:
        """May be called twice."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for folder in list(self._sockets):
            self._drop(folder)

    def _listen(self, folder: Path, path: Path) -> None:
        assert self._loop is not None
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_left_behind(folder)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.setblocking(False)
            with suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            listener.bind(str(path))
            path.chmod(0o660)
        except OSError:
            listener.close()
            raise
        self._sockets[folder] = listener
        self._loop.add_reader(listener, self._read, listener)

    def _drop(self, folder: Path) -> None:
        listener = self._sockets.pop(folder, None)
        if listener is not None and self._loop is not None:
            self._loop.remove_reader(listener)
            listener.close()
            self._path(folder).unlink(missing_ok=True)

    def _path(self, folder: Path) -> Path:
        return folder / f"dashboard-{os.getpid()}-{id(self):x}.sock"

    def _read(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                data = listener.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("a station cannot be heard: %s", error)
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        head, _, picture = data.partition(b"\n")
        try:
            message = json.loads(head, parse_constant=_no_number)
            if isinstance(message, dict) and message.get("v") == 1:
                self._told(message, picture)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            _log.debug("a datagram that is none of a station's: %r", error)


_TEXTS = ("version", "state", "fault", "device")
_TABLES = ("notices", "queues", "devices", "threads", "verdicts", "causes", "late", "latency_ms", "disk")
_FACTS: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("bundle", "digest", "engine", "rule", "statistic"), (str,)),
    "recipe": (int, type(None)),
    "threshold": (int, float, type(None)),
}
_INSIDE: Mapping[str, tuple[Any, ...]] = {"notices": (str,), "threads": (str,), "devices": (dict,)}
"""What stands in a station's message (in its tables: numbers, if not these); what only a camera with its own bundle has."""


def state_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """What is believed of a station's message. Raises KeyError, TypeError: it is none."""
    wanted = {**dict.fromkeys(_TEXTS, (str,)), **dict.fromkeys(_TABLES, (dict,))}
    wanted |= {name: kinds for name, kinds in _FACTS.items() if name in message}
    found = {name: message[name] for name in wanted}
    wrong = [name for name, kinds in wanted.items() if not isinstance(found[name], kinds)]
    for name in _TABLES if not wrong else ():
        kinds = _INSIDE.get(name, (int, float, type(None)))
        wrong += [name] if not all(isinstance(value, kinds) for value in found[name].values()) else []
    latency = found["latency_ms"]
    if wrong or (latency and not {"p50", "p95", "p99"} <= latency.keys()):
        raise TypeError(f"{wrong or 'latency_ms'} of a station's message")
    return found


def _no_number(text: str) -> float:
    """Raises ValueError: NaN and infinity are no JSON."""
    raise ValueError(text)


def check_folder(folder: Path) -> None:
    """Raises StorageError: a socket's name there would be longer than the system takes."""
    if len(os.fsencode(folder)) > 70:
        raise StorageError(
            f"supervision.live: {folder} is {len(os.fsencode(folder))} bytes long, sockets may be in folders of 70 at most",
            hint="choose a shorter one, such as /run/edgead/live",
        )


def _remove_left_behind(folder: Path) -> None:
    """Sockets of dashboards that were killed."""
    for path in folder.glob("dashboard-*.sock"):
        trial = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            trial.setblocking(False)
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            trial.close()
