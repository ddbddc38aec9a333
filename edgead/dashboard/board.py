"""What all answers need: the cameras, what is known of them, who may in, and the date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from edgead.dashboard.asking import Ask, Refused
from edgead.dashboard.hub import Hub
from edgead.dashboard.places import Place
from edgead.dashboard.sessions import Doors
from edgead.runtime.records.wallclock import utc_now


@dataclass(frozen=True, slots=True)
class Board:
    """The dashboard.

    Attributes:
        hub: what is known now.
        doors: who may in.
        now: the date.
    """

    hub: Hub
    doors: Doors
    now: Callable[[], datetime] = utc_now

    def shown(self, text: str) -> str:
        """A text for browsers (:meth:`edgead.dashboard.places.Place.shown`)."""
        for place in self.hub.places.values():
            text = place.shown(text)
        return text

    def place(self, name: str | None) -> Place:
        """The camera of this id. Raises Refused."""
        if name is None:
            raise Refused(400, "which camera? camera=STATION/CAMERA is missing")
        if (place := self.hub.places.get(name)) is None:
            raise Refused(404, f"there is no camera {name[:80]!r}")
        return place

    def in_path(self, ask: Ask) -> Place:
        """The camera that the address names. Raises Refused."""
        return self.place(f"{ask.path['station']}/{ask.path['camera']}")

    def asked(self, ask: Ask) -> Place:
        """The one camera that the query names. Raises Refused."""
        return self.place(ask.text("camera"))

    def wanted(self, ask: Ask) -> list[Place]:
        """The cameras that the query names; all that have records where it names none. Raises Refused."""
        names = [name for name in ask.query.get("camera", ()) if name]
        return [self.place(name) for name in dict.fromkeys(names)] or [
            place for place in self.hub.places.values() if place.folder is not None
        ]
