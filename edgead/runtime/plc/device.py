"""A PLC as one device: where triggers come from and where verdicts go to, over any link that carries the handshake's blocks.

A new protocol is one adapter with :class:`PlcLink`'s two methods; nothing here changes. With the third one, `look`, a second
writer of the station's block is seen (:class:`LookingLink`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, LinkError, OutputError
from edgead.runtime.conditions import Condition
from edgead.runtime.plc.handshake import Accepted, Handshake, Result, Timing
from edgead.runtime.plc.ownership import new_boot
from edgead.runtime.plc.settings import CYCLE_MS, HEARTBEAT_TIMEOUT_MS
from edgead.runtime.plc.signals import Cause, Fault, FromPlc, ToPlc
from edgead.runtime.threads import Supervised
from edgead.types import Inspection, Trigger, Verdict

BACKOFF_S = (0.02, 1.0)
"""First and longest pause after a failed exchange; it doubles in between."""

LINGER_S = 0.25
"""How long closing waits for the PLC to acknowledge what is still held."""

JOIN_S = 5.0

PATIENCE_S = 30.0
"""An exchange that takes so long (a link connects within it) stands still."""

MAX_TRIGGERS = 4096
"""Triggers that may wait for the loop; more can only come while it stands still, and then they are answered already."""

MOST_TOLD = 5
"""Different faults of one outage that are logged."""

FAILING_S = 1.0
"""A PLC that does not answer for so long is told of as a condition."""

THRESHOLD_S = 0.2
"""How often the PLC's threshold is looked at, where it gives one."""

CONDITIONS_S = 0.25
"""How often what people should know goes into the log, when it has changed."""

SLOW = "check network and PLC; one that is only slow needs a larger timeout_ms"
"""What to do about a PLC that does not answer in time, for links."""

_TOLD_OTHERWISE = ("connection", "blind", "starting")
_BLIND = "the station's own block cannot be read there, so another station that writes it would not be noticed"

_log = logging.getLogger("edgead.plc")


class PlcLink(Protocol):
    """Carries the two blocks of :mod:`edgead.runtime.plc.signals`. Used by one thread; connects, and connects again, by
    itself."""

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        """Put `to_plc` into the PLC's reach as one piece, then return what the PLC says, not older than the call by much.

        It must not block for longer than a small, known time.

        Raises:
            LinkError: the PLC did not answer or refused; whether it saw `to_plc` is not known.
        """

    def close(self) -> None:
        """Release the connection; may be called twice."""


class LookingLink(PlcLink, Protocol):
    """A link that can look at the station's own block. Without `look` a second station on the same block is not noticed.

    Of any link: an attribute `name` is what people are told, the PLC with its address; a method ``conditions()`` tells what they
    should look at, at once back; a method ``threshold()`` tells the threshold that the PLC gives and who that is, None where it
    gives none, and raises LinkError.
    """

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        """What the station's block in the PLC holds now, and then what the PLC says; nothing is written.

        None: the PLC does not let its block be read. When it holds something else than this link wrote last, the next `exchange`
        writes, whether there is news or not. As `exchange`, it must not block for long.

        Raises:
            LinkError: the PLC did not answer or refused.
        """


class PlcDevice:
    """One thread that exchanges with the PLC: cyclically, and at once when there is news. A TriggerSource and an Output.

    Nothing here blocks the caller but `wait` and `close`. Verdicts of inspections whose trigger came from here answer that
    trigger; all others (free-running, other trigger sources) are announced with their own part id. A PLC that is away gets
    UNKNOWN for everything that it had in work.

    Args:
        link: carries the blocks; the device closes it.
        clock: stamps triggers and judges deadlines; the one that the station uses.
        cycle_s: pause between two exchanges without news.
        timing: the handshake's limits; `heartbeat_timeout_s` is put into it.
        heartbeat_timeout_s: a PLC whose heartbeat stands still for so long is lost; None or 0: it has no heartbeat, and is lost
            when no exchange succeeds for `timing.plc_timeout_s`.
        recipe: number of the recipe that runs, for the PLC; 0 is none.
        boot: a number from 1 to 65535, another at each start; drawn by default.
        name: the source of its triggers.
        on_taken: told the station's part id of each result that the PLC acknowledged, on the device's thread; at once back.

    Attributes:
        stats: "exchanges", and failed ones under "failed:" and their cause; see also `counts`.
    """

    def __init__(
        self,
        link: PlcLink,
        clock: Clock | None = None,
        cycle_s: float = CYCLE_MS / 1000,
        *,
        timing: Timing | None = None,
        heartbeat_timeout_s: float | None = HEARTBEAT_TIMEOUT_MS / 1000,
        recipe: int = 0,
        boot: int | None = None,
        name: str = "plc",
        on_taken: Callable[[int], None] = lambda part_id: None,
    ) -> None:
        if not cycle_s > 0:
            raise BadInput(f"a cycle of {cycle_s} s is none", hint="give a number above 0")
        if not 0 <= recipe <= 0xFFFF:
            raise BadInput(f"the recipe number {recipe} is not in 0..65535")
        self.name = name
        self._on_taken = on_taken
        self.stats: Counter[str] = Counter()
        self._link, self._clock, self._cycle_s = link, clock or MonotonicClock(), cycle_s
        self._look: Callable[[], tuple[ToPlc | None, FromPlc]] | None = getattr(link, "look", None)
        self._peer = str(getattr(link, "name", name))
        self._told_faults: set[str] = set()
        self._handshake = Handshake(
            boot=boot if boot is not None else new_boot(),
            timing=_with_heartbeat(timing or Timing(), heartbeat_timeout_s),
            recipe=recipe,
            looks=self._look is not None,
        )
        self._blind = self._answered = False
        self._readable = False  # our block was read back at least once
        self._hidden_ns: int | None = None  # since when that is refused
        self._failing_ns: int | None = None  # since when each exchange failed
        self._told_conditions: dict[str, Condition] = {}
        self._conditions_ns = self._threshold_ns = 0
        self._threshold: tuple[float, str] | None = None
        self._no_threshold = ""  # why it cannot be read
        self._triggers: deque[Trigger] = deque()
        self._lock = threading.Lock()
        self._told = threading.Condition(self._lock)  # there is news for the PLC
        self._asked = threading.Condition(self._lock)  # there is a trigger
        self._news = self._closing = False
        self._held: ToPlc | None = None  # what the PLC's memory holds of ours
        self._closed = False
        self._fault: LinkError | None = LinkError("the PLC has not been reached yet", cause="connect")
        self._failures = 0
        self._thread = Supervised(name, self._run, died=self._died, patience_s=PATIENCE_S)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """The last exchange succeeded."""
        return self._fault is None

    @property
    def recipe_request(self) -> int:
        """Number of the recipe that the PLC asks for; 0 is any."""
        return self._handshake.seen.recipe

    @property
    def threshold_request(self) -> tuple[float, str] | None:
        """The threshold that the PLC gave last, and who that is; None: none that is known."""
        return self._threshold

    def set_recipe(self, recipe: int) -> None:
        """Tell the PLC which recipe runs now."""
        with self._lock:
            self._handshake.recipe = recipe
            self._wake()

    def refuse_recipe(self) -> None:
        """Tell the PLC that the recipe that it asks for cannot run."""
        with self._lock:
            self._handshake.report(Fault.RECIPE_REFUSED)
            self._wake()

    def counts(self) -> dict[str, int]:
        """`stats` and the handshake's counters together."""
        with self._lock:
            return {"told": 0, "taken": 0, **self.stats, **self._handshake.counts}

    def conditions(self) -> dict[str, Condition]:
        """What keeps parts from flowing, or would go unseen, for people; by names like "plc heartbeat"."""
        with self._lock:
            found = self._conditions(self._clock.now_ns())
        return {f"{self.name} {name}": condition for name, condition in found.items()}

    def _conditions(self, now_ns: int) -> dict[str, Condition]:
        fault = self._fault
        if fault is not None and (not self._answered or now_ns - (self._failing_ns or now_ns) > FAILING_S * 1e9):
            hint = f"; look at: {fault.hint}" if fault.hint else ""
            found = {"connection": Condition(f"{fault}{hint}")}
        else:
            found = self._handshake.conditions(now_ns)
        if self._blind:
            found["blind"] = Condition(_BLIND, blocks=False)
        if self._no_threshold:
            found["threshold"] = Condition(f"its threshold cannot be read: {self._no_threshold}", blocks=False)
        if hasattr(self._link, "conditions"):
            found |= self._link.conditions()
        return {name: replace(c, text=f"{self._peer}: {c.text}") if self._peer not in c.text else c for name, c in found.items()}

    # TriggerSource

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger. Raises OutputError when closed, or when none came and the PLC cannot be reached."""
        with self._lock:
            self._asked.wait_for(lambda: self._triggers or self._closing, timeout_s)
            if self._triggers:
                return self._triggers.popleft()
            if self._closing:
                raise OutputError(f"{self.name} is closed")
            if self._fault is not None and self._failures:
                raise LinkError(str(self._fault), cause=self._fault.cause, hint=self._fault.hint)
            return None

    # Output

    def signal(self, inspection: Inspection) -> None:
        """Hand the verdict over; the PLC is told by the device's own thread. Raises OutputError when closed or full."""
        with self._lock:
            if self._closing:
                raise OutputError(f"{self.name} is closed")
            result = _result(inspection)
            trigger = inspection.trigger
            if trigger is not None and trigger.source == self.name:
                self._handshake.answer(trigger.trigger_id, result)
            else:
                part_id = trigger.part_id if trigger is not None and trigger.part_id is not None else inspection.part_id
                if not self._handshake.announce(part_id, result, self._clock.now_ns()):
                    if self._fault is not None:
                        raise OutputError(f"{self.name} holds no more results: {self._fault}", hint=self._fault.hint)
                    raise OutputError(
                        f"{self.name} holds no more results", hint="the PLC must acknowledge results (see edgead docs handshake)"
                    )
            self._wake()

    def hold(self, held: bool) -> None:
        """Whether the PLC's triggers are left alone: not ready, and none is acknowledged, so that the PLC keeps its part."""
        with self._lock:
            self._handshake.holding = held
            self._wake()

    def heartbeat(self) -> None:
        """The station's loop has made progress: for about a second the PLC sees the heartbeat count."""
        with self._lock:
            self._handshake.beat(self._clock.now_ns())

    def fail_safe(self) -> None:
        """Nothing is asserted: verdicts that the PLC has not taken become UNKNOWN, and not ready until the next heartbeat."""
        with self._lock:
            self._handshake.make_safe()
            self._wake()

    def close(self) -> None:
        """Go safe, give the PLC a moment to take what is held, and release the link."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._handshake.make_safe(final=True)
            self._closing = True
            self._wake()
            self._asked.notify_all()
        if not self._thread.join(JOIN_S):
            _log.error("%s: the link does not answer; its thread is left behind", self.name)

    # The device's thread

    def _wake(self) -> None:
        self._news = True
        self._told.notify_all()

    def _run(self) -> None:
        until = math.inf
        while True:
            self._thread.turn()
            succeeded = self._exchange()
            if succeeded:
                self._look_at_threshold()
            self._tell_conditions()
            with self._lock:
                if self._closing:
                    until = min(until, time.monotonic() + LINGER_S)
                    if not succeeded or not self._handshake.waiting or time.monotonic() > until:
                        break
                self._told.wait_for(lambda: self._closing or (self._news and self.connected), self._pause_s())
        self._exchange()  # not ready, and no OK
        self._link.close()

    def _look_at_threshold(self) -> None:
        """Where the link tells one. A fault of it is told, and touches neither parts nor the threshold in force."""
        now_ns = self._clock.now_ns()
        if not hasattr(self._link, "threshold") or now_ns < self._threshold_ns:
            return
        self._threshold_ns = now_ns + round(THRESHOLD_S * 1e9)
        try:
            self._threshold, self._no_threshold = self._link.threshold(), ""
        except Exception as error:  # noqa: BLE001 - see _exchange
            self._no_threshold = str(error)

    def _died(self, error: BaseException) -> None:
        """What was being exchanged is not known: as after a lost link, and no OK is left standing."""
        self._failed(LinkError(f"the link failed: {error!r}", cause="adapter"))
        self.fail_safe()

    def _exchange(self) -> bool:
        """One exchange, a look before it where one is due, and whatever follows from both; whether they succeeded."""
        with self._lock:
            now_ns = self._clock.now_ns()
            looks = self._look is not None and self._handshake.must_look(now_ns, idle=not self._news)
            self._news = False
            if not looks:  # what was looked at lately is ours, and may be written
                shown = self._handshake.show(now_ns)
                self._handshake.trying(shown)
        if looks:
            if not self._looked():
                return False
            with self._lock:
                now_ns = self._clock.now_ns()
                shown = self._handshake.show(now_ns)
                if not self._handshake.may_write(now_ns) or (shown == self._held and self._handshake.owned):
                    self._answers()
                    return True
                self._handshake.trying(shown)
        try:
            seen = self._link.exchange(shown)
        except Exception as error:  # noqa: BLE001 - an adapter's own bug is a lost PLC, not a dead thread
            self._failed(error)
            return False
        self._succeeded(shown, lambda now_ns: self._handshake.saw(shown, seen, now_ns))
        with self._lock:
            self._answers()
        return True

    def _looked(self) -> bool:
        """Look at our own block and at the PLC's; whether that succeeded."""
        assert self._look is not None
        began_ns = self._clock.now_ns()
        try:
            own, seen = self._look()
        except Exception as error:  # noqa: BLE001 - see _exchange
            self._failed(error)
            return False
        if own is None:
            return self._hidden(began_ns)
        self._readable = True
        self._succeeded(own, lambda now_ns: self._handshake.found(own, seen, began_ns, now_ns))
        return True

    def _hidden(self, now_ns: int) -> bool:
        """The PLC refused to let our block be read; whether it is done without. Only if it never could be read, and not for a
        moment at the start: a refusal that passes must not end the looking for good."""
        self._hidden_ns = now_ns if self._hidden_ns is None else self._hidden_ns
        if self._readable or now_ns - self._hidden_ns < FAILING_S * 1e9:
            text = f"{self._peer} refuses to let the station's own block be read"
            self._failed(LinkError(text, cause="refused", hint="check addresses and access rights in the PLC"))
            return False
        with self._lock:
            self._handshake.stop_looking()
            self._look, self._blind = None, True
        _log.warning("%s: %s", self._peer, _BLIND)
        return True

    def _succeeded(self, memory: ToPlc, hear: Callable[[int], list[Accepted]]) -> None:
        """The PLC answered, and its memory holds this block of ours."""
        with self._lock:
            now_ns = self._clock.now_ns()
            for accepted in hear(now_ns):
                self._queue(accepted)
                self._news = True
            self.stats["exchanges"] += 1
            self._held = memory
            self._news = self._news or (self._handshake.owned and self._handshake.show(now_ns) != memory)
            taken, remarks = self._handshake.taken(), self._handshake.remarks()
        for remark in remarks:
            _log.warning("%s: %s", self._peer, remark)
        for part_id in taken:
            self._on_taken(part_id)

    def _answers(self) -> None:
        """What was to be read and written was: an outage is over. A PLC that can only be read does not get here. Locked."""
        if self._fault is not None:
            _log.log(logging.WARNING if self._answered else logging.INFO, "%s: the PLC answers", self._peer)
        self._told_faults = set()
        self._fault, self._failing_ns, self._failures, self._answered = None, None, 0, True

    def _tell_conditions(self) -> None:
        """Into the log, as they come and go."""
        with self._lock:
            now_ns = self._clock.now_ns()
            if now_ns - self._conditions_ns < CONDITIONS_S * 1e9:
                return
            self._conditions_ns = now_ns
            found = self._conditions(now_ns)
        before, self._told_conditions = self._told_conditions, found
        for name, condition in found.items():
            if name not in before and name not in _TOLD_OTHERWISE:
                _log.warning(f"%s ({name})", condition.text)  # a template of its own: none is held back for another
        for name in before:
            if name not in found and name not in _TOLD_OTHERWISE:
                _log.info(f"%s: {name} is as it should be again", self._peer)

    def _queue(self, accepted: Accepted) -> None:
        if len(self._triggers) >= MAX_TRIGGERS:
            self.stats["unrecorded"] += 1
            return
        refused = accepted.refused.name.lower() if accepted.refused is not Cause.NONE else ""
        self._triggers.append(
            Trigger(accepted.key, accepted.at_ns, accepted.part_id, source=self.name, refused=refused),
        )
        self._asked.notify_all()

    def _failed(self, raised: Exception) -> None:
        error = raised if isinstance(raised, LinkError) else LinkError(f"the link failed: {raised!r}", cause="adapter")
        with self._lock:
            now_ns = self._clock.now_ns()
            self._failing_ns = now_ns if self._failing_ns is None else self._failing_ns
            self._handshake.missed(now_ns)
            self.stats[f"failed:{error.cause}"] += 1
            self._failures += 1
            # A PLC that polls us does so when it likes: that it has not done so yet is no fault at first.
            early = error.cause == "silent" and not self._answered and now_ns - self._failing_ns < FAILING_S * 1e9
            known = str(error) in self._told_faults or len(self._told_faults) >= MOST_TOLD
            if not known and not early:  # each once in an outage: what follows on "no connection" may be the one with the hint
                self._told_faults.add(str(error))
                if self._peer in str(error) or error.cause == "silent":
                    _log.warning("%s", error)
                else:
                    _log.warning("%s: %s", self._peer, error)
            self._fault = error

    def _pause_s(self) -> float:
        if not self._failures:
            return self._cycle_s
        return float(min(BACKOFF_S[0] * 2 ** min(self._failures - 1, 16), BACKOFF_S[1]))


def _with_heartbeat(timing: Timing, timeout_s: float | None) -> Timing:
    return replace(timing, plc_timeout_s=timeout_s) if timeout_s else replace(timing, plc_beats=False)


def _result(inspection: Inspection) -> Result:
    cause = Cause.of(inspection.cause)
    if inspection.verdict is Verdict.UNKNOWN and cause is Cause.NONE:
        cause = Cause.OTHER
    return Result(inspection.verdict, cause, inspection.score, inspection.deadline_ns, inspection.part_id)
