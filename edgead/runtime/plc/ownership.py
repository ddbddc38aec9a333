"""Whose block is it? Two stations on one block of a PLC, and nothing between them but that block: a pure state machine.

What one memory that both read and write can give is Fischer's exclusion by time: look, write one's own number once, wait for
longer than another can be between its look and its write, look again. So a station watches, claims, and owns its block only
then; and an owner writes only shortly after a look. Whoever finds another's block writes its own, with nothing asserted, until
that other one has seen it: both end safe. docs/handshake.md tells what the PLC and people see.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from dataclasses import fields, replace
from enum import Enum

from edgead.runtime.plc.signals import LAYOUT, Fault, ToPlc, to_plc_of, to_words

ANNOUNCE_S = 0.2
"""Contested: how often the block is put over the other's, once that one knows of us."""

LOOK_S = 0.05
"""How often an owner looks, in moments without news."""

RECENT = 16
"""Own blocks that are known again: a write that was given up may still land."""

_FIELDS = tuple(field.name for field in fields(ToPlc))
_EMPTY = replace(ToPlc(), layout=0)


class Phase(Enum):
    """The values say what is done in it."""

    WATCHING = "nothing is written: does the block that was found change?"
    CLAIMING = "our block, with nothing asserted, was written once: does it stand?"
    OWNED = "the block is ours, as a look not long ago has shown"
    CONTESTED = "another writes it: nothing is asserted, and the other is shown our block now and then"


class Ownership:
    """One station's view. Not thread-safe; times are monotonic nanoseconds and do not go back.

    An owner that could not look for longer than `claim_s` claims again, since another may have claimed meanwhile. With stations
    that keep this, at most one owns the block and acts, as long as no write takes longer than half of `claim_s` to arrive.

    Args:
        boot: this station's number; another one is drawn when somebody else has it already.
        watch_s: a block that does not change for so long has no living writer.
        claim_s: how long a claim must stand; a look is good for half of it.

    Attributes:
        phase: see :class:`Phase`.
        memory: the block as it was found by the last look, or written since; None before.
        other_boot: the boot number in the last block of another that was found; None: what stood there is no number of a station,
            or one of ours.
    """

    def __init__(self, boot: int, *, watch_s: float, claim_s: float) -> None:
        self.boot = boot
        self.phase = Phase.WATCHING
        self.memory: ToPlc | None = None
        self.other_boot: int | None = None
        self._watch_ns, self._claim_ns = round(watch_s * 1e9), round(claim_s * 1e9)
        self._looked_ns: int | None = None  # when the last look began
        self._look_took_ns = 0
        self._cut = False  # an exchange failed since
        self._ours: deque[ToPlc] = deque(maxlen=RECENT)  # what we wrote, or tried to
        self._wrote_ns: int | None = None
        self._overwrote = self._claimed = False
        self._still_ns = 0  # since when nothing of another was seen

    @property
    def owned(self) -> bool:
        return self.phase is Phase.OWNED

    @property
    def look_s(self) -> float:
        """How long the last look took."""
        return self._look_took_ns / 1e9

    @property
    def good_for_s(self) -> float:
        """How old a look may be by which is written."""
        return self._claim_ns // 2 / 1e9

    @property
    def too_slow(self) -> bool:
        """The last look took so long that nothing can be written by it."""
        return self._look_took_ns > self._claim_ns // 2

    def fresh(self, now_ns: int) -> bool:
        """May be written by what the last look has shown?"""
        return self._within(now_ns, self._claim_ns // 2)

    def held(self, now_ns: int) -> bool:
        """Is the block ours for sure, so that a trigger can be taken?"""
        return self.owned and self._within(now_ns, self._claim_ns - self._claim_ns // 8)

    def must_look(self, now_ns: int, *, idle: bool) -> bool:
        """Shall the next exchange begin with a look? `idle`: there is no news for the PLC."""
        if not self.owned or not self.fresh(now_ns) or self._looked_ns is None:
            return True
        return idle and now_ns - self._looked_ns >= max(LOOK_S * 1e9, 4 * self._look_took_ns)

    def may_write(self, now_ns: int) -> bool:
        if self.memory is None or not self.fresh(now_ns):
            return False
        if self.phase is Phase.CLAIMING:
            return not self._claimed
        if self.phase is Phase.CONTESTED:
            return self._must_announce(self.memory, now_ns)
        return self.owned

    def trying(self, block: ToPlc) -> None:
        """This will be written now; it may land even if that fails."""
        if not self._ours or self._ours[-1] != block:
            self._ours.append(block)

    def wrote(self, now_ns: int) -> None:
        """It was written."""
        self.memory, self._wrote_ns, self._overwrote = self._ours[-1], now_ns, True
        if self.phase is Phase.CLAIMING:
            self._claimed, self._still_ns = True, now_ns

    def missed(self) -> None:
        """An exchange failed: nothing is known until the next look."""
        self._cut = True

    def looked(self, found: ToPlc, began_ns: int, now_ns: int) -> None:
        """The memory held `found`, read between these times and before anything else is written."""
        if math.isnan(found.score):  # garbage that is no number would differ from itself
            found = replace(found, score=0.0)
        long = self._looked_ns is None or began_ns - self._looked_ns > self._claim_ns
        unseen = long or (self._cut and not self._claimed)  # a claim that stands needs no look in between
        foreign = self._is_foreign(found, cut=self._cut)
        news = foreign and (not _same(found, self.memory) or self._overwrote)
        if foreign:
            mine = {self.boot, *(block.boot for block in self._ours)}
            self.other_boot = found.boot if found.layout == LAYOUT and found.boot not in mine else None
            if found.boot == self.boot:  # a twin
                self.boot = _another(found.boot)
        if unseen:  # a time in which nobody looked proves nothing
            self._still_ns, self._claimed = now_ns, False
        self._move(found, foreign=foreign, news=news, unseen=unseen, now_ns=now_ns)
        self.memory, self._overwrote, self._cut = found, False, False
        self._looked_ns, self._look_took_ns = began_ns, now_ns - began_ns

    def _move(self, found: ToPlc, *, foreign: bool, news: bool, unseen: bool, now_ns: int) -> None:
        still = now_ns - self._still_ns
        if self.phase is Phase.CONTESTED:
            if news:
                self._still_ns = now_ns
            elif still >= self._watch_ns:
                self._go(Phase.CLAIMING, now_ns)
        elif self.phase is Phase.WATCHING:
            if not foreign or (not unseen and still >= self._watch_ns and _same(found, self.memory)):
                self._go(Phase.CLAIMING, now_ns)
            elif not unseen and not _same(found, self.memory):
                self._go(Phase.CONTESTED, now_ns)
        elif foreign and (news or self._cut):  # after a break it may be what a PLC has kept from long ago: watched first
            self._go(Phase.WATCHING if self._cut else Phase.CONTESTED, now_ns)
        elif self.phase is Phase.OWNED:
            if unseen and (self._looked_ns is None or now_ns - self._looked_ns > self._claim_ns):
                self._go(Phase.CLAIMING, now_ns)
        elif self._claimed and not _same(found, self.memory):
            self._claimed = False  # the PLC's memory was cleared
        elif self._claimed and still >= self._claim_ns:
            self._go(Phase.OWNED, now_ns)

    def _go(self, phase: Phase, now_ns: int) -> None:
        self.phase, self._claimed, self._still_ns = phase, False, now_ns

    def _within(self, now_ns: int, limit_ns: int) -> bool:
        return not self._cut and self._looked_ns is not None and now_ns - self._looked_ns <= limit_ns

    def _must_announce(self, memory: ToPlc, now_ns: int) -> bool:
        if memory.boot == self.boot:
            return memory.ready or memory.trigger_ack or memory.result_valid  # of ours, from before
        if memory.layout == LAYOUT and memory.error_code != Fault.SECOND_WRITER:
            return True  # a station that does not know of us yet: at every look
        return self._wrote_ns is None or now_ns - self._wrote_ns >= ANNOUNCE_S * 1e9

    def _is_foreign(self, found: ToPlc, *, cut: bool) -> bool:
        """Is it somebody else's? Not when it was cleared, in whole or in part; nor what we wrote ourselves not long ago."""
        if not self._ours:
            if found.boot == self.boot:
                self.boot = _another(found.boot)
            return found != _EMPTY
        if _same(found, self._ours[-1]):
            return False
        if found.boot not in (0, self.boot):
            return True
        if cut and found.boot == self.boot:
            return False
        ours = [_as_read(block) for block in self._ours]
        return any(
            value and all(value != getattr(block, name) for block in ours) for name in _FIELDS if (value := getattr(found, name))
        )


def new_boot() -> int:
    """A number from 1 to 65535 that another station, started in the same moment, has hardly drawn as well."""
    return secrets.randbelow(0xFFFF) + 1


def _another(boot: int) -> int:
    return (boot + secrets.randbelow(0xFFFE)) % 0xFFFF + 1


def _same(found: ToPlc, block: ToPlc | None) -> bool:
    """Is that `block`, which may hold numbers that read otherwise when they come back? (Not done before it is written: a
    verdict waits there.)"""
    return found == block or (block is not None and found == _as_read(block))


def _as_read(block: ToPlc) -> ToPlc:
    return to_plc_of(to_words(block))
