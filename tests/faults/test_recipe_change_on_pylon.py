"""A change of product at 20 parts a second: a PLC process, a station process, an emulated Basler camera that replays pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.runtime.plc.signals import Cause
from tests.faults.line import LIMIT, Line
from tests.runtime.test_recipes import bundle as write_recipe
from tests.servers import pylon_is_missing
from tests.waiting import PATIENCE_S

EVERY_S = 0.05
EACH = 22  # parts that each product judges before the PLC asks for the next one
ORDER = (1, 2, 1, 2)
LIMITS = {1: LIMIT, 2: 90.0}
ENGINES = {1: "bolt/onnxruntime-fp32", 2: "nut/onnxruntime-fp32"}
LEVELS = [30 + i * 37 % 220 for i in range(220)]  # each once; the brightest pixel of a picture, which is its score


def write_pictures(folder: Path) -> Path:
    """Of 16 x 16 pixels, all different, in the order in which the camera replays them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, level in enumerate(LEVELS):
        picture = rng.integers(0, 30, (16, 16), np.uint8)
        picture[tuple(rng.integers(0, 16, 2))] = level
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture)
    return folder


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    if missing := pylon_is_missing():
        pytest.skip(missing)
    pictures = write_pictures(tmp_path / "pictures")
    camera = (
        f"basler:0815-0000?roi=0,0,16,16&trigger_source=software&TestImageSelector=Off&ImageFilename={pictures}&ImageFileMode=On"
    )
    recipes = {n: write_recipe(tmp_path / f"{name}.edgead", LIMITS[n]) for n, name in ((1, "bolt"), (2, "nut"))}
    line = Line(
        tmp_path,
        recipes,
        camera,
        plc={"in_flight": 4, "rude": 1},  # it triggers whether the station is ready or not
        link={"heartbeat_timeout_ms": 3000},
        frame_timeout_ms=2000,
    )
    yield line
    line.close()


class Conveyor:
    """A part every EVERY_S, whatever the station does."""

    def __init__(self, line: Line) -> None:
        self.line, self.parts = line, 0
        self._next = time.monotonic()

    def run_until_judged_by(self, recipe: int) -> None:
        """Until the product that the PLC asked for last has judged EACH parts."""
        before = self.line.plc.log("recipe")[-1]["last_part"]
        end = time.monotonic() + PATIENCE_S
        while len([e for e in self.line.plc.log() if e["part"] > before and e["verdict"] != "UNKNOWN"]) < EACH:
            assert self.line.station.running, self.line.station.log()[-3000:]
            assert time.monotonic() < end, f"recipe {recipe} never came: {self.line.plc.log()[-5:]}"
            self._next += EVERY_S
            time.sleep(max(0.0, self._next - time.monotonic()))
            self.line.plc.want(1)
            self.parts += 1


def test_a_change_of_product_loses_no_trigger_of_a_basler_camera(line: Line) -> None:
    line.start()
    line.until(lambda: line.plc.log("heartbeat"))  # this PLC does not look at `ready`
    conveyor = Conveyor(line)
    for count, recipe in enumerate(ORDER, start=1):
        line.plc.ask_for(recipe)
        line.until(lambda count=count: len(line.plc.log("recipe")) == count)  # type: ignore[misc]
        conveyor.run_until_judged_by(recipe)
    line.until(lambda: line.count() == conveyor.parts)
    assert conveyor.parts >= 80

    log = line.judge()  # one verdict for each part, in order, each with its record; no OK too late
    assert [entry["part"] for entry in log] == list(range(1, conveyor.parts + 1)), "0 triggers lost"
    assert {entry["by"] for entry in log} == {"station"}
    rows = {row["line_part_id"]: row for row in line.rows()}
    assert sorted(rows) == [entry["part"] for entry in log]

    starts = [entry["last_part"] for entry in line.plc.log("recipe")]
    for recipe, first, end in zip(ORDER, starts, [*starts[1:], conveyor.parts], strict=True):
        # a trigger that was up when the PLC changed its mind may be seen with either word
        for entry in log[first : end - 1]:
            assert_judged_by(recipe, entry, rows[entry["part"]])
        last = log[end - 1]
        if last["cause"] != Cause.WRONG_RECIPE:
            assert_judged_by(recipe, last, rows[end])
        answered = [entry["part"] for entry in log[first:end] if entry["verdict"] != "UNKNOWN"]
        assert len(answered) >= EACH
        assert {rows[part]["engine"] for part in answered} == {ENGINES[recipe]}
        assert {entry["verdict"] for entry in log[first:end]} >= {"OK", "NG"}
        refused = [entry["part"] for entry in log[first : end - 1] if entry["cause"] == Cause.WRONG_RECIPE]
        assert all(part < answered[0] for part in refused), "refused by the product that it is"

    # every part that was inspected had a picture of its own, the next one of the camera
    scores = [entry["score"] for entry in log if entry["verdict"] != "UNKNOWN"]
    assert scores == [LEVELS[i % len(LEVELS)] for i in range(len(scores))]
    assert line.station.stop() == 0, line.station.log()[-3000:]


def assert_judged_by(recipe: int, entry: dict[str, Any], row: dict[str, Any]) -> None:
    """As the product's limit says; or UNKNOWN, before it runs (or if a busy machine saw the trigger too late to trust it)."""
    assert row["verdict"] == entry["verdict"]
    if entry["verdict"] == "UNKNOWN":
        assert entry["cause"] in (Cause.WRONG_RECIPE, Cause.STALE_TRIGGER), entry
    else:
        assert entry["verdict"] == ("OK" if entry["score"] < LIMITS[recipe] else "NG"), entry
        assert row["engine"] == ENGINES[recipe], row
