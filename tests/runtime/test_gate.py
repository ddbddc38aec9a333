"""The reject gate: each part is treated once, in order, by its own verdict; nothing but an OK part passes."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import BadInput, OutputError
from edgead.runtime.loop.station import Station
from edgead.runtime.outputs.gate import GateOutput, ShiftRegister
from edgead.testing import FakeClock, FakeOutput
from edgead.types import Frame, Inspection, StageTimes, Trigger, Verdict
from tests.runtime._line import BAD, GOOD, LineUnderTest, words
from tests.waiting import until


def inspection(part_id: int, verdict: Verdict = Verdict.OK, trigger: Trigger | None = None) -> Inspection:
    return Inspection(part_id, verdict, "", 0.0, 1.0, None, StageTimes(), None, trigger)


PARTS = st.lists(st.tuples(st.sampled_from(Verdict), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 80))), max_size=12)


@settings(max_examples=300)
@given(PARTS, st.integers(0, 50), st.one_of(st.none(), st.integers(0, 5)), st.integers(1, 20))
def test_any_interleaving_treats_each_part_once_in_order_by_its_own_verdict(
    parts: list[tuple[Verdict, int, int | None]], distance: int, slack: int | None, step: int
) -> None:
    """Each part: verdict, pitch to the part before, and how long its verdict takes (None: never comes)."""
    register = ShiftRegister(distance, slack)
    at, positions = 0, []
    for _, pitch, _ in parts:
        at += pitch
        positions.append(at)
    treated: list[tuple[int, Inspection | None]] = []
    for now in range(0, at + distance + 200, step):
        before = now - step
        for i, (verdict, _, delay) in enumerate(parts):
            if before < positions[i] <= now:
                assert register.expect(i + 1, positions[i])
            if delay is not None and before < positions[i] + delay <= now:
                register.tell(inspection(i + 1, verdict))
        batch = register.arrived(now)
        assert all(found is None for _, found in batch[:-1]), "what is by already cannot be passed any more"
        treated += batch
    assert [part_id for part_id, _ in treated] == list(range(1, len(parts) + 1))
    for part_id, found in treated:
        if found is not None:
            assert found.part_id == part_id
            assert found.verdict is parts[part_id - 1][0]
    assert register.next_due is None


def test_a_part_is_expected_and_told_once() -> None:
    register = ShiftRegister(10)
    assert register.expect(1, 0)
    assert not register.expect(1, 5)
    assert register.tell(inspection(1, Verdict.NG))
    assert not register.tell(inspection(1, Verdict.OK))
    assert not register.tell(inspection(2))
    ((_, found),) = register.arrived(10)
    assert found is not None
    assert found.verdict is Verdict.NG
    assert not register.tell(inspection(1))


class Gated:
    """A gate 500 ms behind the camera on a clock that is moved by hand."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock(manual=True)
        self.device = FakeOutput()
        options = options or {"delay_s": 0.5}
        self.gate = GateOutput(self.device, clock=self.clock, **options)  # type: ignore[arg-type]

    def trigger(self, part_id: int, encoder: int | None = None) -> Trigger:
        trigger = Trigger(part_id, self.clock.now_ns(), encoder=encoder)
        self.gate.expect(part_id, trigger)
        return trigger

    def told(self, count: int) -> list[str]:
        until(lambda: len(self.device.told) >= count)
        return [words(i) for i in self.device.told]

    def __enter__(self) -> Gated:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.close()
        assert not self.device.asserted
        assert self.device.closed


def test_several_parts_in_flight_take_effect_when_they_are_there() -> None:
    with Gated() as line:
        for part_id, verdict in ((1, Verdict.OK), (2, Verdict.NG), (3, Verdict.OK)):
            trigger = line.trigger(part_id)
            line.gate.signal(inspection(part_id, verdict, trigger))
            line.clock.advance(0.1)
        line.clock.advance(0.15)
        assert line.device.told == [], "nobody is there yet"
        for expected in (["OK"], ["OK", "NG"], ["OK", "NG", "OK"]):
            line.clock.advance(0.05)
            assert line.told(len(expected)) == expected
            line.clock.advance(0.05)


def test_a_part_without_a_verdict_is_rejected_and_its_verdict_is_refused_later() -> None:
    with Gated() as line:
        trigger = line.trigger(1)
        line.clock.advance(0.5)
        assert line.told(1) == ["UNKNOWN gate_missing"]
        line.gate.signal(inspection(1, Verdict.OK, trigger))
        assert line.gate.late == 1
        assert line.told(1) == ["UNKNOWN gate_missing"]


def test_a_process_that_was_held_up_does_not_pass_what_is_by() -> None:
    with Gated() as line:
        line.gate.signal(inspection(1, Verdict.OK, line.trigger(1)))
        line.clock.advance(2.0)
        assert line.told(1) == ["UNKNOWN gate_missing"]


def test_ok_is_held_for_its_time() -> None:
    with Gated(delay_s=0.5, hold_s=0.03) as line:
        line.gate.signal(inspection(1, Verdict.OK, line.trigger(1)))
        line.clock.advance(0.5)
        until(lambda: line.device.asserted)
        line.clock.advance(0.03)
        until(lambda: not line.device.asserted)


def test_by_encoder_counts() -> None:
    with Gated(counts=1000) as line:
        line.gate.signal(inspection(1, Verdict.OK, line.trigger(1, encoder=5000)))
        line.gate.advance(5999)
        line.clock.advance(3600)
        assert line.device.told == []
        line.gate.advance(6000)
        assert line.told(1) == ["OK"]


def test_the_safe_state_rejects_what_is_on_its_way() -> None:
    with Gated() as line:
        line.gate.signal(inspection(1, Verdict.OK, line.trigger(1)))
        line.gate.fail_safe()
        line.clock.advance(0.5)
        assert line.told(1) == ["UNKNOWN gate_missing"]


def test_free_running_parts_count_from_their_frames_arrival() -> None:
    with Gated() as line:
        frame = Frame(GOOD, "fake", 0, line.clock.now_ns())
        line.clock.advance(0.1)
        line.gate.signal(replace(inspection(1), frame=frame))
        line.clock.advance(0.4)
        assert line.told(1) == ["OK"]


def test_a_device_that_fails_is_left_safe_and_the_next_signal_says_so() -> None:
    with Gated() as line:
        line.device._faults = [OutputError("no answer")]
        line.gate.signal(inspection(1, Verdict.OK, line.trigger(1)))
        line.clock.advance(0.5)
        until(lambda: "safe" in line.device.history)
        with pytest.raises(OutputError, match="no answer"):
            for part_id in range(2, 1000):
                line.gate.signal(inspection(part_id, Verdict.OK, line.trigger(part_id)))
                threading.Event().wait(0.001)


def test_values_that_make_no_sense_are_refused() -> None:
    for options in ({}, {"delay_s": 1.0, "counts": 5}, {"delay_s": -1.0}, {"counts": -1}, {"delay_s": 1.0, "hold_s": 0.0}):
        with pytest.raises(BadInput):
            GateOutput(FakeOutput(), **options)  # type: ignore[arg-type]


def test_behind_a_station_each_part_meets_its_verdict_at_the_gate() -> None:
    clock = FakeClock(manual=True)
    device = FakeOutput()
    heard: list[Inspection] = []

    class Gate(GateOutput):
        def signal(self, inspection: Inspection) -> None:
            super().signal(inspection)
            heard.append(inspection)

    gate = Gate(device, delay_s=0.3, clock=clock)
    with LineUnderTest(outputs=[gate], clock=clock, budget_ms=60_000, frame_window_ms=100) as line:
        assert isinstance(line.station, Station)
        line.fire()
        line.push(GOOD)
        assert line.told(1) == ["OK"]
        line.pass_time(90)
        line.fire()
        line.push(BAD)
        assert line.told(1) == ["NG"]
        line.pass_time(90)
        line.fire()
        line.wait_for_frame()
        line.pass_time(101)
        assert line.told(1) == ["UNKNOWN camera_timeout"]
        until(lambda: len(heard) == 3)
        line.pass_time(19)
        until(lambda: [words(i) for i in device.told] == ["OK"])
        line.pass_time(90)
        until(lambda: [words(i) for i in device.told] == ["OK", "NG"])
        line.pass_time(90)
        until(lambda: len(device.told) == 3)
        line.end()
    assert [words(i) for i in device.told] == ["OK", "NG", "UNKNOWN camera_timeout"]
