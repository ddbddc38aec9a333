"""What the settings of every PLC link have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgead.errors import BadInput
from edgead.settings import DeviceSettings, NotNegative, Positive, Score, Section, check

if TYPE_CHECKING:
    from edgead.claims import Claim
    from edgead.located import Place

CYCLE_MS, HEARTBEAT_TIMEOUT_MS = 5.0, 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdBounds(Section):
    """Where a threshold that the PLC gives may lie (docs/thresholds.md); raw model units."""

    min: Score
    """The lowest that is taken; with a lower one parts would be rejected that are good."""
    max: Score
    """The highest that is taken; with a higher one defects would pass."""

    def __post_init__(self) -> None:
        check(self)
        if not self.min < self.max:
            raise BadInput(f"min {self.min:g} is not below max {self.max:g}", hint="give the range that the threshold may have")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings(DeviceSettings):
    """Of a link. A subclass whose ``__post_init__`` checks more calls this one's."""

    cycle_ms: Positive = CYCLE_MS
    """Pause between two exchanges without news."""
    heartbeat_timeout_ms: NotNegative = HEARTBEAT_TIMEOUT_MS
    """A PLC whose heartbeat stands still for so long is lost; 0: the PLC has none."""

    def __post_init__(self) -> None:
        check(self)

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        """By default the whole of what these settings name, so that two cameras with the same are refused."""
        from edgead.claims import Claim

        named = {key: value for key, value in asdict(self).items() if not key.endswith("_ms")}
        text = "the PLC block of " + " ".join(f"{key}={value}" for key, value in named.items() if "password" not in key)
        hint = "each camera needs a block of its own"
        yield Claim((*place, "type"), owner, "plc", (str(sorted(named.items())),), text, hint)
