"""The dashboard's server in this process: users, clock and date are a test's, and no station runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from edgead.dashboard.app import application
from edgead.dashboard.board import Board
from edgead.dashboard.hub import Hub
from edgead.dashboard.places import read_places
from edgead.dashboard.serving import Address, Server
from edgead.dashboard.sessions import Doors
from edgead.dashboard.users import Users, with_token, with_user, write_users
from edgead.testing import FakeClock
from tests.dashboard.client import Client
from tests.waiting import PATIENCE_S, until

PASSWORD = "correct horse battery"
PEOPLE = {"vera": "viewer", "otto": "operator", "erna": "engineer"}


def write_station(folder: Path, *, bundle: str = "part.edgead", **more: object) -> Path:
    """A station.yaml with one camera."""
    camera = {"name": "top", "address": "sim", "bundle": bundle, **more}
    file = folder / "station.yaml"
    file.write_text(yaml.safe_dump({"name": "line-1", "cameras": [camera], "storage": {"folder": "data"}}))
    return file


def write_people(folder: Path) -> tuple[Path, dict[str, str]]:
    """A file of users with one password, and a token of each that is good for a day."""
    users: dict[str, object] = {}
    tokens = {}
    for name, role in PEOPLE.items():
        users = with_user(users, name, role, PASSWORD)  # type: ignore[arg-type, assignment]
        users, tokens[name] = with_token(users, name, "test", 1)  # type: ignore[arg-type, assignment]
    file = folder / "users.json"
    write_users(file, users)  # type: ignore[arg-type]
    return file, tokens


class Served:
    """A server, while the block lasts.

    Args:
        station: the file.
        users: None: everybody is an engineer.
        kiosk: who has not logged in may look.
        names: under which it may be called.
        proxied: a reverse proxy stands before it.
        tls: certificate and key.
    """

    def __init__(
        self,
        station: Path,
        users: Path | None = None,
        *,
        kiosk: bool = False,
        names: Sequence[str] = (),
        proxied: bool = False,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.date = datetime.now(timezone.utc)
        hub = Hub(read_places([station]), clock=self.clock, now=lambda: self.date)
        doors = Doors(None if users is None else Users(users, lambda: self.date), self.clock, kiosk=kiosk)
        secure = proxied or tls is not None
        app = application(Board(hub, doors, lambda: self.date), names=tuple(names), secure=secure, proxied=proxied)
        address = Address("127.0.0.1", 0, *(tls or (None, None)))
        address.check_tls()
        self._listener = address.listen()
        self._server = Server(app, address, self._listener, hub.end)
        self._thread = threading.Thread(target=self._server.serve_until_told)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/"

    def connections(self) -> list[object]:
        """That are open."""
        return list(self._server.server_state.connections)

    def pass_time(self, hours: float) -> None:
        """For sessions, tokens and the date."""
        self.clock.advance(hours * 3600)
        self.date += timedelta(hours=hours)

    def client(self, name: str = "", password: str = PASSWORD) -> Client:
        """Somebody, logged in."""
        client = Client(self.url)
        if name:
            status, told = client.post("/api/login", {"name": name, "password": password})
            assert status == 200, told
        return client

    def __enter__(self) -> Served:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started
        return self

    def stop(self) -> None:
        """Begin to."""
        self._server.should_exit = True

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._thread.join(PATIENCE_S)
        self._listener.close()
        assert not self._thread.is_alive()
