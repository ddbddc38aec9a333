"""The state machines of OPC 40100-1 (8.2 and 8.3) in automatic mode, without any OPC UA: which transition follows on what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgead.runtime.vision.model import INNER, STATES, TRANSITIONS

_NAME = re.compile(rf"({'|'.join(STATES)})To({'|'.join(STATES)})(Auto|Stop|Abort|Recipe|)")


@dataclass(frozen=True, slots=True)
class Step:
    """A transition that was made; `before` and `after` are states of the machine in which it is drawn."""

    transition: str
    before: str
    after: str


class VisionStates:
    """Where the vision system is.

    Attributes:
        state: the innermost state, e.g. "Ready".
        waiting: Preoperational until a client selects the automatic mode; else it is entered as soon as the station runs.
    """

    def __init__(self) -> None:
        self.state = "Preoperational"
        self.waiting = False

    @property
    def outer(self) -> str:
        """State of the VisionStateMachine."""
        return "Operational" if STATES[self.state][0] == INNER else self.state

    @property
    def inner(self) -> str:
        """State of the AutomaticModeStateMachine, "" outside of Operational."""
        return self.state if STATES[self.state][0] == INNER else ""

    def go(self, transition: str) -> Step | None:
        """Make a transition of the standard; None when it does not begin here, or there is none of this name."""
        found = _NAME.fullmatch(transition)
        if transition not in TRANSITIONS or found is None or found[1] not in (self.state, self.outer):
            return None
        self.state = found[2]
        return Step(transition, found[1], found[2])

    def halt(self) -> list[Step]:
        """The method Halt; empty when it cannot be called now, as with all methods."""
        return _made(self.go(f"{self.outer}ToHalted"))

    def reset(self) -> list[Step]:
        steps = _made(self.go(f"{self.outer}ToPreoperational"))
        self.waiting = self.waiting or bool(steps)
        return steps

    def select_automatic(self) -> list[Step]:
        steps = _made(self.go("PreoperationalToInitialized"), self.go("InitializedToReadyAuto"))
        self.waiting = self.waiting and not steps
        return steps

    def start(self, *, continuous: bool) -> list[Step]:
        return _made(self.go(f"ReadyTo{'Continuous' if continuous else 'Single'}Execution"))

    def end(self, how: str) -> list[Step]:
        """The job is over: `how` is "Auto" (by itself), "Stop" or "Abort"."""
        return _made(self.go(f"{self.state}ToReady{how}"))

    def loop(self, *, runs: bool, stalled: bool) -> list[Step]:
        """What the station's loop does: it makes progress, or has stalled, or has not been seen yet."""
        if stalled:
            return _made(self.go("OperationalToErrorAuto"))
        if not runs:
            return _made(self.go("OperationalToPreoperationalAuto"))
        if self.waiting:
            return []
        steps = _made(self.go("ErrorToPreoperationalAuto"), self.go("PreoperationalToInitializedAuto"))
        return [*steps, *_made(self.go("InitializedToReadyAuto"))] if steps else []  # an unprepared recipe stays so


def _made(*steps: Step | None) -> list[Step]:
    return [step for step in steps if step is not None]
