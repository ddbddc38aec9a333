"""Many boxes at a glance: who runs which bundle, what they said, how fast, and what should be looked at.

  edgead fleet status boxes.yaml

boxes.yaml names the boxes and the bundle that is wanted (edgead docs fleet):
  sha256: 29cfc34e...                                           of the bundle, as edgead inspect shows it
  boxes:
    - {name: line-1, metrics: "http://10.0.0.11:9108"}          supervision.http of its station.yaml
    - {name: line-2, metrics: "http://10.0.0.12:9108", records: /mnt/line-2}
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, number
from edgead.cli._verb import actions, argument, option, verb

if TYPE_CHECKING:
    from edgead.jobs.fleet import BoxState, CameraState, FleetState

WIDEST = 160
"""Characters: a table that is cut tells nothing; a terminal that is narrower breaks its lines."""

STATUS = """Ask each box of an inventory for its /metrics, and read its records where they are a folder.

A box that does not answer is a row that says so: exit code 0 means that the table was made, not that all is well; --json has the
lists `silent`, `behind` and `unready`. Exit code 2: the inventory is wrong. Needs: pip install 'edgead[metrics]'."""


@verb(STATUS, "who runs which bundle, verdicts, p99, notices, who is behind")
@argument("inventory", type=PATH, metavar="INVENTORY", help="boxes.yaml (edgead docs fleet)")
@option("--timeout-s", type=number(0.1, 600), default=5.0, metavar="S", help="for the answer of each box (default 5)")
@JSON
def status(inventory: Path, timeout_s: float, as_json: bool) -> int:
    from edgead.cli._console import told_progress
    from edgead.config.inventory import read_inventory
    from edgead.jobs import fleet

    boxes = read_inventory(inventory)
    with told_progress() as progress:
        found = fleet.status(boxes, progress, timeout_s=timeout_s)
    print_json("fleet", found, action="status") if as_json else _show(found)
    return 0


command = actions(__doc__, status=status)


def _show(found: FleetState) -> None:
    from rich import box
    from rich.table import Column, Table

    from edgead.cli._console import console

    left = (Column(name, no_wrap=True) for name in ("box", "camera", "state", "bundle"))
    right = (Column(name, justify="right", no_wrap=True) for name in ("OK", "NG", "UNKNOWN", "late", "p99 ms"))
    table = Table(*left, *right, "look at", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for one in found.boxes:
        for row in _rows(one):
            table.add_row(*row)
    console(width=max(console().width, WIDEST)).print(table)
    total = len(found.boxes)
    told = [f"{total} box{'es' if total != 1 else ''}"]
    told += [f"{len(names)} {what}: {', '.join(names)}" for what, names in _lists(found).items() if names]
    console().print("; ".join(told), markup=False)


def _lists(found: FleetState) -> dict[str, tuple[str, ...]]:
    return {"silent": found.silent, "behind": found.behind, "not ready": found.unready}


def _rows(one: BoxState) -> list[tuple[str, ...]]:
    from rich.markup import escape

    rows: list[tuple[str, ...]] = []
    if one.answers is False:
        rows.append((one.box, "", "no answer", "", "", "", "", "", "", escape(one.fault)))
    rows += [(one.box, escape(camera.camera), *_cells(camera)) for camera in one.cameras]
    for kept in one.records:
        told = f"records to {kept.last[:19]} UTC" if kept.last else kept.fault or "no records"
        counts = [str(kept.verdicts.get(verdict, 0)) if not kept.fault else "" for verdict in ("OK", "NG", "UNKNOWN")]
        rows.append((one.box, escape(kept.camera), "24 h", (kept.sha256 or "")[:12], *counts, "", "", escape(told)))
    return rows or [(one.box, "", "no cameras", "", "", "", "", "", "", "")]


def _cells(one: CameraState) -> tuple[str, ...]:
    from rich.markup import escape

    bundle = one.sha256[:12] if one.sha256 else "?"
    if one.behind:
        bundle += f" (wanted {(one.wanted or '')[:12]})"
    counts = [str(one.verdicts[verdict]) for verdict in ("OK", "NG", "UNKNOWN")]
    p99 = f"{one.p99_ms:.1f}" if one.p99_ms is not None else "-"
    looks = [*(f"drift: {kind}" for kind in one.drift), *one.notices]
    return ("ready" if one.ready else "NOT READY", bundle, *counts, str(one.late), p99, escape(", ".join(looks)))
