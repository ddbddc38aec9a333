"""Several stations in one process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgead.errors import BadInput, CameraLost, EngineError
from edgead.runtime.loop.group import SharedEngine, StationGroup
from edgead.runtime.loop.station import Station
from edgead.testing import FakeCamera, FakeEngine, FakeOutput
from edgead.types import AnomalyMap, Image
from tests.runtime._line import BAD, GOOD, RECIPE, brightness


def station(camera: FakeCamera, engine: object, output: FakeOutput | None = None) -> Station:
    return Station(camera, engine, RECIPE, 100.0, outputs=[output] if output else [])  # type: ignore[arg-type]


def test_stations_share_an_engine_that_is_used_by_one_at_a_time() -> None:
    inside = threading.Semaphore(1)

    class Single(FakeEngine):
        def infer(self, image: Image) -> tuple[float, AnomalyMap]:
            assert inside.acquire(blocking=False), "two at once"
            try:
                return brightness(image), np.full((8, 8), brightness(image), np.float32)
            finally:
                inside.release()

    inner = Single([0.0])
    engine = SharedEngine(inner)
    with StationGroup({name: station(FakeCamera([GOOD, BAD] * 50), engine) for name in ("left", "right", "top")}) as group:
        stats = group.run()
    assert {name: dict(found.verdicts) for name, found in stats.items()} == {
        name: {"OK": 50, "NG": 50} for name in ("left", "right", "top")
    }
    engine.close()
    assert inner.closed


def test_one_that_fails_stops_the_others_and_its_error_is_told() -> None:
    output = FakeOutput()
    endless = station(FakeCamera([GOOD], loop=True), FakeEngine([0.0]), output)
    broken = station(FakeCamera([GOOD, CameraLost("unplugged")]), FakeEngine([0.0]))
    with StationGroup({"endless": endless, "broken": broken}) as group, pytest.raises(CameraLost, match="unplugged"):
        group.run()
    assert not output.asserted
    assert output.closed
    assert {name: health.state for name, health in group.health().items()} == {"endless": "stopped", "broken": "stopped"}


def test_a_stop_stops_all() -> None:
    stations = {name: station(FakeCamera([GOOD], loop=True), FakeEngine([0.0])) for name in "ab"}
    group = StationGroup(stations)
    stations["a"].on_inspection(lambda inspection: group.stop())
    stats = group.run()
    group.close()
    assert stats["a"].parts >= 1


def test_max_parts_are_for_each() -> None:
    with StationGroup({name: station(FakeCamera([GOOD], loop=True), FakeEngine([EngineError("x")])) for name in "ab"}) as group:
        assert [stats.parts for stats in group.run(max_parts=3).values()] == [3, 3]


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(BadInput):
        StationGroup({})
