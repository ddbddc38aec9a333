"""The engine is asked about golden frames while the line runs: never at a part's cost, and while it fails nothing passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgead.bundle import Bundle
from edgead.engines import open_engine
from edgead.errors import BadInput, EngineError
from edgead.parity import Answers
from edgead.runtime.loop.examiner import Answerer
from edgead.runtime.loop.selfcheck import SelfCheck, SpareTime
from edgead.testing import FakeClock, FakeEngine
from edgead.types import Image, Inspection, StageTimes, Trigger, Verdict
from tests.cli.test_run import write_bundle
from tests.runtime._line import BAD, GOOD, RECIPE, LineUnderTest, brightness, words
from tests.waiting import until

GOLDEN = (GOOD, BAD)


class Ageing:
    """An engine that scores by brightness until it is `off` by something, or raises."""

    def __init__(self, clock: FakeClock, takes_s: float = 0.0) -> None:
        self.off = 0.0
        self.asked = 0
        self.engine = FakeEngine(self._score, clock=clock, takes_s=takes_s)

    def _score(self, image: Image) -> float:
        self.asked += 1
        if np.isnan(self.off):
            raise EngineError("the device is gone")
        return brightness(image) + self.off

    def check(self, clock: FakeClock, every_s: float = 60.0) -> SelfCheck:
        def judged(answers: Answers) -> str:
            return "" if np.allclose(answers.scores, (10, 200)) else f"it says {answers.scores[0]:g}"

        return SelfCheck(self.engine, GOLDEN, judged, every_s=every_s, clock=clock)


def part(line: LineUnderTest, picture: Image = GOOD) -> Inspection:
    line.fire()
    line.push(picture)
    found = line.verdict()
    line.pass_time(1)
    return found


@pytest.mark.parametrize(("off", "says"), [(5.0, "it says 15"), (float("nan"), "the device is gone")])
def test_while_it_fails_no_part_passes_and_people_are_told(off: float, says: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(manual=True)
    ageing = Ageing(clock)
    with LineUnderTest(clock=clock, engine=ageing.engine, check=ageing.check(clock)) as line:
        assert words(part(line)) == "OK"
        assert ageing.asked == 1
        line.pass_time(60_000)
        until(lambda: ageing.asked == 3)  # both golden frames
        assert line.station.health().state == "ready"
        assert words(part(line)) == "OK"

        ageing.off = off
        line.pass_time(60_000)
        until(lambda: line.station.health().state == "faulted")
        assert says in line.station.health().fault
        assert says in caplog.text
        assert [words(part(line, picture)) for picture in (GOOD, BAD)] == ["UNKNOWN selfcheck_failed"] * 2

        ageing.off = 0.0
        line.pass_time(10_000)  # it is tried again sooner than usual
        until(lambda: line.station.health().state == "ready")
        assert [words(part(line, picture)) for picture in (GOOD, BAD)] == ["OK", "NG"]
        line.end()


def test_another_engine_is_not_blamed_for_the_one_before() -> None:
    clock = FakeClock(manual=True)
    ageing, fresh = Ageing(clock), Ageing(clock)
    with LineUnderTest(clock=clock, engine=ageing.engine, check=ageing.check(clock)) as line:
        assert words(part(line)) == "OK"
        ageing.off = 5.0
        line.pass_time(60_000)
        until(lambda: line.station.health().state == "faulted")
        line.station.change(Answerer(fresh.engine, RECIPE, 100.0), check=fresh.check(clock))
        assert line.station.health().state == "ready"
        line.pass_time(1)
        assert words(part(line)) == "OK"
        line.end()


def test_when_the_budget_leaves_no_time_it_waits_for_a_gap_and_says_so() -> None:
    clock = FakeClock(manual=True)
    ageing = Ageing(clock, takes_s=0.06)  # of 0.1: a part that comes during a golden frame would be late
    with LineUnderTest(clock=clock, engine=ageing.engine, check=ageing.check(clock)) as line:
        assert words(part(line)) == "OK"
        line.pass_time(60_000)
        assert words(part(line)) == "OK"
        line.pass_time(61_000)
        until(lambda: "no spare moment" in line.station.health().notices.get("self-check", ""))
        assert ageing.asked == 2
        for _ in range(15):  # parts at a distance of half a second
            assert words(part(line)) == "OK"
            line.pass_time(440)
        assert words(part(line)) == "OK"  # now it is known that none comes soon after
        until(lambda: not line.station.health().notices)
        line.end()
    assert line.station.stats.verdicts == {"OK": 18}


def told(start_ms: float, total_ms: float, inference_ms: float) -> Inspection:
    times = StageTimes(total_ms=total_ms, inference_ms=inference_ms)
    trigger = Trigger(1, round(start_ms * 1e6))
    return Inspection(1, Verdict.OK, "", 1.0, 2.0, None, times, None, trigger)


def test_spare_time_is_there_when_a_part_that_comes_now_would_still_be_in_time() -> None:
    assert SpareTime(None).there(0)
    spare = SpareTime(100.0)
    assert not spare.there(0), "nothing is known yet"
    spare.seen(told(0, 60, 26))
    assert spare.there(0)
    spare.seen(told(0, 60, 27))
    assert not spare.there(0)


def test_spare_time_is_there_between_parts_that_never_come_closer() -> None:
    spare = SpareTime(100.0)
    for i in range(12):
        spare.seen(told(500 * i, 80, 70))
    last_ms = 500 * 11
    assert spare.there(round((last_ms + 90) * 1e6))
    assert not spare.there(round((last_ms + 400) * 1e6)), "the next one may be near"
    spare.seen(told(last_ms + 150, 80, 70))
    assert not spare.there(round((last_ms + 240) * 1e6)), "two came close"


def test_a_real_bundle_is_judged_as_verify_does(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny.edgead"))
    record = bundle.manifest.engine()
    clock = FakeClock()
    engine = open_engine(bundle, record.name, 1)
    check = SelfCheck.of_bundle(bundle, record, engine, every_s=5, clock=clock)
    assert not check.due()
    clock.advance(5)
    assert check.due() and check.step() == "" and not check.due()
    engine.close()
    other = FakeEngine([123.0], image_size=(16, 16), map_size=(16, 16))
    fault = SelfCheck.of_bundle(bundle, record, other, every_s=5, clock=clock).step()
    assert fault is not None and fault.startswith("engine onnxruntime-fp32 answers otherwise than the trained model")


@pytest.mark.parametrize(("images", "every_s"), [((), 5.0), (GOLDEN, 0.0), (GOLDEN, float("nan"))])
def test_a_check_of_nothing_is_refused(images: tuple[Image, ...], every_s: float) -> None:
    with pytest.raises(BadInput, match="self-check"):
        SelfCheck(FakeEngine([1.0]), images, lambda answers: "", every_s=every_s, clock=FakeClock())
