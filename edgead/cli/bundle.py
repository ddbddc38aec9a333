"""Former versions of a bundle or a trained model: what an export or a training replaced is kept beside it.

edgead bundle history part.edgead       what there is
edgead bundle restore part.edgead       put the newest former version back; what is there now is kept
edgead bundle restore part.edgead 3     put version 3 back
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, WHOLE
from edgead.cli._verb import actions, argument, verb
from edgead.errors import BadInput
from edgead.versions import Version

BUNDLE = argument("bundle", type=PATH, metavar="BUNDLE", help="NAME.edgead folder, or a trained model's")


@dataclass(frozen=True, slots=True)
class History:
    """What there is.

    Attributes:
        bundle: the folder in force.
        made: when it was made, ISO 8601; null when there is none, or it does not tell.
        versions: the former ones, the oldest first.
    """

    bundle: Path
    made: str | None
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back.

    Attributes:
        bundle: the folder in force.
        version: what it is now, and where that lay.
        kept: where what was there before is now; null: nothing was there.
    """

    bundle: Path
    version: Version
    kept: Path | None


@verb("List the versions.", "what there is")
@BUNDLE
@JSON
def history(bundle: Path, as_json: bool) -> int:
    from edgead import versions

    known = tuple(versions.former(bundle))
    if not known and not any((bundle / marker).is_file() for marker in versions.MARKERS):
        raise BadInput(f"{bundle} is neither a bundle nor a trained model, and has no former versions")
    found = History(bundle, versions.made_at(bundle) or None if bundle.exists() else None, known)
    print_json("bundle", found, action="history") if as_json else _show(found)
    return 0


@verb("Put a version back; what is there now is kept.", "put a version back; what is there now is kept")
@BUNDLE
@argument("number", type=WHOLE, required=False, metavar="[N]", help="version to restore (default: the newest)")
@JSON
def restore(bundle: Path, number: int | None, as_json: bool) -> int:
    from edgead import versions
    from edgead.bundle import storage_errors
    from edgead.cli._console import console

    with storage_errors(bundle, hint="free space, or run it as the bundle's owner"):
        version, kept = versions.restore(bundle, number)
    if as_json:
        print_json("bundle", Restored(bundle, version, kept), action="restore")
        return 0
    told = f"; what was there is version {int(kept.name)} now" if kept is not None else ""
    console().print(f"{bundle} is version {version.number} again, made {version.made or 'unknown'}{told}", markup=False)
    return 0


command = actions(__doc__, history=history, restore=restore)


def _show(found: History) -> None:
    from rich import box
    from rich.table import Table

    from edgead.cli._console import console

    table = Table("version", "made", "where", box=box.SIMPLE_HEAD, pad_edge=False)
    for version in found.versions:
        table.add_row(str(version.number), version.made or "unknown", str(version.path))
    if found.bundle.exists():
        table.add_row("now", found.made or "unknown", str(found.bundle))
    console().print(table)
    if found.versions:
        console().print(f"to put one back: edgead bundle restore {found.bundle} N", markup=False)
