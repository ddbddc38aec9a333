"""A PLC to try a station with, as a process: ``python -m edgead.testing.modbus_plc 127.0.0.1:5020 --parts 5``.

It runs the program of :class:`edgead.testing.plc.FakePlc` against a station whose file says ``plc: {type: modbus-server, ...}``,
and tells each part's verdict as the bits of the handshake say it. Needs ``pip install 'edgead[modbus]'``.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from typing import Any

from edgead.errors import EdgeadError, OutputError
from edgead.optional import require
from edgead.runtime.plc.modbus import FROM_PLC_ADDRESS, TO_PLC_ADDRESS
from edgead.runtime.plc.signals import Cause, Direction, to_plc_of, to_words, words_in
from edgead.testing.plc import FakePlc
from edgead.types import Verdict

CYCLE_S = 0.02
WAIT_S = 60.0
"""For a station that is not there yet, and for one that tells nothing."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m edgead.testing.modbus_plc", description=__doc__)
    parser.add_argument("address", metavar="HOST:PORT", help="where the station listens")
    parser.add_argument("--parts", type=int, default=5, help="that come in front of the camera (default 5)")
    asked = parser.parse_args(argv)
    host, _, port = asked.address.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"{asked.address!r} is not HOST:PORT")
    try:
        return _run(host, int(port), asked.parts)
    except EdgeadError as error:
        print(f"{error}\n  -> {error.hint}" if error.hint else error, file=sys.stderr)
        return error.exit_code


def _run(host: str, port: int, parts: int) -> int:
    client = require("pymodbus.client", extra="modbus", why="This PLC").ModbusTcpClient(host, port=port)
    plc, told, since = FakePlc(), 0, time.monotonic()
    plc.wanted = parts
    try:
        while not _listens(host, port):
            if time.monotonic() - since > WAIT_S:
                raise OutputError(f"nothing listens at {host}:{port}", hint="start the station: edgead run station.yaml")
            time.sleep(0.2)
        client.connect()
        while not plc.settled:
            station = to_plc_of(_registers(client))
            answer = plc.scan(station, time.monotonic_ns())
            client.write_registers(FROM_PLC_ADDRESS, to_words(answer))
            for one in plc.verdicts[told:]:
                why = f" ({Cause(one.cause).name.lower()})" if one.cause else "" if one.by == "station" else f" ({one.by})"
                score = "" if one.verdict is Verdict.UNKNOWN else f", score {one.score:.4g}"
                print(f"part {one.part_id}: {one.verdict.value}{why}{score}", flush=True)
                since = time.monotonic()
            told = len(plc.verdicts)
            if time.monotonic() - since > WAIT_S:
                raise OutputError(f"the station at {host}:{port} tells no verdicts", hint="look at what it says: is it ready?")
            time.sleep(CYCLE_S)
    finally:
        client.close()
    return 0


def _listens(host: str, port: int) -> bool:
    """Asked before pymodbus is, which logs each refusal."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _registers(client: Any) -> list[int]:
    found = client.read_holding_registers(TO_PLC_ADDRESS, count=words_in(Direction.TO_PLC))
    if found.isError():
        raise OutputError(f"the station refuses to be read: {found}", hint="check unit and addresses: edgead plc-map")
    registers: list[int] = found.registers
    return registers


if __name__ == "__main__":
    sys.exit(main())
