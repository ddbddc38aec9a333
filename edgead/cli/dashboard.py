"""Pages for the line, in a browser: the live picture, review of rejected parts, thresholds tried on what was recorded, recipes,
health. A process of its own: it reads what stations tell and record, and a station never waits for it.

  edgead dashboard station.yaml                         on this machine: http://127.0.0.1:8080
  edgead users add anna --role engineer --users users.json
  edgead dashboard station.yaml --http 0.0.0.0:8443 --users users.json --tls-cert line.pem --tls-key line.key

In station.yaml: `supervision: {live: /run/edgead/live}` shows what goes on now, `storage: {folder: data}` what was. Any address
but loopback needs users, and TLS or a proxy that has it (--behind-proxy). See edgead docs dashboard.
Needs the packages of: pip install 'edgead[dashboard]'.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgead.cli._json import print_json
from edgead.cli._options import JSON
from edgead.cli._types import PATH, Parsed
from edgead.cli._verb import argument, option, verb
from edgead.errors import BadInput


@dataclass(frozen=True, slots=True)
class Served:
    """Where the pages are, told as soon as they can be opened; the program goes on until it is stopped.

    Attributes:
        url: of the first page.
    """

    url: str


def _host_name(text: str) -> str:
    from edgead.runtime.listening import check_host

    check_host(text)
    return text


@verb(__doc__)
@argument(
    "files", type=PATH, nargs=-1, required=True, metavar="station.yaml...", help="the stations' files; several are one page"
)
@option("--http", "where", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True, help="where to listen")
@option("--users", type=PATH, metavar="FILE", help="the file of users (edgead users): who may in")
@option("--tls-cert", type=PATH, metavar="FILE", help="certificate, PEM")
@option("--tls-key", type=PATH, metavar="FILE", help="its key, PEM")
@option("--behind-proxy", is_flag=True, help="a reverse proxy before this has TLS, and tells X-Forwarded-For")
@option(
    "--host-name",
    "names",
    type=Parsed(_host_name, "name"),
    multiple=True,
    metavar="NAME",
    help="a name under which it is called; may be given again (addresses, localhost and this machine's name always are)",
)
@option("--kiosk", is_flag=True, help="who has not logged in may look, and change nothing")
@option("--shifts", metavar="SHIFTS", help="06:00=early,14:00=late,22:00=night, by this machine's clock (default: whole days)")
@JSON
def command(
    files: tuple[Path, ...],
    where: str,
    users: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    names: tuple[str, ...],
    kiosk: bool,
    shifts: str | None,
    as_json: bool,
) -> int:
    """Serve until stopped."""
    from edgead.optional import require

    for module in ("starlette", "uvicorn"):
        require(module, extra="dashboard", why="The dashboard")
    from edgead.dashboard.run import Wanted, serve
    from edgead.dashboard.serving import Address

    address = Address.of(where, tls_cert, tls_key)
    if kiosk and users is None:
        raise BadInput("--kiosk: without users everybody may do everything anyway", hint="give --users FILE, or leave it out")
    if behind_proxy and tls_cert is not None:
        raise BadInput("--behind-proxy: TLS is the proxy's then", hint="leave out --tls-cert and --tls-key, or the proxy")
    wanted = Wanted(files, address, users, behind_proxy, names, kiosk, shifts)
    return serve(wanted, lambda url: print_json("dashboard", Served(url)) if as_json else print(url, flush=True))
