"""The handshake with a PLC as a pure state machine: no threads, no I/O, time is passed in. Any protocol can carry it.

The caller exchanges blocks again and again::

    shown = handshake.show(now_ns)
    seen = link.exchange(shown)              # or handshake.missed() when that failed
    triggers = handshake.saw(shown, seen, now_ns)

With a link that can look at the station's own block, too (`looks`), an exchange begins with a look whenever `must_look` says so,
and writes only where `may_write` does::

    own, seen = link.look()
    triggers = handshake.found(own, seen, began_ns, now_ns)
    handshake.trying(shown)                  # then exchange, wrote, saw

Every signal is a level that is held until the other side was seen to react, so a lost or slow exchange costs time and never an
edge. The rules, a timing diagram and what happens on each fault are in docs/handshake.md.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from enum import Enum

from edgead.errors import BadInput
from edgead.runtime import LOOP_TIMEOUT_S
from edgead.runtime.conditions import Condition
from edgead.runtime.plc.conditions import Complaints
from edgead.runtime.plc.ownership import Ownership, Phase
from edgead.runtime.plc.signals import Cause, Fault, FromPlc, ToPlc, as_f32
from edgead.types import Verdict


@dataclass(frozen=True, slots=True)
class Timing:
    """Limits of a handshake, in seconds.

    Attributes:
        capacity: parts that may be in work or waiting for their acknowledgement.
        loop_timeout_s: without progress of the loop for so long, the station is not ready and its heartbeat stands still.
        plc_timeout_s: without a sign of life for so long, the PLC is lost.
        plc_beats: a sign of life is a heartbeat that moved; False: the PLC has none, and each exchange is one.
        result_timeout_s: a result that is not acknowledged for so long is an error, and UNKNOWN from then on.
        answer_timeout_s: a trigger without a verdict for so long is an error, and UNKNOWN.
        max_gap_s: a trigger that may have been there for longer, unseen, is UNKNOWN: its part has moved on.
        beat_s: period of the station's heartbeat.
        watch_s: a block that nobody changes for so long can be claimed (:mod:`edgead.runtime.plc.ownership`).
        claim_s: how long a claim must stand before the station works.
    """

    capacity: int = 8
    loop_timeout_s: float = LOOP_TIMEOUT_S
    plc_timeout_s: float = 1.0
    plc_beats: bool = True
    result_timeout_s: float = 5.0
    answer_timeout_s: float = 2.0
    max_gap_s: float = 0.25
    beat_s: float = 0.1
    watch_s: float = 1.0
    claim_s: float = 1.0

    def __post_init__(self) -> None:
        times = (
            self.loop_timeout_s,
            self.plc_timeout_s,
            self.result_timeout_s,
            self.answer_timeout_s,
            self.max_gap_s,
            self.beat_s,
            self.watch_s,
            self.claim_s,
        )
        if self.capacity < 1 or not all(time_s > 0 for time_s in times):
            raise BadInput("a handshake needs room for at least 1 part and times above 0 s")


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict as the PLC is told it; not told by `deadline_ns` (monotonic), it is UNKNOWN.

    `station_part_id` is the station's own number of the part; see :meth:`Handshake.taken`."""

    verdict: Verdict
    cause: Cause = Cause.NONE
    score: float = 0.0
    deadline_ns: int | None = None
    station_part_id: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A trigger that was taken. When `refused` is set, it is answered already: UNKNOWN with this cause."""

    key: int
    part_id: int
    at_ns: int
    refused: Cause = Cause.NONE


@dataclass(slots=True, eq=False)
class _Part:
    key: int | None
    part_id: int
    at_ns: int
    result: Result | None = None
    told: bool = False
    station_part_id: int | None = None


class _Phase(Enum):
    CLEARING = "result_valid is off; result_ack must be seen off"
    FREE = "the next result may be shown"
    SHOWN = "result_valid is on; result_ack must be seen on"


class Handshake:
    """The station's side. Not thread-safe; the time of its calls must not go back.

    Args:
        boot: a number from 1 to 65535, another than at the last start.
        timing: the limits.
        recipe: number of the recipe that runs, 0 for none.
        looks: the station's own block is looked at, so that a second writer is seen; else the block is taken for its own.

    Attributes:
        recipe: may be set; a PLC that asks for another one (not 0) gets no verdicts but UNKNOWN.
        holding: set by the owner: not ready, and triggers are left alone: nobody would answer them.
        seen: the last block of the PLC.
        ownership: who writes the block; None: that is not looked at.
        counts: "accepted", "told" (results that the PLC was shown) and "taken" (acknowledged ones), both also by verdict, as
            "told:ok", "flushed" (forgotten on reset), "withdrawn" (triggers that went away before they were taken), "left_out"
            (part numbers between two triggers), "dropped" (verdicts for parts that were answered or forgotten before), the
            causes under "refused:" and "degraded:", and the errors under "error:".
    """

    def __init__(self, *, boot: int, timing: Timing | None = None, recipe: int = 0, looks: bool = False) -> None:
        if not 1 <= boot <= 0xFFFF:
            raise BadInput(f"the boot number {boot} is not in 1..65535")
        self.recipe = recipe
        self.seen = FromPlc()
        self.counts: Counter[str] = Counter()
        self._boot, self._timing = boot, timing or Timing()
        self.ownership = Ownership(boot, watch_s=self._timing.watch_s, claim_s=self._timing.claim_s) if looks else None
        self._complaints = Complaints(self._timing.plc_timeout_s, self._timing.max_gap_s)
        self._remarks: list[str] = []
        self._came_back = False  # an exchange failed since the last one that succeeded
        self._last_part_id: int | None = None
        self._parts: deque[_Part] = deque()
        self._taken: list[int] = []
        self._next_key = 1
        self._phase, self._shown_ns = _Phase.CLEARING, 0
        self._ack, self._ack_part_id, self._held = False, 0, False
        self._low_ns: int | None = None  # when the trigger was last known to be off
        self._errors: list[Fault] = []
        self._error_free = False  # error_ack was seen off
        self._resetting = False
        self.holding = False
        self._loop_ns: int | None = None  # the loop's last progress
        self._stalled = True
        self._beat, self._beat_ns = 0, 0
        self._plc_beat: int | None = None
        self._plc_ns: int | None = None  # the PLC's last sign of life; None: lost, or not seen yet

    @property
    def waiting(self) -> int:
        """Parts in work or not yet acknowledged."""
        return len(self._parts)

    @property
    def plc_alive(self) -> bool:
        return self._plc_ns is not None

    @property
    def owned(self) -> bool:
        """Nobody else writes the block, as far as that is looked at."""
        return self.ownership is None or self.ownership.owned

    def conditions(self, now_ns: int) -> dict[str, Condition]:
        """What keeps parts from flowing, for people, by short names."""
        return self._complaints.now(now_ns, self.ownership)

    def remarks(self) -> list[str]:
        """What should stand in the log since the last call."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def beat(self, now_ns: int) -> None:
        """The station's loop has made progress."""
        self._loop_ns = now_ns

    def answer(self, key: int, result: Result) -> bool:
        """The verdict on an accepted trigger; False when the trigger was answered or forgotten before."""
        for part in self._parts:
            if part.key == key and part.result is None:
                part.result, part.station_part_id = result, result.station_part_id
                return True
        self.counts["dropped"] += 1
        return False

    def announce(self, part_id: int, result: Result, now_ns: int) -> bool:
        """A verdict that no trigger of the PLC asked for; False (and an error for the PLC) when there is no room."""
        if len(self._parts) >= self._timing.capacity:
            self._latch(Fault.RESULT_LOST)
            return False
        part = _Part(None, part_id & 0xFFFFFFFF, now_ns, result, station_part_id=result.station_part_id)
        self._parts.append(part)
        return True

    def report(self, fault: Fault) -> None:
        """Tell the PLC of an error, once until it acknowledges it."""
        self._latch(fault)

    def make_safe(self, *, final: bool = False) -> None:
        """Nothing is asserted: verdicts that are not acknowledged become UNKNOWN, and not ready until the next `beat`.

        Args:
            final: so do parts in work: no verdict will follow; and no trigger is taken any more, as nobody would record it.
        """
        self._loop_ns, self._stalled = None, True
        self.holding = self.holding or final
        for part in self._parts:
            if final or part.result is not None:
                self._degrade(part, Cause.STOPPED)

    def show(self, now_ns: int) -> ToPlc:
        """What the PLC shall see now."""
        self._tick(now_ns)
        if not self.owned:
            return self._bare()
        valid = self._phase is _Phase.SHOWN
        error = self._errors[0] if self._errors and self._error_free else Fault.NONE
        shown = ToPlc(
            ready=not (self._refusal(now_ns) or self._resetting or self.holding) and len(self._parts) < self._timing.capacity,
            busy=any(part.result is None for part in self._parts),
            trigger_ack=self._ack,
            trigger_part_id=self._ack_part_id,
            error=error is not Fault.NONE,
            error_code=error,
            reset_done=self._resetting,
            heartbeat=self._beat,
            boot=self.boot,
            recipe=self.recipe,
        )
        head = self._parts[0].result if valid else None
        if head is None:
            return shown
        return replace(
            shown,
            result_valid=True,
            ok=head.verdict is Verdict.OK,
            ng=head.verdict is Verdict.NG,
            unknown=head.verdict is Verdict.UNKNOWN,
            result_part_id=self._parts[0].part_id,
            cause=head.cause,
            score=as_f32(head.score),
        )

    def _bare(self) -> ToPlc:
        """Nothing asserted, while the block is not known to be ours; to another station that writes it: we are here."""
        contested = self.ownership is not None and self.ownership.phase is Phase.CONTESTED
        code = Fault.SECOND_WRITER if contested else Fault.NONE
        return ToPlc(heartbeat=self._beat, boot=self.boot, recipe=self.recipe, error=contested, error_code=code)

    @property
    def boot(self) -> int:
        return self._boot if self.ownership is None else self.ownership.boot

    def missed(self, now_ns: int) -> None:
        """An exchange or a look failed; whether the PLC saw what was shown is not known."""
        self._came_back = True
        if self.ownership is not None:
            self.ownership.missed()
        self._tick(now_ns)

    def must_look(self, now_ns: int, *, idle: bool) -> bool:
        """Shall a look come first? `idle`: there is no news."""
        return self.ownership is not None and self.ownership.must_look(now_ns, idle=idle)

    def may_write(self, now_ns: int) -> bool:
        return self.ownership is None or self.ownership.may_write(now_ns)

    def trying(self, shown: ToPlc) -> None:
        """An exchange that writes `shown` begins."""
        if self.ownership is not None:
            self.ownership.trying(shown)

    def found(self, own: ToPlc, seen: FromPlc, began_ns: int, now_ns: int) -> list[Accepted]:
        """A look succeeded: the memory held `own`, and the PLC said `seen`. Returns as `saw`."""
        if self.ownership is not None:
            before = self.ownership.phase
            self.ownership.looked(own, began_ns, now_ns)
            if self.ownership.phase is not before:
                self._changed(before, self.ownership.phase)
        return self._listen(own, seen, now_ns)

    def stop_looking(self) -> None:
        """The PLC does not let its own block be read: from now on it is taken for ours."""
        self.ownership = None

    def _changed(self, before: Phase, phase: Phase) -> None:
        if phase is Phase.CONTESTED:
            self.counts[f"error:{Fault.SECOND_WRITER.name.lower()}"] += 1
        self._complaints.forget()
        if before is Phase.OWNED:
            self._phase = _Phase.CLEARING  # and what was on show or in work becomes UNKNOWN, see _expire
            self._ack, self._ack_part_id, self._held, self._error_free = False, 0, False, False

    def saw(self, shown: ToPlc, seen: FromPlc, now_ns: int) -> list[Accepted]:
        """An exchange succeeded: the PLC's memory holds `shown`, and `seen` is what it said afterwards.

        Returns:
            The triggers that were taken: none or one.
        """
        if self.ownership is not None:
            self.ownership.wrote(now_ns)
        return self._listen(shown, seen, now_ns)

    def _listen(self, shown: ToPlc, seen: FromPlc, now_ns: int) -> list[Accepted]:
        self.seen = seen
        self._hear(shown, seen, now_ns)
        if seen.reset and not self._resetting:
            self._flush("the PLC asks for reset")
            self._errors.clear()
        self._resetting = seen.reset
        accepted: list[Accepted] = []
        if self.owned:
            self._take_error_ack(shown, seen)
            if not seen.reset:
                self._take_result_ack(shown, seen)
                accepted = self._look_at_trigger(seen, now_ns)
        elif not seen.trigger:
            self._low_ns = now_ns
        self._complaints.see(
            shown, seen, now_ns, alive=self.plc_alive, clearing=self._phase is _Phase.CLEARING, recipe=self.recipe
        )  # fmt: skip
        self._tick(now_ns)
        return accepted

    def _look_at_trigger(self, seen: FromPlc, now_ns: int) -> list[Accepted]:
        if not seen.trigger:
            if self._held:
                self.counts["withdrawn"] += 1
            self._ack = self._held = False
            self._ack_part_id, self._low_ns = 0, now_ns
            return []
        if self._ack or self.holding or (self.ownership is not None and not self.ownership.held(now_ns)):
            return []
        if len(self._parts) >= self._timing.capacity:
            if not self._held:
                self._latch(Fault.TRIGGER_OVERRUN)
            self._held = True  # not acknowledged, so not lost: it is taken when there is room, or the PLC gives up
            return []
        refused = self._refusal(now_ns)
        if self._held:
            refused = Cause.TRIGGER_OVERRUN
        elif self._low_ns is None or now_ns - self._low_ns > self._timing.max_gap_s * 1e9:
            refused = Cause.STALE_TRIGGER
        elif refused not in (Cause.NONE, Cause.PLC_LOST):
            self._latch(Fault.TRIGGER_NOT_READY)
        return [self._accept(seen.part_id, refused, now_ns)]

    def _accept(self, part_id: int, refused: Cause, now_ns: int) -> Accepted:
        self._ack, self._ack_part_id, self._held = True, part_id, False
        part = _Part(self._next_key, part_id, now_ns)
        self._next_key += 1
        self.counts["accepted"] += 1
        unseen_s = (now_ns - self._low_ns) / 1e9 if refused is Cause.STALE_TRIGGER and self._low_ns is not None else 0.0
        if left_out := self._complaints.accepted(part_id, now_ns, stale_s=unseen_s):
            self.counts["left_out"] += left_out
        self._last_part_id = part_id
        if refused is not Cause.NONE:
            part.result = Result(Verdict.UNKNOWN, refused)
            self.counts[f"refused:{refused.name.lower()}"] += 1
        self._parts.append(part)
        return Accepted(self._next_key - 1, part_id, now_ns, refused)

    def taken(self) -> list[int]:
        """The station's own numbers of the parts whose results were acknowledged since the last call."""
        taken, self._taken = self._taken, []
        return taken

    def _refusal(self, now_ns: int) -> Cause:
        """Why a trigger would not be inspected now."""
        if not self.plc_alive:
            return Cause.PLC_LOST
        if not self.seen.enable:
            return Cause.DISABLED
        if not self._progressing(now_ns):
            return Cause.LOOP_STALLED
        if self.seen.recipe not in (0, self.recipe):
            return Cause.WRONG_RECIPE
        return Cause.NONE

    def _take_result_ack(self, shown: ToPlc, seen: FromPlc) -> None:
        if self._phase is _Phase.SHOWN:
            part = self._parts[0]
            if not part.told and shown.result_valid and shown.result_part_id == part.part_id:
                part.told = True
                self._count("told", part)
            if seen.result_ack and seen.result_ack_part_id == part.part_id:
                self._parts.popleft()
                self._count("taken", part)
                if part.station_part_id is not None:
                    self._taken.append(part.station_part_id)
                self._phase = _Phase.CLEARING
        elif self._phase is _Phase.CLEARING and not seen.result_ack and not shown.result_valid:
            self._phase = _Phase.FREE

    def _count(self, what: str, part: _Part) -> None:
        assert part.result is not None
        self.counts[what] += 1
        self.counts[f"{what}:{part.result.verdict.value.lower()}"] += 1

    def _take_error_ack(self, shown: ToPlc, seen: FromPlc) -> None:
        if not seen.error_ack:
            self._error_free = True
        elif shown.error and self._errors and self._error_free:
            self._errors.pop(0)
            self._error_free = False

    def _hear(self, memory: ToPlc, seen: FromPlc, now_ns: int) -> None:
        """Signs of life."""
        came_back, self._came_back = self._came_back, False
        if not self._timing.plc_beats:
            self._plc_ns = now_ns
            return
        last, self._plc_beat = self._plc_beat, seen.heartbeat
        if last is None or seen.heartbeat == last:
            return
        if came_back and seen.heartbeat < last and self._parts and not self._is_known(memory, seen):
            self._latch(Fault.PLC_RESTARTED)  # what it had asked for, it has forgotten; its numbers may begin again
            self._flush(f"the PLC came back with heartbeat {seen.heartbeat} after {last} and without any of our parts")
        self._plc_ns = now_ns

    def _is_known(self, memory: ToPlc, seen: FromPlc) -> bool:
        """Does the PLC still hold anything of what was between us? Its heartbeat alone may wrap anywhere."""
        if self.ownership is not None and memory.boot == self.boot:
            return True
        ids = {part.part_id for part in self._parts} | {self._last_part_id}
        return seen.part_id in ids or seen.result_ack_part_id in ids

    def _tick(self, now_ns: int) -> None:
        """Everything that happens because time goes by."""
        stalled = not self._progressing(now_ns)
        if stalled and not self._stalled:
            self._latch(Fault.LOOP_STALLED)
        self._stalled = stalled
        if not stalled and now_ns - self._beat_ns >= self._timing.beat_s * 1e9:
            self._beat, self._beat_ns = (self._beat + 1) & 0xFFFF, now_ns
        if self._plc_ns is not None and now_ns - self._plc_ns > self._timing.plc_timeout_s * 1e9:
            self._plc_ns = None
            self._latch(Fault.PLC_LOST)
        for part in self._parts:
            self._expire(part, now_ns)
        if self.owned and self._phase is _Phase.FREE and self._parts and self._parts[0].result is not None:
            self._phase, self._shown_ns = _Phase.SHOWN, now_ns
        elif self._phase is _Phase.SHOWN and now_ns - self._shown_ns > self._timing.result_timeout_s * 1e9:
            if self.plc_alive:
                self._latch(Fault.RESULT_NOT_TAKEN)
            self._degrade(self._parts[0], Cause.RESULT_NOT_TAKEN)
            self._shown_ns = now_ns

    def _expire(self, part: _Part, now_ns: int) -> None:
        if self.ownership is not None and self.ownership.phase is Phase.CONTESTED:
            self._degrade(part, Cause.SECOND_WRITER)
        elif not (self.plc_alive and self.owned):
            self._degrade(part, Cause.PLC_LOST)
        elif part.result is None:
            if now_ns - part.at_ns > self._timing.answer_timeout_s * 1e9:
                self._latch(Fault.NO_ANSWER)
                self._degrade(part, Cause.NO_ANSWER)
        elif not part.told and part.result.deadline_ns is not None and now_ns > part.result.deadline_ns:
            self._degrade(part, Cause.LATE_OUTPUT)

    def _degrade(self, part: _Part, cause: Cause) -> None:
        """OK and NG may become UNKNOWN; nothing ever becomes OK."""
        if part.result is None or part.result.verdict is not Verdict.UNKNOWN:
            score = part.result.score if part.result is not None else 0.0
            part.result = Result(Verdict.UNKNOWN, cause, score)
            self.counts[f"degraded:{cause.name.lower()}"] += 1

    def _flush(self, why: str) -> None:
        """Forget all parts in work. A result that is on show is taken away, and its acknowledgement is waited out."""
        if self._parts:
            self.counts["flushed"] += len(self._parts)
            ids = ", ".join(str(part.part_id) for part in self._parts)
            self._remarks.append(f"{why}: results of parts {ids} are not told to it any more; the records have their verdicts")
        self._parts.clear()
        self._complaints.forget()
        self._phase = _Phase.CLEARING
        self._ack = self._held = False
        self._ack_part_id, self._low_ns = 0, None

    def _latch(self, fault: Fault) -> None:
        if fault not in self._errors:
            self._errors.append(fault)
            self.counts[f"error:{fault.name.lower()}"] += 1

    def _progressing(self, now_ns: int) -> bool:
        return self._loop_ns is not None and now_ns - self._loop_ns <= self._timing.loop_timeout_s * 1e9
