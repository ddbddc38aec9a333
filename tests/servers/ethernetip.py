"""A PLC as processes of their own: cpppo's EtherNet/IP server, unchanged, and FakePlc's program that reads and writes its tags.

cpppo is GPL: it is started as the program that it is, and never imported. Arguments: see program.py.
"""

from __future__ import annotations

import subprocess
import sys
import time

import pylogix

from edgead.runtime.plc.ethernetip import DINT, FROM_PLC_TAG, TO_PLC_TAG, length, to_dints, words_of
from edgead.runtime.plc.signals import Direction, FromPlc, to_plc_of
from tests.servers.program import Program, parse


def main() -> None:
    arguments = parse(cycle_ms=5.0)
    tags = [
        f"{TO_PLC_TAG}=DINT[{length(Direction.TO_PLC)}]",
        f"{FROM_PLC_TAG}=DINT[{length(Direction.FROM_PLC)}]",
        "Numbers=INT[20]",
    ]
    where = f"127.0.0.1:{arguments.port}"
    server = [sys.executable, "-m", "cpppo.server.enip", "--no-config", "--no-udp", "-a", where]
    subprocess.Popen(
        [*server, "-d", str(arguments.answer_ms / 1000), *tags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    plc = pylogix.PLC("127.0.0.1", timeout=60.0, port=arguments.port)
    while plc.Write(FROM_PLC_TAG, to_dints(FromPlc()), DINT).Status != "Success":
        time.sleep(0.05)
    program = Program(arguments)
    print("ready", flush=True)
    while True:
        answer = plc.Read(TO_PLC_TAG, length(Direction.TO_PLC), DINT)
        if answer.Status == "Success":
            station = to_plc_of(words_of(answer.Value, Direction.TO_PLC))
            plc.Write(FROM_PLC_TAG, to_dints(program.scan(station)), DINT)
        time.sleep(program.cycle_s)


if __name__ == "__main__":
    main()
