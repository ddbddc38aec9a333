"""The ledger: whatever happens in whatever order, each part is closed exactly once, in order, and never OK when it is late."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.clock import MonotonicClock
from edgead.runtime.loop.ledger import Ledger, Part, told_late
from edgead.testing import FakeClock
from edgead.types import Inspection, StageTimes, Trigger, Verdict
from tests.runtime._line import words
from tests.waiting import PATIENCE_S, until

START = 1_000_000_000
MS = 1_000_000


def unknown(part: Part, cause: str) -> Inspection:
    return Inspection(0, Verdict.UNKNOWN, cause, 0.0, 1.0, None, StageTimes(), None)


OK = replace(unknown(Part(0, None, 0, None), ""), verdict=Verdict.OK)


class Book:
    """A ledger on a clock that is moved by hand, with what it delivered."""

    def __init__(self, first_part_id: int = 1, late_verdict: Verdict = Verdict.UNKNOWN) -> None:
        self.clock = FakeClock(START, manual=True)
        self.told: list[Inspection] = []
        self.thrown_away = 0
        self.opened = 0

        def late(part: Part, cause: str, finding: Inspection | None) -> Inspection:
            return told_late(finding or replace(OK, verdict=Verdict.NG), cause, late_verdict)

        self.ledger = Ledger(
            self.clock, self.told.append, unknown=unknown, lateness=late, late_result=self._late, first_part_id=first_part_id
        )

    def open(self, deadline_ms: float | None = 100, **options: object) -> Part:
        self.opened += 1
        now = self.clock.now_ns()
        trigger = Trigger(self.opened, now)
        return self.ledger.open(trigger, now, None if deadline_ms is None else now + int(deadline_ms * MS), **options)  # type: ignore[arg-type]

    def _late(self) -> None:
        self.thrown_away += 1

    def __enter__(self) -> Book:
        self.ledger.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.end()


def test_a_part_is_closed_by_whoever_is_first() -> None:
    with Book() as book:
        part = book.open()
        assert book.ledger.take(0) is part
        assert book.ledger.close(part, OK)
        assert not book.ledger.close(part, OK)
        book.clock.advance(1)
    assert [words(i) for i in book.told] == ["OK"]
    assert book.thrown_away == 1
    assert (book.told[0].part_id, book.told[0].trigger, book.told[0].deadline_ns) == (1, Trigger(1, START), START + 100 * MS)


def test_the_referee_closes_what_is_late_with_the_stage_and_everything_before_it() -> None:
    with Book() as book:
        book.open(1000)
        book.open(50)
        later = book.open(1000)
        first = book.ledger.take(0)
        assert first is not None
        first.enter("resize", book.clock.now_ns())
        book.clock.advance(0.050)
        assert book.told == [], "at its deadline it is in time"
        book.clock.advance(0.001)
        until(lambda: len(book.told) == 2)
        assert [words(i) for i in book.told] == ["UNKNOWN late: resize", "UNKNOWN late: queue"]
        assert book.ledger.take(0) is later
        assert book.ledger.close(later, OK)
    assert [i.part_id for i in book.told] == [1, 2, 3]


def test_on_the_machines_own_clock_a_deadline_is_kept_without_any_further_event() -> None:
    told: list[Inspection] = []
    clock = MonotonicClock()
    ledger = Ledger(
        clock, told.append, unknown=unknown, lateness=lambda part, cause, finding: unknown(part, cause), late_result=lambda: None
    )
    ledger.start()
    until(lambda: ledger._due._waiters)  # type: ignore[attr-defined]
    for deadline_ms in (60_000, 20):  # the later deadline is waited for first
        ledger.open(None, clock.now_ns(), clock.now_ns() + deadline_ms * MS)
    until(lambda: len(told) == 2)
    assert clock.now_ns() > told[1].deadline_ns  # type: ignore[operator]
    ledger.end()


@pytest.mark.promise("OK, NG or UNKNOWN(cause). Late, broken or not finite is UNKNOWN, never OK.")
def test_a_verdict_that_is_closed_after_its_deadline_is_never_ok() -> None:
    book = Book()
    book.ledger._running = True  # without a referee, as if it had not woken up yet
    part = book.open(10, taken=True)
    part.enter("inference", book.clock.now_ns())
    book.clock.advance(0.011)
    part.enter("decision", book.clock.now_ns())  # it became late before
    book.ledger.close(part, OK)
    assert [words(i) for i in book.told] == ["UNKNOWN late: inference"]


def test_late_parts_may_be_rejected() -> None:
    with Book(late_verdict=Verdict.NG) as book:
        book.open(10)
        book.clock.advance(1)
        until(lambda: len(book.told) == 1)
    assert words(book.told[0]) == "NG late: queue"


def test_too_many_waiting_parts_are_doomed_and_keep_their_turn() -> None:
    with Book() as book:
        parts = [book.open(limit=2) for _ in range(4)]
        assert [part.doom for part in parts] == ["", "", "trigger_overrun", "trigger_overrun"]
        assert [book.ledger.take(0) for _ in range(4)] == parts


def test_the_end_closes_what_is_open_and_what_comes_after_it() -> None:
    book = Book(first_part_id=41)
    with book:
        book.open()
        book.open(None)
    late = book.open()
    assert late.closed
    assert [words(i) for i in book.told] == ["UNKNOWN stopped"] * 3
    assert [i.part_id for i in book.told] == [41, 42, 43]


def test_a_listener_that_fails_ends_neither_the_referee_nor_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    with Book() as book:
        book.ledger._deliver = lambda inspection: 1 / 0  # type: ignore[assignment, return-value]
        book.open(10)
        book.clock.advance(1)
        until(lambda: book.ledger.busy()[0] == 0)
        book.ledger._deliver = book.told.append
        book.open(10)
        book.clock.advance(1)
        until(lambda: len(book.told) == 1)
    assert "was not delivered" in caplog.text


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(1, 60)),
        st.tuples(st.just("free"), st.integers(0, 60)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 40)),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(OPS)
@pytest.mark.promise("Every trigger gets exactly one verdict by its deadline")
def test_any_interleaving_closes_each_part_once_in_order_and_never_ok_when_late(ops: list[tuple[str, int]]) -> None:
    with Book() as book:
        parts: list[Part] = []
        moments: dict[int, int] = {}
        taken: list[Part] = []
        for op, value in ops:
            if op == "open":
                parts.append(book.open(value, limit=5))
            elif op == "free":
                parts.append(book.open(value or None))
            elif op == "take":
                part = book.ledger.take(0)
                taken += [part] if part is not None else []
            elif op == "close" and taken:
                book.ledger.close(taken.pop(min(value, len(taken) - 1)), OK)
            elif op == "wait":
                book.clock.advance(value / 1000)
            now = book.clock.now_ns()
            until(lambda now=now: all(p.closed for p in parts if p.deadline_ns is not None and p.deadline_ns < now))  # type: ignore[misc]
            for inspection in book.told[len(moments) :]:
                moments[inspection.part_id] = now
    assert [i.part_id for i in book.told] == list(range(1, book.opened + 1))
    for inspection in book.told:
        if inspection.verdict is Verdict.OK and inspection.deadline_ns is not None:
            assert moments[inspection.part_id] <= inspection.deadline_ns


def test_many_threads_open_and_close_and_nothing_is_lost() -> None:
    with Book() as book:
        total = 400

        def opening() -> None:
            for _ in range(total // 4):
                book.ledger.open(None, START, START + MS)

        def closing() -> None:
            while len(book.told) < total:
                if (part := book.ledger.take(0.01)) is not None:
                    book.ledger.close(part, OK)

        threads = [threading.Thread(target=opening) for _ in range(4)] + [threading.Thread(target=closing)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert [i.part_id for i in book.told] == list(range(1, total + 1))
