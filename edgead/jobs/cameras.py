"""Looking for cameras, and a picture of each."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.jobs.progress import Progress, silent
from edgead.runtime.cameras.discover import Attached, NotLooked, attached

if TYPE_CHECKING:
    from edgead.types import Image

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
class Cameras:
    """What is attached.

    Attributes:
        cameras: those found.
        not_looked_for: the kinds that were not looked for.
    """

    cameras: tuple[Seen, ...]
    not_looked_for: tuple[NotLooked, ...]


def look(thumbnails: Path | None = None, progress: Progress = silent) -> Cameras:
    """All cameras that are attached.

    Args:
        thumbnails: a folder, made if need be, where each leaves a small PNG of what it sees.
        progress: told the stages.

    Raises:
        StorageError: the folder cannot be written.
    """
    found, skipped = attached(progress)
    taken = {} if thumbnails is None else _take_pictures(found, thumbnails, progress)
    seen = tuple(Seen(**asdict(camera), **taken.get(camera.address, {})) for camera in found)
    return Cameras(seen, tuple(skipped))


def _take_pictures(found: list[Attached], folder: Path, progress: Progress) -> dict[str, dict[str, str]]:
    """One small PNG a camera: its "file", or "" and the "error", by address.

    Raises:
        StorageError: the folder cannot be written.
    """
    import cv2

    from edgead.errors import EdgeadError, StorageError
    from edgead.runtime.cameras import open_camera

    taken: dict[str, dict[str, str]] = {}
    for number, one in enumerate(found):
        progress("a picture of each", number / len(found))
        try:
            camera = open_camera(one.address)
            try:
                image = camera.grab(TIMEOUT_S).image
            finally:
                camera.close()
        except EdgeadError as error:
            taken[one.address] = {"file": "", "error": str(error)}
            continue
        file = folder / (re.sub(r"[^\w.-]+", "-", one.address).strip("-") + ".png")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(cv2.imencode(".png", _small(image))[1].tobytes())
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}", hint="choose another folder") from error
        taken[one.address] = {"file": str(file), "error": ""}
    return taken


def _small(image: Image) -> Image:
    import cv2
    import numpy as np

    height = max(1, round(image.shape[0] * WIDTH_PX / image.shape[1]))
    if image.shape[1] <= WIDTH_PX:
        return image
    return np.asarray(cv2.resize(image, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8)
