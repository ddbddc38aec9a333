"""PLCs on the wire, written from the protocols' specifications without any of the libraries: they answer as real ones may.

Each is a thread with an asyncio server inside the test, that counts its connections and answers by what a test has set.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from types import TracebackType


class Peer:
    """A TCP server on ``127.0.0.1:port`` while the block runs.

    Attributes:
        connections: how many there were.
        delay_s: before each answer.
    """

    def __init__(self) -> None:
        self.connections, self.delay_s = 0, 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-peer")

    def __enter__(self) -> Peer:
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests and answers of one connection, until it ends."""
        raise NotImplementedError

    def _wait(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _end(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)


class ModbusPeer(Peer):
    """Modbus Application Protocol V1.1b3, function codes 3, 16 and 23.

    Attributes:
        registers: its memory.
        answer_as: the unit in its answers; None: the one that was asked.
        refuse: exceptions with which the next requests are answered.
        always: the exception with which all are answered, where it is not 0.
        asked: units that were asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registers = [0] * 0x10000
        self.answer_as: int | None = None
        self.refuse: list[int] = []
        self.always = 0
        self.asked: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
            request = await reader.readexactly(length - 1)
            self.asked.append(unit)
            await asyncio.sleep(self.delay_s)
            code = self.refuse.pop(0) if self.refuse else self.always
            answer = bytes([request[0] | 0x80, code]) if code else self.answered(request)
            unit = unit if self.answer_as is None else self.answer_as
            writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
            await writer.drain()

    def answered(self, request: bytes) -> bytes:
        function = request[0]
        if function == 3:
            return bytes([3]) + self.read(*struct.unpack(">HH", request[1:5]))
        if function == 16:
            self.write(struct.unpack(">H", request[1:3])[0], request[6:])
            return request[:5]
        if function == 23:
            self.write(struct.unpack(">H", request[5:7])[0], request[10:])
            return bytes([23]) + self.read(*struct.unpack(">HH", request[1:5]))
        return bytes([function | 0x80, 1])

    def read(self, first: int, count: int) -> bytes:
        return bytes([2 * count]) + struct.pack(f">{count}H", *self.registers[first : first + count])

    def write(self, first: int, data: bytes) -> None:
        self.registers[first : first + len(data) // 2] = struct.unpack(f">{len(data) // 2}H", data)


class LogixPeer(Peer):
    """A Logix controller (EtherNet/IP, CIP volumes 1 and 2): Read Tag and Write Tag of DINT arrays.

    Attributes:
        tags: arrays by their whole symbolic path, e.g. ``"Stations[2].ToPlc"``; what is written with an index of 0 is the same.
        kind: the type code in answers.
        paths: that were asked for.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.tags = {name: [0] * size for name, size in sizes.items()}
        self.kind = 0xC4
        self.paths: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            command, length, session, _, context, _ = struct.unpack("<HHII8sI", await reader.readexactly(24))
            data = await reader.readexactly(length)
            await asyncio.sleep(self.delay_s)
            if command == 0x66:  # UnRegisterSession
                return
            body = self.body(command, data)
            session = 0x55 if command == 0x65 else session
            writer.write(struct.pack("<HHII8sI", command, len(body), session, 0, context, 0) + body)
            await writer.drain()

    def body(self, command: int, data: bytes) -> bytes:
        if command == 0x65:  # RegisterSession
            return data
        if command == 0x6F:  # SendRRData: an unconnected message
            answer = self.answered(data[16 : 16 + struct.unpack("<H", data[14:16])[0]])
            return struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, len(answer)) + answer
        length = struct.unpack("<H", data[18:20])[0]  # SendUnitData: a connected one, with a sequence number
        answer = data[20:22] + self.answered(data[22 : 20 + length])
        return struct.pack("<IHHHHIHH", 0, 0, 2, 0xA1, 4, 0x11223344, 0xB1, len(answer)) + answer

    def answered(self, request: bytes) -> bytes:
        service, words = request[0], request[1]
        path, data = request[2 : 2 + 2 * words], request[2 + 2 * words :]
        if service in (0x54, 0x5B):  # ForwardOpen
            serial = struct.unpack("<I", data[6:10])[0]
            return bytes([service | 0x80, 0, 0, 0]) + struct.pack("<IIHHIIIBB", 0x11223344, serial, 1, 1, 1, 10**6, 10**6, 0, 0)
        if service == 0x4E:  # ForwardClose
            return bytes([service | 0x80, 0, 0, 0]) + bytes(10)
        name = symbol(path)
        self.paths.add(name)
        values = self.tags.get(name) or next((self.tags[tag] for tag in self.tags if bare(tag) == bare(name)), None)
        if values is None:
            return bytes([service | 0x80, 0, 4, 0])
        if service == 0x4C:
            count = struct.unpack("<H", data[:2])[0]
            if count > len(values):
                return bytes([service | 0x80, 0, 0xFF, 1]) + struct.pack("<H", 0x2105)
            return bytes([service | 0x80, 0, 0, 0]) + struct.pack(
                f"<H{count}{'h' if self.kind == 0xC3 else 'i'}", self.kind, *values[:count]
            )
        count = struct.unpack("<H", data[2:4])[0]
        values[:count] = struct.unpack(f"<{count}i", data[4 : 4 + 4 * count])
        return bytes([service | 0x80, 0, 0, 0])


def symbol(path: bytes) -> str:
    """The text of a symbolic path: names (0x91) and elements (0x28, 0x29)."""
    text, at = "", 0
    while at < len(path):
        if path[at] == 0x91:
            length = path[at + 1]
            text += ("." if text else "") + path[at + 2 : at + 2 + length].decode()
            at += 2 + length + length % 2
        elif path[at] == 0x28:
            text, at = f"{text}[{path[at + 1]}]", at + 2
        else:
            text, at = f"{text}[{struct.unpack('<H', path[at + 2 : at + 4])[0]}]", at + 4
    return text


def bare(name: str) -> str:
    """For reading a type, clients may ask for the first element: of which does not matter."""
    return "".join(character for character in name if not character.isdigit())
