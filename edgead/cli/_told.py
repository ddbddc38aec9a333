"""What `edgead run` prints when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.line.service import Outcome
    from edgead.runtime.loop.stats import Stats
    from edgead.runtime.threads import Crew


@dataclass(frozen=True, slots=True)
class Lane:
    """A camera, or a part that several look at.

    Attributes:
        name: of it.
        parts: verdicts that were given.
        verdicts: by "OK", "NG", "UNKNOWN".
        causes: of verdicts that have one, without what stands after a colon.
        frames: that arrived.
        drops: frames that were not inspected, by why.
        latency_ms: p50, p95, p99 and max from picture or trigger to the verdict; empty when no part had one.
        errors: faults of outputs, callbacks and the trigger source, by name.
        undelivered: verdicts that an output or callback was too slow to take, by name.
        late_outputs: verdicts that an output could tell only after the deadline, by name.
        reconnects: how often a lost camera came back.
        lost: records and pictures that are not there, by which.
        devices: what camera and outputs count themselves, by name.
    """

    name: str
    parts: int
    verdicts: Mapping[str, int]
    causes: Mapping[str, int]
    frames: int
    drops: Mapping[str, int]
    latency_ms: Mapping[str, float]
    errors: Mapping[str, int]
    undelivered: Mapping[str, int]
    late_outputs: Mapping[str, int]
    reconnects: int
    lost: Mapping[str, int]
    devices: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run.

    Attributes:
        lanes: the parts that several cameras look at, then the cameras.
        died: threads that died, also those that worked again, with how often and of what.
    """

    lanes: tuple[Lane, ...]
    died: tuple[str, ...]


def ran(outcomes: Sequence[Outcome], crew: Crew) -> Ran:
    """What --json prints of it."""
    return Ran(tuple(_lane(outcome) for outcome in outcomes), tuple(died(crew)))


def _lane(outcome: Outcome) -> Lane:
    stats = outcome.stats
    return Lane(
        outcome.name,
        stats.parts,
        {name: stats.verdicts[name] for name in ("OK", "NG", "UNKNOWN")},
        dict(stats.causes),
        stats.frames,
        dict(stats.drops),
        stats.latency_ms(),
        dict(stats.errors),
        dict(stats.undelivered),
        dict(stats.late_outputs),
        stats.reconnects,
        {name: keeper.lost for name, keeper in outcome.kept.items()},
        outcome.health.devices,
    )


def summary(stats: Stats, sinks: Mapping[str, Any], devices: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """What happened, in a few lines; `devices`: what they count themselves (:attr:`edgead.runtime.loop.stats.Health.devices`)."""
    verdicts = ", ".join(f"{stats.verdicts[name]} {name}" for name in ("OK", "NG", "UNKNOWN"))
    lines = [f"{stats.parts} parts: {verdicts}" + _listed(stats.causes)]
    for counts in (devices or {}).values():
        if "taken" in counts:
            taken = ", ".join(f"{counts.get(f'taken:{name.lower()}', 0)} {name}" for name in ("OK", "NG", "UNKNOWN"))
            lines.append(f"the PLC was told {counts['told']} results and took {counts['taken']}: {taken}")
    lines.append(f"{stats.frames} frames, {sum(stats.drops.values())} dropped" + _listed(stats.drops))
    if latency := stats.latency_ms():
        lines.append("latency from picture to verdict: " + ", ".join(f"{name} {value:.1f} ms" for name, value in latency.items()))
    lost = {name: sink.lost for name, sink in sinks.items() if sink.lost}
    withheld = {name: count for name, count in stats.late_outputs.items() if count}
    undelivered = {
        name: left for name, counts in (devices or {}).items() if (left := counts.get("lost", 0) + counts.get("waiting", 0))
    }
    for what, counts in (
        ("failed", stats.errors),
        ("too slow, missed", stats.undelivered),
        ("told as UNKNOWN, since too late or not recorded", withheld),
        ("lost", lost),
        ("verdicts that did not arrive", undelivered),
    ):
        if counts:
            lines.append(f"{what}:" + _listed(counts))
    if stats.reconnects:
        lines.append(f"camera reconnected {stats.reconnects} times")
    if "pictures" in sinks:
        lines.append(f"{sinks['pictures'].saved} parts saved")
    return "\n".join(lines)


def died(crew: Crew) -> list[str]:
    """A line for each thread that died, also when it worked again."""
    from edgead.line.service import deaths

    return [f"thread died: {name} ({death.count} times, the last time of {death.cause})" for name, death in deaths(crew)]


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(counts.items()))})" if counts else ""
