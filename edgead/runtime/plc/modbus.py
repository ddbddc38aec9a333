"""The handshake over Modbus TCP, as the client of a PLC or as the server that a PLC polls. Register map: deploy/plc/modbus.md.

The only file that knows pymodbus (3.16). Modbus Application Protocol V1.1b3: function codes 3 (read holding registers), 16
(write multiple registers) and 23 (both at once).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from edgead.claims import Claim, host_of, listening
from edgead.errors import BadInput, LinkError, MissingExtra, OutputError
from edgead.optional import require
from edgead.runtime.conditions import Condition
from edgead.runtime.listening import try_listening
from edgead.runtime.plc.device import SLOW
from edgead.runtime.plc.loops import LoopFaults
from edgead.runtime.plc.settings import LinkSettings, ThresholdBounds
from edgead.runtime.plc.signals import Direction, FromPlc, ToPlc, WordOrder, f32_of, from_plc_of, to_plc_of, to_words, words_in
from edgead.runtime.threads import Supervised
from edgead.settings import Limits, Port, Positive

if TYPE_CHECKING:
    from edgead.located import Place

_T = TypeVar("_T")

TO_PLC_ADDRESS = 0
FROM_PLC_ADDRESS = 100
"""First holding registers of the two blocks, counted from 0 as on the wire (40001 and 40101 in the old way of counting)."""

REFRESH_EXCHANGES = 10
"""A block that has not changed is written again after so many exchanges, in case the PLC's memory was cleared."""

SPAN_WORDS = 125
"""What one request can read at most (V1.1b3, 6.3)."""

NOT_THERE = (1, 2, 3)
"""Modbus exceptions of registers that cannot be read: illegal function, data address, data value."""

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
"""V1.1b3, 7."""

BUSY = (5, 6)
"""Exceptions of a PLC that has no time now: it is asked again, for `timeout_s` in all, on the same connection."""

BUSY_PAUSE_S = 0.005
NO_SUCH_UNIT = 11
ITSELF = (0, 255)
"""Units that mean the device at the other end of the connection itself (Modbus Messaging on TCP/IP V1.0b, 4.4.2.1)."""

REFUSED_S = 10.0
"""How long a writer that was refused is told of."""

START_S = 5.0

MAX_CONNECTIONS = 16
"""Of the server at once: a PLC, an operator's panel, and what else polls."""

_log = logging.getLogger("edgead.plc")
_TO_WORDS, _FROM_WORDS = words_in(Direction.TO_PLC), words_in(Direction.FROM_PLC)
_THRESHOLD_WORDS = 2
_FUNCTION = "the PLC does not have function code 23: combined: false"
_ADDRESSES = "check unit, addresses and that the PLC allows writing (plc/modbus.md of `edgead deploy-files`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRegisters(ThresholdBounds):
    """Two holding registers, a REAL, in which the PLC gives the threshold; 0 is the bundle's own."""

    address: Annotated[int, Limits(least=0, most=65534)]
    """The first of them, counted from 0 as on the wire; outside of both blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks(LinkSettings):
    """Where the two blocks lie in the holding registers."""

    port: Port = 502
    unit: Annotated[int, Limits(least=0, most=255)] = 1
    """Of the client 1 to 247 behind a gateway; 0 and 255 are the device itself. A server set to one of these answers to all."""
    to_plc_address: Annotated[int, Limits(least=0, most=65535)] = TO_PLC_ADDRESS
    """First holding register that edgead writes."""
    from_plc_address: Annotated[int, Limits(least=0, most=65535)] = FROM_PLC_ADDRESS
    """First holding register that the PLC writes."""
    word_order: WordOrder = "big"
    """Of 32-bit values: big puts the high word at the lower address."""
    threshold: ThresholdRegisters | None = None
    """The PLC may give the threshold, within bounds (docs/thresholds.md)."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        for key, first, words in self._blocks():
            if first + words > 0x10000:
                told = f"{key}: a block of {words} registers that begins at {first} goes beyond register 65535"
                raise BadInput(told, hint="give an address from which it fits")

    def _blocks(self) -> tuple[tuple[str, int, int], ...]:
        """Key, first register and length of each; the threshold's two are a block of their own."""
        own = () if self.threshold is None else (("threshold", self.threshold.address, _THRESHOLD_WORDS),)
        return (
            ("to_plc_address", self.to_plc_address, _TO_WORDS),
            ("from_plc_address", self.from_plc_address, _FROM_WORDS),
            *own,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusClientSettings(_Blocks):
    """edgead connects to the PLC's Modbus TCP server (register map: deploy/plc/modbus.md)."""

    type: Literal["modbus-client"] = "modbus-client"
    host: str
    combined: bool = False
    """Write and read by one request (function code 23), where the PLC has it."""
    timeout_ms: Positive = 50.0
    """For connecting and for each answer."""

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        hint = "each camera needs blocks of its own: give to_plc_address and from_plc_address that are free in the PLC"
        unit = 0 if self.unit == 255 else self.unit  # both mean the device at that address itself
        for key, first, words in self._blocks():
            last = first + words - 1
            text = f"registers {first} to {last} of unit {self.unit} at {self.host}:{self.port}"
            yield Claim((*place, key), owner, "modbus", (host_of(self.host), self.port, unit), text, hint, first, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusServerSettings(_Blocks):
    """The PLC polls edgead, which is the Modbus TCP server."""

    type: Literal["modbus-server"] = "modbus-server"
    bind: str = "127.0.0.1"
    """Address to listen on; name the box's own address on the PLC's network."""
    silent_ms: Positive = 250.0
    """A PLC that writes nothing for so long is silent."""

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        hint = "give to_plc_address and from_plc_address that leave room for each other"
        for key, first, words in self._blocks():
            last = first + words - 1
            yield Claim((*place, key), owner, "own registers", place, f"registers {first} to {last}", hint, first, last)
        yield from listening((*place, "port"), owner, self.bind, self.port)


class ModbusClientLink:
    """Writes the station's block into a PLC's holding registers and reads the PLC's block from there.

    It connects on the first exchange and again after each fault. Each request waits for `timeout_s` at most and is not
    repeated (pymodbus' own defaults block for 4 s on a dead PLC), so an exchange takes 4 x `timeout_s` in the worst case, 6 x
    with a PLC that says that it is busy. A PLC that refuses keeps its connection. After
    a fault it reads before it writes, so writes cannot pile up inside a PLC that stands still. A look reads both blocks by one
    request where they lie within 125 registers and the PLC has those between them, else by two.

    Raises:
        BadInput: the blocks overlap or do not fit into 65536 registers.
        MissingExtra: pymodbus is not installed.
    """

    settings = ModbusClientSettings

    def __init__(self, settings: ModbusClientSettings) -> None:
        check_blocks(settings.to_plc_address, settings.from_plc_address, settings.threshold)
        self._threshold = settings.threshold
        host, port, unit, timeout_s = settings.host, settings.port, settings.unit, settings.timeout_ms / 1000
        module = _pymodbus("client")
        faults = _pymodbus("exceptions")
        self._errors: tuple[type[Exception], ...] = (faults.ModbusException, OSError)
        self._cut: tuple[type[Exception], ...] = (faults.ConnectionException, OSError)
        answered = _as_unit(unit) if unit in ITSELF else None
        self._client = module.ModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, trace_packet=answered)
        self._timeout_s = timeout_s
        self.name = self._name = f"the PLC at {host}:{port}"
        self._unit, self._combined = unit, settings.combined
        self._write_at, self._read_at, self._word_order = settings.to_plc_address, settings.from_plc_address, settings.word_order
        self._written: list[int] = []
        self._unchanged = 0
        self._closed = False
        first = min(self._write_at, self._read_at)
        last = max(self._write_at + _TO_WORDS, self._read_at + _FROM_WORDS)
        self._span = (
            (first, last - first) if last - first <= SPAN_WORDS else None
        )  # None: both blocks do not fit into one request
        self._spanned = False  # one request has brought both
        self._readable = False  # our own block was read before: from then on a refusal is a fault, and told as one

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        return from_plc_of(self._asked(lambda: self._swap(to_words(to_plc, self._word_order))), self._word_order)

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        own, words = self._asked(self._look)
        if own is not None:
            self._unchanged = 0  # nothing was cleared
            if own != self._written:
                self._written = []
        return None if own is None else to_plc_of(own, self._word_order), from_plc_of(words, self._word_order)

    def threshold(self) -> tuple[float, str] | None:
        """See :class:`edgead.runtime.plc.device.LookingLink`."""
        wanted = self._threshold
        if wanted is None:
            return None
        ask = partial(self._client.read_holding_registers, wanted.address, count=_THRESHOLD_WORDS)
        pair = self._asked(lambda: self._registers(self._patiently(ask), _THRESHOLD_WORDS))
        return f32_of(pair, self._word_order), self._name

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Connect if need be, and ask; after a fault the connection is gone."""
        if self._closed:
            raise LinkError(f"{self._name} is closed", cause="closed")
        try:
            if not self._client.connected:
                self._connect()
            return ask()
        except self._errors as error:
            self._drop()
            cause = "connect" if isinstance(error, self._cut) else "timeout"
            if cause == "connect":
                text, hint = f"broke the connection: {_one_line(error)}", "check network and PLC"
            else:
                text, hint = f"does not answer within {1000 * self._timeout_s:g} ms (timeout_ms)", SLOW
            raise LinkError(f"{self._name} {text}", cause=cause, hint=hint) from error
        except LinkError as error:
            if error.cause == "connect":
                self._drop()
            raise

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _connect(self) -> None:
        if not self._client.connect():
            raise LinkError(f"{self._name} does not accept a connection", cause="connect", hint="check address, network and PLC")
        self._read()  # it lives: no write is left behind in the buffer of one that does not

    def _swap(self, words: list[int]) -> list[int]:
        if self._combined:
            return self._registers(
                self._patiently(
                    self._client.readwrite_registers,
                    read_address=self._read_at,
                    read_count=_FROM_WORDS,
                    write_address=self._write_at,
                    values=words,
                )
            )
        self._unchanged += 1
        if words != self._written or self._unchanged >= REFRESH_EXCHANGES:
            self._written = []
            self._check(self._patiently(self._client.write_registers, self._write_at, words))
            self._written, self._unchanged = words, 0
        return self._read()

    def _read(self) -> list[int]:
        return self._registers(self._patiently(self._client.read_holding_registers, self._read_at, count=_FROM_WORDS))

    def _patiently(self, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The answer to a request, which is made again while the PLC is busy, for `timeout_s` at most."""
        until = time.monotonic() + self._timeout_s
        while True:
            response = ask(*arguments, device_id=self._unit, **options)
            if not response.isError() or response.exception_code not in BUSY or time.monotonic() >= until:
                return response
            time.sleep(BUSY_PAUSE_S)

    def _look(self) -> tuple[list[int] | None, list[int]]:
        """Both blocks, by one request where the PLC has the registers between them."""
        if self._span is not None:
            at, count = self._span
            if not self._spanned:
                self._span = None  # unless it works, also when it breaks the connection
            response = self._patiently(self._client.read_holding_registers, at, count=count)
            if not response.isError() and len(response.registers) == count:
                self._span, self._spanned, self._readable = (at, count), True, True
                own, theirs = self._write_at - at, self._read_at - at
                return list(response.registers[own : own + _TO_WORDS]), list(response.registers[theirs : theirs + _FROM_WORDS])
            self._span = None
        response = self._patiently(self._client.read_holding_registers, self._write_at, count=_TO_WORDS)
        hidden = response.isError() and getattr(response, "exception_code", None) in NOT_THERE and not self._readable
        ours = None if hidden else self._registers(response, _TO_WORDS)
        self._readable = self._readable or ours is not None
        return ours, self._read()

    def _registers(self, response: Any, count: int = _FROM_WORDS) -> list[int]:
        self._check(response)
        words = list(response.registers)
        if len(words) != count:
            raise LinkError(f"{self._name} gave {len(words)} of {count} registers", cause="refused", hint=_ADDRESSES)
        return words

    def _check(self, response: Any) -> None:
        if response.isError():
            code = response.exception_code
            name = f"Modbus exception {code}, {EXCEPTIONS.get(code, 'not in the standard')}"
            if code in BUSY:
                limit = f"{1000 * self._timeout_s:g} ms (timeout_ms)"
                raise LinkError(f"{self._name} is busy for longer than {limit}: {name}", cause="busy", hint=SLOW)
            hint = _FUNCTION if code == 1 and self._combined else _ADDRESSES
            raise LinkError(f"{self._name} refuses ({name})", cause="refused", hint=hint)

    def _drop(self) -> None:
        self._written = []
        self._client.close()


class ModbusServerLink:
    """Is the Modbus TCP server; the PLC writes its block into our registers and reads the station's block from there.

    The station's block can only be read. The PLC's block takes writes of one connection: whoever wrote last, until it has
    been silent for `silent_s`; writes of others are answered with exception 6 (busy). Anybody who reaches the port can
    read, and can write while the PLC is silent: Modbus has no passwords, so bind to the machine network only. Of more than 16
    connections, the one that asked for nothing the longest is closed.

    `unit` is the unit number that is answered, beside 0 and 255, which mean this device itself; others get exception 11.

    Args:
        settings: see there.
        any_port: take any free one (see `port`).

    Attributes:
        port: where it listens.

    Raises:
        BadInput: the blocks overlap, or this is no address.
        OutputError: the address cannot be listened on now.
        MissingExtra: pymodbus is not installed.
    """

    settings = ModbusServerSettings

    def __init__(self, settings: ModbusServerSettings, *, any_port: bool = False) -> None:
        check_blocks(settings.to_plc_address, settings.from_plc_address, settings.threshold)
        self._threshold, self._wished = settings.threshold, [0] * _THRESHOLD_WORDS
        bind, port, word_order = settings.bind, 0 if any_port else settings.port, settings.word_order
        try_listening(bind, port, "cannot listen")  # pymodbus does not say why
        self._server_module, self._sim = _pymodbus("server"), _pymodbus("simulator")
        self._busy = _pymodbus("constants").ExcCodes.DEVICE_BUSY
        self._bind, self._unit = bind, settings.unit
        self._write_at, self._read_at, self._word_order = settings.to_plc_address, settings.from_plc_address, word_order
        self._silent_s = settings.silent_ms / 1000
        self._lock = threading.Lock()
        self._ours, self._theirs = to_words(ToPlc(), word_order), [0] * _FROM_WORDS
        self._writer: object | None = None
        self._written_at: float | None = None
        self._refused: tuple[str, float] | None = None  # the address of another writer, and when it was refused
        self.port = port
        self._failure: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._listening = threading.Event()
        self._thread = Supervised("modbus", self._serve)
        self._thread.start()
        self._listening.wait(START_S)
        if self._failure is not None or not self._listening.is_set():
            self.close()
            raise OutputError(f"cannot listen on {bind}:{port}: {self._failure}", hint="give a free port of this machine")

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        words = to_words(to_plc, self._word_order)
        with self._lock:
            self._ours = words
            silent = self._written_at is None or time.monotonic() - self._written_at > self._silent_s
            theirs = list(self._theirs)
        if not self._thread.alive:
            raise LinkError(f"the Modbus server on port {self.port} is closed", cause="closed")
        if silent:
            raise LinkError(
                f"no PLC writes to port {self.port}", cause="silent", hint="the PLC must write its block several times a second"
            )
        return from_plc_of(theirs, self._word_order)

    def threshold(self) -> tuple[float, str] | None:
        """See :class:`edgead.runtime.plc.device.LookingLink`."""
        if self._threshold is None:
            return None
        with self._lock:
            return f32_of(self._wished, self._word_order), f"the PLC at {_address(self._writer)}"

    @property
    def name(self) -> str:
        return f"the PLC that writes to port {self.port}"

    def conditions(self) -> dict[str, Condition]:
        """Another writer, for a while after it was refused."""
        refused = self._refused
        if refused is None or time.monotonic() - refused[1] > REFUSED_S:
            return {}
        text = (
            f"{refused[0]} writes the PLC's block, too, and is refused (exception 6); expected: one writer, now "
            f"{_address(self._writer)}; look at: which of the two is the PLC of this station?"
        )
        return {"second_writer": Condition(text, blocks=False)}

    def close(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.alive:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)

    def _serve(self) -> None:
        try:
            asyncio.run(self._listen())
        except Exception as error:
            if self._listening.is_set():
                raise  # a death: it begins again
            self._failure = error  # told by the constructor
        finally:
            self._listening.set()

    async def _listen(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        registers = self._sim.DataType.REGISTERS
        blocks = [
            self._sim.SimData(self._write_at, values=[0] * _TO_WORDS, datatype=registers, readonly=True),
            self._sim.SimData(self._read_at, values=[0] * _FROM_WORDS, datatype=registers),
        ]
        if self._threshold is not None:
            blocks.append(self._sim.SimData(self._threshold.address, values=[0] * _THRESHOLD_WORDS, datatype=registers))
        faults = LoopFaults()
        self._loop.set_exception_handler(faults)
        device = self._sim.SimDevice(0, simdata=blocks, action=self._access)  # of pymodbus' units 0 is any
        server = _server_class(self._server_module, self._unit)(device, address=(self._bind, self.port))
        self._asking = server.asking
        try:
            await server.serve_forever(background=True)
            self.port = server.transport.sockets[0].getsockname()[1]
            self._listening.set()
            await self._stop.wait()
        finally:
            await server.shutdown()
            faults.close()

    async def _access(
        self, _code: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None
    ) -> Any:
        """A request is about to be served from `registers`, which begin at address `start`."""
        with self._lock:
            if values is None:
                registers[self._write_at - start : self._write_at - start + _TO_WORDS] = self._ours
                return None
            now = time.monotonic()
            owned = self._written_at is not None and now - self._written_at <= self._silent_s
            if owned and self._asking() is not self._writer:
                self._refused = _address(self._asking()), now
                return self._busy
            self._writer, self._written_at = self._asking(), now
            for register, value in enumerate(values, address):  # one request may reach from the block into the threshold
                if self._threshold is not None and 0 <= register - self._threshold.address < _THRESHOLD_WORDS:
                    self._wished[register - self._threshold.address] = int(value)
                else:
                    self._theirs[register - self._read_at] = int(value)
            return None


def _as_unit(unit: int) -> Callable[[bool, bytes], bytes]:
    """For pymodbus: the unit of an answer (byte 6 of its header) is taken for ours, whatever it is."""

    def changed(sending: bool, data: bytes) -> bytes:
        return data if sending or len(data) < 7 else data[:6] + bytes([unit]) + data[7:]

    return changed


def _server_class(module: Any, unit: int) -> Any:
    """pymodbus' TCP server, which connection it is serving right now, and few of them: the one that asked for nothing the longest
    makes room for a new one, so that idle connections keep no PLC out."""
    from pymodbus.pdu import ExceptionResponse
    from pymodbus.server.requesthandler import ServerRequestHandler

    class Handler(ServerRequestHandler):
        asked_at = 0.0
        unwanted = False  # turned out before it began: asyncio makes many in one go, and connects them later

        def connection_made(self, transport: Any) -> None:
            if self.unwanted:
                transport.abort()
            else:
                super().connection_made(transport)

        async def handle_request(self) -> None:
            self.server.now = self  # requests are served one after the other: nothing in between waits
            self.asked_at = time.monotonic()
            asked = self.last_pdu
            if asked and unit not in ITSELF and asked.dev_id not in (unit, *ITSELF):
                refused = ExceptionResponse(asked.function_code, NO_SUCH_UNIT, asked.dev_id, asked.transaction_id)
                self.server_send(refused, self.last_addr)  # type: ignore[no-untyped-call]
                return
            await super().handle_request()  # type: ignore[no-untyped-call]

    class Server(module.ModbusTcpServer):  # type: ignore[misc]
        now: object | None = None

        def asking(self) -> object | None:
            return self.now

        def callback_new_connection(self) -> Handler:
            while len(self.active_connections) >= MAX_CONNECTIONS:
                self.turn_out(min(self.active_connections.values(), key=lambda handler: handler.asked_at))
            handler = Handler(self, self.trace_packet, self.trace_pdu, self.trace_connect)  # type: ignore[no-untyped-call]
            handler.asked_at = time.monotonic()
            return handler

        def turn_out(self, handler: Handler) -> None:
            transport: Any = handler.transport
            idle_s = time.monotonic() - handler.asked_at
            _log.warning(
                "more than %d Modbus connections: that of %s is closed, which asked for nothing for %.0f s",
                MAX_CONNECTIONS, (transport.get_extra_info("peername") or "?")[0] if transport else "a new one", idle_s,
            )  # fmt: skip
            self.active_connections.setdefault(handler.unique_id, handler)
            handler.close()
            if transport is None:
                handler.unwanted = True
            else:
                transport.abort()  # what is still to be sent goes to nobody

    return Server


def _address(handler: Any) -> str:
    """Of the other end of a connection that the server serves."""
    peer = handler.transport.get_extra_info("peername") if handler is not None and handler.transport is not None else None
    return f"{peer[0]}:{peer[1]}" if peer else "one that has hung up"


def _pymodbus(module: str) -> Any:
    """A module of pymodbus, which then keeps quiet: faults are counted and told by the device."""
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
    loaded = require(f"pymodbus.{module}", extra="modbus", why="Modbus TCP")
    if module == "simulator" and not hasattr(loaded, "SimDevice"):
        raise MissingExtra("this pymodbus is too old for a Modbus server", hint="pip install 'edgead[modbus]'")
    return loaded


def check_blocks(to_plc: int, from_plc: int, threshold: ThresholdRegisters | None = None) -> None:
    """Whether two blocks that begin at these registers fit, and the threshold's beside them. Raises BadInput."""
    fits = 0 <= to_plc <= 0x10000 - _TO_WORDS and 0 <= from_plc <= 0x10000 - _FROM_WORDS
    if not fits or max(to_plc, from_plc) < min(to_plc + _TO_WORDS, from_plc + _FROM_WORDS):
        raise BadInput(
            f"register blocks at {to_plc} and {from_plc} overlap or do not fit",
            hint=f"the station's block takes {_TO_WORDS} registers, the PLC's {_FROM_WORDS}, within 0..65535",
        )
    for first, words in ((to_plc, _TO_WORDS), (from_plc, _FROM_WORDS)) if threshold is not None else ():
        if threshold is not None and first - _THRESHOLD_WORDS < threshold.address < first + words:
            raise BadInput(
                f"the threshold's registers from {threshold.address} on lie in a block, {first} to {first + words - 1}",
                hint="give an address outside of both",
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
