"""A camera as the page of the line shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from edgead.dashboard.parts import VERDICTS
from edgead.dashboard.places import Place

NEVER_HEARD = "it is not running, or does not tell"
NOT_TOLD = "supervision.live is not set in its station.yaml: only its records are shown"


def camera(
    place: Place,
    state: Mapping[str, Any],
    last: Mapping[str, Any] | None,
    shift: str,
    counts: Mapping[tuple[str, int | None], Mapping[str, int]],
    causes: Mapping[str, int],
) -> dict[str, Any]:
    """A CAMERA.

    Args:
        place: of it.
        state: what the station said of it; {}: it is silent.
        last: its newest part.
        shift: that goes on now.
        counts: verdicts by shift and recipe.
        causes: of this shift.
    """
    told: Counter[str] = Counter()
    for (when, _), found in counts.items():
        if when == shift:
            told.update(found)
    if place.folder is None:
        told, causes = Counter(state.get("verdicts", {})), state.get("causes", {})
    parts = sum(told.values())
    bundles = place.bundles()
    return {
        "id": place.id,
        "station": place.station,
        "name": place.name,
        "bundle": state.get("bundle") or (bundles[0].name if 0 in bundles else ""),
        "digest": state.get("digest", ""),
        "engine": state.get("engine", ""),
        "recipe": state.get("recipe"),
        **_how(place, state),
        "budget_ms": place.config.budget_ms,
        "threshold": state.get("threshold", last["threshold"] if last is not None else None),
        "rule": state.get("rule", ""),
        "statistic": state.get("statistic", "score"),
        "counters": {verdict: told.get(verdict, 0) for verdict in VERDICTS},
        "causes": dict(causes),
        "yield": told.get("OK", 0) / parts if parts else None,
        "ppm": 1e6 * told.get("NG", 0) / parts if parts else None,
        "shift": shift,
        "shifts": [
            {"shift": when, "recipe": recipe, **{verdict: found.get(verdict, 0) for verdict in VERDICTS}}
            for (when, recipe), found in sorted(counts.items(), key=lambda one: (one[0][0], one[0][1] or 0))
        ],
        "latency": _latency(state),
        "last": last,
        "devices": state.get("devices", {}),
        "queues": state.get("queues", {}),
        "disk": {"free_mb": None, "records_waiting": 0, "records_lost": 0, **state.get("disk", {})},
    }


def _how(place: Place, state: Mapping[str, Any]) -> dict[str, Any]:
    """State, fault, camera and notices."""
    if not state:
        fault = NOT_TOLD if place.live is None else NEVER_HEARD
        return {"state": "unreachable", "fault": fault, "camera": "lost", "notices": {}}
    return {
        "state": state["state"],
        "fault": place.shown(state["fault"]),
        "camera": state["device"],
        "notices": {name: place.shown(words) for name, words in state["notices"].items()},
    }


def _latency(state: Mapping[str, Any]) -> dict[str, Any] | None:
    found = state.get("latency_ms")
    if not found:
        return None
    return {**{name: found[name] for name in ("p50", "p95", "p99")}, "misses": state.get("late", {})}
