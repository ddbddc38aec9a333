"""What keeps parts from flowing, in words for people: what is seen, what is expected, what to look at. Pure; time is passed in.

A bit that is stuck is no fault that a state machine could act on, and nobody notices it but the parts that do not come. So each
level of the handshake that lasts longer than it should becomes a condition, which health, /readyz, metrics and the log show.
"""

from __future__ import annotations

from collections import deque

from edgead.runtime.conditions import Condition
from edgead.runtime.plc.ownership import Ownership, Phase
from edgead.runtime.plc.signals import FAULTS, Fault, FromPlc, ToPlc

STUCK_S = 3.0
"""An answer that takes longer is missing."""

OFF_S = 2.0
"""A PLC that wants no parts for so long is told of; changes of product and short stops are not."""

JUMPS_S = 60.0
"""How long numbers that were left out are shown after the last of them."""

STEPS = 32
"""Part numbers that are looked at together."""

STALE = 3
"""So many triggers in a row that were seen too late are no accident."""

LARGEST_JUMP = 50
"""A larger one is a new count, not parts that were missed."""


class Levels:
    """Since when something is as it is."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, int]] = {}

    def set(self, name: str, value: object, now_ns: int) -> None:
        """It is `value` now; nothing that is false or 0 lasts."""
        if not value:
            self._since.pop(name, None)
        elif self._since.get(name, (None, 0))[0] != value:
            self._since[name] = (value, now_ns)

    def lasted_s(self, name: str, now_ns: int) -> float:
        """For how long; 0 when it is not."""
        since = self._since.get(name)
        return (now_ns - since[1]) / 1e9 if since else 0.0


class Complaints:
    """Watches one handshake. `see` after each exchange, `accepted` for each trigger that was taken, `now` whenever asked.

    Args:
        plc_timeout_s, max_gap_s: see :class:`edgead.runtime.plc.handshake.Timing`.
    """

    def __init__(self, plc_timeout_s: float, max_gap_s: float) -> None:
        self._plc_timeout_s, self._max_gap_s = plc_timeout_s, max_gap_s
        self._levels = Levels()
        self._last: tuple[tuple[str, object], ...] = ()  # the levels as they were set
        self._shown, self._seen = ToPlc(), FromPlc()
        self._recipe = 0
        self._part_id: int | None = None  # of the last trigger
        self._steps: deque[int] = deque(maxlen=STEPS - 1)  # from one to the next
        self._jumps: deque[tuple[int, int, int]] = deque(maxlen=STEPS)  # when, and the numbers before and after
        self._stale, self._stale_ns, self._unseen_s = 0, 0, 0.0  # triggers in a row that were seen too late, when, and how late
        self._high_words: deque[int] = deque(maxlen=8)  # of part_id, as they changed

    def see(self, shown: ToPlc, seen: FromPlc, now_ns: int, *, alive: bool, clearing: bool, recipe: int) -> None:
        """An exchange succeeded. `clearing`: result_ack must go off before the next result is shown."""
        self._shown, self._seen, self._recipe = shown, seen, recipe
        wrong = seen.recipe if seen.recipe not in (0, recipe) else 0
        levels = (
            ("heartbeat", not alive),
            ("enable", not seen.enable and not seen.reset),
            ("recipe", wrong),
            ("reset", seen.reset),
            ("result_ack", clearing and seen.result_ack and not shown.result_valid),
            ("result", shown.result_valid and shown.result_part_id + 1),
            ("error_ack", seen.error_ack and not shown.error),
            ("error", shown.error and not seen.error_ack and shown.error_code),
            ("trigger", shown.trigger_ack and seen.trigger and shown.trigger_part_id + 1),
            ("stray", seen.stray),
        )
        if levels != self._last:  # hundreds of times a second nothing changes
            self._last = levels
            for name, value in levels:
                self._levels.set(name, value, now_ns)
        high = seen.part_id >> 16
        if not self._high_words or self._high_words[-1] != high:
            self._high_words.append(high)

    def accepted(self, part_id: int, now_ns: int, *, stale_s: float = 0.0) -> int:
        """A trigger was taken; how many part numbers were left out before it. `stale_s`: it was UNKNOWN because it may have been
        on for so long."""
        left_out = 0
        self._stale, self._stale_ns, self._unseen_s = self._stale + 1 if stale_s else 0, now_ns, stale_s
        if self._part_id is not None:
            usual, step = self._usual_step(), (part_id - self._part_id) & 0xFFFFFFFF
            if usual and usual < step <= LARGEST_JUMP * usual and step % usual == 0:
                left_out = step // usual - 1
                self._jumps.append((now_ns, self._part_id, part_id))
            self._steps.append(step)
        self._part_id = part_id
        return left_out

    def forget(self) -> None:
        """Triggers may have come meanwhile that were none of ours."""
        self._part_id = None
        self._steps.clear()

    def _usual_step(self) -> int:
        """By what the PLC counts; 0 when it does not seem to count."""
        smallest = min(self._steps, default=0)
        often = len(self._steps) >= 3 and self._steps.count(smallest) * 4 >= len(self._steps)
        return smallest if often and smallest < 0x7FFFFFFF else 0

    def now(self, now_ns: int, ownership: Ownership | None) -> dict[str, Condition]:
        """What holds, by short names that do not change."""
        found: dict[str, Condition] = {}
        if ownership is not None and ownership.phase is Phase.CONTESTED:
            found["second_writer"] = Condition(_second_writer_text(ownership))
        elif ownership is not None and ownership.too_slow:
            found["slow"] = Condition(
                f"it takes {ownership.look_s:.1f} s to read both blocks; expected: less than {ownership.good_for_s:g} s, else "
                "nothing may be written by what was read; look at: the network, and what else loads the PLC's communication"
            )
        elif ownership is not None and not ownership.owned:
            text = "it is looked whether another station writes the block; expected: its own within some seconds"
            found["starting"] = Condition(text)
        found |= self._not_wanted(now_ns)
        found |= self._unanswered(now_ns)
        if self._stale >= STALE and now_ns - self._stale_ns < JUMPS_S * 1e9:
            found["stale"] = Condition(
                f"the last {self._stale} triggers were all answered UNKNOWN (stale_trigger), the last may have been on for "
                f"{self._unseen_s:.2f} s before it was seen; expected: it is read several times in {self._max_gap_s:g} s; look "
                "at: the network, how long the PLC takes for an answer, and what else loads its communication"
            )
        if jumps := [jump for jump in self._jumps if now_ns - jump[0] < JUMPS_S * 1e9]:
            _, before, after = jumps[-1]
            text = (
                f"part_id jumps, {len(jumps)} times in the last {JUMPS_S:.0f} s, last from {before} to {after}: no trigger was "
                "seen of what lies between; expected: trigger on until trigger_ack; look at: a pulse shorter than an exchange "
                "can fall between two"
            )
            found["part_id"] = Condition(text, blocks=False)
        if self._levels.lasted_s("stray", now_ns) > OFF_S and "heartbeat" not in found:
            text = (
                f"bits that do not exist are on in the word of enable and trigger ({self._seen.stray:#06x}); expected: 0; "
                "look at: does the PLC's block begin where the configuration says, or one register beside it?"
            )
            found["bits"] = Condition(text, blocks=False)
        return found

    def _not_wanted(self, now_ns: int) -> dict[str, Condition]:
        seen, lasted = self._seen, self._levels.lasted_s
        found: dict[str, Condition] = {}
        if (for_s := lasted("heartbeat", now_ns)) > min(OFF_S, self._plc_timeout_s):
            found["heartbeat"] = Condition(
                f"its heartbeat stands still at {seen.heartbeat} for {for_s:.0f} s; expected: another number at least every "
                f"{self._plc_timeout_s:g} s; look at: is the PLC in RUN, does its program count heartbeat"
                f"{self._suspicion()}? A PLC without one: heartbeat_timeout_ms: 0"
            )
        if (for_s := lasted("reset", now_ns)) > STUCK_S:
            found["reset"] = Condition(
                f"reset is on for {for_s:.0f} s; expected: off once reset_done is on; look at: does its program read "
                "reset_done where the station writes it?"
            )
        if (for_s := lasted("enable", now_ns)) > OFF_S:
            found["enable"] = Condition(
                f"enable is off for {for_s:.0f} s; expected: on while the line runs; look at: is the line stopped on purpose, "
                "and does the PLC's block begin where the configuration says?"
            )
        if (for_s := lasted("recipe", now_ns)) > OFF_S:
            found["recipe"] = Condition(
                f"it asks for recipe {seen.recipe} for {for_s:.0f} s; expected: {self._recipe}, which runs, or 0 for any; "
                "look at: the number in the PLC, and recipes in station.yaml"
            )
        return found

    def _unanswered(self, now_ns: int) -> dict[str, Condition]:
        shown, seen, lasted = self._shown, self._seen, self._levels.lasted_s
        found: dict[str, Condition] = {}
        if (for_s := lasted("trigger", now_ns)) > STUCK_S:
            found["trigger"] = Condition(
                f"trigger is on for {for_s:.0f} s after trigger_ack of part {shown.trigger_part_id}; expected: off, else no "
                "further part can be told of; look at: does its program compare trigger_part_id and take trigger back?"
            )
        if (for_s := lasted("result_ack", now_ns)) > STUCK_S:
            found["result_ack"] = Condition(
                f"result_ack is on for {for_s:.0f} s though result_valid is off; expected: off, else no further result can be "
                "shown; look at: does its program take result_ack back when result_valid goes off?"
            )
        if (for_s := lasted("result", now_ns)) > STUCK_S:
            said = f"on for part {seen.result_ack_part_id}" if seen.result_ack else "off"
            found["result"] = Condition(
                f"the result of part {shown.result_part_id} waits for {for_s:.0f} s, result_ack is {said}; expected: result_ack "
                f"on with result_ack_part_id {shown.result_part_id}; look at: does its program acknowledge every result, also "
                "of parts that it does not wait for?"
            )
        if (for_s := lasted("error", now_ns)) > STUCK_S:
            code = Fault(shown.error_code)
            found["error"] = Condition(
                f"error {int(code)} ({FAULTS[code]}) waits for error_ack for {for_s:.0f} s; expected: error_ack on until error "
                "is off; further errors wait behind it",
                blocks=False,
            )
        if (for_s := lasted("error_ack", now_ns)) > STUCK_S:
            found["error_ack"] = Condition(
                f"error_ack is on for {for_s:.0f} s though error is off; expected: off, else no further error can be shown",
                blocks=False,
            )
        return found

    def _suspicion(self) -> str:
        """The words that come when the PLC's block lies one register beside where it is looked for."""
        if self._seen.stray:
            return ", and does its block begin one register lower than configured (what counts is the word of enable and trigger)"
        if len(self._high_words) >= 4 and self._seen.heartbeat < 32:
            return ", and does its block begin one register higher than configured (what counts is the upper word of part_id)"
        return ""


def _second_writer_text(ownership: Ownership) -> str:
    who = (
        f"the station with boot number {ownership.other_boot} writes the same block as this one"
        if ownership.other_boot is not None
        else "something without a boot number of its own writes into the block of this station"
    )
    return (
        f"{who} (boot number {ownership.boot}): no part is inspected and no result shown by either; expected: one writer; look "
        "at: another camera or another box with this PLC and these addresses, or with addresses that overlap them; stop it, or "
        "give it a block of its own"
    )
