"""Show what a bundle says of pictures, and where it sees it: verdict, score, and the picture with its map.

edgead show part.edgead picture.png                   (verdict and score)
edgead show part.edgead pictures/ -o shown/           (and a PNG file of each, and shown/index.html with all of them)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._console import told_progress
from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb

if TYPE_CHECKING:
    from edgead.jobs.show import Shown


@verb(__doc__)
@argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder")
@argument("images", type=PATH, nargs=-1, required=True, metavar="IMAGES...", help="files, or folders of them")
@option("-o", "--out", type=PATH, metavar="DIR", help="folder for the drawn pictures")
@option("--engine", metavar="NAME", help="one engine of the bundle (default: the bundle's own)")
@THREADS
@JSON
def command(
    bundle: Path, images: tuple[Path, ...], out: Path | None, engine: str | None, threads: int | None, as_json: bool
) -> int:
    from edgead.jobs.show import show

    with told_progress() as progress:
        found = show(bundle, images, out, engine=engine, threads=threads, progress=progress)
    print_json("show", found) if as_json else _show(found)
    return 0


def _show(found: Shown) -> None:
    from edgead.cli._console import console

    out = console()
    out.print(f"{found.bundle}: {found.engine}, {found.rule}", markup=False)
    for one in found.pictures:
        score = "-" if one.score is None else f"{one.score:.5g}"
        told = f"{one.verdict:<8}{score:>12}  {one.file}" + (f"  ({one.cause})" if one.cause else "")
        out.print(told, markup=False)
    if found.sheet is not None:
        out.print(f"all of them: {found.sheet}", markup=False)
