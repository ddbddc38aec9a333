"""What a station takes for itself alone: registers, data blocks, tags, nodes, ports, lines, topics, folders, cameras.

Two writers of one PLC block tell one station's OK for the other's part, so whatever two places of a station.yaml would share is
refused before anything is opened (:mod:`edgead.config.ownership`). Nothing is asked of the network: two addresses are the same
when they are spelled so. What a PLC or an output takes, its settings say (``claims``).
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.located import Place

_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that nobody else may use.

    Attributes:
        place: the key in the file that takes it.
        owner: the camera or part, for people.
        kind, thing: what is taken; equal for equal things, however they are spelled.
        first, last: the range of it, both included.
        scope: what else must be equal: of a port its address, "*" for all; of an OPC UA node its namespace, of which a number and
            a URI cannot be compared and count as equal.
        text: for people.
        hint: what to do when it is taken twice.
    """

    place: Place
    owner: str
    kind: str
    thing: tuple[object, ...]
    text: str
    hint: str
    first: int = 0
    last: int = 0
    scope: str = ""

    def clashes(self, other: Claim) -> bool:
        """Would both use the same thing?"""
        if (self.kind, self.thing) != (other.kind, other.thing) or self.last < other.first or other.last < self.first:
            return False
        by_name = self.scope.startswith("nsu="), other.scope.startswith("nsu=")
        return self.scope == other.scope or "*" in (self.scope, other.scope) or by_name[0] != by_name[1]


def listening(place: Place, owner: str, bind: str, port: int) -> Iterator[Claim]:
    """A port that is listened on; 0.0.0.0 takes it on all addresses."""
    if port:
        text = f"port {port} of {bind}"
        yield Claim(place, owner, "port", (port,), text, "give each server a port of its own", scope=host_of(bind, server=True))


def gpio_line(owner: str, place: Place, chip: str, line: int) -> Claim:
    name = Path(os.path.realpath(Path("/dev") / chip)).name  # the kernel's own name, behind links of udev
    hint = "a line has one use; cameras with one trigger belong together (parts, edgead docs parts)"
    return Claim(place, owner, "gpio", (name, line), f"line {line} of {chip}", hint)


def host_of(host: str, *, server: bool = False) -> str:
    """A host as it is compared: no upper case, no dot at the end, numbers in their usual form, one name for this machine."""
    name = host.strip().strip("[]").rstrip(".").casefold()
    if re.fullmatch(r"[\dxa-f.]+", name) and name[0].isdigit():
        try:
            name = socket.inet_ntoa(socket.inet_aton(name))  # 127.1, 0x7f000001, 010.0.0.9: as the system reads them
        except OSError:
            return name
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "127.0.0.1" if name in ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback") else name
    address = getattr(address, "ipv4_mapped", None) or address
    if str(address) in _ANY:
        return "*" if server else "127.0.0.1"
    return "127.0.0.1" if str(address) == "::1" and not server else str(address)
