"""Former versions of a bundle or a trained model: what an export or a training replaced is kept beside it.

edgead bundle history part.edgead       what there is
edgead bundle restore part.edgead       put the newest former version back; what is there now is kept
edgead bundle restore part.edgead 3     put version 3 back
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgead.errors import BadInput

SUMMARY = "former versions of a bundle: list them, put one back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("history", "restore"), help="list the versions, or put one back")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="NAME.edgead folder, or a trained model's")
    parser.add_argument("number", type=int, nargs="?", metavar="N", help="version to restore (default: the newest)")


def run(args: argparse.Namespace) -> int:
    from edgead import versions
    from edgead.bundle import storage_errors
    from edgead.cli._console import console

    if args.action == "history":
        if args.number is not None:
            raise BadInput("history lists all versions", hint="leave the number out")
        _show(args.bundle)
        return 0
    with storage_errors(args.bundle, hint="free space, or run it as the bundle's owner"):
        version, kept = versions.restore(args.bundle, args.number)
    told = f"; what was there is version {int(kept.name)} now" if kept is not None else ""
    console().print(f"{args.bundle} is version {version.number} again, made {version.made or 'unknown'}{told}", markup=False)
    return 0


def _show(bundle: Path) -> None:
    from rich import box
    from rich.table import Table

    from edgead import versions
    from edgead.cli._console import console

    known = versions.former(bundle)
    if not known and not any((bundle / marker).is_file() for marker in versions.MARKERS):
        raise BadInput(f"{bundle} is neither a bundle nor a trained model, and has no former versions")
    table = Table("version", "made", "where", box=box.SIMPLE_HEAD, pad_edge=False)
    for version in known:
        table.add_row(str(version.number), version.made or "unknown", str(version.path))
    if bundle.exists():
        table.add_row("now", versions.made_at(bundle) or "unknown", str(bundle))
    console().print(table)
    if known:
        console().print(f"to put one back: edgead bundle restore {bundle} N", markup=False)
