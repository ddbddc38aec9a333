"""List the cameras that are attached to this machine, each with the address that --camera and station.yaml take.

edgead cameras
edgead cameras --thumbnails pictures/     (takes one picture with each; a camera in use by another program gives none)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH
from edgead.cli._verb import option, verb

if TYPE_CHECKING:
    from edgead.jobs.cameras import Cameras

NO_PICTURE = 6


@verb(__doc__)
@option("--thumbnails", type=PATH, metavar="DIR", help="take a picture with each camera and write it there")
@JSON
def command(thumbnails: Path | None, as_json: bool) -> int:
    """0, or 6 when a camera gave no picture for its thumbnail."""
    from edgead.cli._console import told_progress
    from edgead.jobs.cameras import look

    with told_progress() as progress:
        found = look(thumbnails, progress)
    print_json("cameras", found) if as_json else _show(found)
    return NO_PICTURE if any(camera.file == "" for camera in found.cameras) else 0


def _show(found: Cameras) -> None:
    from rich.text import Text

    from edgead.cli._console import console

    out = console()
    width = max((len(camera.address) for camera in found.cameras), default=0)
    for camera in found.cameras:
        out.print(Text.assemble((f"{camera.address:<{width}}", "bold"), f"  {camera.model}, {camera.kind}, {camera.path}"))
        if camera.file is not None:
            out.print(Text(f"{'':{width}}  -> {camera.file or f'no picture: {camera.error}'}"))
    if not found.cameras:
        out.print("no camera found")
    for kind in found.not_looked_for:
        out.print(Text(f"not looked for: {kind.kind}: {kind.reason}" + (f" -> {kind.hint}" if kind.hint else ""), style="yellow"))
