"""How a station works, in one frozen object: keys of a camera in a station.yaml, and the argument of a Station."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from edgead.settings import Count, Few, Limits, NotNegative, Positive, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBudgets(Section):
    """Milliseconds that a stage may take; more makes the part late."""

    wait: Positive | None = None
    resize: Positive | None = None
    inference: Positive | None = None
    decision: Positive | None = None

    def given(self) -> dict[str, float]:
        """Those that there are, by stage."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSettings(Section):
    """What is not said has these defaults, in a file and in Python; :class:`edgead.runtime.loop.station.Station` checks them."""

    budget_ms: Positive | None = None
    """From the trigger (free-running: the frame) to the verdict; later is UNKNOWN."""
    stage_budget_ms: StageBudgets = field(default_factory=StageBudgets)
    on_late: Literal["unknown", "reject"] = "unknown"
    """What late parts are told as; reject is NG. Both are never OK."""
    trigger_delay_ms: NotNegative = 0.0
    """From the trigger to the moment the part is in the picture."""
    frame_window_ms: Positive | None = None
    """How long after that its picture may be made; none: until the deadline."""
    max_waiting: Few = 64
    """Triggers that may wait; more are UNKNOWN(trigger_overrun)."""
    frames_per_part: Few = 1
    combine: Literal["any", "all"] | Count = "any"
    """A part of several frames is NG when any is, when all are, or when so many are."""
    settle_frames: Count = 1
    """Free-running: so many OK frames in a row before OK is told again; the way to NG is immediate."""
    hysteresis: Annotated[float, Limits(least=0, most=3e38)] = 0.0
    """Free-running: after NG, OK is told again only this far below the threshold (raw model units)."""
    frame_timeout_ms: Positive = 1000.0
    max_age_ms: Positive | None = None
    """Free-running, not of a recording: pictures whose light is older are dropped; 1000 if not given."""
    frozen_after: Annotated[int, Limits(least=2, most=1_000_000)] | None = None
    """So many identical pictures in a row are a frozen camera; none: not checked."""
