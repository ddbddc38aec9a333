"""The dashboard as a program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgead.clock import MonotonicClock
from edgead.dashboard.app import application
from edgead.dashboard.board import Board
from edgead.dashboard.hub import Hub
from edgead.dashboard.live import check_folder
from edgead.dashboard.places import read_places
from edgead.dashboard.serving import Address, Server
from edgead.dashboard.sessions import Doors
from edgead.dashboard.shifts import WHOLE_DAY, shifts_of
from edgead.dashboard.users import Users
from edgead.errors import BadInput


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be served, and how.

    Attributes:
        files: station files.
        address: where.
        users: the file of users; None: everybody is an engineer.
        proxied: a reverse proxy stands before it.
        names: host names.
        kiosk: who has not logged in may look.
        shifts: as written; None: whole days.
    """

    files: Sequence[Path]
    address: Address
    users: Path | None = None
    proxied: bool = False
    names: tuple[str, ...] = ()
    kiosk: bool = False
    shifts: str | None = None


def serve(wanted: Wanted, told: Callable[[str], None]) -> int:
    """Until a signal; 0. `told` is called with the address of the pages as soon as they are there.

    Raises:
        BadInput: a file is wrong, or others than this machine could reach it without users and TLS.
        OutputError: the address cannot be listened on.
        MissingExtra: a package is missing.
    """
    check_open(wanted)
    places = read_places(wanted.files)
    for place in places.values():
        if place.live is not None:
            check_folder(place.live)
    users = None if wanted.users is None else Users(wanted.users)
    hub = Hub(places, WHOLE_DAY if wanted.shifts is None else shifts_of(wanted.shifts))
    board = Board(hub, Doors(users, MonotonicClock(), kiosk=wanted.kiosk))
    secure = wanted.proxied or wanted.address.cert is not None
    app = application(board, names=wanted.names, secure=secure, proxied=wanted.proxied)
    wanted.address.check_tls()
    with wanted.address.listen() as listener, _signals():
        host, port = listener.getsockname()[:2]
        scheme = "https" if wanted.address.cert is not None else "http"
        told(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/")
        Server(app, wanted.address, listener, hub.end).serve_until_told()
    return 0


def check_open(wanted: Wanted) -> None:
    """Raises BadInput: others could reach it, and nothing keeps them out."""
    address = wanted.address
    if address.loopback and not wanted.proxied:
        return
    if wanted.users is None:
        raise BadInput(
            f"{address.host}:{address.port} can be reached by others, and no users are configured",
            hint="--users FILE (edgead users add NAME --role engineer --users FILE), or --http 127.0.0.1:8080",
        )
    if address.cert is None and not wanted.proxied:
        raise BadInput(
            f"{address.host}:{address.port} can be reached by others, and passwords would go there in plain sight",
            hint="--tls-cert FILE --tls-key FILE; or --behind-proxy, where a reverse proxy has TLS",
        )


@contextmanager
def _signals() -> Iterator[None]:
    """The server stops at SIGINT and SIGTERM by itself, and raises them once more when it has: they shall do nothing then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
