"""What keeps parts from flowing becomes words for people, within seconds, and goes when it is over. Time is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edgead.runtime.conditions import Condition
from edgead.runtime.plc.handshake import Handshake, Result, Timing
from edgead.runtime.plc.signals import Direction, FromPlc, ToPlc, from_plc_of, to_words, words_in
from edgead.testing.plc import FakePlc
from edgead.types import Verdict

MS = 1_000_000
Spoil = Callable[[FromPlc], FromPlc]


class Line:
    """A station and a PLC's program; `spoil` changes what the station reads of it."""

    def __init__(self, **plc: int | bool) -> None:
        self.station = Handshake(boot=1, timing=Timing(result_timeout_s=60))
        self.plc = FakePlc(**plc)  # type: ignore[arg-type]
        self.now, self.said = 10**9, FromPlc()
        self.spoil: Spoil = lambda said: said

    def live(self, duration_s: float, *, cycle_ms: int = 20) -> dict[str, Condition]:
        for _ in range(int(duration_s * 1000 / cycle_ms)):
            self.now += cycle_ms * MS
            self.station.beat(self.now)
            shown = self.station.show(self.now)
            for trigger in self.station.saw(shown, self.spoil(self.said), self.now):
                if not trigger.refused:
                    self.station.answer(trigger.key, Result(Verdict.OK))
            self.said = self.plc.scan(shown, self.now)
        return self.station.conditions(self.now)


def test_a_line_on_which_parts_flow_says_nothing() -> None:
    line = Line(in_flight=3)
    line.plc.wanted = 500
    for _ in range(20):
        assert line.live(0.5) == {}
    assert line.station.counts["taken:ok"] > 50


def test_a_plc_that_is_read_too_seldom_for_its_triggers_is_told_of() -> None:
    line = Line()
    line.plc.wanted = 6
    found = line.live(12, cycle_ms=300)  # each answer takes so long
    assert line.station.counts["refused:stale_trigger"] >= 3
    assert found["stale"].blocks and "0.25 s" in found["stale"].text and "look at" in found["stale"].text
    line.plc.wanted += 6
    assert "stale" not in line.live(3, cycle_ms=20)


STUCK: dict[str, tuple[Spoil, bool, str]] = {
    "heartbeat": (lambda said: replace(said, heartbeat=17), True, "stands still at 17"),
    "enable": (lambda said: replace(said, enable=False), True, "enable is off"),
    "recipe": (lambda said: replace(said, recipe=4), True, "recipe 4"),
    "reset": (lambda said: replace(said, reset=True), True, "reset_done"),
    "trigger": (lambda said: replace(said, trigger=True), True, "trigger_ack of part"),
    "result_ack": (lambda said: replace(said, result_ack=True), True, "result_valid is off"),
    "result": (lambda said: replace(said, result_ack=False), True, "waits for"),
    "error_ack": (lambda said: replace(said, error_ack=True), False, "error is off"),
    "bits": (lambda said: replace(said, stray=0x40), False, "0x0040"),
}


@pytest.mark.parametrize("name", STUCK)
def test_each_level_that_is_stuck_is_told_within_seconds_and_taken_back(name: str) -> None:
    spoil, blocks, words = STUCK[name]
    line = Line()
    line.plc.wanted = 1000
    assert line.live(2.0) == {}
    line.spoil = spoil
    found = line.live(8.0)
    assert words in found[name].text and "expected" in found[name].text
    assert found[name].blocks is blocks
    line.spoil = lambda said: said
    line.live(8.0)
    assert line.live(1.0) == {}


def test_an_acknowledgement_with_another_number_is_told_with_both_numbers() -> None:
    line = Line()
    line.plc.wanted = 1
    line.spoil = lambda said: replace(said, result_ack_part_id=900) if said.result_ack else said
    text = line.live(6.0)["result"].text
    assert "result of part 1" in text and "on for part 900" in text


def test_an_error_that_nobody_acknowledges_is_told_with_its_meaning() -> None:
    line = Line()
    line.live(1.0)
    line.station.announce(1, Result(Verdict.NG), line.now)
    for part_id in range(2, 12):
        line.station.announce(part_id, Result(Verdict.NG), line.now)
    line.spoil = lambda said: replace(said, error_ack=False)
    text = line.live(5.0)["error"].text
    assert "error 7" in text and "no more could be held" in text


def test_part_numbers_that_jump_mean_pulses_that_nobody_saw() -> None:
    line = Line()
    line.plc.wanted = 10
    assert line.live(5.0) == {}
    for _ in range(10):  # every third pulse falls between two exchanges
        line.plc._part_id += line.plc.wanted % 3 == 0
        line.plc.wanted += 1
        line.live(0.4)
    found = line.live(0.1)["part_id"]
    assert "jumps" in found.text and "until trigger_ack" in found.text and not found.blocks
    assert line.station.counts["left_out"] > 0
    line.plc.wanted += 3
    assert line.live(70.0) == {}


@pytest.mark.parametrize("step", [2, 0x01000001, 0xFFFFFFFF])
def test_a_plc_that_counts_otherwise_does_not_jump(step: int) -> None:
    line = Line()
    line.plc._step = step
    line.plc.wanted = 40
    assert line.live(20.0) == {}
    assert line.station.counts["taken:ok"] == 40


@pytest.mark.parametrize(("beside", "word"), [(-1, "higher"), (1, "lower")])
def test_a_block_that_is_looked_for_one_register_beside_is_suspected(beside: int, word: str) -> None:
    line = Line()

    def shifted(said: FromPlc) -> FromPlc:
        words = [0, *to_words(said), 0]
        return from_plc_of(words[1 + beside : 1 + beside + words_in(Direction.FROM_PLC)])

    line.plc.enabled = True
    line.plc._reset = False
    line.spoil = shifted
    found = line.live(9.0)
    assert f"one register {word} than configured" in found["heartbeat"].text
    assert found["heartbeat"].blocks


def test_a_plc_that_is_too_slow_to_look_before_writing_is_told_of_with_the_times() -> None:
    station = Handshake(boot=1, looks=True)
    station.found(ToPlc(layout=0), FromPlc(), 0, 700 * MS)
    assert not station.may_write(700 * MS)
    found = station.conditions(700 * MS)["slow"]
    assert "takes 0.7 s" in found.text and "less than 0.5 s" in found.text and found.blocks
