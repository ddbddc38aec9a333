"""What a station takes for itself alone: registers, data blocks, tags, nodes, ports, lines, topics, folders, cameras.

Two writers of one PLC block tell one station's OK for the other's part, so whatever two places of a station.yaml would share is
refused before anything is opened. Nothing is asked of the network: two addresses are the same when they are spelled so.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgead.located import Place

TO_PLC_WORDS, FROM_PLC_WORDS = 13, 7
TO_PLC_DINTS, FROM_PLC_DINTS = 10, 5
DB_BYTES = 40
TO_PLC = [
    "ready",
    "busy",
    "trigger_ack",
    "result_valid",
    "ok",
    "ng",
    "unknown",
    "error",
    "reset_done",
    "heartbeat",
    "boot",
    "error_code",
    "trigger_part_id",
    "result_part_id",
    "cause",
    "recipe",
    "score",
    "layout",
]
FROM_PLC = ["enable", "trigger", "result_ack", "error_ack", "reset", "heartbeat", "part_id", "result_ack_part_id", "recipe"]
"""Sizes of the blocks in registers, DINTs and bytes, and their signals: those of :mod:`edgead.runtime.plc.signals`, which a file
that
is read before anything of the runtime cannot import (a test compares them)."""

GPIO_LINES = ("ok", "reject", "kick", "ready", "busy", "heartbeat", "green", "yellow", "red")
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


def first_clash(config: Any) -> tuple[Claim, Claim] | None:
    """The first thing that a :class:`edgead.config.StationConfig` (paths absolute) takes twice, in the order of the file."""
    seen: dict[tuple[str, tuple[object, ...]], list[Claim]] = {}
    for claim in claims(config):
        before = seen.setdefault((claim.kind, claim.thing), [])
        for other in before:
            if claim.clashes(other):
                return other, claim
        before.append(claim)
    return None


def claims(config: Any) -> Iterator[Claim]:
    """All that a station takes."""
    for key, lanes in (("cameras", config.cameras), ("parts", config.parts)):
        for number, lane in enumerate(lanes):
            place: Place = (key, number)
            if config.storage is not None:
                yield from _folder(config.storage.folder, lane, place)
            if key == "cameras":
                yield from _camera(lane, place)
            if lane.trigger.source == "gpio":
                yield _gpio(lane.name, (*place, "trigger", "line"), lane.trigger.chip, lane.trigger.line)
            if lane.plc is not None:
                yield from _PLCS[lane.plc.type](lane.plc, lane.name, (*place, "plc"))
            for index, output in enumerate(lane.outputs):
                yield from _output(output, lane.name, (*place, "outputs", index))
    if config.supervision.http is not None:
        host, _, port = config.supervision.http.rpartition(":")
        yield from _listening(("supervision", "http"), config.name, host, int(port))


def _folder(folder: Path, lane: Any, place: Place) -> Iterator[Claim]:
    """Records and pictures; on many disks Top and top are one folder."""
    hint = "give the two names that differ in more than upper and lower case"
    text = f"the folder {folder / lane.name}"
    yield Claim((*place, "name"), lane.name, "folder", (os.path.realpath(folder / lane.name).casefold(),), text, hint)


def _modbus_client(plc: Any, owner: str, place: Place) -> Iterator[Claim]:
    hint = "each camera needs blocks of its own: give to_plc_address and from_plc_address that are free in the PLC"
    unit = 0 if plc.unit == 255 else plc.unit  # both mean the device at that address itself
    where = f"unit {plc.unit} at {plc.host}:{plc.port}"
    for key, first, words in (
        ("to_plc_address", plc.to_plc_address, TO_PLC_WORDS),
        ("from_plc_address", plc.from_plc_address, FROM_PLC_WORDS),
    ):
        last = first + words - 1
        text = f"registers {first} to {last} of {where}"
        yield Claim((*place, key), owner, "modbus", (_host(plc.host), plc.port, unit), text, hint, first, last)


def _server(plc: Any, owner: str, place: Place) -> Iterator[Claim]:
    if plc.type == "modbus-server":
        hint = "give to_plc_address and from_plc_address that leave room for each other"
        for key, first, words in (
            ("to_plc_address", plc.to_plc_address, TO_PLC_WORDS),
            ("from_plc_address", plc.from_plc_address, FROM_PLC_WORDS),
        ):
            last = first + words - 1
            yield Claim((*place, key), owner, "own registers", place, f"registers {first} to {last}", hint, first, last)
    yield from _listening((*place, "port"), owner, plc.bind, plc.port)


def _s7(plc: Any, owner: str, place: Place) -> Iterator[Claim]:
    hint = "each camera needs a data block of its own: make another one in the PLC and give its db_number"
    slot = 1 if plc.slot == 0 else plc.slot  # S7-1200 and S7-1500 answer to both
    text = f"DB{plc.db_number} of the PLC at {plc.host}:{plc.port}"
    thing = (_host(plc.host), plc.port, plc.rack, slot, plc.db_number)
    yield Claim((*place, "db_number"), owner, "s7", thing, text, hint, 0, DB_BYTES - 1)


def _ethernetip(plc: Any, owner: str, place: Place) -> Iterator[Claim]:
    hint = "each camera needs two tags of its own: give other names, or other members or elements"
    for key, tag, count in (
        ("to_plc_tag", plc.to_plc_tag, TO_PLC_DINTS),
        ("from_plc_tag", plc.from_plc_tag, FROM_PLC_DINTS),
    ):
        name, first = _tag(tag)
        thing = (_host(plc.host), plc.port, plc.slot, name)
        text = f"the tag {tag} of the PLC at {plc.host}:{plc.port}"
        yield Claim((*place, key), owner, "ethernetip", thing, text, hint, first, first + count - 1)


def _tag(tag: str) -> tuple[str, int]:
    """The array's name as the controller compares it, and its first element: ``Block[10]`` is ("block", 10)."""
    name = re.sub(r"(?<=[\[,])0+(?=\d)", "", re.sub(r"\s", "", tag).casefold())
    found = re.fullmatch(r"(.*)\[((?:\d+,)*)(\d+)\]", name)
    return (f"{found[1]}[{found[2]}]" if found[2] else found[1], int(found[3])) if found else (name, 0)


def _opcua_client(plc: Any, owner: str, place: Place) -> Iterator[Claim]:
    hint = "each camera needs variables of its own: give another pattern as node, or other nodes"
    try:
        parts = urlsplit(plc.url)
        where = (_host(parts.hostname or ""), parts.port or 4840)
    except ValueError:  # told when it is opened
        return
    for block, name in (*(("to_plc", name) for name in TO_PLC), *(("from_plc", name) for name in FROM_PLC)):
        given = plc.nodes.get(f"{block}.{name}")
        node = plc.node.replace("{block}", block).replace("{signal}", name) if given is None else given
        scope, identifier = _node(node)
        key: Place = (*place, "node") if given is None else (*place, "nodes", f"{block}.{name}")
        yield Claim(key, owner, "opcua", (*where, identifier), f"the node {node} of {plc.url}", hint, scope=scope)


def _node(node: str) -> tuple[str, str]:
    """Namespace and identifier, as the server compares them."""
    space, identifier = "0", node.strip()
    if found := re.fullmatch(r"(nsu=.*|ns=\d+)\s*;\s*([isgb]=.*)", identifier, re.DOTALL):
        identifier = found[2]
        space = found[1] if found[1].startswith("nsu=") else str(int(found[1][3:]))
    kind, _, value = identifier.partition("=")
    if kind == "i" and value.strip().isdigit():
        value = str(int(value))
    return space, f"{kind}={value.casefold() if kind == 'g' else value}"


def _listening(place: Place, owner: str, bind: str, port: int) -> Iterator[Claim]:
    """A port that is listened on; 0.0.0.0 takes it on all addresses."""
    if port:
        text = f"port {port} of {bind}"
        yield Claim(place, owner, "port", (port,), text, "give each server a port of its own", scope=_host(bind, server=True))


def _gpio(owner: str, place: Place, chip: str, line: int) -> Claim:
    name = Path(os.path.realpath(Path("/dev") / chip)).name  # the kernel's own name, behind links of udev
    hint = "a line has one use; cameras with one trigger belong together (parts, docs/parts.md)"
    return Claim(place, owner, "gpio", (name, line), f"line {line} of {chip}", hint)


def _output(output: Any, owner: str, place: Place) -> Iterator[Claim]:
    if output.type == "gpio":
        for name in GPIO_LINES:
            if (line := getattr(output, name)) is not None:
                yield _gpio(owner, (*place, name), output.chip, line)
    if output.type == "mqtt":
        port = output.port or (8883 if output.tls else 1883)
        broker = (_host(output.host), 1883 if port == 8883 else port)  # the usual pair of one broker, with and without TLS
        where = f"the broker {output.host}:{port}"
        hint = "give each camera a topic of its own, e.g. with its name at the end"
        yield Claim((*place, "topic"), owner, "mqtt topic", (*broker, output.topic), f"the topic {output.topic} of {where}", hint)
        name = output.client_id or "edgead-" + output.topic.replace("/", "-")
        hint = "a broker throws the one out when the other comes: give each its own client_id"
        key = "client_id" if output.client_id else "topic"
        yield Claim((*place, key), owner, "mqtt client", (*broker, name), f"the client id {name} of {where}", hint)


def _camera(camera: Any, place: Place) -> Iterator[Claim]:
    """Cameras that one program alone can have; streams and files can be read by many."""
    place = (*place, "address")
    plain = camera.address.partition("?")[0].strip()
    scheme, _, name = plain.partition(":")
    hint = "a camera has one place in the file; for two bundles on its pictures there are recipes (docs/recipes.md)"
    if (kind := scheme.lower()) in ("gige", "u3v", "basler"):  # the name "" is whichever answers
        text = f"the camera {plain}"
        yield Claim(place, camera.name, f"{kind} camera", (), text, hint, scope=_host(name) if name else "*")
        if name:
            yield Claim(place, camera.name, "vision camera", (_host(name),), text, hint)
    if kind == "gst":
        for device in re.findall(r"/dev/[^\s\"'!]+", camera.address):
            yield Claim(place, camera.name, "usb camera", (os.path.realpath(device),), f"the camera {device}", hint)
    found = re.fullmatch(r"(?:usb:)?(\d+)|(/dev/\S+)", plain, re.IGNORECASE)
    if found:
        device = os.path.realpath(found[2] or f"/dev/video{int(found[1])}")
        yield Claim(place, camera.name, "usb camera", (device,), f"the camera {plain}", hint)


def _host(host: str, *, server: bool = False) -> str:
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


_PLCS = {
    "modbus-client": _modbus_client,
    "modbus-server": _server,
    "opcua-server": _server,
    "s7": _s7,
    "ethernetip": _ethernetip,
    "opcua-client": _opcua_client,
}
