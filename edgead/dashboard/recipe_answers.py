"""Recipes: what runs, what else there is, what the shadow said; and a change, by the file that the station looks at."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from edgead import disk
from edgead.bundle import Bundle
from edgead.dashboard import parts
from edgead.dashboard.asking import Ask, Refused
from edgead.dashboard.board import Board
from edgead.dashboard.places import Place
from edgead.dashboard.reviews import Reviews
from edgead.dashboard.running import running
from edgead.errors import EdgeadError, StorageError
from edgead.runtime.records.history import Selection
from edgead.runtime.records.shadows import shadowed


def recipes(board: Board, ask: Ask) -> dict[str, Any]:
    """Of one camera; the shadow's parts of the last seven days, or of `since`."""
    place = board.asked(ask)
    now = running(board.hub, place)
    why_not = _why_not(place)
    return {
        "current": now.number,
        "recipes": [{"number": number, "bundle": path.name, **_named(place, path)} for number, path in place.bundles().items()],
        "changeable": not why_not,
        "why_not": why_not,
        "shadow": _shadow(place, ask.moment("since", board.now())),
    }


def change(board: Board, ask: Ask) -> dict[str, Any]:
    """Ask the station for another recipe; it takes it between two parts, or says in its notices why not."""
    place, number = board.place(ask.given("camera")), ask.given_whole("recipe")
    if why_not := _why_not(place):
        raise Refused(409, why_not)
    if number not in place.bundles():
        raise Refused(409, f"{place.id} has no recipe {number}", f"there are: {', '.join(map(str, place.bundles()))}")
    assert place.camera is not None and place.camera.recipe_file is not None
    file = place.camera.recipe_file
    old = running(board.hub, place).number
    with Reviews.of(place).changing(board.now(), ask.who.name, ask.who.role, "recipe", place.id, ask.given("why", 500)) as note:
        note.old, note.new = str(old), str(number)
        try:
            disk.write_file(file, f"{number}\n".encode())
        except OSError as error:
            raise StorageError(
                f"cannot write {file}: {error.strerror or error}", hint="the dashboard needs the right to"
            ) from error
    return {"old": old, "new": number}


def _why_not(place: Place) -> str:
    """Why the recipe cannot be changed here; "" when it can."""
    camera = place.camera
    if camera is None or not camera.recipes:
        return "there is one bundle only"
    if camera.plc is not None:
        return "the PLC chooses the recipe"
    if camera.recipe_file is None:
        return "recipe_file is not set in its station.yaml: the station looks nowhere for another number"
    return ""


def _named(place: Place, path: Path) -> dict[str, str]:
    """The part's name and the digest, or what is wrong with the bundle."""
    try:
        bundle = Bundle.open(path)
    except EdgeadError as error:
        return {"name": "", "digest": "", "fault": place.shown(str(error))}
    return {"name": bundle.manifest.name, "digest": bundle.digest}


def _shadow(place: Place, since: str | None) -> dict[str, Any] | None:
    """What the newest shadow said; None: there is none, or it has not judged yet."""
    camera = place.camera
    if camera is None or camera.shadow is None or not parts.has_records(place):
        return None
    with suppress(EdgeadError), parts.history_of(place) as history:
        found = shadowed(history, Selection(since=since))
        return {
            "bundle": camera.shadow.bundle.name,
            "digest": found.bundle,
            "parts": found.parts,
            "not_judged": found.not_judged,
            "now": {verdict: found.line.get(verdict, 0) for verdict in parts.VERDICTS},
            "then": {verdict: found.shadow.get(verdict, 0) for verdict in parts.VERDICTS},
            "flips": found.flips,
            "rule": found.rule,
            "from": found.first,
            "to": found.last,
            "latency_ms": found.latency_ms,
        }
    return None
