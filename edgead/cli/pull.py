"""Bring a bundle from an OCI registry to this box: checked, and proved where asked for, before it takes the place of anything.

  edgead pull oci://registry.plant:5000/line/bolt@sha256:... -o bolt.edgead --trusted line.pub --verify
  edgead pull oci://registry.plant:5000/line/bolt@sha256:...     for a station.yaml with `bundle: oci://...@sha256:...`
  edgead pull --station station.yaml                             all that the file names so, with the keys that it trusts

What was in DIR is kept (edgead bundle history, restore), and the new one takes its place in one step; when anything is wrong, DIR
stays as it was. A bundle that is there already is not fetched again. Exit codes: 3 it is damaged, another one or not signed,
4 --verify failed, 5 registry not reached, or no such bundle there, or a login is wanted, 7 no room. See edgead docs fleet. Needs:
pip install 'edgead[oci]'.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._oci import ADDRESS, PLAIN_HTTP
from edgead.cli._options import JSON, TRUSTED, refuse
from edgead.cli._types import PATH
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput
from edgead.oci.address import OciAddress

if TYPE_CHECKING:
    from edgead.jobs.pull import PullRequest
    from edgead.oci.transfer import Pulled


@verb(__doc__)
@argument("address", type=ADDRESS, required=False, metavar="[ADDRESS]", help="oci://registry/name[:tag|@sha256:...]")
@option("-o", "--output", type=PATH, metavar="DIR", help="the bundle's folder (default: where station files look for it)")
@option("--station", type=PATH, metavar="FILE", help="a station.yaml; instead of an address")
@TRUSTED
@option("--verify", is_flag=True, help="its engines must answer here as the trained model did, before it takes its place")
@option("--apply", "now", is_flag=True, help="stations that run DIR take the new bundle between two parts, checked as at a start")
@PLAIN_HTTP
@JSON
def command(
    address: OciAddress | None,
    output: Path | None,
    station: Path | None,
    trusted: tuple[Path, ...],
    verify: bool,
    now: bool,
    plain_http: bool,
    as_json: bool,
) -> int:
    from edgead.cli._console import told_progress
    from edgead.jobs.pull import bring_all

    if output is None:
        refuse("now", why="there is no -o DIR that a station could run", hint="leave it out, and restart the station")
    requests = _requests(address, output, station, trusted, verify, plain_http)
    with told_progress() as progress:
        done = bring_all([replace(one, apply=now) for one in requests], progress)
    if as_json:
        print_json("pull", done)
    else:
        _tell(done.bundles)
    return 0


def _requests(
    address: OciAddress | None,
    output: Path | None,
    station: Path | None,
    trusted: tuple[Path, ...],
    verify: bool,
    plain_http: bool,
) -> list[PullRequest]:
    from edgead.jobs.pull import PullRequest, of_station

    if station is None:
        if address is None:
            raise BadInput("an address is missing", hint="edgead pull oci://registry/name@sha256:... -o DIR, or --station FILE")
        return [PullRequest(address, output, trusted, verify, plain_http)]
    if address is not None:
        raise BadInput("an address and --station do not go together", hint="give one of them")
    refuse("output", "trusted", why="the station file says where its bundles lie and whom it trusts", hint="leave it out")
    addresses, keys = of_station(station)
    return [PullRequest(one, None, keys, verify, plain_http) for one in addresses]


def _tell(done: tuple[Pulled, ...]) -> None:
    from edgead.cli._console import console

    for one in done:
        signed = f", signed by {one.signed_by}" if one.signed_by else ""
        what = "pulled" if one.changed else "is here already:"
        console().print(f"{what} {one.pinned}\n  {one.bundle}, sha256 {one.sha256}{signed}", markup=False)
