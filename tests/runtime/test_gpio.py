"""Verdicts on lines and triggers from a line, on a chip that records every level."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgead.errors import BadInput, OutputError
from edgead.runtime.outputs.gpio import GpioOutput, GpioSettings, GpioTrigger
from edgead.testing import FakeClock
from edgead.testing.plc import FakeChip
from edgead.types import Inspection, StageTimes, Trigger, Verdict
from tests.waiting import until

OKAY, REJECT, KICK, READY, BUSY, BEAT, GREEN, YELLOW, RED = range(9)
EDGE: dict[str, Any] = {"active": "rising", "debounce_s": 0.001}
LINES = {
    "ok": OKAY,
    "reject": REJECT,
    "kick": KICK,
    "ready": READY,
    "busy": BUSY,
    "heartbeat": BEAT,
    "green": GREEN,
    "yellow": YELLOW,
    "red": RED,
}


def inspection(verdict: Verdict, part_id: int = 1) -> Inspection:
    return Inspection(part_id, verdict, "", 1.0, 2.0, None, StageTimes(), None)


class Box:
    """An output with every line, its chip and its clock."""

    def __init__(self) -> None:
        self.chip, self.clock = FakeChip(), FakeClock()
        self.output = GpioOutput(GpioSettings(**LINES), self.clock, chip=self.chip)  # type: ignore[arg-type]

    def asserted(self) -> set[str]:
        return {name for name, line in LINES.items() if self.chip.levels[line] and name != "heartbeat"}

    def tell(self, verdict: Verdict, part_id: int = 1) -> set[str]:
        self.output.heartbeat()
        self.output.signal(inspection(verdict, part_id))
        return self.asserted()

    def wait(self, duration_s: float, then: set[str]) -> None:
        self.clock.advance(duration_s)
        until(lambda: self.asserted() == then)


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.output.close()


def test_it_starts_rejecting_and_stays_so_until_an_ok_part(box: Box) -> None:
    assert box.chip.history[: len(LINES)] == [(line, line in (REJECT, YELLOW)) for line in LINES.values()]
    assert box.asserted() == {"reject", "yellow"}


def test_ok_is_a_pulse_that_ends_by_itself(box: Box) -> None:
    assert box.tell(Verdict.OK) == {"ok", "ready", "green"}
    box.wait(0.06, {"reject", "ready", "green"})


@pytest.mark.parametrize(("verdict", "lamp"), [(Verdict.NG, "red"), (Verdict.UNKNOWN, "yellow")])
def test_everything_else_rejects_and_kicks(box: Box, verdict: Verdict, lamp: str) -> None:
    assert box.tell(verdict) == {"reject", "kick", "ready", lamp}
    box.wait(0.06, {"reject", "ready", lamp})


def test_a_verdict_ends_the_pulse_of_the_one_before_at_once(box: Box) -> None:
    box.tell(Verdict.OK)
    assert box.tell(Verdict.NG, 2) == {"reject", "kick", "ready", "red"}


def test_two_ok_parts_in_a_row_are_two_pulses(box: Box) -> None:
    box.tell(Verdict.OK)
    assert "ok" not in box.tell(Verdict.OK, 2)
    box.wait(0.006, {"ok", "ready", "green"})
    box.wait(0.06, {"reject", "ready", "green"})
    assert [level for line, level in box.chip.history[len(LINES) :] if line == OKAY] == [True, False, True, False]


def test_busy_from_trigger_to_verdict(box: Box) -> None:
    box.output.expect(5, Trigger(1, 0))
    until(lambda: box.chip.levels[BUSY])
    assert "busy" not in box.tell(Verdict.OK, 5)


def test_a_hanging_loop_stops_the_heartbeat_and_the_ready_line(box: Box) -> None:
    box.tell(Verdict.OK)
    for _ in range(4):
        box.output.heartbeat()
        level = box.chip.levels[BEAT]
        box.clock.advance(0.25)
        until(lambda before=level: box.chip.levels[BEAT] != before)
    box.wait(1.1, {"reject", "yellow"})
    assert not box.chip.levels[BEAT]


def test_the_safe_state_and_closing(box: Box) -> None:
    box.tell(Verdict.OK)
    box.output.fail_safe()
    assert box.asserted() == {"reject", "yellow"}
    box.tell(Verdict.OK, 2)
    box.output.close()
    assert box.asserted() == {"reject", "yellow"}
    assert box.chip.held == set()
    box.output.fail_safe()
    with pytest.raises(OutputError, match="closed"):
        box.output.signal(inspection(Verdict.OK))


def test_lines_that_are_asserted_by_a_low_level() -> None:
    chip = FakeChip()
    output = GpioOutput(GpioSettings(ok=3, reject=4, active_low=True), FakeClock(), chip=chip)
    assert chip.levels == {3: True, 4: False}
    output.signal(inspection(Verdict.OK))
    assert chip.levels == {3: False, 4: True}
    output.close()
    assert chip.levels == {3: True, 4: False}


def test_a_kernel_that_refuses_is_an_output_error_even_when_it_was_between_two_verdicts(box: Box) -> None:
    box.tell(Verdict.OK)
    box.chip.broken = True
    with pytest.raises(OutputError):
        box.output.signal(inspection(Verdict.NG))
    box.chip.broken = False
    box.tell(Verdict.OK)
    box.chip.broken = True
    box.clock.advance(0.06)
    until(lambda: box.output._fault is not None)
    box.chip.broken = False
    with pytest.raises(OutputError):
        box.output.signal(inspection(Verdict.OK))


@pytest.mark.parametrize("lines", [{}, {"ok": 1, "reject": 1}, {"ok": -1}, {"ok": 1, "pulse_ms": 1}])
def test_lines_that_make_no_sense_are_refused(lines: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        GpioOutput(GpioSettings(**lines), chip=FakeChip())  # type: ignore[arg-type]


def test_a_line_that_is_held_by_somebody_else() -> None:
    chip = FakeChip()
    trigger = GpioTrigger(chip, 4, **EDGE)
    with pytest.raises(OutputError, match="held already"):
        GpioOutput(GpioSettings(ok=4), chip=chip)
    trigger.close()
    GpioOutput(GpioSettings(ok=4), chip=chip).close()


def test_each_edge_is_a_trigger_with_the_kernels_time_and_lost_ones_are_counted() -> None:
    chip = FakeChip()
    trigger = GpioTrigger(chip, 17, **EDGE, name="eye")
    assert trigger.wait(0) is None
    chip.edge(1000)
    chip.edge(2000, lost=True)
    chip.edge(3000)
    assert trigger.wait(0) == Trigger(1, 1000, source="eye")
    assert trigger.wait(0) == Trigger(2, 3000, source="eye", refused="trigger_lost")
    assert trigger.wait(0) == Trigger(3, 3000, source="eye")
    assert trigger.wait(0) is None
    trigger.close()
    trigger.close()
    with pytest.raises(OutputError, match="closed"):
        trigger.wait(0)


def test_a_broken_input_is_an_output_error() -> None:
    chip = FakeChip()
    trigger = GpioTrigger(chip, 17, **EDGE)
    chip.broken = True
    with pytest.raises(OutputError):
        trigger.wait(0)
    trigger.close()


@pytest.mark.parametrize("options", [{"line": -1}, {"line": 1, "debounce_s": -1}, {"line": 1, "active": "both"}])
def test_a_trigger_that_makes_no_sense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        GpioTrigger(FakeChip(), **{**EDGE, **options})  # type: ignore[arg-type]


def test_the_real_adapter_names_a_chip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("/dev/gpiochip99", str(tmp_path / "file")):
        with pytest.raises(OutputError, match="cannot be taken") as caught:
            GpioOutput(GpioSettings(chip=path, ok=1))
        assert path in str(caught.value) and caught.value.hint
        with pytest.raises(OutputError, match="cannot be taken"):
            GpioTrigger(path, 1, **EDGE)
