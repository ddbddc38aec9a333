"""PLCs among the machines that this one has to do with: those that take a connection on a port of PLCs. Only when somebody asks:
a plant's network is not searched by itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PORTS: Mapping[str, int] = {"modbus-client": 502, "s7": 102, "ethernetip": 44818}
"""The port that a PLC listens on, by the type of the link that speaks to it."""
MOST = 64
TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Answering:
    """Somebody takes connections there.

    Attributes:
        type: of the link whose port it is.
        host: its address.
        port: of it.
    """

    type: str
    host: str
    port: int


def neighbours(table: Path = Path("/proc/net/arp")) -> list[str]:
    """IP addresses of this machine's networks that it has lately heard of (Linux), at most 64; nothing is sent."""
    try:
        lines = table.read_text("ascii", "replace").splitlines()[1:]
    except OSError:
        return []
    known = []
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[2] == "0x0":  # nobody answered
            continue
        try:
            known.append(ipaddress.IPv4Address(fields[0]))
        except ValueError:
            continue
    return [str(address) for address in sorted(set(known))[:MOST]]


def answering(hosts: Sequence[str], ports: Mapping[str, int] = PORTS, timeout_s: float = TIMEOUT_S) -> list[Answering]:
    """Those that take a connection, which is closed at once; nothing is written."""
    wanted = [Answering(kind, host, port) for host, (kind, port) in product(hosts, ports.items())]
    with ThreadPoolExecutor(16, thread_name_prefix="look for PLCs") as pool:
        there = list(pool.map(lambda one: _takes(one, timeout_s), wanted))
    return [one for one, takes in zip(wanted, there, strict=True) if takes]


def _takes(one: Answering, timeout_s: float) -> bool:
    try:
        socket.create_connection((one.host, one.port), timeout_s).close()
    except OSError:
        return False
    return True
