"""Serve bundles to other programs by KServe v2 (the Open Inference Protocol), over HTTP and gRPC, until Ctrl-C or SIGTERM.

The input is the camera's picture as it is, or a picture file; the recipe, 32-bit floats and the threshold are inside, and answers
are those of `edgead run`: verdict, cause, score, threshold and, on request, the map. A picture that cannot be used is UNKNOWN.
A changed bundle is verified and proved, then takes the place of the former without a lost request. Examples: edgead docs serve.

BUNDLE: part.edgead, NAME=part.edgead, or NAME:VERSION=part.edgead; of several versions the last one answers requests without one.
There is no authentication and no encryption: on another address than 127.0.0.1 everybody who reaches it can ask.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.cli._json import print_json
from edgead.cli._options import JSON, THREADS, TRUSTED
from edgead.cli._types import Parsed, number, whole
from edgead.cli._verb import argument, debugging, option, verb

if TYPE_CHECKING:
    from edgead.serving.server import Server


def _address(text: str) -> object:
    from edgead.serving.wanted import Address

    return Address.parse(text)


@verb(__doc__)
@argument("bundles", type=str, nargs=-1, required=True, metavar="BUNDLE...", help="folders written by edgead export (see above)")
@option("--http", type=Parsed(_address), metavar="HOST:PORT", help="of HTTP and /metrics (default 127.0.0.1:8000)")
@option("--grpc", type=Parsed(_address), metavar="HOST:PORT", help="of gRPC, e.g. 127.0.0.1:8001 (default: none)")
@option("--engine", metavar="NAME", help="engine in each bundle (default: the bundle's)")
@option("--budget-ms", type=number(0.001, 1e9), metavar="MS",
        help="from a request's arrival to its verdict; later is UNKNOWN (default: no limit)")  # fmt: skip
@option("--requests", type=whole(1, 100_000), metavar="N", help="held at once on each address, more are refused (default 64)")
@THREADS
@TRUSTED
@JSON
def command(
    bundles: tuple[str, ...],
    http: object,
    grpc: object,
    engine: str | None,
    budget_ms: float | None,
    requests: int | None,
    threads: int | None,
    trusted: tuple[Path, ...],
    as_json: bool,
) -> int:
    from edgead.line.stopping import stopped_by_signals
    from edgead.runtime.outlet import say
    from edgead.runtime.supervision.logs import logging_to
    from edgead.serving.server import MOST_REQUESTS, Server, Wanted
    from edgead.serving.wanted import Address, Named
    from edgead.signing import read_trusted

    named = tuple(Named.parse(text) for text in bundles)
    at = http if isinstance(http, Address) else Address("127.0.0.1", 8000)
    also = grpc if isinstance(grpc, Address) else None
    wanted = Wanted(named, at, also, engine, threads, budget_ms, requests or MOST_REQUESTS, read_trusted(trusted))
    with stopped_by_signals() as stopper, logging_to(sys.stderr, level="debug" if debugging() else "info"):
        for address in (at, also):
            if address is not None and not address.is_loopback:
                warn(address.at(address.port))
        with Server(wanted) as server:
            stopper.attach(server)
            server.run(lambda: say(_headline(server), sys.stderr))
            result = server.result()
    if as_json:
        print_json("serve", result)
    return 0


def warn(address: str) -> None:
    """What it means to listen there."""
    import logging

    logging.getLogger("edgead.serve").warning(
        "%s is not this machine alone: no authentication, no encryption; whoever reaches it can ask, read verdicts and maps, and "
        "keep the engine busy. A firewall, or a proxy that asks who it is, belongs before it",
        address,
    )


def _headline(server: Server) -> str:
    from edgead.words import one_line

    result = server.result()
    models = ", ".join(f"{one.name}{f' version {one.version}' if one.version else ''} ({one.engine})" for one in result.models)
    also = f", gRPC on {result.grpc}" if result.grpc else ""
    return one_line(f"serving {models}; HTTP on {result.http}{also}; Ctrl-C stops")
