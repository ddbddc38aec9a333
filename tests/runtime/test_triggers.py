"""Trigger sources without a device."""

from __future__ import annotations

import threading

import pytest

from edgead.errors import BadInput, EndOfStream, OutputError
from edgead.runtime.loop.triggers import CameraTrigger, IntervalTrigger, SoftwareTrigger
from edgead.testing import FakeClock
from edgead.types import TriggerSource


def test_fired_triggers_come_in_order_with_their_part_ids_and_moments() -> None:
    clock = FakeClock()
    source = SoftwareTrigger(clock)
    first = source.fire(7, encoder=1234)
    clock.advance(1)
    second = source.fire()
    assert (first.trigger_id, first.part_id, first.encoder, first.at_ns) == (1, 7, 1234, 1_000_000_000)
    assert (second.trigger_id, second.part_id, second.at_ns) == (2, None, 2_000_000_000)
    assert [source.wait(0), source.wait(0), source.wait(0)] == [first, second, None]


def test_nothing_is_dropped_silently_when_nobody_reads() -> None:
    source = SoftwareTrigger(capacity=2)
    source.fire()
    source.fire()
    with pytest.raises(OutputError, match="nobody reads"):
        source.fire()
    third = [source.wait(0), source.fire()][1]
    assert third.trigger_id == 3, "ids have no gaps: what was refused was no trigger"


def test_many_threads_may_fire() -> None:
    source = SoftwareTrigger()
    threads = [threading.Thread(target=lambda: [source.fire() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [source.wait(0) for _ in range(200)]
    assert [trigger.trigger_id for trigger in found if trigger] == list(range(1, 201))


def test_an_end_comes_after_what_was_fired() -> None:
    source = SoftwareTrigger()
    fired = source.fire()
    source.end()
    with pytest.raises(OutputError):
        source.fire()
    assert source.wait(0) == fired
    with pytest.raises(EndOfStream):
        source.wait(10)


def test_waiting_ends_with_a_trigger_or_when_it_is_closed() -> None:
    for source, let_go in ((s := SoftwareTrigger(), s.fire), (t := SoftwareTrigger(), t.close)):
        timer = threading.Timer(0.01, let_go)
        timer.start()
        if let_go == source.close:
            with pytest.raises(EndOfStream):
                source.wait(20)
        else:
            assert source.wait(20) is not None
        timer.join()


def test_intervals_are_fixed_moments_and_none_is_left_out() -> None:
    clock = FakeClock(manual=True)
    source = IntervalTrigger(0.5, clock, count=4)
    assert source.wait(0) is None
    clock.advance(1.7)
    found = [source.wait(0) for _ in range(4)]
    assert [trigger.at_ns for trigger in found if trigger] == [1_500_000_000, 2_000_000_000, 2_500_000_000]
    assert found[3] is None
    clock.advance(1)
    last = source.wait(0)
    assert last is not None
    assert last.trigger_id == 4
    with pytest.raises(EndOfStream):
        source.wait(0)


@pytest.mark.parametrize("source", [SoftwareTrigger(), IntervalTrigger(1.0), CameraTrigger()])
def test_every_source_keeps_the_protocol_and_closes_twice(source: TriggerSource) -> None:
    assert source.wait(0) is None
    source.close()
    source.close()


def test_values_that_make_no_sense_are_refused() -> None:
    for make in (lambda: SoftwareTrigger(capacity=0), lambda: IntervalTrigger(0.0)):
        with pytest.raises(BadInput):
            make()
