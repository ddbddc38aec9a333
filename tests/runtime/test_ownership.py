"""Two stations, one block. First every state that two can get into, then single rules, then whole stations at random."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.runtime.plc.handshake import Accepted, Handshake, Result, Timing
from edgead.runtime.plc.ownership import Ownership, Phase
from edgead.runtime.plc.signals import Cause, Fault, FromPlc, ToPlc, to_plc_of, to_words
from edgead.testing.plc import FakePlc
from edgead.types import Verdict

TICK_S = 0.25
TICK = round(TICK_S * 1e9)
WATCH_S = CLAIM_S = 1.0
BOOTS = (11, 22)
EMPTY = ToPlc(layout=0)

# Every state


@dataclass(slots=True)
class Side:
    """A station: its view of the block, and a write that has begun and not yet arrived (with the ticks since)."""

    own: Ownership
    flying: ToPlc | None = None
    ticks: int = 0


@dataclass(slots=True)
class World:
    """Nothing moves but by `moves`. A station that is not moved stands still, for however long."""

    now: int
    memory: ToPlc
    sides: tuple[Side, Side]

    def copy(self, i: int) -> World:
        """In which station `i` may move; what is not changed is shared."""
        side = self.sides[i]
        own = Ownership.__new__(Ownership)
        own.__dict__.update(side.own.__dict__)
        own._ours = side.own._ours.copy()
        moved = Side(own, side.flying, side.ticks)
        return World(self.now, self.memory, (moved, self.sides[1]) if i == 0 else (self.sides[0], moved))

    def later(self, by_ns: int = TICK) -> World:
        first, second = (Side(s.own, s.flying, s.ticks + (s.flying is not None)) for s in self.sides)
        return World(self.now + by_ns, self.memory, (first, second))

    def key(self) -> object:
        """What makes it another state; blocks by their identity, since equal ones are one here, and hashing them takes long."""
        return (id(self.memory), *(self._key(side) for side in self.sides))

    def _key(self, side: Side) -> object:
        own = side.own

        def age(at_ns: int | None, most: int) -> int:
            return -1 if at_ns is None else min((self.now - at_ns) // TICK, most)

        waits = own.phase in (Phase.WATCHING, Phase.CONTESTED) or own._claimed
        ages = (
            age(own._looked_ns, 5),
            age(own._still_ns, 5) if waits else 0,
            age(own._wrote_ns, 1) if own.phase is Phase.CONTESTED else 0,
        )
        flags = (own._cut, own._overwrote, own._claimed, bool(own._ours))
        return (own.phase.name, id(own.memory), flags, ages, id(side.flying), side.ticks)

    def blocks(self, side: Side) -> list[ToPlc]:
        """What a station may write now: whatever its verdicts and its loop make of it."""
        own = side.own
        if not own.may_write(self.now):
            return []
        contested = own.phase is Phase.CONTESTED
        if not own.owned:
            return [block_of(own.boot, contested)]
        return [block_of(own.boot, contested, ready=True), block_of(own.boot, contested, ready=True, ok=True)]

    def moves(self) -> Iterator[World]:
        if all(side.flying is None or side.ticks < 1 for side in self.sides):
            yield self.later()
        for i, side in enumerate(self.sides):
            if side.flying is not None:
                yield self.land(i)
                if i == 0:  # of one of the two, since each may be either
                    yield self.miss(i, arrived=True)
                    yield self.miss(i, arrived=False)
                continue
            yield self.look(i)
            if i == 0 and not side.own._cut:
                yield self.miss(i, arrived=False)
            for block in self.blocks(side):
                after = self.copy(i)
                after.sides[i].own.trying(block)
                after.sides[i].flying, after.sides[i].ticks = block, 0
                yield after

    def look(self, i: int) -> World:
        after = self.copy(i)
        after.sides[i].own.looked(self.memory, self.now, self.now)
        return after

    def land(self, i: int) -> World:
        after = self.copy(i)
        side = after.sides[i]
        assert side.flying is not None
        after.memory, side.flying, side.ticks = side.flying, None, 0
        side.own.wrote(self.now)
        return after

    def miss(self, i: int, *, arrived: bool) -> World:
        """An exchange fails; what it wrote may have arrived."""
        after = self.copy(i)
        side = after.sides[i]
        if side.flying is not None and arrived:
            after.memory = side.flying
        side.flying, side.ticks = None, 0
        side.own.missed()
        return after

    def check(self) -> None:
        """What may never be."""
        first, second = (side.own for side in self.sides)
        assert not (first.held(self.now) and second.held(self.now)), "a trigger could be taken by both"
        for own, other in ((first, second), (second, first)):
            if self.memory.boot == own.boot and self.memory.result_valid:
                assert not other.held(self.now), "an OK stands of one while the other takes parts"


@cache
def block_of(boot: int, contested: bool, ready: bool = False, ok: bool = False) -> ToPlc:
    """Always the same object for the same block."""
    code = Fault.SECOND_WRITER if contested else Fault.NONE
    return ToPlc(boot=boot, heartbeat=1, error=contested, error_code=code, ready=ready, result_valid=ok, ok=ok)


STARTS = (EMPTY, ToPlc(boot=99, heartbeat=1))
"""Memory full of zeros, and what a station left that is gone."""


def begin(memory: ToPlc) -> World:
    first, second = (Side(Ownership(boot, watch_s=WATCH_S, claim_s=CLAIM_S)) for boot in BOOTS)
    return World(10**9, memory, (first, second))


def all_states() -> list[World]:
    states = [begin(memory) for memory in STARTS]
    found, waiting = {state.key() for state in states}, deque(states)
    while waiting:
        for after in waiting.popleft().moves():
            key = after.key()
            if key not in found:
                found.add(key)
                after.check()
                states.append(after)
                waiting.append(after)
    return states


def fair(world: World, sides: Sequence[int], ticks: int) -> World:
    """Each looks, and writes what it may, several times a tick."""
    for i, side in enumerate(world.sides):
        if side.flying is not None:
            world = world.land(i)
    for step in range(4 * ticks):
        world = world.later(TICK // 4)
        for i in sides:
            world = world.look(i)
            if blocks := world.blocks(world.sides[i]):
                world.sides[i].own.trying(blocks[step % len(blocks)])
                world.sides[i].flying = blocks[step % len(blocks)]
                world = world.land(i)
        world.check()
    return world


def test_in_no_state_can_both_take_parts_and_from_each_both_end_safe_and_one_recovers_when_the_other_leaves() -> None:
    states = all_states()
    phases = {tuple(side.own.phase for side in state.sides) for state in states}
    assert len(phases) >= 14, "the model does not move as it should"
    for state in states[:: len(states) // 150]:
        for _ in range(3):  # and it stays so
            state = fair(state, (0, 1), 12)
            assert all(side.own.phase is Phase.CONTESTED for side in state.sides)
            assert not (state.memory.ready or state.memory.result_valid)
            assert state.memory.error_code == Fault.SECOND_WRITER
        for left in (0, 1):
            alone = fair(state, (left,), 12)
            assert alone.sides[left].own.owned and alone.memory.boot == BOOTS[left]


# Single rules

MS = 1_000_000


class Box:
    """A station's view alone, and a memory that the test may change."""

    def __init__(self, memory: ToPlc = EMPTY, boot: int = 7) -> None:
        self.own = Ownership(boot, watch_s=WATCH_S, claim_s=CLAIM_S)
        self.memory, self.now, self.beat = memory, 10**9, 0

    def live(self, duration_s: float) -> Phase:
        """Look and write as the device does, every 50 ms."""
        for _ in range(round(duration_s / 0.05)):
            self.now += 50 * MS
            self.own.looked(self.memory, self.now, self.now)
            if self.own.may_write(self.now):
                self.beat += 1
                contested = self.own.phase is Phase.CONTESTED
                code = Fault.SECOND_WRITER if contested else Fault.NONE
                self.write(ToPlc(boot=self.own.boot, heartbeat=self.beat, error=contested, error_code=code))
        return self.own.phase

    def write(self, block: ToPlc) -> None:
        self.own.trying(block)
        self.memory = block
        self.own.wrote(self.now)


def owner(boot: int = 7) -> Box:
    box = Box(boot=boot)
    assert box.live(1.2) is Phase.OWNED
    return box


def test_an_empty_block_is_claimed_at_once_and_owned_when_the_claim_stood() -> None:
    box = Box()
    assert box.live(0.5) is Phase.CLAIMING
    assert box.memory == ToPlc(boot=7, heartbeat=1)
    assert box.live(0.7) is Phase.OWNED


def test_the_block_of_a_station_that_is_gone_is_watched_and_then_taken_over() -> None:
    left = ToPlc(boot=99, heartbeat=500, ready=True, result_valid=True, ok=True)
    box = Box(left)
    assert box.live(0.9) is Phase.WATCHING
    assert box.memory == left
    assert box.live(1.3) is Phase.OWNED
    assert box.memory.boot == 7


def test_a_block_that_changes_while_it_is_watched_has_a_living_writer_who_is_named() -> None:
    box = Box(ToPlc(boot=99, heartbeat=500))
    box.live(0.3)
    box.memory = ToPlc(boot=99, heartbeat=501)
    assert box.live(0.05) is Phase.CONTESTED
    assert box.own.other_boot == 99
    assert box.memory.boot == 7 and box.memory.error_code == Fault.SECOND_WRITER  # it is shown that we are here


def test_an_owner_who_finds_another_block_is_safe_until_nobody_else_has_written_for_a_while() -> None:
    box = owner()
    for i in range(5):
        box.memory = ToPlc(boot=99, heartbeat=i)
        assert box.live(0.4) is Phase.CONTESTED
    assert box.live(0.5) is Phase.CONTESTED
    assert box.live(2.0) is Phase.OWNED


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("cleared", lambda box: EMPTY),
        ("cleared in part", lambda box: replace(box.memory, result_valid=False, heartbeat=0)),
        ("an own write that was given up lands late", lambda box: replace(box.memory, heartbeat=box.beat - 2)),
    ],
)
def test_what_a_plc_does_to_the_block_by_itself_is_no_second_writer(what: str, change: Callable[[Box], ToPlc]) -> None:
    box = owner()
    box.live(0.5)
    box.memory = change(box)
    assert box.live(0.3) is Phase.OWNED, what
    assert box.memory.boot == 7


def test_a_plc_that_comes_back_with_what_it_kept_from_long_ago_is_no_second_writer() -> None:
    box = owner()
    box.own.missed()
    box.memory = ToPlc(boot=55, heartbeat=3)  # of a station before this one
    assert box.live(0.5) is Phase.WATCHING
    assert box.live(2.0) is Phase.OWNED


def test_exchanges_that_fail_now_and_then_do_not_keep_a_claim_from_standing() -> None:
    box = Box()
    for _ in range(7):
        box.live(0.15)
        box.own.missed()
    assert box.live(0.1) is Phase.OWNED
    box.memory = ToPlc(boot=55, heartbeat=3)
    assert box.live(0.05) is Phase.CONTESTED  # and another is seen as ever


def test_numbers_that_come_back_rounded_or_cut_to_their_range_are_still_ours() -> None:
    """A link of somebody else's may take any number from a PLC, and a PLC keeps float32."""
    box = Box()
    for beat in range(40):
        box.now += 50 * MS
        box.own.looked(box.memory, box.now, box.now)
        if box.own.may_write(box.now):
            box.write(ToPlc(boot=7, heartbeat=0xFFFF + beat, trigger_part_id=-1 - beat, score=0.1))
            box.memory = to_plc_of(to_words(box.memory))
    assert box.own.phase is Phase.OWNED
    box.memory = replace(box.memory, score=0.25)
    assert box.live(0.05) is Phase.CONTESTED


def test_who_writes_other_things_into_the_block_is_one_whatever_its_place_for_boot_holds() -> None:
    """Another station whose block begins some registers later writes over the end of ours."""
    box = owner()
    box.memory = replace(box.memory, recipe=40_000, score=2.5)
    assert box.live(0.05) is Phase.CONTESTED
    assert box.own.other_boot is None  # what stands there is our own: nobody is named by it


def test_two_stations_that_drew_the_same_number_find_out_and_one_takes_another() -> None:
    box = owner()
    box.memory = replace(box.memory, heartbeat=9000)
    assert box.live(0.05) is Phase.CONTESTED
    assert box.own.boot != 7
    later = Box(ToPlc(boot=7, heartbeat=3))
    later.live(0.05)
    assert later.own.boot != 7  # and whoever comes later and finds it there


def test_a_station_that_was_stopped_looks_before_it_writes_and_claims_again_after_long() -> None:
    box = owner()
    box.now += 600 * MS
    assert not box.own.may_write(box.now) and box.own.must_look(box.now, idle=False)
    assert box.live(0.05) is Phase.OWNED
    box.now += 3000 * MS
    assert not box.own.held(box.now)
    assert box.live(0.05) is Phase.CLAIMING  # another may have come and gone
    assert box.live(1.2) is Phase.OWNED


def test_two_stations_that_start_in_the_same_moment_on_an_empty_block_both_end_safe() -> None:
    boxes = [Box(boot=boot) for boot in BOOTS]
    for box in boxes * 60:
        box.memory = boxes[1 - boxes.index(box)].memory if boxes[1 - boxes.index(box)].now > box.now else box.memory
        box.live(0.05)
        for other in boxes:
            other.memory = box.memory
    assert [box.own.phase for box in boxes] == [Phase.CONTESTED] * 2


# Whole stations


class Floor:
    """Two stations with their verdicts on one block, and the PLC's program. Each action is atomic; nothing else is."""

    def __init__(self, seed: int, in_flight: int) -> None:
        self.rng = random.Random(seed)
        self.now = 10**9
        self.memory = EMPTY
        self.plc = FakePlc(in_flight=in_flight)
        self.said = FromPlc()
        self.stations = [Handshake(boot=boot, timing=Timing(), looks=True) for boot in BOOTS]
        self.alive = [True, True]
        self.judged: dict[tuple[int, int], Verdict] = {}  # station, part
        self.open: list[tuple[int, Accepted]] = []

    def act(self, i: int) -> None:
        """One request of a station, as its device would make it."""
        station = self.stations[i]
        station.beat(self.now)
        if station.must_look(self.now, idle=self.rng.random() < 0.5):
            self.take(i, station.found(self.memory, self.said, self.now, self.now))
        elif station.may_write(self.now):
            shown = station.show(self.now)
            station.trying(shown)
            self.memory = shown
            if self.rng.random() < 0.3:  # others act between the write and the read
                self.elsewhere(i)
            self.take(i, station.saw(shown, self.said, self.now))
        if station.ownership is not None and not station.owned and station.may_write(self.now):
            self.write_bare(i)

    def write_bare(self, i: int) -> None:
        station = self.stations[i]
        shown = station.show(self.now)
        station.trying(shown)
        self.memory = shown
        self.take(i, station.saw(shown, self.said, self.now))

    def take(self, i: int, accepted: list[Accepted]) -> None:
        self.open += [(i, trigger) for trigger in accepted if trigger.refused is Cause.NONE]

    def answer(self) -> None:
        if self.open:
            i, trigger = self.open.pop(self.rng.randrange(len(self.open)))
            verdict = self.rng.choice([Verdict.OK, Verdict.NG])
            self.judged[i, trigger.part_id] = verdict
            self.stations[i].answer(trigger.key, Result(verdict, Cause.NONE, 1.5))

    def elsewhere(self, i: int) -> None:
        other = 1 - i
        if self.alive[other] and self.rng.random() < 0.5:
            self.alive[i] = False  # not again into itself
            self.act(other)
            self.alive[i] = True
        self.scan()

    def scan(self) -> None:
        self.said = self.plc.scan(self.memory, self.now)

    def step(self, who: Sequence[int]) -> None:
        self.now += self.rng.choice([1, 3, 8, 20]) * MS
        self.alive = [0 in who, 1 in who]
        action = self.rng.random()
        if action < 0.6:
            self.act(self.rng.choice(who))
        elif action < 0.9:
            self.scan()
        else:
            self.answer()

    def judge(self) -> None:
        for verdict in self.plc.verdicts:
            if verdict.verdict is Verdict.OK:
                said = [self.judged.get((i, verdict.part_id)) for i in (0, 1)]
                assert sorted(map(str, said)) == sorted(map(str, [Verdict.OK, None])), f"part {verdict.part_id}: {said}"
        told = [verdict.part_id for verdict in self.plc.verdicts]
        assert len(told) == len(set(told))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), in_flight=st.integers(1, 3), standing=st.booleans())
def test_with_two_stations_no_part_passes_on_an_ok_of_one_that_the_other_took_as_well(
    seed: int, in_flight: int, standing: bool
) -> None:
    floor = Floor(seed, in_flight)
    floor.plc.wanted = 10_000
    for _ in range(8):
        who = floor.rng.choice([(0,), (1,), (0, 1), (0, 1)] if standing else [(0, 1)])
        for _ in range(floor.rng.choice([10, 60, 200, 400])):
            floor.step(who)
    floor.judge()
    for _ in range(800):
        floor.step((0, 1))
    assert not any(station.owned for station in floor.stations)
    shown = floor.memory
    assert not (shown.ready or shown.result_valid or shown.trigger_ack)
    conditions = floor.stations[0].conditions(floor.now)
    assert f"boot number {BOOTS[1]}" in conditions["second_writer"].text and conditions["second_writer"].blocks
    before = len(floor.plc.verdicts)
    for _ in range(1200):
        floor.step((0,))
    assert floor.stations[0].owned and not floor.stations[0].conditions(floor.now)
    assert any(verdict.verdict is Verdict.OK for verdict in floor.plc.verdicts[before:])
    floor.judge()
