"""The handshake in two DINT arrays of a Rockwell Logix controller, by EtherNet/IP. Tag list: deploy/plc/ethernetip.md.

The only file that knows pylogix (1.1): explicit messages of CIP class 3, Read Tag and Write Tag, TCP port 44818.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from edgead.claims import Claim, host_of
from edgead.errors import BadInput, LinkError
from edgead.optional import require
from edgead.runtime.plc.device import SLOW
from edgead.runtime.plc.settings import LinkSettings
from edgead.runtime.plc.signals import (
    WIDTH,
    Direction,
    FromPlc,
    Signal,
    ToPlc,
    from_plc_of,
    signals,
    to_plc_of,
    to_words,
    words_in,
)
from edgead.settings import Limits, Port, Positive

if TYPE_CHECKING:
    from edgead.located import Place

_T = TypeVar("_T")

TO_PLC_TAG = "Edgead_ToPlc"
FROM_PLC_TAG = "Edgead_FromPlc"

REFRESH_EXCHANGES = 10
"""A block that has not changed is written again after so many exchanges, in case the PLC's memory was cleared."""

DINT = 0xC4
HEADER = 24
"""Bytes of an encapsulation header; bytes 2 and 3 of it say how many follow (CIP volume 2, 2-3.1)."""

_MEANINGS = {
    "Path segment error": "there is no such tag, or it is not accessible from outside",
    "Path destination unknown": "there is no such tag, or it is not accessible from outside",
    "Privilege violation": "its external access does not allow that",
    "Unknown error 255": "the array is shorter than needed, or holds another type",
}
"""Of general status codes of CIP (volume 1, appendix B), as pylogix words them: what they mean for a tag."""

_ARRAYS = "both tags must be DINT arrays with external access Read/Write (plc/ethernetip.md of `edgead deploy-files`)"


def elements(direction: Direction) -> tuple[tuple[Signal, int], ...]:
    """The signals of a direction, each with its element of the array: all bits in element 0, then one element for each number."""
    found: list[tuple[Signal, int]] = []
    last = 0
    for signal in signals(direction):
        last += signal.bit is None
        found.append((signal, 0 if signal.bit is not None else last))
    return tuple(found)


def length(direction: Direction) -> int:
    """Elements of a direction's array."""
    return max(element for _, element in elements(direction)) + 1


def to_dints(shown: ToPlc | FromPlc) -> list[int]:
    """The array that carries `shown`; u32 are the same 32 bits as a signed number, f32 is its bit pattern (IEEE 754)."""
    direction = Direction.TO_PLC if isinstance(shown, ToPlc) else Direction.FROM_PLC
    words = to_words(shown)
    dints = [0] * length(direction)
    for signal, element in elements(direction):
        value = words[signal.word]
        if WIDTH[signal.type] == 2:
            value = value << 16 | words[signal.word + 1]
        dints[element] = value - (1 << 32) if value >> 31 else value
    return dints


def words_of(dints: list[int], direction: Direction) -> list[int]:
    """The block of 16-bit words (high word first) that an array carries."""
    words = [0] * words_in(direction)
    for signal, element in elements(direction):
        high, low = divmod(dints[element] & 0xFFFFFFFF, 1 << 16)
        words[signal.word : signal.word + WIDTH[signal.type]] = (high, low)[-WIDTH[signal.type] :]
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class EtherNetIpSettings(LinkSettings):
    """edgead reads and writes two DINT arrays of a Rockwell Logix controller (tag list: deploy/plc/ethernetip.md)."""

    type: Literal["ethernetip"] = "ethernetip"
    host: str
    port: Port = 44818
    slot: Annotated[int, Limits(least=0, most=255)] = 0
    """Of the controller in its chassis; 0 for CompactLogix."""
    to_plc_tag: str = TO_PLC_TAG
    """An array; ``Program:MAIN.NAME`` for tags of a program, also members and elements (``Stations[2].ToPlc``, ``All[20]``: from
    that element on)."""
    from_plc_tag: str = FROM_PLC_TAG
    timeout_ms: Positive = 250.0
    """For connecting and for each answer."""
    cycle_ms: Positive = 10.0

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        if not (self.to_plc_tag and self.from_plc_tag) or self.to_plc_tag == self.from_plc_tag:
            raise BadInput("the two tags must have different names", hint="see plc/ethernetip.md of `edgead deploy-files`")

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        hint = "each camera needs two tags of its own: give other names, or other members or elements"
        for key, tag, count in (
            ("to_plc_tag", self.to_plc_tag, length(Direction.TO_PLC)),
            ("from_plc_tag", self.from_plc_tag, length(Direction.FROM_PLC)),
        ):
            name, first = element_of(tag)
            thing = (host_of(self.host), self.port, self.slot, name)
            text = f"the tag {tag} of the PLC at {self.host}:{self.port}"
            yield Claim((*place, key), owner, "ethernetip", thing, text, hint, first, first + count - 1)


def element_of(tag: str) -> tuple[str, int]:
    """The array's name as the controller compares it, and its first element: ``Block[10]`` is ("block", 10)."""
    name = re.sub(r"(?<=[\[,])0+(?=\d)", "", re.sub(r"\s", "", tag).casefold())
    found = re.fullmatch(r"(.*)\[((?:\d+,)*)(\d+)\]", name)
    return (f"{found[1]}[{found[2]}]" if found[2] else found[1], int(found[3])) if found else (name, 0)


class EtherNetIpLink:
    """Writes the station's array into the controller and reads the controller's array from there.

    It connects on the first exchange and again after each fault, and then reads both arrays first: a controller that stands still
    gets no writes that it could find later. Each step waits `timeout_s` at most and is not repeated: an exchange takes
    2 x `timeout_s`, one that connects 8 x. Explicit messages have neither encryption nor a password.

    Raises:
        MissingExtra: pylogix is not installed.
    """

    settings = EtherNetIpSettings

    def __init__(self, settings: EtherNetIpSettings) -> None:
        host, port, timeout_s = settings.host, settings.port, settings.timeout_ms / 1000
        self._pylogix = require("pylogix", extra="ethernetip", why="EtherNet/IP")
        self._parsed = require("pylogix.utils", extra="ethernetip", why="EtherNet/IP").parse_tag_name
        self._timeout_s, self._limit = timeout_s, f"{1000 * timeout_s:g} ms (timeout_ms)"
        self._options = {"ip_address": host, "slot": settings.slot, "timeout": timeout_s, "port": port}
        self._write_tag, self._read_tag = settings.to_plc_tag, settings.from_plc_tag
        self.name = self._name = f"the PLC at {host}:{port}"
        self._plc: Any = None
        self._written: list[int] = []
        self._unchanged = 0
        self._closed = False

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        return self._asked(lambda: self._swap(to_dints(to_plc)))

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        return self._asked(self._look)

    def _swap(self, dints: list[int]) -> FromPlc:
        self._unchanged += 1
        if dints != self._written or self._unchanged >= REFRESH_EXCHANGES:
            self._written = []
            self._check(self._plc.Write(self._write_tag, dints, DINT), self._write_tag)
            self._written, self._unchanged = dints, 0
        return self._theirs()

    def _look(self) -> tuple[ToPlc, FromPlc]:
        own = self._read(self._write_tag, length(Direction.TO_PLC))
        self._unchanged = 0  # nothing was cleared
        if own != self._written:
            self._written = []
        return to_plc_of(words_of(own, Direction.TO_PLC)), self._theirs()

    def _theirs(self) -> FromPlc:
        return from_plc_of(words_of(self._read(self._read_tag, length(Direction.FROM_PLC)), Direction.FROM_PLC))

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Connect if need be, and ask; after a fault the connection is gone."""
        if self._closed:
            raise LinkError(f"{self._name} is closed", cause="closed")
        try:
            if self._plc is None:
                self._connect()
            return ask()
        except LinkError:
            self._drop()
            raise
        except (OSError, ValueError, IndexError, KeyError, TypeError, struct.error) as error:  # an answer that pylogix trips over
            self._drop()
            raise LinkError(
                f"{self._name} broke the connection: {_one_line(error)}", cause="connect", hint="check network and PLC"
            ) from error

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _connect(self) -> None:
        self._plc = self._pylogix.PLC(**self._options)
        self._plc.conn.msg_socket.close()  # of a listener that is not used
        self._plc.conn.receive_data = partial(self._receive, self._plc.conn)
        done, why = self._plc.conn.connect()
        if not done:
            raise LinkError(
                f"{self._name} does not accept a connection: {_one_line(why)}",
                cause="connect",
                hint="check address, slot, network and PLC",
            )
        for tag, direction in ((self._read_tag, Direction.FROM_PLC), (self._write_tag, Direction.TO_PLC)):
            self._read(tag, length(direction))
            kind = self._plc.KnownTags[self._parsed(tag)[1]][0]
            if kind != DINT:
                name = self._plc.CIPTypes.get(kind, (0, hex(kind)))[1]
                raise LinkError(f"{self._name}: the tag {tag} is {name}, not DINT", cause="refused", hint=_ARRAYS)

    def _receive(self, conn: Any) -> bytes | None:
        """One answer, for pylogix, whose own way of reading never ends when the connection does within an answer, and takes any
        time for one that comes in small pieces. None: there is none."""
        connection, until, data = conn.Socket, time.monotonic() + self._timeout_s, b""
        try:
            while len(data) < HEADER or len(data) < HEADER + int.from_bytes(data[2:4], "little"):
                connection.settimeout(max(until - time.monotonic(), 0.001))
                part = connection.recv(4096)
                if not part or time.monotonic() > until:
                    return None
                data += part
        except OSError:
            return None
        finally:
            connection.settimeout(self._timeout_s)
        return data

    def _read(self, tag: str, count: int) -> list[int]:
        response = self._plc.Read(tag, count)
        self._check(response, tag)
        values = response.Value if isinstance(response.Value, list) else [response.Value]
        if len(values) != count:
            raise LinkError(f"{self._name} gave {len(values)} of {count} elements of {tag}", cause="refused", hint=_ARRAYS)
        return values

    def _check(self, response: Any, tag: str) -> None:
        if response.Status == "Success":
            return
        if not self._plc.conn.SocketConnected:  # pylogix tells a timeout and a cut connection alike
            raise LinkError(f"{self._name} does not answer within {self._limit}", cause="timeout", hint=SLOW)
        meaning = _MEANINGS.get(str(response.Status), "")
        told = f"{response.Status} ({meaning})" if meaning else response.Status
        raise LinkError(f"{self._name} refuses {tag}: {told}", cause="refused", hint=_ARRAYS)

    def _drop(self) -> None:
        plc, self._plc, self._written = self._plc, None, []
        if plc is None:
            return
        if plc.conn.SocketConnected:
            plc.Close()
        plc.conn.Socket.close()


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
