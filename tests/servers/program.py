"""FakePlc's program for PLC processes, whatever protocol they speak: what to trigger comes in, what happened is written down."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time

from edgead.runtime.plc.signals import FromPlc, ToPlc
from edgead.testing.plc import FakePlc


def parse(**more: object) -> argparse.Namespace:
    """``PORT LOG [--answer-ms N] [--cycle-ms N] [--in-flight N] [--start-id N]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("log")
    parser.add_argument("--answer-ms", type=float, default=0.0)
    parser.add_argument("--cycle-ms", type=float, default=5.0)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--start-id", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=0)  # of opcua.py
    parser.add_argument("--create-ms", type=float, default=0.0)  # of opcua.py
    parser.add_argument("--threshold", type=float)  # of opcua.py
    parser.set_defaults(**more)
    return parser.parse_args()


class Program:
    """The program and its log, one JSON line for each verdict, ignored result and error, and when each result arrived.

    Lines are appended at once, so they survive SIGKILL and restarts. A number on standard input is so many parts to trigger.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.cycle_s = arguments.cycle_ms / 1000
        self.threshold: float | None = arguments.threshold
        self._plc = FakePlc(in_flight=arguments.in_flight, start_id=arguments.start_id)
        self._log = open(arguments.log, "a", buffering=1)  # noqa: SIM115, PTH123
        self._written = [0, 0, 0]
        self._arrived = -1
        threading.Thread(target=self._orders, daemon=True).start()

    def scan(self, station: ToPlc) -> FromPlc:
        """One cycle."""
        now_ns = time.monotonic_ns()
        if station.result_valid and station.result_part_id != self._arrived:
            self._arrived = station.result_part_id
            self._write(arrived=self._arrived, at_ns=now_ns)
        mine = self._plc.scan(station, now_ns)
        told = (self._plc.verdicts, self._plc.ignored, self._plc.errors)
        for verdict in self._plc.verdicts[self._written[0] :]:
            self._write(part=verdict.part_id, verdict=verdict.verdict.value, cause=verdict.cause, by=verdict.by)
        for part_id in self._plc.ignored[self._written[1] :]:
            self._write(ignored=part_id)
        for code in self._plc.errors[self._written[2] :]:
            self._write(error=code)
        self._written = [len(items) for items in told]
        return mine

    def _write(self, **facts: object) -> None:
        self._log.write(json.dumps(facts) + "\n")

    def note(self, **facts: object) -> None:
        """Something else that happened."""
        self._write(**facts)

    def _orders(self) -> None:
        while data := os.read(0, 4096):
            self._plc.wanted += sum(int(number) for number in data.split())
        os._exit(0)  # the test is gone
