"""A real line for the dashboard to show: a station that judges drawn parts, and the dashboard, each a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from tests.bundles import part
from tests.dashboard.browsing import program
from tests.servers.station import StationProcess

if TYPE_CHECKING:
    from edgead.dashboard.users import User

STATION, CAMERA = "hall", "top"
ID = f"{STATION}/{CAMERA}"
PICTURES, LAPS = 12, 300
PASSWORDS = {"viewer": "looks on quietly 1", "operator": "reviews a lot 22", "engineer": "moves the line 333"}
"""A user of each role has its name."""


@dataclass(frozen=True)
class Shown:
    """A line that runs.

    Attributes:
        address: of its dashboard.
        station: its process.
    """

    address: str
    station: StationProcess


def write_parts(folder: Path, size: int) -> None:
    """Drawn parts for some minutes, every third with a scratch: a few pictures under many names."""
    folder.mkdir()
    first = [folder / f"{i:05d}.png" for i in range(PICTURES)]
    for i, file in enumerate(first):
        cv2.imwrite(str(file), part(500 + i, size, defect=i % 3 == 2))
    for i in range(PICTURES, PICTURES * LAPS):
        os.link(first[i % PICTURES], folder / f"{i:05d}.png")


def add_users(file: Path) -> None:
    from edgead.dashboard.users import with_user, write_users

    users: dict[str, User] = {}
    for role, password in PASSWORDS.items():
        users = with_user(users, role, role, password)
    write_users(file, users)


@contextmanager
def running(folder: Path, bundle: Path, *options: str, every_ms: float = 400, size: int = 64) -> Iterator[Shown]:
    """Both, until the block ends. `bundle` is changed when a threshold is applied: give it a copy."""
    write_parts(folder / "parts", size)
    config = {
        "name": STATION,
        "cameras": [
            {
                "name": CAMERA,
                "address": str(folder / "parts"),
                "bundle": str(bundle),
                "trigger": {"source": "interval", "every_ms": every_ms},
                "budget_ms": 2000,
            }
        ],
        "storage": {"folder": str(folder / "data"), "pictures": {"max_mb": 50, "min_free_mb": 0, "ok_every": 4}},
        "supervision": {"live": str(folder / "live")},
        "process": {"threads": 1},
    }
    station = StationProcess(folder, config)
    station.start()
    try:
        with program(
            "-m", "edgead.cli.main", "dashboard", str(folder / "station.yaml"), "--http", "127.0.0.1:0", *options
        ) as address:
            yield Shown(address, station)
    finally:
        station.kill()
