"""A PLC as a process of its own: FakePlc's program over python-snap7's S7 server, in DB 7. Arguments: see program.py."""

from __future__ import annotations

import struct
import time

from snap7.server import Server
from snap7.type import SrvArea

from edgead.runtime.plc.s7 import DB_BYTES, FROM_PLC_BYTE
from edgead.runtime.plc.signals import to_plc_of, to_words
from tests.servers.program import Program, parse

DB = 7


class Slow(Server):
    """Answers each request after a while."""

    answer_s = 0.0

    def _process_request(self, request_data, client_address):  # type: ignore[no-untyped-def]
        time.sleep(self.answer_s)
        return super()._process_request(request_data, client_address)


def main() -> None:
    arguments = parse()
    program = Program(arguments)
    server = Slow(log=False)
    server.host, server.answer_s = "127.0.0.1", arguments.answer_ms / 1000
    memory = bytearray(DB_BYTES)
    server.register_area(SrvArea.DB, DB, memory)
    server.start(arguments.port)
    print("ready", flush=True)
    while True:
        server.lock_area(SrvArea.DB, DB)
        station = to_plc_of(struct.unpack_from(f">{FROM_PLC_BYTE // 2}H", memory))
        words = to_words(program.scan(station))
        struct.pack_into(f">{len(words)}H", memory, FROM_PLC_BYTE, *words)
        server.unlock_area(SrvArea.DB, DB)
        time.sleep(program.cycle_s)


if __name__ == "__main__":
    main()
