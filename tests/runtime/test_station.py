"""The station under every fault: exactly one verdict for each frame and fault, part ids without gaps, no wrong OK."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import (
    BadInput,
    CameraLost,
    CameraTimeout,
    EndOfStream,
    EngineError,
    FrameDoubtful,
    OutputError,
    UnreadableFrame,
)
from edgead.preprocess import PreprocessRecipe
from edgead.runtime.loop.settings import StationSettings
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.stats import Stats
from edgead.testing import FakeCamera, FakeClock, FakeEngine, FakeOutput
from edgead.types import Camera, Frame, Image, Inspection, Verdict
from tests.waiting import PATIENCE_S

RECIPE = PreprocessRecipe(64, 64)
GOOD: Image = np.full((64, 64, 3), 10, np.uint8)
BAD: Image = np.full((64, 64, 3), 200, np.uint8)
Script = Sequence[Image | Frame | Exception]


def brightness(image: Image) -> float:
    return float(image.mean())


def run(
    script: Script,
    *,
    live: bool = False,
    engine: FakeEngine | None = None,
    output: FakeOutput | None = None,
    max_parts: int | None = None,
) -> tuple[Stats, list[Inspection]]:
    """Run a station with brightness as the score and 100 as the threshold."""
    clock = FakeClock()
    seen: list[Inspection] = []
    camera = FakeCamera(script, clock=clock, live=live)
    engine = engine or FakeEngine(brightness)
    with Station(camera, engine, RECIPE, 100.0, outputs=[output] if output else [], clock=clock) as station:
        station.on_inspection(seen.append, capacity=10_000)
        stats = station.run(max_parts)
    assert camera.closed
    return stats, seen


def told(seen: Sequence[Inspection]) -> list[str]:
    return [i.verdict.value + (f" {i.cause}" if i.cause else "") for i in seen]


def test_each_frame_of_a_recording_gets_one_verdict_in_order() -> None:
    stats, seen = run([GOOD, BAD, GOOD])
    assert told(seen) == ["OK", "NG", "OK"]
    assert [i.part_id for i in seen] == [1, 2, 3]
    assert [i.frame.frame_id for i in seen if i.frame] == [0, 1, 2]
    assert (stats.frames, stats.inspected, stats.parts, sum(stats.drops.values())) == (3, 3, 3, 0)


def test_every_fault_is_one_unknown_and_the_line_goes_on() -> None:
    faults = [CameraTimeout("silence"), UnreadableFrame("a.png is not a picture")]
    stats, seen = run([GOOD, *faults, GOOD])
    assert told(seen) == ["OK", "UNKNOWN camera_timeout", "UNKNOWN unreadable_image: a.png is not a picture", "OK"]
    assert stats.causes == {"camera_timeout": 1, "unreadable_image": 1}


def test_engine_faults_are_unknown_and_the_line_goes_on() -> None:
    stats, seen = run([GOOD] * 4, engine=FakeEngine([1.0, EngineError("gone"), math.nan, RuntimeError("odd")]))
    assert told(seen) == ["OK", "UNKNOWN engine_error: gone", "UNKNOWN score_not_finite", "UNKNOWN engine_error: odd"]
    assert stats.causes == {"engine_error": 2, "score_not_finite": 1}


def test_a_recording_that_breaks_off_is_one_unknown_and_then_an_error() -> None:
    output = FakeOutput()
    with pytest.raises(CameraLost, match="unplugged"):
        run([GOOD, CameraLost("unplugged"), GOOD], output=output)
    assert told(output.told) == ["OK", "UNKNOWN camera_lost"]
    assert not output.asserted


def test_a_live_camera_that_is_lost_is_one_unknown_and_asked_again() -> None:
    _, seen = run([CameraLost("unplugged"), CameraLost("unplugged"), GOOD], live=True, max_parts=3)
    assert told(seen) == ["UNKNOWN camera_lost", "UNKNOWN camera_lost", "OK"]


def test_a_lost_camera_is_opened_again_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    attempts: list[float] = []

    def reopen() -> Camera:
        attempts.append(clock.now_ns() / 1e9)
        if len(attempts) < 5:
            raise CameraLost("still unplugged")
        return FakeCamera([GOOD], clock=clock, live=True)

    first = FakeCamera([GOOD, CameraLost("unplugged")], clock=clock, live=True)
    seen: list[Inspection] = []
    with (
        caplog.at_level(logging.CRITICAL),
        Station(first, FakeEngine(brightness), RECIPE, 100.0, clock=clock, reopen=reopen) as station,
    ):
        station.on_inspection(seen.append)
        stats = station.run()
    assert told(seen)[-2:] == ["UNKNOWN camera_lost", "OK"]
    assert stats.causes == {"camera_lost": 1}
    assert stats.reconnects == 1
    pauses = np.diff(attempts)
    assert pauses == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert first.closed


class Gate:
    """An engine that lets a test decide when an inference ends."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, image: Image) -> float:
        self.entered.release()
        assert self.leave.acquire(timeout=PATIENCE_S)
        return brightness(image)


def frames(*ids: int, at_ns: int = 1_000_000_000) -> list[Image | Frame | Exception]:
    return [Frame(GOOD, "fake", i, at_ns) for i in ids]


class SteppedCamera(FakeCamera):
    """Delivers a frame only when told to; `taken` counts what the capture thread has put away."""

    def __init__(self, script: Script, clock: FakeClock) -> None:
        super().__init__(script, clock=clock, live=True)
        self.next, self.asked = threading.Semaphore(0), threading.Semaphore(0)

    def grab(self, timeout_s: float) -> Frame:
        self.asked.release()
        if not self.next.acquire(timeout=PATIENCE_S):
            raise EndOfStream("nobody steps")
        return super().grab(timeout_s)


def test_late_for_live_frames_means_the_newest_and_the_others_are_counted() -> None:
    clock, gate = FakeClock(), Gate()
    camera = SteppedCamera(frames(0, 1, 2, 3, 7), clock)
    seen: list[Inspection] = []
    station = Station(camera, FakeEngine(gate), RECIPE, 100.0, clock=clock).on_inspection(seen.append)
    thread = threading.Thread(target=station.run, name="line")
    thread.start()
    camera.next.release()
    assert gate.entered.acquire(timeout=PATIENCE_S)  # number 0 is being inspected
    for _ in range(4):
        camera.next.release()
    for _ in range(6):  # five frames were asked for and put away when the sixth is asked for
        assert camera.asked.acquire(timeout=PATIENCE_S)
    for _ in range(2):
        gate.leave.release()
    camera.next.release()  # the script ends
    thread.join(PATIENCE_S)
    station.close()
    assert [i.frame.frame_id for i in seen if i.frame] == [0, 7]
    assert [i.part_id for i in seen] == [1, 2]
    assert station.stats.drops == {"overrun": 3, "camera": 3}
    assert station.stats.frames == 5


def test_old_live_frames_are_dropped_and_silence_of_fresh_ones_is_unknown() -> None:
    clock = FakeClock()
    clock.advance(60)
    old = frames(0)
    with Station(FakeCamera(old, clock=clock, live=True), FakeEngine([0.0]), RECIPE, 100.0, clock=clock) as station:
        assert station.run().drops == {"stale": 1}
    assert station.stats.parts == 0

    seen: list[Inspection] = []
    camera = SteppedCamera(old, clock)
    with Station(camera, FakeEngine([0.0]), RECIPE, 100.0, clock=clock) as station:
        station.on_inspection(seen.append)
        thread = threading.Thread(target=station.run, name="line")
        thread.start()
        assert camera.asked.acquire(timeout=PATIENCE_S)
        clock.advance(5)  # longer than the frame timeout since the start
        camera.next.release(2)
        thread.join(PATIENCE_S)
    assert told(seen) == ["UNKNOWN stale"]


def test_frames_that_may_be_old_cost_no_verdict_unless_nothing_else_comes() -> None:
    clock = FakeClock()
    seen: list[Inspection] = []
    camera = FakeCamera([GOOD, FrameDoubtful("held up"), GOOD], clock=clock, live=True)
    with Station(camera, FakeEngine([0.0]), RECIPE, 100.0, clock=clock) as station:
        station.on_inspection(seen.append)
        station.run()
    assert "UNKNOWN frame_doubtful" not in told(seen)

    seen.clear()
    silent = SteppedCamera([FrameDoubtful("held up")], clock)
    with Station(silent, FakeEngine([0.0]), RECIPE, 100.0, clock=clock) as station:
        station.on_inspection(seen.append)
        thread = threading.Thread(target=station.run, name="line")
        thread.start()
        assert silent.asked.acquire(timeout=PATIENCE_S)
        clock.advance(5)
        silent.next.release(2)
        thread.join(PATIENCE_S)
    assert told(seen) == ["UNKNOWN frame_doubtful"]


def test_the_budget_of_a_frame_begins_when_it_arrives() -> None:
    clock = FakeClock(5_000_000_000)
    frame = Frame(GOOD, "fake", 0, clock.now_ns() - 300_000_000, age_ns=300_000_000)
    seen: list[Inspection] = []
    camera = FakeCamera([frame], clock=clock, live=True)
    with Station(camera, FakeEngine([0.0]), RECIPE, 100.0, StationSettings(budget_ms=100), clock=clock) as station:
        station.on_inspection(seen.append)
        station.run()
    assert told(seen) == ["OK"]
    assert seen[0].times.total_ms < 100


def test_outputs_hear_each_verdict_and_end_safe() -> None:
    output = FakeOutput()
    run([BAD, GOOD], output=output)
    assert told(output.told) == ["NG", "OK"]
    assert output.heartbeats > 0
    assert not output.asserted
    assert output.closed


def test_an_output_that_fails_goes_to_its_safe_state_and_the_line_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    output = FakeOutput(faults=[OutputError("no answer"), OutputError("no answer")])
    with caplog.at_level(logging.ERROR):
        stats, seen = run([GOOD, GOOD, GOOD], output=output)
    assert len(seen) == 3
    assert [i.part_id for i in output.told] == [3]
    assert stats.errors == {"FakeOutput": 2}
    assert [r.getMessage() for r in caplog.records] == ["FakeOutput failed (1): no answer"]


def test_a_callback_that_raises_is_counted_and_hurts_nobody_else() -> None:
    clock = FakeClock()
    seen: list[Inspection] = []

    def broken(inspection: Inspection) -> None:
        raise ZeroDivisionError("mine")

    with Station(FakeCamera([GOOD, BAD]), FakeEngine(brightness), RECIPE, 100.0, clock=clock) as station:
        stats = station.on_inspection(broken).on_inspection(seen.append).run()
    assert told(seen) == ["OK", "NG"]
    assert sum(stats.errors.values()) == 2


def test_a_slow_callback_loses_nothing_of_a_recording() -> None:
    seen: list[Inspection] = []
    slow = threading.Event()

    def callback(inspection: Inspection) -> None:
        slow.wait(0.001)
        seen.append(inspection)

    with Station(FakeCamera([GOOD] * 30), FakeEngine(brightness), RECIPE, 100.0) as station:
        stats = station.on_inspection(callback, capacity=1).run()
    assert [i.part_id for i in seen] == list(range(1, 31))
    assert not stats.undelivered


def test_a_slow_callback_of_a_live_camera_misses_parts_and_they_are_counted() -> None:
    release, told_parts = threading.Event(), threading.Semaphore(0)
    seen: list[int] = []

    def stuck(inspection: Inspection) -> None:
        release.wait(PATIENCE_S)
        seen.append(inspection.part_id)

    def counting(inspection: Inspection) -> None:
        told_parts.release()
        if inspection.part_id == 20:
            release.set()

    clock = FakeClock()
    with Station(
        FakeCamera([GOOD], clock=clock, loop=True, live=True), FakeEngine(brightness), RECIPE, 100.0, clock=clock
    ) as station:
        stats = station.on_inspection(stuck, capacity=2).on_inspection(counting, capacity=100).run(max_parts=20)
    (missed,) = stats.undelivered.values()
    assert missed + len(seen) == 20
    assert seen[-1] == 20
    assert seen == sorted(seen)


def test_max_parts_counts_each_run_and_part_ids_go_on() -> None:
    seen: list[Inspection] = []
    with Station(FakeCamera([GOOD], loop=True), FakeEngine(brightness), RECIPE, 100.0) as station:
        station.on_inspection(seen.append)
        station.run(max_parts=2)
        station.run(max_parts=3)
    assert [i.part_id for i in seen] == [1, 2, 3, 4, 5]


def test_stop_from_a_callback_ends_an_endless_run() -> None:
    with Station(FakeCamera([GOOD], loop=True, live=True), FakeEngine(brightness), RECIPE, 100.0) as station:
        stats = station.on_inspection(lambda inspection: station.stop()).run()
    assert stats.parts >= 1
    assert stats.frames == stats.inspected + sum(stats.drops.values())


def test_a_budget_makes_late_parts_unknown() -> None:
    clock = FakeClock()
    engine = FakeEngine([0.0], clock=clock, takes_s=0.2)
    with Station(
        FakeCamera([GOOD] * 2, clock=clock), engine, RECIPE, 100.0, StationSettings(budget_ms=100), clock=clock
    ) as station:
        stats = station.run()
    assert stats.causes == {"late": 2}
    assert stats.latency_ms()["max"] == 200.0


def test_records_are_plain_json_and_need_no_pictures() -> None:
    records: list[dict[str, object]] = []
    engine = FakeEngine([5.0, math.nan])
    with Station(FakeCamera([GOOD, GOOD]), engine, RECIPE, 4.0, engine_name="openvino-int8") as station:
        station.on_record(records.append).run()
    first, second = (json.loads(json.dumps(r, allow_nan=False)) for r in records)
    assert (first["part_id"], first["verdict"], first["score"], first["engine"]) == (1, "NG", 5.0, "openvino-int8")
    assert (second["verdict"], second["cause"], second["score"]) == ("UNKNOWN", "score_not_finite", None)


@pytest.mark.parametrize("bad", [{"frame_timeout_ms": 0.0}, {"max_age_ms": -1.0}])
def test_times_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Station(FakeCamera([]), FakeEngine([0.0]), RECIPE, 1.0, StationSettings(**bad))


EVENTS = ("good", "bad", "timeout", "unreadable", "nan", "engine", "crash")
EXPECTED = {
    "good": "OK",
    "bad": "NG",
    "timeout": "UNKNOWN camera_timeout",
    "unreadable": "UNKNOWN unreadable_image: x",
    "nan": "UNKNOWN score_not_finite",
    "engine": "UNKNOWN engine_error: x",
    "crash": "UNKNOWN engine_error: y",
}
ANSWERS: dict[str, float | Exception] = {
    "good": 0.0,
    "bad": 200.0,
    "nan": math.nan,
    "engine": EngineError("x"),
    "crash": OSError("y"),
}
FAULTS: dict[str, Exception] = {"timeout": CameraTimeout("x"), "unreadable": UnreadableFrame("x")}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_any_script_of_a_recording_gives_exactly_its_verdicts(events: list[str]) -> None:
    answers = [ANSWERS[event] for event in events if event in ANSWERS]
    _, seen = run([FAULTS.get(event, GOOD) for event in events], engine=FakeEngine(answers))
    assert told(seen) == [EXPECTED[event] for event in events]
    assert [i.part_id for i in seen] == list(range(1, len(events) + 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(("good", "bad", "timeout", "unreadable", "lost")), max_size=30))
def test_any_script_of_a_live_camera_loses_no_fault_and_accounts_for_every_frame(events: list[str]) -> None:
    items: dict[str, Image | Exception] = {**FAULTS, "good": GOOD, "bad": BAD, "lost": CameraLost("x")}
    logging.disable(logging.CRITICAL)
    try:
        stats, seen = run([items[event] for event in events], live=True)
    finally:
        logging.disable(logging.NOTSET)
    arrived = sum(event in ("good", "bad") for event in events)
    assert [i.part_id for i in seen] == list(range(1, len(seen) + 1))
    assert stats.frames == arrived == stats.inspected + sum(stats.drops.values())
    assert stats.parts == stats.inspected + (len(events) - arrived)
    assert stats.causes.get("camera_lost", 0) == events.count("lost")
    for inspection in seen:
        if inspection.frame is not None:
            is_good = int(inspection.frame.image[0, 0, 0]) == 10
            assert inspection.verdict is (Verdict.OK if is_good else Verdict.NG)
        else:
            assert inspection.verdict is Verdict.UNKNOWN
