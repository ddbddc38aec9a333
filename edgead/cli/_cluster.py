"""--on: where a job runs, if not here."""

from __future__ import annotations

from edgead.cli._types import Parsed
from edgead.cli._verb import option
from edgead.errors import BadInput


def _cluster(text: str) -> str:
    if text == "ray" or (text.startswith("ray://") and len(text) > len("ray://")):
        return text
    raise BadInput(f"{text[:80]!r} is no cluster", hint="give ray, for one on this machine, or ray://HOST:10001")


ON = option(
    "--on",
    "cluster",
    type=Parsed(_cluster),
    metavar="ray[://HOST:PORT]",
    help="work on a Ray cluster: one on this machine, or the one at this address (needs edgead[ray])",
)
