"""Which bundle and engine judge at a camera, and whether a change of them is the dashboard's to make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.bundle import Bundle, EngineRecord
from edgead.config.camera import PinnedBundle
from edgead.dashboard.asking import Refused
from edgead.dashboard.hub import Hub
from edgead.dashboard.places import Place


@dataclass(frozen=True, slots=True)
class Running:
    """What judges now; of a station that is silent, what its file says.

    Attributes:
        number: of the recipe, 0: the only one.
        path: of the bundle.
        engine: its name in the bundle; None: the bundle's default.
    """

    number: int
    path: Path
    engine: str | None

    def open(self) -> tuple[Bundle, EngineRecord]:
        """Raises EdgeadError."""
        bundle = Bundle.open(self.path)
        return bundle, bundle.manifest.engine(self.engine)


def running(hub: Hub, place: Place) -> Running:
    """Raises Refused: several cameras look at the part, each has its own."""
    bundles, camera = place.bundles(), place.camera
    if camera is None:
        raise Refused(409, f"{place.id} is a part that several cameras look at: ask for one of these")
    state = hub.state(place)
    number = state.get("recipe") or (0 if 0 in bundles else camera.recipe or next(iter(bundles)))
    path = bundles.get(number)
    if path is None:
        raise Refused(409, f"{place.id} runs recipe {number}, which its file does not have", "start the dashboard again")
    engine = state.get("engine") or camera.engine
    if number and engine:
        engine = engine.removeprefix(f"{path.stem}/")
    return Running(number, path, engine)


def why_not_threshold(place: Place, now: Running) -> tuple[str, str] | None:
    """Why a new threshold would be refused by the station, whatever it is, and what helps; None: it would not."""
    camera = place.camera
    assert camera is not None
    if camera.threshold is not None:
        return f"the station's own threshold {camera.threshold:g} decides for {place.id}", "leave `threshold` out of its file"
    if camera.wished is not None:
        return f"the PLC gives the threshold of {place.id} (plc.threshold in its file)", "change it there"
    if place.trusted:
        hint = f"edgead threshold {now.path.name} --set VALUE, edgead sign, edgead threshold {now.path.name} --apply"
        return "the station takes only signed bundles, and a new threshold must be signed with the private key", hint
    chosen = camera.recipes.get(now.number)
    if camera.sha256 is not None or isinstance(chosen, PinnedBundle):
        return "the station's file names the digest of the bundle, which a new threshold changes", "leave sha256 out of its file"
    return None


def others(hub: Hub, place: Place, path: Path) -> list[str]:
    """Cameras that have the same bundle."""
    return [one.id for one in hub.places.values() if one.id != place.id and path in one.bundles().values()]
