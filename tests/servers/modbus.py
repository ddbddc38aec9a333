"""A PLC as a process of its own: FakePlc's program over a Modbus TCP server that edgead writes into, by pymodbus.

``modbus.py PORT LOG [--answer-ms N] [--cycle-ms N] [--in-flight N] [--start-id N] [--rude 1]`` prints "ready". Each line on
standard input is a number of parts to trigger, ``rN``: from now on recipe N is asked for, ``tX``: the registers 120 and 121 hold
the threshold X, or ``NAME=N``: this signal says N whatever the program wants (``NAME=``: no more). Each verdict, ignored result
and error is one JSON line in LOG, appended, so that it survives SIGKILL and restarts; so is each change of the heartbeat's
state, as the PLC sees it, and when each part's trigger was raised and its result arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import struct
import sys
import time
from dataclasses import replace

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edgead.runtime.plc.signals import Direction, FromPlc, from_plc_of, to_plc_of, to_words, words_in
from edgead.testing.plc import FakePlc

TO, FROM, THRESHOLD = 0, 100, 120
TO_WORDS, FROM_WORDS = words_in(Direction.TO_PLC), words_in(Direction.FROM_PLC)


class Machine:
    """The registers, and the program that works on them every cycle."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.answer_s, self.cycle_s = arguments.answer_ms / 1000, arguments.cycle_ms / 1000
        self.plc = FakePlc(in_flight=arguments.in_flight, start_id=arguments.start_id, rude=bool(getattr(arguments, "rude", 0)))
        self.station = [0] * TO_WORDS
        self.mine = to_words(FromPlc())
        self.threshold = [0, 0]
        self.log = open(arguments.log, "a", buffering=1)  # noqa: SIM115, PTH123
        self.written = [0, 0, 0]
        self.arrived = -1
        self.raised: dict[int, int] = {}  # when each part's trigger came up
        self.hidden = bool(arguments.hidden)
        self.readonly, self.refuse_every, self.asked = bool(arguments.readonly), arguments.refuse_every, 0
        self.forced: dict[str, int] = {}
        self.beat, self.beat_at, self.beating = 0, 0.0, False

    async def access(self, code, start, address, count, registers, values):  # type: ignore[no-untyped-def]
        if self.answer_s:
            await asyncio.sleep(self.answer_s)
        if self.hidden and values is None and address < FROM:
            return ExcCodes.ILLEGAL_ADDRESS
        self.asked += 1
        if (self.readonly and values is not None) or (self.refuse_every and self.asked % self.refuse_every == 0):
            return ExcCodes.ILLEGAL_ADDRESS
        if values is None:
            registers[FROM - start : FROM - start + FROM_WORDS] = self.mine
            registers[THRESHOLD - start : THRESHOLD - start + 2] = self.threshold
        else:
            self.station[address - TO : address - TO + count] = values
            self.note_arrival(time.monotonic_ns())
        return None

    def note_arrival(self, now_ns: int) -> None:
        """Each result once, when it came into the registers."""
        station = to_plc_of(self.station)
        if station.result_valid and station.result_part_id != self.arrived:
            self.arrived = station.result_part_id
            self.write(arrived=self.arrived, at_ns=now_ns, raised_ns=self.raised.pop(self.arrived, None))

    async def run(self) -> None:
        while True:
            self.cycle()
            await asyncio.sleep(self.cycle_s)

    def cycle(self) -> None:
        now_ns = time.monotonic_ns()
        station = to_plc_of(self.station)
        said = replace(self.plc.scan(station, now_ns), **self.forced)
        if said.trigger:
            self.raised.setdefault(said.part_id, now_ns)
        self.mine = to_words(said)
        self.report()
        self.watch(station.heartbeat, now_ns / 1e9)

    def watch(self, beat: int, now_s: float) -> None:
        if beat != self.beat:
            self.beat, self.beat_at = beat, now_s
        beating = now_s - self.beat_at < 0.5
        if beating != self.beating:
            self.beating = beating
            self.write(heartbeat=beating)

    def report(self) -> None:
        told = (self.plc.verdicts, self.plc.ignored, self.plc.errors)
        for verdict in self.plc.verdicts[self.written[0] :]:
            self.write(
                part=verdict.part_id, verdict=verdict.verdict.value, cause=verdict.cause, by=verdict.by, score=verdict.score
            )
        for part_id in self.plc.ignored[self.written[1] :]:
            self.write(ignored=part_id)
        for code in self.plc.errors[self.written[2] :]:
            self.write(error=code)
        self.written = [len(items) for items in told]

    def write(self, **facts: object) -> None:
        self.log.write(json.dumps(facts) + "\n")

    def order(self) -> None:
        data = os.read(0, 4096)
        if not data:
            os._exit(0)  # the test is gone
        for order in data.split():
            if order[:1] == b"r" and order[1:].isdigit():
                self.plc.recipe = int(order[1:])
                self.write(recipe=self.plc.recipe, last_part=from_plc_of(self.mine).part_id)
            elif b"=" in order:
                name, _, value = order.decode().partition("=")
                self.forced.pop(name, None)
                if value:
                    self.forced[name] = int(value)
            elif order[:1] == b"t":
                self.threshold = list(struct.unpack(">HH", struct.pack(">f", float(order[1:]))))
            else:
                self.plc.wanted += int(order)


async def main(arguments: argparse.Namespace) -> None:
    machine = Machine(arguments)
    blocks = [
        SimData(TO, values=[0] * TO_WORDS, datatype=DataType.REGISTERS),
        SimData(FROM, values=[0] * FROM_WORDS, datatype=DataType.REGISTERS, readonly=True),
        SimData(THRESHOLD, values=[0, 0], datatype=DataType.REGISTERS, readonly=True),
    ]
    if arguments.whole:
        blocks = [SimData(TO, values=[0] * (FROM + FROM_WORDS), datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(1, simdata=blocks, action=machine.access), address=("127.0.0.1", arguments.port))
    await server.serve_forever(background=True)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, machine.order)
    print("ready", flush=True)
    await machine.run()


if __name__ == "__main__":
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # else each cut connection prints pages
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("log")
    parser.add_argument("--answer-ms", type=float, default=0.0)
    parser.add_argument("--cycle-ms", type=float, default=5.0)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--start-id", type=int, default=0)
    parser.add_argument("--rude", type=int, default=0)
    parser.add_argument("--whole", type=int, default=0, help="1: it has the registers between the blocks, too")
    parser.add_argument("--hidden", type=int, default=0, help="1: the station's block can be written and not read")
    parser.add_argument("--readonly", type=int, default=0, help="1: nothing can be written")
    parser.add_argument("--refuse-every", type=int, default=0, help="N: each Nth request is refused")
    asyncio.run(main(parser.parse_args()))
