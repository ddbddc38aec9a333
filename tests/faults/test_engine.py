"""An engine that raises, answers no number, or hangs: seen by a real PLC process; the engine itself is a fake in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgead.clock import MonotonicClock
from edgead.errors import EngineError
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.plc.device import PlcDevice
from edgead.testing import FakeCamera, FakeEngine, Hang
from edgead.types import Inspection, Verdict
from tests.faults.line import words
from tests.runtime.links import modbus
from tests.servers.plc import ModbusPlc
from tests.waiting import PATIENCE_S, until

SIZE = 64
BUDGET_MS = 600.0
GOOD, BAD = 10, 220
Answer = float | Exception | Hang | BaseException


class Rig:
    """A station on a thread, with an engine that answers by the grey value of the picture, and a PLC process."""

    def __init__(self, folder: Path, pictures: Sequence[Any], answers: dict[int, Any]) -> None:
        clock = MonotonicClock()
        self.plc = ModbusPlc(folder, in_flight=2)
        self.plc.start()
        self.seen: list[Inspection] = []
        self._answers = answers
        self._once = FakeEngine(self._answer)
        device = PlcDevice(modbus(self.plc.port, timeout_ms=500), clock)
        images = [np.full((SIZE, SIZE, 3), p, np.uint8) if isinstance(p, int) else p for p in pictures]
        camera = FakeCamera(images, clock=clock)
        recipe, settings = PreprocessRecipe(SIZE, SIZE), StationSettings(budget_ms=BUDGET_MS)
        self.station = Station(camera, self._once, recipe, 200.0, settings, [device], clock, triggers=device)
        self.station.on_inspection(self.seen.append, capacity=1000)
        self._thread = threading.Thread(target=self.station.run, name="line")
        self._thread.start()

    def _answer(self, image: np.typing.NDArray[np.uint8]) -> float:
        grey = int(image[0, 0, 0])
        answer = self._answers.get(grey, float(grey))
        if isinstance(answer, Hang):
            answer.wait()
            return float(grey)  # whatever comes after a hang came too late
        if isinstance(answer, BaseException):
            raise answer
        return float(answer)

    def give(self, parts: int) -> list[str]:
        """So many parts come by; what the PLC was told."""
        before = len(self.plc.log())
        self.plc.want(parts)
        until(lambda: len(self.plc.log()) >= before + parts)
        return [words(entry) for entry in self.plc.log()[before:]]

    def close(self) -> None:
        self.station.stop()
        self._thread.join(PATIENCE_S)
        self.station.close()
        self.plc.kill()
        assert not self._thread.is_alive()

    def judge(self) -> None:
        """One verdict for each part in order, no OK but for good pictures; the station counts as the PLC does."""
        log = self.plc.log()
        assert [entry["part"] for entry in log] == list(range(1, len(log) + 1))
        until(lambda: len(self.seen) == len(log))
        for entry, inspection in zip(log, self.seen, strict=True):
            assert inspection.trigger is not None and inspection.trigger.part_id == entry["part"]
            if entry["verdict"] == "OK":
                assert inspection.verdict is Verdict.OK
                assert inspection.frame is not None and int(inspection.frame.image[0, 0, 0]) == GOOD
        assert self.station.stats.triggers == len(log)


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(pictures: Sequence[Any], answers: dict[int, Any]) -> Rig:
        made.append(Rig(tmp_path, pictures, answers))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def test_an_engine_that_raises_or_answers_no_number_costs_that_part_only(rigs: Callable[..., Rig]) -> None:
    answers = {
        1: EngineError("out of memory"),
        2: float("nan"),
        3: float("inf"),
        4: RuntimeError("a backend's own"),
        5: MemoryError(),
        6: float("-inf"),
    }
    rig = rigs([GOOD, 1, GOOD, 2, BAD, 3, 4, 5, 6, GOOD], answers)
    assert rig.give(10) == [
        "OK",
        "UNKNOWN engine_error",
        "OK",
        "UNKNOWN score_not_finite",
        "NG",
        "UNKNOWN score_not_finite",
        "UNKNOWN engine_error",
        "UNKNOWN engine_error",
        "UNKNOWN score_not_finite",
        "OK",
    ]
    rig.judge()


@pytest.mark.promise("Every trigger gets exactly one verdict by its deadline")
def test_an_engine_that_hangs_makes_unknowns_in_time_and_the_line_goes_on(rigs: Callable[..., Rig]) -> None:
    hang = Hang()
    rig = rigs([GOOD, 7] + [GOOD] * 100, {7: hang})
    assert rig.give(1) == ["OK"]
    told = rig.give(3)
    assert told[0] == "UNKNOWN late"
    assert all(word.startswith("UNKNOWN") for word in told)
    until(lambda: rig.plc.log("heartbeat")[-1] == {"heartbeat": False})  # the PLC sees that the loop stands still
    rig.plc.want(2)  # not ready: the PLC does not even trigger
    hang.let_go()
    until(lambda: len(rig.plc.log()) == 6)
    until(lambda: rig.plc.log("heartbeat")[-1] == {"heartbeat": True})
    assert rig.give(4) == ["OK"] * 4
    rig.judge()
    assert rig.station.stats.late_results == 1


def test_what_is_no_picture_is_unknown(rigs: Callable[..., Rig]) -> None:
    garbage = [np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 3), np.float32), np.zeros((0, 0, 3), np.uint8)]
    rig = rigs([GOOD, *garbage, np.zeros((SIZE, SIZE, 4), np.uint8), GOOD, BAD], {})
    assert rig.give(7) == ["OK", *["UNKNOWN bad_frame"] * 4, "OK", "NG"]
    rig.judge()
