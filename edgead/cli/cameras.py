"""List the cameras that are attached to this machine, each with the address that --camera and station.yaml take.

edgead cameras
edgead cameras --thumbnails pictures/     (takes one picture with each; a camera in use by another program gives none)
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import option, verb

if TYPE_CHECKING:
    from edgead.runtime.cameras.discover import Attached, NotLooked
    from edgead.types import Image

NO_PICTURE = 6
WIDTH_PX = 480
TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A camera that is attached.

    Attributes:
        address: what --camera and station.yaml take.
        kind: how it speaks.
        model: of the camera.
        serial: its number; "" where it tells none.
        path: how it is reached.
        file: its picture; "" when it gave none, null without --thumbnails.
        error: why it gave none; "" when it did, null without --thumbnails.
    """

    address: str
    kind: str
    model: str
    serial: str
    path: str
    file: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A kind of camera that was not looked for.

    Attributes:
        kind: of camera.
        reason: why not.
        hint: how to have it looked for; "" for nothing.
    """

    kind: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Cameras:
    """What is attached.

    Attributes:
        cameras: those found.
        not_looked_for: the kinds that were not looked for.
    """

    cameras: tuple[Seen, ...]
    not_looked_for: tuple[Skipped, ...]


@verb(__doc__)
@option("--thumbnails", type=PATH, metavar="DIR", help="take a picture with each camera and write it there")
@JSON
def command(thumbnails: Path | None, as_json: bool) -> int:
    """0, or 6 when a camera gave no picture for its thumbnail."""
    from edgead.runtime.cameras.discover import attached

    found, skipped = attached()
    pictures = take_pictures(found, thumbnails) if thumbnails else {}
    failed = any(not taken["file"] for taken in pictures.values())
    if as_json:
        seen = tuple(Seen(**asdict(camera), **pictures.get(camera.address, {})) for camera in found)
        print_json("cameras", Cameras(seen, tuple(Skipped(**asdict(kind)) for kind in skipped)))
    else:
        _show(found, skipped, pictures)
    return NO_PICTURE if failed else 0


def take_pictures(found: list[Attached], folder: Path) -> dict[str, dict[str, str]]:
    """One small PNG a camera: its "file", or "" and the "error", by address.

    Raises:
        StorageError: the folder cannot be written.
    """
    import cv2

    from edgead.errors import EdgeadError, StorageError
    from edgead.runtime.cameras import open_camera

    taken: dict[str, dict[str, str]] = {}
    for attached in found:
        try:
            camera = open_camera(attached.address)
            try:
                image = camera.grab(TIMEOUT_S).image
            finally:
                camera.close()
        except EdgeadError as error:
            taken[attached.address] = {"file": "", "error": str(error)}
            continue
        file = folder / (re.sub(r"[^\w.-]+", "-", attached.address).strip("-") + ".png")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(cv2.imencode(".png", _small(image))[1].tobytes())
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}", hint="choose another folder") from error
        taken[attached.address] = {"file": str(file), "error": ""}
    return taken


def _small(image: Image) -> Image:
    import cv2
    import numpy as np

    height = max(1, round(image.shape[0] * WIDTH_PX / image.shape[1]))
    if image.shape[1] <= WIDTH_PX:
        return image
    return np.asarray(cv2.resize(image, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)


def _show(found: list[Attached], skipped: list[NotLooked], pictures: dict[str, dict[str, str]]) -> None:
    from rich.text import Text

    from edgead.cli._console import console

    out = console()
    width = max((len(camera.address) for camera in found), default=0)
    for camera in found:
        out.print(Text.assemble((f"{camera.address:<{width}}", "bold"), f"  {camera.model}, {camera.kind}, {camera.path}"))
        if taken := pictures.get(camera.address):
            out.print(Text(f"{'':{width}}  -> {taken['file'] or 'no picture: ' + taken['error']}"))
    if not found:
        out.print("no camera found")
    for kind in skipped:
        out.print(Text(f"not looked for: {kind.kind}: {kind.reason}" + (f" -> {kind.hint}" if kind.hint else ""), style="yellow"))
