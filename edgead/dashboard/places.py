"""The cameras and parts that are looked at, as station files name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.config.camera import CameraConfig, PartConfig
from edgead.config.reading import read_station
from edgead.errors import BadInput


@dataclass(frozen=True, slots=True)
class Place:
    """A camera, or a part that several look at.

    Attributes:
        station, name: as in the file.
        config: its section.
        file: the station.yaml.
        data: the station's folder of records; None: it keeps none.
        live: the folder through which the station tells what goes on; None: it does not.
        trusted: bundles must be signed.
    """

    station: str
    name: str
    config: CameraConfig | PartConfig
    file: Path
    data: Path | None
    live: Path | None
    trusted: bool

    @property
    def id(self) -> str:
        """``STATION/CAMERA``."""
        return f"{self.station}/{self.name}"

    @property
    def folder(self) -> Path | None:
        """Of its records and pictures."""
        return None if self.data is None else self.data / self.name

    @property
    def camera(self) -> CameraConfig | None:
        """None of a part that several look at."""
        return self.config if isinstance(self.config, CameraConfig) else None

    def bundles(self) -> dict[int, Path]:
        """By the recipe's number; 0: the only one."""
        if self.camera is None:
            return {}
        if self.camera.bundle is not None:
            return {0: self.camera.bundle}
        return {n: one if isinstance(one, Path) else one.bundle for n, one in self.camera.recipes.items()}

    def shown(self, text: str) -> str:
        """A text for browsers: of files only the names, not where on this machine they lie."""
        named = [self.file, self.data, self.live, *self.bundles().values(), self.camera and self.camera.recipe_file]
        folders = {path.absolute().parent for path in named if path} | {
            path.absolute() for path in (self.data, self.live) if path
        }
        for folder in sorted(map(str, folders), key=len, reverse=True):
            if folder != "/":
                text = re.sub(rf"(?<![\w./-]){re.escape(folder)}/", "", text)
        return text

    def recipe_of(self, engine: str | None) -> int | None:
        """The recipe whose engine that is, by the name that records have; None: it cannot be told."""
        stem, slash, _ = (engine or "").partition("/")
        found = [number for number, path in self.bundles().items() if number and path.stem == stem]
        return found[0] if slash and len(found) == 1 else None


def read_places(files: Sequence[Path]) -> dict[str, Place]:
    """All cameras and parts, by id.

    Raises:
        BadInput: a file is wrong, or two stations have one name.
    """
    places: dict[str, Place] = {}
    owners: dict[str, Path] = {}
    for file in files:
        config = read_station(file)
        if config.name in owners:
            raise BadInput(f"{owners[config.name]} and {file} are both called {config.name}", hint="give each a name of its own")
        owners[config.name] = file
        data = None if config.storage is None else config.storage.folder
        both: list[CameraConfig | PartConfig] = [*config.parts, *config.cameras]
        for one in both:
            place = Place(config.name, one.name, one, file, data, config.supervision.live, bool(config.trusted))
            places[place.id] = place
    return places
