"""The handshake in a data block of a Siemens S7-300, 400, 1200 or 1500. Layout: deploy/plc/s7.md and s7.db.

The only file that knows python-snap7 (3.x, pure Python): ISO transport on TCP (RFC 1006, port 102), S7 communication "PUT/GET".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from edgead.claims import Claim, host_of
from edgead.errors import LinkError
from edgead.optional import require
from edgead.runtime.plc.device import SLOW
from edgead.runtime.plc.settings import LinkSettings
from edgead.runtime.plc.signals import Direction, FromPlc, ToPlc, from_plc_of, to_plc_of, to_words, words_in
from edgead.settings import Limits, Port, Positive

if TYPE_CHECKING:
    from edgead.located import Place

TO_PLC_BYTE = 0
FROM_PLC_BYTE = 2 * words_in(Direction.TO_PLC)
DB_BYTES = FROM_PLC_BYTE + 2 * words_in(Direction.FROM_PLC)
"""The two blocks lie one behind the other in one data block."""

REFRESH_EXCHANGES = 10
"""A block that has not changed is written again after so many exchanges, in case the PLC's memory was cleared."""

LOCAL_TSAP = 0x0100
PG_CONNECTION = 1

_ACCESS = (
    "permit PUT/GET access in the CPU's protection settings, switch off 'optimized block access' of the data block, and check "
    f"its number and length ({DB_BYTES} bytes, plc/s7.md of `edgead deploy-files`)"
)

_CONNECT = "check address, rack, slot, network and PLC, and that the CPU has a connection to spare (panels and others take them)"


@dataclass(frozen=True, slots=True, kw_only=True)
class S7Settings(LinkSettings):
    """edgead reads and writes a data block of a Siemens S7 (layout: deploy/plc/s7.md; PUT/GET must be permitted)."""

    type: Literal["s7"] = "s7"
    host: str
    port: Port = 102
    rack: Annotated[int, Limits(least=0, most=7)] = 0
    slot: Annotated[int, Limits(least=0, most=31)] = 1
    """Of the CPU: 1 for S7-1200 and S7-1500, 2 for S7-300."""
    db_number: Annotated[int, Limits(least=1, most=65535)] = 1
    """That holds both blocks, from byte 0 on."""
    timeout_ms: Positive = 100.0
    """For connecting and for each answer."""

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        hint = "each camera needs a data block of its own: make another one in the PLC and give its db_number"
        slot = 1 if self.slot == 0 else self.slot  # S7-1200 and S7-1500 answer to both
        text = f"DB{self.db_number} of the PLC at {self.host}:{self.port}"
        thing = (host_of(self.host), self.port, self.rack, slot, self.db_number)
        yield Claim((*place, "db_number"), owner, "s7", thing, text, hint, 0, DB_BYTES - 1)


class S7Link:
    """Writes the station's block into a data block of the PLC and reads the PLC's block from there.

    It connects on the first exchange and again after each fault; connecting needs answers, so a PLC that stands still gets no
    writes that it could find later. Each connect, read and write waits `timeout_s` at most and is not repeated: an exchange
    takes 5 x `timeout_s` in the worst case. S7 communication has neither encryption nor, with PUT/GET, a password.

    Raises:
        MissingExtra: python-snap7 is not installed.
    """

    settings = S7Settings

    def __init__(self, settings: S7Settings) -> None:
        host, port, rack, slot = settings.host, settings.port, settings.rack, settings.slot
        connection, protocol, errors, types = (_snap7(name) for name in ("connection", "s7protocol", "error", "datatypes"))
        self._connection, self._protocol_class = connection.ISOTCPConnection, protocol.S7Protocol
        self._timeout, self._refused, self._errors = errors.S7TimeoutError, errors.S7ProtocolError, (errors.S7Error, OSError)
        self._area, self._byte = types.S7Area.DB, types.S7WordLen.BYTE
        self._host, self._port, self._tsap = host, port, PG_CONNECTION << 8 | rack << 5 | slot
        self._db, self._timeout_s = settings.db_number, settings.timeout_ms / 1000
        self.name = self._name = f"the PLC at {host}:{port}"
        self._open: Any = None
        self._protocol: Any = None
        self._written: list[int] = []
        self._unchanged = 0
        self._closed = False

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        return from_plc_of(self._asked(lambda: self._swap(to_words(to_plc))))

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        words = self._asked(lambda: self._read(TO_PLC_BYTE, DB_BYTES))
        own, theirs = words[: FROM_PLC_BYTE // 2], words[FROM_PLC_BYTE // 2 :]
        self._unchanged = 0  # nothing was cleared
        if own != self._written:
            self._written = []
        return to_plc_of(own), from_plc_of(theirs)

    def _swap(self, words: list[int]) -> list[int]:
        self._unchanged += 1
        if words != self._written or self._unchanged >= REFRESH_EXCHANGES:
            self._write(words)
        return self._read(FROM_PLC_BYTE, DB_BYTES - FROM_PLC_BYTE)

    def _asked(self, ask: Callable[[], list[int]]) -> list[int]:
        """Connect if need be, and ask; after a fault the connection is gone."""
        if self._closed:
            raise LinkError(f"{self._name} is closed", cause="closed")
        try:
            if self._open is None:
                self._connect()
            return ask()
        except self._errors as error:
            connected = self._open is not None
            self._drop()
            raise self._told(error, connected) from error

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _connect(self) -> None:
        opened = self._connection(self._host, self._port, LOCAL_TSAP, self._tsap)
        opened.connect(timeout=self._timeout_s)
        self._open, self._protocol = opened, self._protocol_class()
        self._ask(self._protocol.build_setup_communication_request())

    def _write(self, words: list[int]) -> None:
        self._written = []
        data = b"".join(word.to_bytes(2, "big") for word in words)
        request = self._protocol.build_write_request(self._area, self._db, TO_PLC_BYTE, self._byte, data)
        self._protocol.check_write_response(self._ask(request))
        self._written, self._unchanged = words, 0

    def _read(self, first: int, count: int) -> list[int]:
        request = self._protocol.build_read_request(self._area, self._db, first, self._byte, count)
        data = self._protocol.extract_read_data(self._ask(request), self._byte, count)
        return [data[at] << 8 | data[at + 1] for at in range(0, count, 2)]

    def _ask(self, request: bytes) -> dict[str, Any]:
        self._open.send_data(request)
        response: dict[str, Any] = self._protocol.parse_response(self._open.receive_data())
        self._protocol.validate_pdu_reference(response["sequence"])
        return response

    def _told(self, error: Exception, connected: bool) -> LinkError:
        text = _one_line(error)
        if isinstance(error, self._refused):
            return LinkError(f"{self._name} refuses DB{self._db}: {text}", cause="refused", hint=_ACCESS)
        limit = f"{1000 * self._timeout_s:g} ms (timeout_ms)"
        if isinstance(error, self._timeout) and connected:
            return LinkError(f"{self._name} does not answer within {limit}: {text}", cause="timeout", hint=SLOW)
        if isinstance(error, self._timeout):
            text = f"{self._name} does not accept a connection within {limit}"
            return LinkError(text, cause="connect", hint=f"{_CONNECT}; {SLOW}")
        what = "broke the connection" if connected else "does not accept a connection"
        return LinkError(f"{self._name} {what}: {text}", cause="connect", hint=_CONNECT)

    def _drop(self) -> None:
        opened, self._open, self._protocol, self._written = self._open, None, None, []
        if opened is not None:
            opened.disconnect()


def _snap7(module: str) -> Any:
    """A module of python-snap7, which then keeps quiet: faults are counted and told by the device."""
    logging.getLogger("snap7").setLevel(logging.CRITICAL)
    return require(f"snap7.{module}", extra="s7", why="Siemens S7")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
