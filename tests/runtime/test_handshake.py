"""The handshake against a model PLC: single rules by hand, everything else by random interleavings of both sides and faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import BadInput
from edgead.runtime.plc.handshake import Accepted, Handshake, Result, Timing
from edgead.runtime.plc.signals import Cause, Fault, FromPlc, ToPlc
from edgead.testing.plc import FakePlc
from edgead.types import Verdict

OK, NG, UNKNOWN = Verdict.OK, Verdict.NG, Verdict.UNKNOWN
MS = 1_000_000


class Line:
    """Both sides and the memory between them; nothing moves but by its methods."""

    def __init__(self, timing: Timing | None = None, **plc: int | float | bool) -> None:
        self.timing = timing or Timing()
        self.now_ns = 10**9
        self.memory = ToPlc()  # what the PLC holds of the station
        self.said = FromPlc()  # and what the station would read now
        self.delayed: ToPlc | None = None
        self.session, self.boot = 0, 0
        self.options = plc
        self.plc = FakePlc(**plc)  # type: ignore[arg-type]
        self.logs = [self.plc]
        self.open: list[tuple[Handshake, Accepted, int]] = []
        self.truth: dict[tuple[int, int], Verdict] = {}
        self.accepted: list[tuple[int, int]] = []
        self.withdrawn: list[object] = []  # parts that were shown as UNKNOWN
        self.start_station()

    # The station's side

    def start_station(self) -> None:
        self.boot += 1
        self.open.clear()
        self.station = Handshake(boot=self.boot, timing=self.timing)
        self.station.beat(self.now_ns)

    def exchange(self, *, arrives: bool = True, returns: bool = True, late: bool = False) -> None:
        shown = self.station.show(self.now_ns)
        self.check(shown)
        if late:
            self.delayed = shown
        elif arrives:
            self.memory = shown
        if late or not (arrives and returns):
            self.station.missed(self.now_ns)
            return
        for trigger in self.station.saw(shown, self.said, self.now_ns):
            self.accepted.append((self.session, trigger.part_id))
            if trigger.refused is Cause.NONE:
                self.open.append((self.station, trigger, self.session))

    def answer(self, verdict: Verdict, which: int = 0) -> None:
        if not self.open:
            return
        station, trigger, session = self.open.pop(which % len(self.open))
        self.truth[session, trigger.part_id] = verdict
        station.answer(trigger.key, Result(verdict, Cause.LATE if verdict is UNKNOWN else Cause.NONE, 1.5))

    # The PLC's side

    def scan(self) -> None:
        self.said = self.plc.scan(self.memory, self.now_ns)

    def land(self) -> None:
        """A write that was given up arrives after all, after newer ones."""
        if self.delayed is not None:
            self.memory, self.delayed = self.delayed, None

    def start_plc(self) -> None:
        """Power off and on: memory and connections are gone, and its part numbers begin again."""
        self.session += 1
        self.memory, self.said, self.delayed = ToPlc(), FromPlc(), None
        self.plc = FakePlc(**self.options)  # type: ignore[arg-type]
        self.logs.append(self.plc)

    def want(self) -> None:
        self.plc.wanted += 1

    def wait(self, duration_ms: float, *, beat: bool = True) -> None:
        self.now_ns += int(duration_ms * MS)
        if beat:
            self.station.beat(self.now_ns)

    # Both

    def run(self, rounds: int = 6, verdict: Verdict | None = OK) -> None:
        """Everything works for a while; each part gets `verdict`."""
        for _ in range(rounds):
            self.exchange()
            self.scan()
            if verdict is not None:
                self.answer(verdict)
            self.wait(5)

    def check(self, shown: ToPlc) -> None:
        """What may never be seen on the wire."""
        bits = shown.ok + shown.ng + shown.unknown
        assert bits == (1 if shown.result_valid else 0)
        assert not shown.ready or not shown.reset_done
        if shown.ok:
            assert OK in {verdict for (_, part_id), verdict in self.truth.items() if part_id == shown.result_part_id}
            assert self.station._parts[0] not in self.withdrawn, "an UNKNOWN became OK"
        if shown.unknown:
            self.withdrawn.append(self.station._parts[0])
        if not shown.result_valid:
            assert (shown.result_part_id, shown.cause, shown.score) == (0, 0, 0.0)

    def judge(self) -> None:
        """What may never be in a PLC's log."""
        for session, plc in enumerate(self.logs):
            told = [v.part_id for v in plc.verdicts]
            assert len(told) == len(set(told)), "two verdicts for one part"
            by_station = [v for v in plc.verdicts if v.by == "station"]
            assert [v.part_id for v in by_station] == sorted(v.part_id for v in by_station), "out of order"
            for verdict in by_station:
                assert (session, verdict.part_id) in self.accepted
                if verdict.verdict is OK:
                    assert self.truth[session, verdict.part_id] is OK, "a wrong OK"
        assert len(self.accepted) == len(set(self.accepted)) or self.boot > 1, "one trigger, taken twice"

    def settle(self) -> None:
        """Fair scheduling for some simulated seconds: everything that is wanted must come to an end."""
        for _ in range(1500):
            if self.plc.settled and not self.station.waiting:
                return
            self.run(1, NG)
        raise AssertionError("nothing moves any more")


def ready_line(timing: Timing | None = None, **plc: int | float | bool) -> Line:
    line = Line(timing, **plc)
    line.run(8)
    assert line.memory.ready
    return line


def took(line: Line) -> list[tuple[int, Verdict, str]]:
    return [(v.part_id, v.verdict, v.by) for v in line.plc.verdicts]


Action = Callable[[Line, random.Random], object]
USUAL: dict[str, Action] = {
    "exchange": lambda line, rng: line.exchange(),
    "scan": lambda line, rng: line.scan(),
    "both": lambda line, rng: line.run(rng.randrange(1, 5), None),
    "want": lambda line, rng: line.want(),
    "ok": lambda line, rng: line.answer(OK),
    "ng": lambda line, rng: line.answer(NG),
    "unknown": lambda line, rng: line.answer(UNKNOWN),
    "out of order": lambda line, rng: line.answer(rng.choice([OK, NG]), rng.randrange(8)),
    "time": lambda line, rng: line.wait(1),
}
LOSSES: dict[str, Action] = {
    "request lost": lambda line, rng: line.exchange(arrives=False),
    "answer lost": lambda line, rng: line.exchange(returns=False),
}
DELAYS: dict[str, Action] = {
    "write delayed": lambda line, rng: line.exchange(late=True),
    "delayed write lands": lambda line, rng: line.land(),
}
FAULTS: dict[str, Action] = (
    LOSSES
    | DELAYS
    | {
        "station killed": lambda line, rng: line.start_station(),
        "PLC killed": lambda line, rng: line.start_plc(),
        "PLC asks for reset": lambda line, rng: line.plc.restart(),
        "pause": lambda line, rng: line.wait(rng.choice([100, 400, 1500, 6000])),
        "loop hangs": lambda line, rng: line.wait(rng.choice([100, 1500]), beat=False),
        "safe": lambda line, rng: line.station.make_safe(),
        "enable": lambda line, rng: setattr(line.plc, "enabled", not line.plc.enabled),
        "ack": lambda line, rng: setattr(line.plc, "acknowledging", not line.plc.acknowledging),
        "PLC hangs": lambda line, rng: setattr(line.plc, "beating", not line.plc.beating),
        "recipe": lambda line, rng: setattr(line.plc, "recipe", rng.choice([0, 7])),
    }
)


def shake(line: Line, faults: dict[str, Action], rng: random.Random, *, steps: int, rate: float) -> None:
    """Random steps of both sides; one in `1 / rate` is a fault."""
    usual, unusual = list(USUAL.values()), list(faults.values())
    line.want()
    for _ in range(steps):
        rng.choice(unusual if unusual and rng.random() < rate else usual)(line, rng)


@settings(max_examples=200, deadline=None)
@given(late=st.booleans(), in_flight=st.integers(1, 3), seed=st.integers(0, 2**32), rate=st.sampled_from([0.05, 0.3, 0.6]))
@pytest.mark.promise("one handshake (ready, busy, trigger, acknowledge, results held until taken, heartbeats both ways)")
def test_each_part_gets_its_own_verdict_whatever_is_lost_on_the_way(late: bool, in_flight: int, seed: int, rate: float) -> None:
    line = ready_line(Timing(max_gap_s=60, answer_timeout_s=60), in_flight=in_flight, ack_timeout_s=3, result_timeout_s=60)
    shake(line, LOSSES | DELAYS if late else LOSSES, random.Random(seed), steps=250, rate=rate)
    line.settle()
    line.judge()
    for verdict in line.plc.verdicts:
        if late and verdict.by == "no_ack":
            continue  # an old "ready" after a newer one can cost a trigger, which the PLC then rejects by itself
        assert verdict.by == "station"
        assert verdict.verdict is line.truth[0, verdict.part_id]
    assert late or len(line.plc.verdicts) == len(line.accepted)
    assert late or not line.plc.ignored


@settings(max_examples=500, deadline=None)
@given(
    kinds=st.sets(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=4),
    in_flight=st.integers(1, 3),
    rude=st.booleans(),
    capacity=st.integers(1, 3),
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.03, 0.1, 0.3]),
)
def test_whatever_happens_nothing_is_doubled_and_no_ok_is_wrong_and_it_goes_on(
    kinds: set[str], in_flight: int, rude: bool, capacity: int, seed: int, rate: float
) -> None:
    line = ready_line(Timing(capacity=capacity), in_flight=in_flight, rude=rude)
    shake(line, {kind: FAULTS[kind] for kind in sorted(kinds)}, random.Random(seed), steps=250, rate=rate)
    line.plc.enabled = line.plc.acknowledging = line.plc.beating = True
    line.plc.recipe = 0
    line.settle()
    line.judge()
    line.run(100, None)  # acknowledges the errors, one after the other
    line.want()
    line.run(12, OK)
    line.judge()
    assert took(line)[-1][1:] == (OK, "station")
    assert not line.memory.error and line.memory.ready


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_plc_without_part_numbers_gets_each_verdict_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    line = ready_line(Timing(max_gap_s=60, answer_timeout_s=60), numbered=False, ack_timeout_s=60, result_timeout_s=60)
    wanted = [rng.choice([OK, NG]) for _ in range(12)]
    verdicts = iter(wanted)
    line.plc.wanted = len(wanted)
    while not line.plc.settled:
        line.exchange(arrives=rng.random() < 0.8, returns=rng.random() < 0.8)
        if rng.random() < 0.7:
            line.scan()
        if line.open and rng.random() < 0.3:
            line.truth[0, 0] = OK
            station, trigger, _ = line.open.pop()
            station.answer(trigger.key, Result(next(verdicts)))
        line.wait(1)
    assert [v.verdict for v in line.plc.verdicts] == wanted


def test_a_part_from_trigger_to_acknowledgement() -> None:
    line = ready_line()
    line.want()
    line.scan()
    line.exchange()  # reads the trigger
    line.exchange()
    assert line.memory.trigger_ack and line.memory.trigger_part_id == 1 and line.memory.busy
    assert not line.memory.result_valid
    line.answer(OK)
    line.exchange()
    assert line.memory.result_valid and line.memory.ok and line.memory.result_part_id == 1 and not line.memory.busy
    line.scan()
    line.exchange()
    line.exchange()
    assert not line.memory.result_valid and not line.memory.ok and not line.memory.trigger_ack
    assert took(line) == [(1, OK, "station")]


def test_results_come_in_the_order_of_triggers_whatever_the_order_of_verdicts() -> None:
    line = ready_line(in_flight=3)
    line.plc.wanted = 3
    line.run(14, None)
    assert [trigger.part_id for _, trigger, _ in line.open] == [1, 2, 3]
    line.answer(NG, 2)
    line.answer(OK, 1)
    line.run(4, None)
    assert took(line) == []
    line.answer(OK, 0)
    line.run(10, None)
    assert took(line) == [(1, OK, "station"), (2, OK, "station"), (3, NG, "station")]


def test_it_starts_with_nothing_asserted_and_is_ready_when_both_sides_live() -> None:
    line = Line()
    assert line.station.show(line.now_ns) == ToPlc(boot=1, heartbeat=1)
    line.run(8)
    assert line.memory.ready
    line.plc.enabled = False
    line.run(3)
    assert not line.memory.ready


def test_a_trigger_that_was_there_at_the_start_is_answered_but_not_inspected() -> None:
    line = ready_line()
    line.want()
    line.scan()
    line.start_station()
    line.run(8)
    assert took(line) == [(1, UNKNOWN, "station")]
    assert line.plc.verdicts[0].cause == Cause.STALE_TRIGGER
    line.want()
    line.run(8)
    assert took(line)[1] == (2, OK, "station")


def test_a_trigger_after_a_gap_is_not_inspected() -> None:
    line = ready_line()
    line.want()
    line.scan()
    line.wait(300)
    line.run(8)
    assert line.plc.verdicts[0].cause == Cause.STALE_TRIGGER


def test_parts_in_work_are_rejected_by_the_plc_when_the_station_restarts() -> None:
    line = ready_line()
    line.want()
    line.run(4, None)
    line.start_station()
    line.run(8)
    assert took(line) == [(1, UNKNOWN, "station_restarted")]


def test_after_a_restart_of_the_plc_old_results_are_forgotten_though_part_numbers_begin_again() -> None:
    line = ready_line()
    line.want()
    line.run(3, None)
    line.answer(OK)
    line.start_plc()
    line.want()
    for _ in range(12):
        line.exchange()
        line.scan()
        line.wait(5)
    assert took(line) == []
    line.answer(NG)
    line.run(4)
    assert took(line) == [(1, NG, "station")]
    assert line.station.counts["flushed"] == 1


def with_a_part(beats: Sequence[int]) -> tuple[Handshake, FromPlc]:
    """A station that has taken part 4, and whose PLC has counted so far."""
    station = Handshake(boot=1)
    station.beat(0)
    for beat in beats:
        station.saw(station.show(0), FromPlc(enable=True, heartbeat=beat, part_id=3), 0)
    seen = FromPlc(enable=True, trigger=True, heartbeat=beats[-1], part_id=4)
    (trigger,) = station.saw(station.show(0), seen, 0)
    assert station.answer(trigger.key, Result(OK))
    return station, seen


@pytest.mark.parametrize(
    "beats",
    [
        [57, 58, 59, 0, 1],
        [9997, 9998, 9999, 0],
        [65534, 65535, 0],
        [3, 2, 1, 0, 65535],
        [500, 499, 498],
        [0, 1, 0, 1],
        [40000, 7, 12345],
        [1, 256, 1],
    ],
    ids=["to 59", "to 9999", "to 65535", "down", "down from 500", "one bit", "whatever it likes", "bytes swapped"],
)
def test_a_heartbeat_that_wraps_anywhere_or_counts_down_is_no_restart(beats: list[int]) -> None:
    station, seen = with_a_part(beats[:2])
    for beat in beats[2:] * 3:
        station.saw(station.show(0), replace(seen, heartbeat=beat, trigger=False), 0)
    assert station.show(0).ok and station.waiting == 1 and station.plc_alive
    assert not station.counts["flushed"] and not station.remarks()


@pytest.mark.parametrize(
    ("heartbeat", "part_id", "forgotten"), [(1, 0, True), (1, 4, False), (5003, 0, False)], ids=["new", "knows it", "counts on"]
)
def test_a_plc_that_comes_back_with_a_lower_heartbeat_and_none_of_our_parts_has_restarted(
    heartbeat: int, part_id: int, forgotten: bool
) -> None:
    station, seen = with_a_part([5000, 5001])
    station.missed(0)
    station.saw(station.show(0), replace(seen, heartbeat=heartbeat, part_id=part_id, trigger=False), 0)
    shown = station.show(0)
    assert shown.ok is not forgotten and (station.waiting == 0) is forgotten
    assert (shown.error_code == Fault.PLC_RESTARTED) is forgotten
    assert [text.count("parts 4 ") for text in station.remarks()] == [1] * forgotten


def test_a_reset_forgets_parts_and_says_which_and_why() -> None:
    station, seen = with_a_part([1, 2])
    station.saw(station.show(0), replace(seen, reset=True), 0)
    (text,) = station.remarks()
    assert "asks for reset" in text and "parts 4 " in text
    assert station.remarks() == []


def test_results_told_and_results_taken_are_counted_apart() -> None:
    station, seen = with_a_part([1, 2])
    station.saw(station.show(0), replace(seen, trigger=False), 0)
    assert (station.counts["told"], station.counts["told:ok"], station.counts["taken"]) == (1, 1, 0)
    station.saw(station.show(0), replace(seen, trigger=False, result_ack=True, result_ack_part_id=4), 0)
    assert (station.counts["taken"], station.counts["taken:ok"]) == (1, 1)


def test_a_heartbeat_that_alternates_is_a_heartbeat() -> None:
    station = Handshake(boot=1)
    for i in range(8):
        station.saw(station.show(i), FromPlc(heartbeat=i % 2), i)
    assert station.plc_alive and not station.counts


def test_a_plc_that_stands_still_gets_no_ok_any_more() -> None:
    line = ready_line()
    line.want()
    line.scan()
    line.exchange()
    line.answer(OK)
    line.exchange()
    assert line.memory.ok
    for _ in range(3):
        line.wait(400)
        line.exchange()
    line.exchange()
    assert line.memory.unknown and not line.memory.ok and line.memory.cause == Cause.PLC_LOST
    assert not line.memory.ready and line.memory.error_code == Fault.PLC_LOST
    line.run(40)
    assert took(line) == [(1, UNKNOWN, "station")]
    assert line.plc.errors == [Fault.PLC_LOST]


def test_the_station_heartbeat_stands_still_with_its_loop() -> None:
    line = ready_line()
    for _ in range(10):
        line.wait(100)
        line.scan()
        line.exchange()
    before = line.memory.heartbeat
    assert before >= 10
    for _ in range(30):
        line.wait(100, beat=False)
        line.exchange()
        line.scan()
    assert line.memory.heartbeat - before <= 11  # a second's worth
    assert not line.memory.ready and line.plc.errors == [Fault.LOOP_STALLED]
    line.run(5)
    assert line.memory.ready


def test_a_trigger_without_a_verdict_is_unknown_in_the_end_and_a_verdict_after_that_is_not_told() -> None:
    line = ready_line(result_timeout_s=30)
    line.want()
    line.run(500, None)
    line.answer(OK)
    line.run(5)
    assert took(line) == [(1, UNKNOWN, "station")]
    assert line.plc.verdicts[0].cause == Cause.NO_ANSWER
    assert line.plc.errors == [Fault.NO_ANSWER]
    assert line.station.counts["dropped"] == 1


def test_a_verdict_that_cannot_be_told_by_its_deadline_is_unknown() -> None:
    line = ready_line()
    line.want()
    line.run(2, None)
    line.truth[0, 1] = OK
    line.station.answer(line.open.pop()[1].key, Result(OK, deadline_ns=line.now_ns + 20 * MS))
    for _ in range(5):
        line.exchange(arrives=False)
        line.wait(5)
    line.run(3)
    assert line.plc.verdicts[0].cause == Cause.LATE_OUTPUT


def test_a_verdict_that_was_told_in_time_stays_until_it_is_acknowledged() -> None:
    line = ready_line()
    line.plc.acknowledging = False
    line.want()
    line.run(2, None)
    line.truth[0, 1] = OK
    line.station.answer(line.open.pop()[1].key, Result(OK, deadline_ns=line.now_ns + 20 * MS))
    line.run(100)
    assert line.memory.ok
    line.plc.acknowledging = True
    line.run(3)
    assert took(line) == [(1, OK, "station")]


def test_a_result_that_nobody_takes_is_an_error_and_not_ok_any_more() -> None:
    line = ready_line(result_timeout_s=60)
    line.plc.acknowledging = False
    line.want()
    line.run(1100)
    assert line.memory.unknown and line.memory.cause == Cause.RESULT_NOT_TAKEN
    assert line.plc.errors == [Fault.RESULT_NOT_TAKEN]


def test_a_trigger_while_no_result_can_be_held_is_an_error_and_answered_later_and_not_lost() -> None:
    line = ready_line(Timing(capacity=1), in_flight=2, rude=True)
    line.plc.acknowledging = False
    line.plc.wanted = 2
    line.run(20)
    assert not line.memory.ready
    assert line.plc.errors == [Fault.TRIGGER_OVERRUN]
    line.plc.acknowledging = True
    line.run(10)
    assert [(v.part_id, v.verdict, v.cause) for v in line.plc.verdicts] == [(1, OK, 0), (2, UNKNOWN, Cause.TRIGGER_OVERRUN)]


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda line: setattr(line.plc, "enabled", False), Cause.DISABLED),
        (lambda line: setattr(line.plc, "recipe", 4), Cause.WRONG_RECIPE),
        (lambda line: line.station.make_safe(), Cause.LOOP_STALLED),
    ],
)
def test_a_trigger_while_not_ready_is_answered_at_once(spoil: Callable[[Line], None], cause: Cause) -> None:
    line = ready_line(rude=True)
    spoil(line)
    line.want()
    for _ in range(6):
        line.exchange()
        line.scan()
    assert [(v.verdict, v.cause) for v in line.plc.verdicts] == [(UNKNOWN, cause)]
    assert line.plc.errors == [Fault.TRIGGER_NOT_READY]
    assert line.open == []


def showing(part_id: int = 6) -> tuple[Handshake, FromPlc]:
    """A station that shows a result, and what the PLC says so far."""
    station, seen = Handshake(boot=1, timing=Timing(plc_beats=False)), FromPlc(enable=True)
    station.saw(station.show(0), seen, 0)
    station.announce(part_id, Result(OK), 0)
    station.saw(station.show(0), seen, 0)
    assert station.show(0).result_part_id == part_id
    return station, seen


def test_an_acknowledgement_of_another_part_is_none() -> None:
    station, seen = showing(6)
    station.saw(station.show(0), replace(seen, result_ack=True, result_ack_part_id=5), 0)
    assert station.show(0).result_part_id == 6
    station.saw(station.show(0), replace(seen, result_ack=True, result_ack_part_id=6), 0)
    assert not station.show(0).result_valid


def test_after_a_reset_an_old_acknowledgement_must_go_before_the_next_result() -> None:
    station, seen = showing(6)
    old = replace(seen, result_ack=True, result_ack_part_id=6)
    station.saw(station.show(0), replace(old, reset=True), 0)
    station.announce(6, Result(NG), 0)
    station.saw(station.show(0), old, 0)
    assert not station.show(0).result_valid and station.waiting == 1
    station.saw(station.show(0), seen, 0)
    assert station.show(0).ng


def test_reset_forgets_everything_and_says_when_it_is_done() -> None:
    station, seen = Handshake(boot=1), FromPlc(enable=True)
    station.saw(station.show(0), seen, 0)
    station.announce(1, Result(NG), 0)
    station.beat(0)
    station.show(0)
    station.show(2 * 10**9)
    assert station.show(2 * 10**9).error
    station.saw(station.show(2 * 10**9), replace(seen, reset=True, trigger=True), 2 * 10**9)
    shown = station.show(2 * 10**9)
    assert shown.reset_done
    assert not (shown.ready or shown.error or shown.result_valid or shown.trigger_ack or station.waiting)
    station.saw(shown, seen, 2 * 10**9)
    assert not station.show(2 * 10**9).reset_done


def test_errors_are_shown_one_after_the_other_each_until_it_is_acknowledged() -> None:
    station, seen = Handshake(boot=1, timing=Timing(capacity=1)), FromPlc(enable=True)
    station.saw(station.show(0), seen, 0)
    station.announce(1, Result(NG), 0)
    station.announce(2, Result(NG), 0)
    station.beat(0)
    station.show(0)
    station.show(2 * 10**9)
    codes = []
    for _ in range(3):
        shown = station.show(2 * 10**9)
        codes.append(shown.error_code)
        station.saw(shown, seen, 2 * 10**9)
        assert station.show(2 * 10**9).error_code == shown.error_code
        station.saw(shown, replace(seen, error_ack=True), 2 * 10**9)
        cleared = station.show(2 * 10**9)
        assert not cleared.error and cleared.error_code == 0
        station.saw(cleared, replace(seen, error_ack=True), 2 * 10**9)
        assert not station.show(2 * 10**9).error
        station.saw(cleared, seen, 2 * 10**9)
    assert codes == [Fault.RESULT_LOST, Fault.LOOP_STALLED, Fault.NONE]


def test_going_safe_takes_every_ok_away() -> None:
    line = ready_line(in_flight=3)
    line.plc.acknowledging = False
    line.plc.wanted = 3
    line.run(14, None)
    line.answer(OK, 0)
    line.answer(OK, 0)
    line.exchange()
    assert line.memory.ok
    line.station.make_safe()
    line.exchange()
    assert not line.memory.ok and line.memory.unknown and not line.memory.ready
    assert line.memory.busy  # the third part's verdict may still come
    line.station.make_safe(final=True)
    line.plc.acknowledging = True
    for _ in range(12):
        line.exchange()
        line.scan()
    assert [(v.verdict, v.cause) for v in line.plc.verdicts] == [(UNKNOWN, Cause.STOPPED)] * 3


def test_a_station_that_ends_takes_no_further_trigger_since_nobody_would_record_it() -> None:
    line = ready_line(rude=True)
    line.station.make_safe(final=True)
    line.want()
    for _ in range(6):
        line.exchange()
        line.scan()
    assert line.accepted == []
    assert line.station.counts["accepted"] == line.station.counts["told"] == 0
    assert not line.memory.ready and not line.memory.trigger_ack


def test_free_running_results_are_held_and_numbered_by_the_station() -> None:
    line = ready_line(Timing(capacity=2), free_running=True)
    assert [line.station.announce(i, Result(NG), line.now_ns) for i in (1, 2, 3)] == [True, True, False]
    line.run(8)
    assert [(v.part_id, v.verdict) for v in line.plc.verdicts] == [(1, NG), (2, NG)]
    assert line.plc.errors == [Fault.RESULT_LOST]


def test_a_plc_without_a_heartbeat_lives_as_long_as_it_answers() -> None:
    line = Line(Timing(plc_beats=False))
    line.plc.beating = False
    line.run(5)
    assert line.memory.ready
    line.wait(1200)
    line.exchange(arrives=False)
    assert not line.station.show(line.now_ns).ready


@pytest.mark.parametrize("timing", [{"capacity": 0}, {"beat_s": 0.0}, {"max_gap_s": -1.0}, {"plc_timeout_s": float("nan")}])
def test_limits_that_make_no_sense_are_refused(timing: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Timing(**timing)  # type: ignore[arg-type]


def test_a_boot_number_must_fit() -> None:
    with pytest.raises(BadInput, match="65536"):
        Handshake(boot=65536)
