"""A worker loses the oldest of what it cannot take, says so, and tells its owner before it goes on."""

from __future__ import annotations

from edgead.runtime.worker import Worker
from edgead.testing import Hang
from tests.waiting import PATIENCE_S


def test_a_full_queue_loses_its_oldest_and_the_owner_hears_of_it_before_the_next_item() -> None:
    hang = Hang()
    told: list[object] = []

    def handle(item: int) -> None:
        if item == 0:
            hang.wait()
        told.append(item)

    worker = Worker("test", handle, capacity=2, on_error=told.append, on_lost=lambda: told.append("lost"))
    assert worker.put(0)
    assert hang.entered.acquire(timeout=PATIENCE_S)
    assert [worker.put(item) for item in (1, 2, 3, 4)] == [True, True, False, False]
    assert worker.depth == 2
    assert not worker.wait_for_room(0)
    hang.let_go()
    assert worker.wait_for_room(10)
    assert worker.close(10)
    assert told == [0, "lost", 3, 4]


def test_what_is_raised_goes_to_the_owner_and_pokes_come_when_there_is_nothing_to_do() -> None:
    errors: list[Exception] = []
    beats: list[int] = []
    worker = Worker("test", lambda item: 1 // item, capacity=8, on_error=errors.append, idle=lambda: beats.append(1))
    for item in (0, 1, 0):
        worker.put(item)
    worker.poke()
    assert worker.close(10)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2
    assert beats == [1]


def test_one_that_hangs_is_left_behind() -> None:
    hang = Hang()
    worker: Worker[int] = Worker("test", lambda item: hang.wait(), capacity=1, on_error=print)
    worker.put(1)
    assert hang.entered.acquire(timeout=PATIENCE_S)
    assert not worker.close(0.01)
    hang.let_go()
    assert worker.close(10)
